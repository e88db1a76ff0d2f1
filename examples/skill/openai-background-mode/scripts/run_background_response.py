#!/usr/bin/env python3
"""Submit a background response and follow it: `oaibg submit`, with a job key in any case.

usage: run_background_response.py OPTIONS...

Input, exactly one of:
  --prompt TEXT | --prompt-file PATH     with --system-prompt TEXT, --developer-prompt TEXT,
                                         and --attach PATH (repeatable)
  --messages-json-file PATH | --input-json-file PATH

Settings: --model NAME, --reasoning-effort EFFORT, --verbosity VERBOSITY
Waiting:  --poll-seconds SECONDS, --max-wait-seconds SECONDS
Output:   --show-output-text, --output-text-file PATH, --output-json-file PATH
Job key:  --job-key KEY; without it one is derived from the request, and told on stderr, so that
          the same request goes on with the same job. For another try at it, give a new KEY. With
          --jobs-file it has to be given.

Every other option of `oaibg submit` works, too: all are handed on as they are. Lines, signals and
exit codes are those of oaibg (see SKILL.md); 127 means that oaibg is not installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress

sys.dont_write_bytecode = True  # the skill's folder stays as it is
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from launcher import become, prepare, say  # noqa: E402 - it stands beside this file

FLAGS = {
    "--cancel-on-interrupt",
    "--detach",
    "--dry-run",
    "--help",
    "--human",
    "--resubmit-unknown",
    "--show-output-text",
    "--stream",
    "--stream-text",
}
"""The options of `oaibg submit` that take no value."""


WRITTEN = {"--output-json-file", "--output-text-file", "--results-file"}
"""The options whose files are written."""


def main(argv: list[str]) -> None:
    """Become `oaibg submit`, with a key that is derived where none is given."""
    given = options(argv)
    names = [name for name, _ in given]
    if "--help" in names or "-h" in names:
        print(__doc__)
        return
    prepare()
    if "--job-key" not in names:
        stdin = read_stdin() if any(n.endswith("-file") and v == "-" for n, v in given) else None
        # It comes first: where this has overlooked a key of the caller's, that one counts.
        argv = ["--job-key", derive_key(argv, stdin), *argv]
        if stdin is not None:
            put_back(stdin)
    become("submit", *argv)


def options(argv: list[str]) -> list[tuple[str, str]]:
    """The options and their values, as `oaibg` reads them: a value may begin with a dash."""
    found = []
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if not equals and name.startswith("--") and name not in FLAGS:
            value = next(words, "")
        found.append((name, value))
    return found


def derive_key(argv: list[str], stdin: bytes | None) -> str:
    """A job key that stands for the request alone: how it is waited for makes no difference.

    `oaibg submit --dry-run` tells the request's hash, and sends nothing. What is wrong with the
    request ends the process, by the lines and the exit code of `oaibg`.
    """
    for name, path in options(argv):
        is_input = name.endswith("-file") and name not in WRITTEN
        if is_input and path != "-" and os.path.exists(path) and not os.path.isfile(path):
            say(f"{name} {path} can be read only once; use - for stdin, or give --job-key KEY.")
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
    except (ValueError, KeyError):  # of --jobs-file
        say("no job key can be derived from these options; give one with --job-key KEY.")
        sys.exit(2)
    say(f"the job key is {key}")
    return key


def read_stdin() -> bytes:
    """All of stdin; nothing where it is closed."""
    return sys.stdin.buffer.read() if sys.stdin else b""


def put_back(stdin: bytes) -> None:
    """Let stdin be a file that has what was read from it."""
    with tempfile.TemporaryFile() as file:
        file.write(stdin)
        file.seek(0)
        os.dup2(file.fileno(), 0)


if __name__ == "__main__":
    main(sys.argv[1:])
