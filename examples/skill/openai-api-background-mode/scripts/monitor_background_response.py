#!/usr/bin/env python3
"""Follow a background response that was already submitted: run `oaibg monitor`.

usage: monitor_background_response.py (--response-id ID | --job-key KEY) OPTIONS...

Waiting:  --poll-seconds SECONDS (default: 10)
          --max-wait-seconds SECONDS (default: 0, no limit)
Output:   --show-output-text, --output-text-file PATH, --output-json-file PATH
          --text-markers: print the text as it is, between ===OUTPUT_TEXT_BEGIN=== and
          ===OUTPUT_TEXT_END===, after the line `final`

All other options of `oaibg monitor` work as well: they are passed on unchanged. Lines, signals and
exit codes are those of oaibg (see SKILL.md), but with only the options above, except
--output-text-file, a job that completed without a text gives 0, not 10. 127 means that oaibg is not
installed.
"""

from __future__ import annotations

import os
import sys

sys.dont_write_bytecode = True  # leave the skill's folder unchanged
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from launcher import parse, prepare, run  # noqa: E402 - it is in the folder of this file


def main(argv: list[str]) -> None:
    """Run `oaibg monitor` in place of this process, with the ID as its argument."""
    if "--help" in argv or "-h" in argv:
        print(__doc__)
        return
    options = parse(argv)
    ids = [option.value for option in options if option.name == "--response-id"]
    rest = [option for option in options if option.name != "--response-id"]
    prepare()
    guard = [] if "--" in argv else ["--"]  # an ID may begin with a hyphen
    run("monitor", rest, last=[*guard, *ids])


if __name__ == "__main__":
    main(sys.argv[1:])
