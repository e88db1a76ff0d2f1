"""The process around a command: its signals, its event loop, its end."""
