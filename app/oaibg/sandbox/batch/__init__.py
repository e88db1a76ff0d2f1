"""One batch as a pure function of time: its status, its batch object, its files."""
