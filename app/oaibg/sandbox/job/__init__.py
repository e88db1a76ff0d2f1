"""A job as a pure function of time: its status, its response object and its stream events."""
