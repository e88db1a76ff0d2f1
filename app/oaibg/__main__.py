"""`python -m oaibg` runs the `oaibg` command."""

from oaibg.entry import entry

if __name__ == "__main__":
    entry()
