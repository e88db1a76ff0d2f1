"""What outlives the process: intents, ids, job keys, results. The only user of SQLite."""
