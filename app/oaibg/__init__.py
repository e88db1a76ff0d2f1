"""Run OpenAI background jobs from the shell, and follow them as JSON lines."""

__version__ = "0.5.0"
