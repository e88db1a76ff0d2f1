"""An agent's shell: runs programs, and the commands of the skill, against the sandbox."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import Command, Result, await_line, default_signals, environment
from ledger import audit
from places import SKILL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from signal import Signals

    from forkserver import ForkServer
    from oaibg.sandbox import Sandbox

PAGES = {
    path.relative_to(SKILL).as_posix(): path.read_text() for path in sorted(SKILL.rglob("*.md"))
}
"""The skill's pages, by their path in its folder."""
BODY = PAGES["SKILL.md"]
SCRIPTS = SKILL / "scripts"
RUN, MONITOR = SCRIPTS / "run_background_response.py", SCRIPTS / "monitor_background_response.py"
BIN = Path(sys.executable).parent
FAST = ("--poll-seconds", "0.1")
LONG = ("--metadata", "sandbox_seconds=600")
"""Options of a job that runs for as long as the test."""


def call(*argv: object, stdin: bytes | None = None, **options: Any) -> Result:
    """Run any program to its end; its stdin is the null device unless `stdin` is given."""
    process = subprocess.Popen(
        [str(word) for word in argv],
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
    out, err = process.communicate(stdin, timeout=120)
    return Result(process.returncode, out, err.decode())


@contextmanager
def agent_shell(
    sandbox: Sandbox, state: Path, tmp_path: Path, forks: ForkServer
) -> Iterator[Shell]:
    """Provide a shell with a prompt file; at the end, no job was lost or paid twice."""
    folder = tmp_path / "work space"
    folder.mkdir()
    (folder / "prompt.md").write_text("Review this.")
    variables = environment(sandbox.base_url, state)
    variables["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    shell = Shell(folder, variables, forks)
    yield shell
    if sandbox.posts:
        audit(sandbox, *shell.states, decided=shell.decided)


class Shell:
    """A shell in an own folder, with `oaibg` on PATH and the sandbox as the API."""

    def __init__(self, folder: Path, variables: dict[str, str], forks: ForkServer) -> None:
        self.folder = folder
        self.variables = variables
        self.states = [Path(variables["OAIBG_STATE_DIR"])]
        self.decided = 0
        self._forks = forks

    def run(self, *argv: object, **options: Any) -> Result:
        """Run a program to its end."""
        return call(*argv, **{"cwd": self.folder, "env": self.variables, **options})

    def oaibg(self, *argv: str) -> Result:
        """Run `oaibg ARGV` to its end, forked: 20 ms instead of the second of a new process.

        A forked process has another working directory: files of this folder become absolute.
        """
        words = [self._absolute(word) for word in argv]
        return Command.end(self._forks.start(tuple(words), self.variables), 120)

    def documented(self, begin: str, *more: str, response_id: str = "resp_123") -> Result:
        """Run the only command of the skill that begins with `begin`, with more options."""
        command = documented(begin).replace("resp_123", response_id)
        program, *argv = shlex.split(command)
        assert program == "oaibg"
        return self.oaibg(*argv, *more)

    def lose_home(self) -> None:
        """Make the default state directory one that can't be created."""
        self.variables.pop("OAIBG_STATE_DIR")
        self.variables |= {"HOME": os.devnull, "XDG_CONFIG_HOME": os.devnull}

    def interrupt(self, event: str, number: Signals, *argv: object) -> Result:
        """Run a program, and send it a signal at the first line of an event."""
        process = subprocess.Popen(
            [str(word) for word in argv],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=default_signals,  # noqa: PLW1509 - as for all processes of the tests
        )
        _, read = await_line(process, event)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
        return Result(process.returncode, read + out, "")

    def _absolute(self, word: str) -> str:
        return str(self.folder / word) if re.fullmatch(r"[\w-]+\.(md|jsonl?)", word) else word


def documented(begin: str) -> str:
    """Return the only command of the skill that begins with `begin`, apart from pipes."""
    written = dict.fromkeys(line for text in PAGES.values() for line in commands(text))
    found = [line for line in written if line.startswith(begin) and "|" not in line]
    assert len(found) == 1, f"the skill has {len(found)} commands that begin with {begin!r}"
    return found[0]


def commands(text: str) -> list[str]:
    """Return the commands in the `sh` blocks of a page, one line each, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+#.*", "", line) for line in lines if line]
