"""The command lines: they read flags, show progress and print; the work is done elsewhere."""
