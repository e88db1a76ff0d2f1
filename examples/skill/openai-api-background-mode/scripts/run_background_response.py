#!/usr/bin/env python3
"""Submit a background response and follow it: run `oaibg submit`, always with a job key.

usage: run_background_response.py OPTIONS...

Input, exactly one of:
  --prompt TEXT | --prompt-file PATH     with --system-prompt TEXT, --developer-prompt TEXT,
                                         and --attach PATH (repeatable)
  --messages-json-file PATH | --input-json-file PATH

Settings: --model NAME, --reasoning-effort EFFORT, --verbosity VERBOSITY
Waiting:  --poll-seconds SECONDS, --max-wait-seconds SECONDS
Output:   --show-output-text, --output-text-file PATH, --output-json-file PATH
Job key:  --job-key KEY. Default: a key derived from the request, so that the same request
          continues with the same job; it is printed on stderr. --retry-failed makes a
          new attempt at a failed job. With --jobs-file, KEY is required.

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

from launcher import prepare, run, say  # noqa: E402 - it is in the folder of this file

FLAGS = {
    "--cancel-on-interrupt",
    "--detach",
    "--dry-run",
    "--help",
    "--human",
    "--resubmit-unknown",
    "--retry-failed",
    "--show-output-text",
    "--stream",
    "--stream-text",
}
"""The options of `oaibg submit` that take no value."""


WRITTEN = {"--output-json-file", "--output-text-file", "--results-file"}
"""The options that name output files."""


def main(argv: list[str]) -> None:
    """Run `oaibg submit` in place of this process, with a derived key unless one is given."""
    given = options(argv)
    names = [name for name, _ in given]
    if "--help" in names or "-h" in names:
        print(__doc__)
        return
    prepare()
    if "--job-key" not in names:
        stdin = read_stdin() if any(n.endswith("-file") and v == "-" for n, v in given) else None
        # First, so that a caller's key that `options` missed takes precedence: the last one counts.
        argv = ["--job-key", derive_key(argv, stdin), *argv]
        if stdin is not None:
            put_back(stdin)
    run("submit", names, *argv)


def options(argv: list[str]) -> list[tuple[str, str]]:
    """Return options and values as `oaibg` parses them: a value may begin with a hyphen."""
    found = []
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if not equals and name.startswith("--") and name not in FLAGS:
            value = next(words, "")
        found.append((name, value))
    return found


def derive_key(argv: list[str], stdin: bytes | None) -> str:
    """Return a job key that depends only on the request, not on wait or output options.

    It contains the request's hash, from `oaibg submit --dry-run`, which sends nothing. If the
    request is invalid, the process ends with the lines and the exit code of `oaibg`.
    """
    for name, path in options(argv):
        is_input = name.endswith("-file") and name not in WRITTEN
        if is_input and path != "-" and os.path.exists(path) and not os.path.isfile(path):
            say(f"{name} {path} can be read only once. Use - for stdin, or --job-key KEY.")
            sys.exit(2)
    lines = [word for word in argv if word != "--human"]
    command = ["oaibg", "submit", "--job-key", "any", *lines, "--dry-run"]
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
