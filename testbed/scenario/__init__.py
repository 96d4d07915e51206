"""What a scenario is: read from a file and resolved. Runs nothing."""
