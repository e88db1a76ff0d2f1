"""The process that runs a command: its signals, its event loop and its exit."""
