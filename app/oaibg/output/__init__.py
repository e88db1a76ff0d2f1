"""Turns events into lines on stdout and stderr."""
