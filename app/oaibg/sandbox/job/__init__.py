"""One job as a pure function of time: its status, its response object, its stream events."""
