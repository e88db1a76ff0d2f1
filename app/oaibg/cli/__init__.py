"""The command line: parses argv, runs a command and returns its exit code. Only it uses Typer."""
