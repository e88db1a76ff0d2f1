#!/usr/bin/env python3
"""Submit a background response and follow it: run `oaibg submit`, always with a job key.

usage: run_background_response.py OPTIONS...

Input, exactly one of:
  --prompt TEXT | --prompt-file PATH     with --system-prompt TEXT, --developer-prompt TEXT,
                                         and --attach PATH (repeatable)
  --messages-json-file PATH | --input-json-file PATH

Settings: --model NAME (default: gpt-5.2), --reasoning-effort EFFORT (default: medium),
          --verbosity VERBOSITY (default: medium)
Waiting:  --poll-seconds SECONDS (default: 10)
          --max-wait-seconds SECONDS (default: 0, no limit)
Output:   --show-output-text, --output-text-file PATH, --output-json-file PATH
          --text-markers: print the text as it is, between ===OUTPUT_TEXT_BEGIN=== and
          ===OUTPUT_TEXT_END===, after the line `final`
Job key:  --job-key KEY. Default: a key derived from the request, so that the same request
          continues with the same job, or makes a new attempt if the job ended without success.
          The key is printed on stderr. With --jobs-file, KEY is required.

All other options of `oaibg submit` work as well: they are passed on unchanged. Lines, signals and
exit codes are those of oaibg (see SKILL.md), but with none of --attach, --output-text-file and
these other options, a job that completed without a text gives 0, not 10. 127 means that oaibg is
not installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress

sys.dont_write_bytecode = True  # leave the skill's folder unchanged
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from launcher import Option, parse, prepare, run, say  # noqa: E402 - in this file's folder

WRITTEN = {"--output-json-file", "--output-text-file", "--results-file"}
"""The options that name output files."""

PROMPTS = {"--developer-prompt", "--system-prompt"}
MESSAGES = {"--input-json-file", "--messages-json-file"}


def main(argv: list[str]) -> None:
    """Run `oaibg submit` in place of this process, with a derived key unless one is given."""
    options = parse(argv)
    names = {option.name for option in options}
    if names & {"--help", "-h"}:
        print(__doc__)
        return
    prepare()
    if names & MESSAGES and names & PROMPTS:
        say("--system-prompt and --developer-prompt are ignored: the file has all messages.")
        options = [option for option in options if option.name not in PROMPTS]
    first = []
    if "--job-key" not in names:
        stdin = read_stdin() if any(map(is_stdin, options)) else None
        # First, so that a caller's key that `parse` missed takes precedence: the last one counts.
        first = ["--job-key", derive_key(options, stdin), "--retry-failed"]
        if stdin is not None:
            put_back(stdin)
    run("submit", options, first=first)


def is_stdin(option: Option) -> bool:
    """Whether this is `-` in place of a prompt or of the path of an input file."""
    may_be = option.name == "--prompt" or option.name.endswith("-file")
    return option.name == "-" or (may_be and option.value == "-")


def derive_key(options: list[Option], stdin: bytes | None) -> str:
    """Return a job key that depends only on the request, not on wait or output options.

    It contains the request's hash, from `oaibg submit --dry-run`, which sends nothing. If the
    request is invalid, the process ends with the lines and the exit code of `oaibg`.
    """
    for name, path, _ in options:
        is_input = name.endswith("-file") and name not in WRITTEN
        if is_input and path != "-" and os.path.exists(path) and not os.path.isfile(path):
            say(f"{name} {path} can be read only once. Use - for stdin, or --job-key KEY.")
            sys.exit(2)
    left_out = {"--human", "--text-markers"}
    words = [word for one in options if one.name not in left_out for word in one.words]
    command = ["oaibg", "submit", "--job-key", "any", *words, "--dry-run"]
    dry = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, check=False)
    if dry.returncode != 0:
        with suppress(OSError):
            os.write(1, dry.stdout)
        sys.exit(dry.returncode)
    try:
        key = f"skill-{json.loads(dry.stdout)['request_sha256'][:32]}"
    except (ValueError, KeyError):  # --jobs-file prints no hash
        say("No job key can be derived from these options. Use --job-key KEY.")
        sys.exit(2)
    say(f"The job key is {key}.")
    return key


def read_stdin() -> bytes:
    """Return all of stdin, or nothing if stdin is closed."""
    return sys.stdin.buffer.read() if sys.stdin else b""


def put_back(stdin: bytes) -> None:
    """Replace stdin by a file with the bytes that were read from it."""
    with tempfile.TemporaryFile() as file:
        file.write(stdin)
        file.seek(0)
        os.dup2(file.fileno(), 0)


if __name__ == "__main__":
    main(sys.argv[1:])
