#!/usr/bin/env python3
"""Follow a background response that was submitted before: `oaibg monitor`.

usage: monitor_background_response.py (--response-id ID | --job-key KEY) OPTIONS...

Waiting:  --poll-seconds SECONDS, --max-wait-seconds SECONDS
Output:   --show-output-text, --output-text-file PATH, --output-json-file PATH

Every other option of `oaibg monitor` works, too: all are handed on as they are. Lines, signals and
exit codes are those of oaibg (see SKILL.md); 127 means that oaibg is not installed.
"""

from __future__ import annotations

import os
import sys

sys.dont_write_bytecode = True  # the skill's folder stays as it is
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from launcher import become, prepare  # noqa: E402 - it stands beside this file


def main(argv: list[str]) -> None:
    """Become `oaibg monitor`, where the id is an argument and no option."""
    if "--help" in argv or "-h" in argv:
        print(__doc__)
        return
    ids, rest = [], []
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name == "--response-id":
            ids.append(value if equals else next(words, ""))
        else:
            rest.append(word)
    prepare()
    guard = [] if "--" in rest else ["--"]  # an id may begin with a hyphen
    become("monitor", *rest, *guard, *ids)


if __name__ == "__main__":
    main(sys.argv[1:])
