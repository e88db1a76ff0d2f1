"""How an answer goes out: whole, live, late, in drops, cut short, or not at all."""
