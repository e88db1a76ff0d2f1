"""The Rich renderer: progress on stderr, the answer on stdout. The only importer of `rich`."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from oaibg.base.text import inert, one_line, utf8
from oaibg.contract import events
from oaibg.contract.events import exit_code_of
from oaibg.output.human import pages
from oaibg.output.human.answer import Answer, is_rendered
from oaibg.output.human.live import Many, One
from oaibg.output.human.terminal import Screen, Stderr
from oaibg.output.human.words import counted, line, name_of, size

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from oaibg.contract.events import Event
    from oaibg.output.stdout import Stdout

_REFRESHES = 4
"""A second, of what is live."""

_NEXT = "Next: "

_ENDS = 20
"""Jobs of a run that the table at its end names."""

_LIVE = (
    events.SubmitStart,
    events.Submitted,
    events.SubmitError,
    events.Poll,
    events.PollError,
    events.Progress,
    events.OutputTextDelta,
)
"""What tells that a job is waited for."""

_PASSING = (events.SubmitStart, events.Poll, events.Progress)
"""What a live display shows, and no line of its own."""

_NAMED = (events.Submitted, events.Final, events.Detached, events.CancelResult)
"""Whose words begin with the id."""

_PASSING_OF_MANY = (
    *_PASSING,
    events.Submitted,
    events.SubmitError,
    events.PollError,
    events.Detached,
    events.Timeout,
    events.Interrupted,
)


class Human:
    """Shows events to a person. Text from elsewhere is never read as markup or control.

    On a terminal a live display tells how it stands; elsewhere, and on one that is dumb, each
    event is a line.

    Args:
        stdout: where the answer goes.
        several: whether the run is over several jobs.
        total: how many jobs it has, as soon as that is known.
        now: the monotonic time, in seconds.
    """

    def __init__(
        self,
        stdout: Stdout,
        *,
        several: bool = False,
        total: Callable[[], int | None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stdout, self._several = stdout, several
        self._stderr = Stderr(stdout)
        self._progress = Screen(2, self._stderr)
        self._page = Screen(1)
        self._board = Many(now, total) if several else One(now)
        self._live: Live | None = None
        self._answer: events.OutputText | None = None
        self._listed: list[events.ListedJob] = []
        self._ends: list[pages.Ended] = []
        self._ended: Counter[bool] = Counter()
        """How many ended well, and how many did not."""
        self._hint = ""

    def wait(self) -> None:
        """Show that it is waited for, where that can be; the display is cleared when it ends."""
        if self._live is None and self._progress.can_live:
            self._live = Live(
                console=self._progress,
                refresh_per_second=_REFRESHES,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                get_renderable=lambda: self._board,
            )
            self._live.start(refresh=True)

    def write(self, event: Event) -> None:
        """Show one event."""
        self._board.see(event)
        if exit_code_of(event) is not None:
            self._stderr.be_patient()
            self._stop()
        match event:
            case events.OutputText():
                self._answer = event
                if self._several:
                    self._tell_answer()
            case events.OutputTextDelta():
                pass  # the whole text comes at the end
            case events.ListedJob():
                self._listed.append(event)
            case events.Response():
                self._show(event)
            case events.Summary():
                self._sum_up(event)
            case events.DryRun():
                self._say(line(event)[1])
                for file in event.attachments:
                    self._say(f"  {file.path}: {file.type}, {size(file.bytes)}")
                self._put(pages.request(event))
            case _:
                self._tell(event)
        if isinstance(event, _LIVE):
            self.wait()

    def _tell(self, event: Event) -> None:
        self._tell_answer()
        if not (self._progress.can_live and self._is_passing(event)):
            style, told = line(event)
            self._say(f"{name_of(event)}: {told}" if self._is_nameless(event) else told, style)
        if isinstance(event, events.Final) and not self._several:
            self._print(pages.facts_of(event))
        hint = getattr(event, "hint", None)
        if hint and hint != self._hint:
            self._say(hint)
            self._hint = hint  # many jobs may end in the same way
        if self._several:
            self._note_end(event)
        if not self._several or exit_code_of(event) is not None:
            self._tell_next(event)

    def _is_passing(self, event: Event) -> bool:
        """Whether the live display tells it, so that it needs no line of its own."""
        if not self._several:
            return isinstance(event, _PASSING)
        return _is_good(event) or (
            isinstance(event, _PASSING_OF_MANY) and exit_code_of(event) is None
        )

    def _is_nameless(self, event: Event) -> bool:
        """Whether it is one job's of several, and its words don't say whose."""
        if not self._several or name_of(event) is None:
            return False
        return event.of is not None or not isinstance(event, _NAMED)

    def _note_end(self, event: Event) -> None:
        """Keep what the table at the end is made of: no more than it may show."""
        if not isinstance(event, pages.Ended) or exit_code_of(event) is not None:
            return
        good = _is_good(event)
        self._ended[good] += 1
        if self._ended[good] <= _ENDS:
            self._ends.append(event)

    def _sum_up(self, event: events.Summary) -> None:
        """The table of a list, or of a run: all of its jobs where they are few, else the bad."""
        if self._listed:
            self._put(self._rendered(pages.job_list(self._listed, self._page.width)))
            self._say("")
            self._say(counted(event.counts), "bold")
            return
        few = self._ended.total() <= _ENDS
        told = [end for end in self._ends if few or not _is_good(end)]
        if told:
            self._print(pages.ends(told, self._progress.width))
            more = 0 if few else self._ended[False] - len(told)
            self._say(f"and {more:,} more" if more else "")
        style, words = line(event)
        self._say(words, style)
        self._tell_next(event)

    def _show(self, event: events.Response) -> None:
        """The page of a job: its facts, and its text below them."""
        answer, self._answer = self._answer, None
        told = self._rendered(pages.page(event))
        if answer is not None:
            told += f"\n{self._text(answer.text)}"
        self._put(told)
        self._tell_next(event)

    def _tell_answer(self) -> None:
        """The answer on stdout; of several jobs with the name of its job above it."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        self._stop()
        name = f"{one_line(str(name_of(answer)))}:\n" if self._several else ""
        self._put(f"{name}{self._text(answer.text)}")
        if self._page.is_seen:
            self._say("")

    def _text(self, text: str) -> str:
        """An answer, rendered where a person looks at it."""
        text = text.replace("\r\n", "\n")
        if self._page.is_seen and not self._page.is_dumb_terminal and is_rendered(text):
            return self._rendered(Answer(text))
        return inert(text)

    def _rendered(self, told: RenderableType) -> str:
        """What stdout gets of it; a line of ours is folded by the terminal itself."""
        with self._page.capture() as captured:
            self._page.print(told, soft_wrap=isinstance(told, Text))
        return "\n".join(row.rstrip() for row in captured.get().split("\n"))

    def _put(self, text: str) -> None:
        self._stdout.write(utf8(text if text.endswith("\n") else f"{text}\n"))

    def _say(self, told: str, style: str = "") -> None:
        text = one_line(told)
        # The terminal folds what can't be broken between words: an id or a command stays whole.
        folded = any(len(word) >= self._progress.width for word in text.split())
        self._print(Text(text, style=style), soft_wrap=folded or told.startswith(_NEXT))

    def _print(self, told: Text, *, soft_wrap: bool = True) -> None:
        self._progress.print(told, soft_wrap=soft_wrap)

    def _tell_next(self, event: Event) -> None:
        if command := getattr(event, "next", None):
            self._say(f"{_NEXT}{shlex.join(command)}", "bold")

    def _stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


def _is_good(event: Event) -> bool:
    """Whether it tells that a job ended as was asked."""
    return bool(getattr(event, "ok", False) or getattr(event, "cancelled", False))
