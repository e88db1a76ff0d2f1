"""Pictures of human mode as SVG, from real runs in a terminal against the sandbox.

`make screenshots` writes them to `examples/`, each for light and for dark pages. Each picture
contains its text as a description, for screen readers and for the test that compares the text with
the current output.
"""

from __future__ import annotations

import re
import tempfile
import time
from contextlib import contextmanager
from html import escape
from io import StringIO
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.color import parse_rgb_hex
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from harness import environment, wait_until
from oaibg.sandbox import Fault, Sandbox
from places import EXAMPLES
from terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyte

    Drawn = tuple[str, dict[str, str]]

FOLDER = EXAMPLES
NAMES = ("human-live", "human-answer", "human-many", "human-list")
COLUMNS = 80
LONG = 600
"""Seconds of a job whose time `_elapse` moves."""

_ANSWER = (EXAMPLES / "demo" / "answer.md").read_text()

_THEMES = {
    "light": "f6f8fa 1f2328 d0d7de 24292f cf222e 116329 7d4e00 0969da 8250df 1b7c83 57606a",
    "dark": "161b22 e6edf3 3d444d 6e7681 ff7b72 3fb950 d29922 58a6ff bc8cff 39c5cf b1bac4",
}
"""The terminal's background, text and border, and its ANSI colors from black to white."""
THEMES = tuple(_THEMES)

_RICH_BORDER = "rgba(255,255,255,0.35)"

_SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: 'DejaVu Sans Mono', Menlo, Consolas, monospace; \
font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" \
clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    """Draw all pictures."""
    for name, (text, drawn) in pictures().items():
        for theme, picture in drawn.items():
            path(name, theme).write_text(picture)
        print(f"{name}: {len(text.splitlines())} lines")


def path(name: str, theme: str) -> Path:
    """Return the path of a picture."""
    return FOLDER / f"{name}-{theme}.svg"


def pictures(poll_seconds: int = 2) -> dict[str, Drawn]:
    """Return the text of each picture, and the picture for each theme, by name."""
    with tempfile.TemporaryDirectory() as folder, Sandbox.running(seconds=LONG) as sandbox:
        return {
            name: scene(Path(folder), sandbox, str(poll_seconds))
            for name, scene in zip(NAMES, (_live, _answer, _many, _list), strict=True)
        }


def described(picture: str) -> str:
    """Return the description in a picture."""
    found = re.search(r"<desc>(.*?)</desc>", picture, re.DOTALL)
    assert found is not None
    return found[1]


def comparable(text: str) -> str:
    """Return a picture's text without the parts that differ between runs."""
    text = re.sub(r"[\u2800-\u28ff]", "*", text)  # the spinner
    text = re.sub(r"resp_[0-9a-f]+|\b[0-9a-f]{6,}\b", "resp", text)
    text = re.sub(r"[━╸╺]+", "bar", text)
    text = re.sub(r"about .* left", "about 0 left", text)
    text = re.sub(r"[\d.,]+", "0", text)
    rows = [re.sub(r" +", " ", row).strip() for row in text.splitlines()]
    return "\n".join(sorted(row for row in rows if row))


def _live(folder: Path, sandbox: Sandbox, poll: str) -> Drawn:
    """Draw a running job after a failed poll."""
    sandbox.script(Fault(on="retrieve", kind="status", status=503))
    argv = ("submit", "--human", "--job-key", "report-7", "--prompt-file", "task.md")
    (folder / "task.md").write_text("Compare the three proposals.")
    with _terminal(folder, sandbox, *argv, "--poll-seconds", poll) as (screen, typed):
        screen.wait_for(lambda text: "HTTP 503" in text)
        _elapse(sandbox)
        screen.wait_for(lambda text: "in progress · " in text and "next poll" in text)
        return _drawn(screen, typed, "a running job")


def _answer(folder: Path, sandbox: Sandbox, poll: str) -> Drawn:
    """Draw a completed job with its answer."""
    (folder / "proposals").mkdir()
    for name in "ABC":
        (folder / "proposals" / f"{name}.md").write_text(f"Proposal {name}.")
    argv = ("submit", "Compare them.", "--human", "--attach", "proposals/*.md")
    settings = ("--metadata", f"sandbox_text={_ANSWER}", "--metadata", "sandbox_seconds=0.2")
    with _terminal(folder, sandbox, *argv, *settings, "--poll-seconds", "0.5") as (screen, _):
        assert screen.end() == 0, screen.text
        typed = """oaibg submit "Compare them." --human --attach 'proposals/*.md'"""
        return _drawn(screen, typed, "a completed job")


def _many(folder: Path, sandbox: Sandbox, poll: str) -> Drawn:
    """Draw a jobs file of which some jobs completed, one failed, and others are running."""
    jobs = {"lima": 0.1, "oslo": 0.1, "rome": 0.1, "kyiv": LONG, "bern": LONG, "cairo": LONG}
    created = len(sandbox.jobs) + len(jobs)
    lines = [
        f'{{"custom_id":"{name}","method":"POST","url":"/v1/responses","body":{{"input":"x",'
        f'"metadata":{{"sandbox_seconds":"{seconds}",'
        f'"sandbox_outcome":"{"failed" if name == "rome" else "completed"}"}}}}}}\n'
        for name, seconds in jobs.items()
    ]
    (folder / "cities.jsonl").write_text("".join(lines))
    argv = ("submit", "--human", "--jobs-file", "cities.jsonl", "--results-file", "out.jsonl")
    key = ("--job-key", "cities", "--poll-seconds", poll)
    with _terminal(folder, sandbox, *argv, *key) as (screen, typed):
        wait_until(lambda: len(sandbox.jobs) == created)
        _elapse(sandbox)
        screen.wait_for(lambda text: "3 of 6 done" in text and "3 in progress" in text)
        return _drawn(screen, typed, "many jobs")


def _list(folder: Path, sandbox: Sandbox, poll: str) -> Drawn:
    """Draw the list of submitted jobs."""
    with _terminal(folder, sandbox, "show", "--human", "--list", "--limit", "5") as (screen, typed):
        assert screen.end() == 0, screen.text
        return _drawn(screen, typed, "submitted jobs")


def _elapse(sandbox: Sandbox) -> None:
    """Make half of the time of all long jobs pass, so that they are in progress."""
    for job in sandbox.jobs.values():
        if job.seconds == LONG:
            job.created = time.time() - LONG / 2


@contextmanager
def _terminal(folder: Path, sandbox: Sandbox, *argv: str) -> Iterator[tuple[Terminal, str]]:
    settings = environment(sandbox.base_url, folder / "state")
    with Terminal(*argv, environment=settings, columns=COLUMNS, folder=folder) as screen:
        yield screen, " ".join(("oaibg", *argv))


def _drawn(screen: Terminal, typed: str, title: str) -> Drawn:
    rows = [*(Text(row, style="bold") for row in _typed(typed)), *map(_row, screen.cells)]
    text = "\n".join(row.plain.rstrip() for row in rows)
    console = Console(record=True, width=COLUMNS, file=StringIO(), legacy_windows=False)
    for row in rows:
        console.print(row, no_wrap=True, crop=False)
    drawn = {}
    for name, theme in _THEMES.items():
        colors: list[tuple[int, int, int]] = [*map(parse_rgb_hex, theme.split())]
        picture = console.export_svg(
            title=f"oaibg: {title}",
            theme=TerminalTheme(colors[0], colors[1], colors[3:]),
            clear=False,
            code_format=_SVG,
            unique_id="t",
        ).replace(_RICH_BORDER, f"#{theme.split()[2]}")
        head, rest = picture.split("\n", 1)
        described = f"{head}\n<title>oaibg: {title}</title>\n<desc>{escape(text)}</desc>\n{rest}"
        drawn[name] = "\n".join(row.rstrip() for row in described.splitlines()) + "\n"
    return escape(text), drawn


def _typed(command: str) -> list[str]:
    """Return the rows of a command as one types them; an option stays with its value."""
    together = re.sub(r"(--[\w-]+) (?!-)", "\\1\N{NO-BREAK SPACE}", f"$ {command}")
    rows = wrap(together, COLUMNS - 2, subsequent_indent="    ", break_on_hyphens=False)
    return " \\\n".join(rows).replace("\N{NO-BREAK SPACE}", " ").splitlines()


def _row(cells: list[pyte.screens.Char]) -> Text:
    row = Text()
    for cell in cells:
        row.append(
            cell.data,
            Style(color=_color(cell.fg), bold=cell.bold, dim=cell.blink, italic=cell.italics),
        )
    row.rstrip()
    return row


def _color(name: str) -> str | None:
    """Return Rich's name for a color of the terminal."""
    if name == "default":
        return None
    if re.fullmatch(r"[0-9a-f]{6}", name):
        return f"#{name}"
    name = name.replace("brown", "yellow")
    return name.replace("bright", "bright_")


if __name__ == "__main__":
    main()
