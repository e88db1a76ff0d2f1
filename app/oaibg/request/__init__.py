"""Turns the user's input into the exact body of a request and its hash. No network."""
