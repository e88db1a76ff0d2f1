"""`python -m oaibg`: the same as the `oaibg` command."""

from oaibg.entry import entry

if __name__ == "__main__":
    entry()
