"""The larger commands of the command line, one per file."""
