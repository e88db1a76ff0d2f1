#!/usr/bin/env python3
"""Follow a background response that was already submitted: run `oaibg monitor`.

usage: monitor_background_response.py (--response-id ID | --job-key KEY) OPTIONS...

Waiting:  --poll-seconds SECONDS, --max-wait-seconds SECONDS
Output:   --show-output-text, --output-text-file PATH, --output-json-file PATH

All other options of `oaibg monitor` work as well: they are passed on unchanged. Lines, signals and
exit codes are those of oaibg (see SKILL.md), but with only the options above, a job that completed
without a text gives 0, not 10. 127 means that oaibg is not installed.
"""

from __future__ import annotations

import os
import sys

sys.dont_write_bytecode = True  # leave the skill's folder unchanged
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from launcher import prepare, run  # noqa: E402 - it is in the folder of this file


def main(argv: list[str]) -> None:
    """Run `oaibg monitor` in place of this process, with the ID as its argument."""
    if "--help" in argv or "-h" in argv:
        print(__doc__)
        return
    ids, rest, names = [], [], []
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name == "--response-id":
            ids.append(value if equals else next(words, ""))
        else:
            rest.append(word)
            names += [name] if name.startswith("--") else []
    prepare()
    guard = [] if "--" in rest else ["--"]  # an ID may begin with a hyphen
    run("monitor", names, *rest, *guard, *ids)


if __name__ == "__main__":
    main(sys.argv[1:])
