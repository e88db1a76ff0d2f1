"""The engine many times over: several ids, a jobs file, a batch."""
