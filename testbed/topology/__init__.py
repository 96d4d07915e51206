"""What a topology is: read from a file, resolved, and who hears whom in it. Makes nothing."""
