"""A terminal of a given size: a test runs the command in it and reads the screen."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import pyte

from harness import default_signals, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType


class Terminal:
    """Runs `oaibg ARGV`, or another program, in a terminal of its own.

    Args:
        argv: the arguments after the program's name.
        program: the program, and its first arguments.
        environment: the process's environment; `TERM` is added if it is missing, and the size of
            the tests' own terminal is removed.
        columns: the terminal's width.
        rows: the terminal's height.
        stdout: a descriptor to use as stdout instead of the terminal.
        stderr: the same for stderr.
        folder: the working directory.
        exported: more of the environment, which may set a size.
        program: what to run instead of `oaibg`; it gets the arguments.
    """

    def __init__(
        self,
        *argv: str,
        program: Sequence[str] = (sys.executable, "-m", "oaibg"),
        environment: dict[str, str],
        columns: int = 80,
        rows: int = 24,
        stdout: int | None = None,
        stderr: int | None = None,
        folder: Path | None = None,
        exported: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.columns = columns
        self.written = b""
        """All bytes that the terminal received."""
        self._screen = _Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        given = {name: environment[name] for name in environment.keys() - {"COLUMNS", "LINES"}}
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [*program, *argv],
            env={"TERM": "xterm-256color", "LANG": "C.UTF-8", **given, **exported},
            cwd=folder,
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs if stderr is None else stderr,
            preexec_fn=default_signals,  # noqa: PLW1509 - the child only resets signals
            start_new_session=True,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        """Return the terminal; the process ends with the `with` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill the process if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        self._reader.join(60)
        os.close(self._ours)

    @property
    def lines(self) -> list[str]:
        """The screen's rows, without trailing spaces and empty rows."""
        with self._lock:
            rows = [row.rstrip() for row in self._screen.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def text(self) -> str:
        """The screen as one text; lines that were wrapped at the edge are joined."""
        rows = self.lines
        return "".join(row if len(row) == self.columns else f"{row}\n" for row in rows)

    @property
    def cells(self) -> list[list[pyte.screens.Char]]:
        """The characters of the used rows, with their colors."""
        rows = len(self.lines)
        with self._lock:
            return [
                [self._screen.buffer[row][column] for column in range(self.columns)]
                for row in range(rows)
            ]

    def wait_for(self, condition: Callable[[str], object], seconds: float = 120) -> str:
        """Wait until a condition holds for the screen's text; return the text."""
        wait_until(lambda: condition(self.text), seconds)
        return self.text

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def end(self, seconds: float = 120) -> int:
        """Wait for the command's end and the rest of its output; return the exit code."""
        code = self.process.wait(seconds)
        self._reader.join(60)
        assert not self._reader.is_alive()
        return code

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65536)
            except OSError:
                return  # no process has the other end open
            if not data:
                return
            with self._lock:
                self.written += data
                self._stream.feed(data)


class _Screen(pyte.Screen):
    """A screen that shows faint text as blinking, which the command never uses."""

    def select_graphic_rendition(self, *attrs: int) -> None:
        """Set colors and styles; the numbers after 38 and 48 are colors."""
        if not {38, 48} & set(attrs):
            attrs = tuple(5 if attr == 2 else attr for attr in attrs)
        super().select_graphic_rendition(*attrs)
