"""What a terminal sees: the commands, their tables, the last lines of a run."""
