"""Submits, follows, cancels and shows one job."""
