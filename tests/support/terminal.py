"""A terminal of a given size, in which a test runs the command and reads the screen."""

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
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType


class Terminal:
    """Runs `oaibg ARGV` in a terminal of its own.

    Args:
        argv: what follows the program's name.
        environment: the process's; `TERM` is added where it is not there.
        columns: of the terminal.
        rows: likewise.
        stdout: where stdout goes instead.
        folder: where the command runs.
        exported: more of the environment; the size that the tests were started with is left out.
    """

    def __init__(
        self,
        *argv: str,
        environment: dict[str, str],
        columns: int = 80,
        rows: int = 24,
        stdout: int | None = None,
        folder: Path | None = None,
        exported: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.columns = columns
        self.written = b""
        """All that the terminal got."""
        self._screen = _Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        given = {name: environment[name] for name in environment.keys() - {"COLUMNS", "LINES"}}
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "oaibg", *argv],
            env={"TERM": "xterm-256color", "LANG": "C.UTF-8", **given, **exported},
            cwd=folder,
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            preexec_fn=default_signals,  # noqa: PLW1509 - as for all processes of the tests
            start_new_session=True,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        """Use it in a `with` block, after which nothing runs."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill what still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        os.close(self._ours)

    @property
    def lines(self) -> list[str]:
        """The screen's rows, without what is empty at their ends."""
        with self._lock:
            rows = [row.rstrip() for row in self._screen.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def text(self) -> str:
        """The screen as one text, in which what the edge had broken is whole again."""
        rows = self.lines
        return "".join(row if len(row) == self.columns else f"{row}\n" for row in rows)

    @property
    def cells(self) -> list[list[pyte.screens.Char]]:
        """The screen's characters with their colours, for as many rows as are used."""
        rows = len(self.lines)
        with self._lock:
            return [
                [self._screen.buffer[row][column] for column in range(self.columns)]
                for row in range(rows)
            ]

    def wait_for(self, condition: Callable[[str], object], seconds: float = 120) -> str:
        """Wait until the screen's text is as it is asked for; gives it."""
        wait_until(lambda: condition(self.text), seconds)
        return self.text

    def end(self, seconds: float = 120) -> int:
        """Wait for the command's end, and for all that it wrote; gives its exit code."""
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65536)
            except OSError:
                return  # nobody has the other side any more
            if not data:
                return
            with self._lock:
                self.written += data
                self._stream.feed(data)


class _Screen(pyte.Screen):
    """One that keeps faint text apart: as blinking, which nothing here does."""

    def select_graphic_rendition(self, *attrs: int) -> None:
        """Set colours and type; 38 and 48 take numbers of their own after them."""
        if not {38, 48} & set(attrs):
            attrs = tuple(5 if attr == 2 else attr for attr in attrs)
        super().select_graphic_rendition(*attrs)
