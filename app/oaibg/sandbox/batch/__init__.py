"""A batch as a pure function of time: its status, its batch object and its files."""
