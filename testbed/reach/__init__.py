"""Who reaches whom, by echo requests through the TAPs."""
