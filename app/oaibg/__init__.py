"""oaibg: OpenAI background jobs from the shell, followed as JSON lines and never lost."""

__version__ = "0.4.0"
