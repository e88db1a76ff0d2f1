"""The command line: argv in, one options record out, an exit code back. The only user of Typer."""
