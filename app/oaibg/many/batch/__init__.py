"""A run through the Batch API."""
