"""The results of a run: their lines, the results file, and the results table."""
