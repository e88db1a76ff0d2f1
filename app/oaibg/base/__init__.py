"""Small things that every other folder may use, and that use none."""
