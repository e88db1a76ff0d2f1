"""The operations of the server, by what they work on. Each answers a `Call`."""
