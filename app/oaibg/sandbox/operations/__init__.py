"""The operations of the server. Each takes a `Call` and returns the reply."""
