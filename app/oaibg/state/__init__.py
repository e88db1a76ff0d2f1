"""The local state: intents, IDs, job keys and results. Only this folder uses SQLite."""
