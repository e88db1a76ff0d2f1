"""What both scripts do before they become `oaibg`. Standard library only, Python 3.9 or newer."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import tempfile

MISSING = """\
There is no `oaibg` on PATH. Install it from a clone of its repository, with either of

    uv tool install .
    pipx install .

and see that the folder they name (usually ~/.local/bin) is on PATH."""


def prepare() -> None:
    """See that `oaibg` can run: it is there, and its state has a folder.

    Ends the process with 127 where there is no `oaibg`.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C here ends without a traceback
    if shutil.which("oaibg") is None:
        say(MISSING)
        sys.exit(127)
    if not os.environ.get("OAIBG_STATE_DIR"):
        _choose_state()


def become(*argv: str) -> None:
    """Replace this process by `oaibg ARGV`: lines, signals and exit code are its own."""
    sys.stderr.flush()
    os.execvp("oaibg", ["oaibg", *argv])


def say(text: str) -> None:
    """Tell something on stderr; stdout is for the lines of `oaibg` alone."""
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr)


def _default_state() -> str:
    """Where `oaibg` keeps its state unless it is told otherwise."""
    if sys.platform == "darwin":
        return os.path.expanduser("~/Library/Application Support/oaibg")
    return os.path.join(os.environ.get("XDG_CONFIG_HOME", os.path.expanduser("~/.config")), "oaibg")


def _choose_state() -> None:
    """Keep the state in the workspace where it is there already, or the home folder takes none.

    One that is there has job keys: to look elsewhere for them would pay again.
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
        return  # `oaibg` says what is wrong with its own folder
    ignore = os.path.join(folder, ".gitignore")
    if not os.path.exists(ignore):
        with open(ignore, "w", encoding="utf-8") as file:
            file.write("*\n")
    os.environ["OAIBG_STATE_DIR"] = folder
    say(
        f"the state is in {folder}, and not in {_default_state()}. For later commands:\n"
        f"export OAIBG_STATE_DIR={shlex.quote(folder)}"
    )


def _workspace(folder: str) -> str:
    """The top of the repository, so that job keys are found from every folder in it.

    Without one it is the folder above that has a state already.
    """
    above = folder
    while not any(os.path.exists(os.path.join(above, mark)) for mark in (".git", ".oaibg")):
        if above == (above := os.path.dirname(above)):
            return folder
    return above


def _takes_files(folder: str) -> bool:
    """Whether a file can be made there. It is tried: rights do not tell what a sandbox forbids."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-"):
            return True
    except OSError:
        return False
