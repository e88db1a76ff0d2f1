"""Runs over many jobs: several response IDs, a jobs file, a batch."""
