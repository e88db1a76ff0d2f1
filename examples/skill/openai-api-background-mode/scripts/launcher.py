"""Prepare and run `oaibg`, for both scripts. Standard library only, Python 3.9 or newer."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MISSING = """\
`oaibg` is not on PATH. Install it from a clone of its repository with one of

    uv tool install .
    pipx install .

and make sure that the directory they name (usually ~/.local/bin) is on PATH."""

NEEDS_ACTION = 10
"""The exit code of `oaibg` for a job that completed without the requested answer."""

ORIGINAL = {
    "--developer-prompt",
    "--input-json-file",
    "--job-key",
    "--max-wait-seconds",
    "--messages-json-file",
    "--model",
    "--output-json-file",
    "--poll-seconds",
    "--prompt",
    "--prompt-file",
    "--reasoning-effort",
    "--response-id",
    "--show-output-text",
    "--system-prompt",
    "--verbosity",
}
"""The options that the scripts have always had, and the job key, which they now add."""


def run(command: str, names: Iterable[str], *argv: str) -> None:
    """Run `oaibg COMMAND ARGV`; `names` are the names of the options in it."""
    if ORIGINAL.issuperset(names):
        follow(command, *argv)
    become(command, *argv)


def prepare() -> None:
    """Check that `oaibg` is on PATH, and set its state directory if needed.

    Ends the process with exit code 127 if `oaibg` is not on PATH.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends this script without a traceback
    if shutil.which("oaibg") is None:
        say(MISSING)
        sys.exit(127)
    if not os.environ.get("OAIBG_STATE_DIR"):
        _choose_state()


def become(*argv: str) -> None:
    """Replace this process by `oaibg ARGV`, which then owns stdout, signals and exit code."""
    sys.stderr.flush()
    os.execvp("oaibg", ["oaibg", *argv])


def follow(*argv: str) -> None:
    """Run `oaibg ARGV`, and end with its exit code, except that 10 becomes 0.

    With the options that the scripts have always had, each completed job is a success.
    """
    sys.stderr.flush()
    child = subprocess.Popen(["oaibg", *argv])

    def pass_on(number: int, _frame: object) -> None:
        # Usually the whole process group gets the signal. A second one would end the command at
        # once, so the command gets it only if it still runs after a second.
        signal.signal(signal.SIGALRM, lambda *_: child.send_signal(number))
        signal.alarm(1)

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    code = child.wait()
    sys.exit(0 if code == NEEDS_ACTION else code if code >= 0 else 128 - code)


def say(text: str) -> None:
    """Print a message on stderr; stdout is only for the lines of `oaibg`."""
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr)


def _default_state() -> str:
    """Return the directory in which `oaibg` keeps its state by default."""
    if sys.platform == "darwin":
        return os.path.expanduser("~/Library/Application Support/oaibg")
    return os.path.join(os.environ.get("XDG_CONFIG_HOME", os.path.expanduser("~/.config")), "oaibg")


def _choose_state() -> None:
    """Keep the state in the workspace if it is there already or the default can't be written.

    An existing state holds job keys: with another state, the same command would pay again.
    """
    here = os.getcwd()
    top = _workspace(here)
    if not os.path.isdir(os.path.join(top, ".oaibg")) and _takes_files(_default_state()):
        return
    for workspace in (top, here):
        folder = os.path.join(workspace, ".oaibg")
        if _takes_files(folder):
            break
    else:
        return  # `oaibg` reports what is wrong with its default directory
    ignore = os.path.join(folder, ".gitignore")
    if not os.path.exists(ignore):
        with open(ignore, "w", encoding="utf-8") as file:
            file.write("*\n")
    os.environ["OAIBG_STATE_DIR"] = folder
    say(
        f"The state is kept in {folder}, not in {_default_state()}. For later commands, run:\n"
        f"export OAIBG_STATE_DIR={shlex.quote(folder)}"
    )


def _workspace(folder: str) -> str:
    """Return the nearest folder, from `folder` upwards, that has `.git` or `.oaibg`.

    All folders in it then share the job keys. If there is none, return `folder`.
    """
    above = folder
    while not any(os.path.exists(os.path.join(above, mark)) for mark in (".git", ".oaibg")):
        if above == (above := os.path.dirname(above)):
            return folder
    return above


def _takes_files(folder: str) -> bool:
    """Whether a file can be created there: permissions don't show what a sandbox forbids."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-"):
            return True
    except OSError:
        return False
