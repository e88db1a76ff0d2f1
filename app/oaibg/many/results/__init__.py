"""What the jobs of a run brought: result lines, the file of them, and the table."""
