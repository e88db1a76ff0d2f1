"""How many jobs are in flight, and when each is polled."""
