"""What users rely on: events, errors and exit codes, and their JSON Schema."""
