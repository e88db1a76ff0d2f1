"""Prepare and run `oaibg`, for both scripts. Standard library only, Python 3.9 or newer."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

SKILL = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
MISSING = (
    "oaibg is not on PATH. Run `uv tool install .` or `pipx install .` in a clone of its "
    "repository, and add ~/.local/bin to PATH."
)
BEGIN, END = "===OUTPUT_TEXT_BEGIN===", "===OUTPUT_TEXT_END==="
LOCAL_IO, NEEDS_ACTION, STDOUT_CLOSED = 9, 10, 141
"""Exit codes of `oaibg`: stdout is full; the job completed without an answer; stdout is closed."""

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
    "--text-markers",
}
"""The options without a value: those of `oaibg submit` and `oaibg monitor`, and --text-markers."""

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
    "--text-markers",
    "--verbosity",
}
"""The options that the scripts have always had, and those that they add to `oaibg`."""


class Option(NamedTuple):
    """An option of a command line with its value, or another word of it."""

    name: str
    value: str
    words: list[str]


def parse(argv: list[str]) -> list[Option]:
    """Return what is in `argv`, as `oaibg` parses it: a value may look like an option."""
    found = []
    rest = iter(argv)
    for word in rest:
        name, equals, value = word.partition("=")
        words = [word]
        if name.startswith("--") and not equals and name not in {"--", *FLAGS}:
            words += itertools.islice(rest, 1)
            value = words[-1]
        found.append(Option(name, value, words))
    return found


def prepare() -> None:
    """Check the working directory and `oaibg`, and set its state directory if needed.

    Ends the process with exit code 2 in the skill's own folder: files that are given by relative
    paths, and the state, belong into the workspace. Ends it with 127 if `oaibg` is not on PATH.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends this script without a traceback
    here = os.path.realpath(os.getcwd())
    if os.path.commonpath([SKILL, here]) == SKILL:
        say(f"Run {os.path.abspath(sys.argv[0])} from your workspace, not in the skill's folder.")
        sys.exit(2)
    if shutil.which("oaibg") is None:
        say(MISSING)
        sys.exit(127)
    if not os.environ.get("OAIBG_STATE_DIR"):
        _choose_state(here)


def run(
    command: str, options: list[Option], *, first: Iterable[str] = (), last: Iterable[str] = ()
) -> None:
    """Run `oaibg COMMAND FIRST OPTIONS LAST`, and end as it ends.

    With only the options that the scripts have always had, each completed job is a success: 10
    becomes 0. With --text-markers, the text is printed between two markers after `final`.
    """
    names = {option.name for option in options if option.name.startswith("--")}
    markers = "--text-markers" in names
    words = [word for one in options if one.name != "--text-markers" for word in one.words]
    show = ["--show-output-text"] if markers and "--show-output-text" not in names else []
    argv = ["oaibg", command, *first, *show, *words, *last]
    sys.stderr.flush()
    if not markers and not names <= ORIGINAL:
        os.execvp("oaibg", argv)  # it then owns stdout, signals and exit code
    child = subprocess.Popen(argv, stdout=subprocess.PIPE if markers else None)
    _pass_signals_on(child)
    code = _print_with_markers(child, child.stdout) if child.stdout else child.wait()
    if code == NEEDS_ACTION and names <= ORIGINAL:
        code = 0
    sys.exit(code if code >= 0 else 128 - code)


def say(text: str) -> None:
    """Print a message on stderr; stdout is only for the lines of `oaibg`."""
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr)


def _pass_signals_on(child: subprocess.Popen[bytes]) -> None:
    def pass_on(number: int, _frame: object) -> None:
        # Usually the whole process group gets the signal. A second one would end the command at
        # once, so the command gets it only if it still runs after a second.
        signal.signal(signal.SIGALRM, lambda *_: child.send_signal(number))
        signal.alarm(1)

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)


def _print_with_markers(child: subprocess.Popen[bytes], lines: IO[bytes]) -> int:
    """Print the lines of `oaibg`, and each text after its job's `final`; return the exit code."""
    texts: dict[object, str] = {}
    try:
        for line in lines:
            event = _event(line)
            kind, identifier = event.get("event"), event.get("response_id")
            if kind == "output_text":
                texts[identifier] = event["text"]
                continue
            _write(line)
            if kind == "final" and identifier in texts:
                # Half of a surrogate pair, which UTF-8 can't encode, becomes U+FFFD.
                raw = texts.pop(identifier).encode("utf-16", "surrogatepass")
                _write(f"{BEGIN}\n{raw.decode('utf-16', 'replace')}\n{END}\n".encode())
    except OSError as error:
        lines.close()
        child.wait()
        return STDOUT_CLOSED if isinstance(error, BrokenPipeError) else LOCAL_IO
    return child.wait()


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:  # a line of --human
        return {}
    return event if isinstance(event, dict) else {}


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def _default_state() -> str:
    """Return the directory in which `oaibg` keeps its state by default."""
    if sys.platform == "darwin":
        return os.path.expanduser("~/Library/Application Support/oaibg")
    return os.path.join(
        os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "oaibg"
    )


def _choose_state(here: str) -> None:
    """Keep the state in the workspace if it is there already or the default can't be written.

    An existing state holds job keys: with another state, the same command would pay again. So the
    place doesn't depend on the working directory within a workspace; without `.git` or `.oaibg`
    above it, nothing is chosen, and `oaibg` reports what is wrong with its default directory.
    """
    workspace = _workspace(here)
    if workspace is None:
        return
    folder = os.path.join(workspace, ".oaibg")
    if not os.path.isdir(folder) and _takes_files(_default_state()):
        return
    if not _takes_files(folder):
        return
    ignore = os.path.join(folder, ".gitignore")
    if not os.path.exists(ignore):
        with open(ignore, "w", encoding="utf-8") as file:
            file.write("*\n")
    os.environ["OAIBG_STATE_DIR"] = folder
    say(
        f"The state is kept in {folder}, not in {_default_state()}. For later commands, run:\n"
        f"export OAIBG_STATE_DIR={shlex.quote(folder)}"
    )


def _workspace(folder: str) -> str | None:
    """Return the nearest folder, from `folder` upwards, that has `.git` or `.oaibg`."""
    while not any(os.path.exists(os.path.join(folder, mark)) for mark in (".git", ".oaibg")):
        if folder == (folder := os.path.dirname(folder)):
            return None
    return folder


def _takes_files(folder: str) -> bool:
    """Whether a file can be created there: permissions don't show what a sandbox forbids."""
    if not os.path.isabs(folder):
        return False
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-"):
            return True
    except OSError:
        return False
