"""The renderer of human mode: progress on stderr, the answer on stdout."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from oaibg.base.text import inert, one_line, utf8
from oaibg.contract import events
from oaibg.contract.events import Event, exit_code_of
from oaibg.output.actions import next_step
from oaibg.output.human.amounts import size
from oaibg.output.human.answer import Answer, is_markdown
from oaibg.output.human.board import Board
from oaibg.output.human.live import JobStatus
from oaibg.output.human.pages import (
    list_table,
    plan_page,
    request_page,
    response_page,
    run_page,
    usage_page,
)
from oaibg.output.human.run_end import RunEnd
from oaibg.output.human.terminal import Screen
from oaibg.output.human.words import (
    STRONG,
    Ended,
    counted,
    describe,
    is_news,
    job_name,
    plain,
)
from oaibg.output.stdout import Stderr, Stdout

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType


_TRANSIENT = (events.SubmitStart, events.Poll, events.Progress, events.OutputTextDelta)
"""Events of one job that only the live display shows, without printing a line."""

_WAITING = (
    *_TRANSIENT,
    events.Submitted,
    events.SubmitError,
    events.PollError,
    events.RunProgress,
)
"""Events after which oaibg waits for jobs."""

_TRANSIENT_OF_SEVERAL = (*_WAITING, events.Detached, events.Timeout, events.Interrupted)

_NAMED = (events.Submitted, events.Final, events.Detached, events.CancelResult)
"""Events whose description contains the ID."""


class Human:
    """Shows events to a person. Untrusted text is never read as markup or control.

    On a terminal, a live display shows the status. A pipe or dumb terminal gets a line per event.

    Args:
        stdout: takes the answer.
        several: whether the run has several jobs.
        total: returns the number of jobs in the run; None while that is unknown.
        rerun: returns the argv that repeats a submit; None if it can't be repeated.
        now: returns the monotonic time in seconds.
    """

    def __init__(
        self,
        stdout: Stdout,
        *,
        several: bool = False,
        total: Callable[[], int | None] = lambda: None,
        rerun: Callable[[], list[str] | None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stdout, self._several = stdout, several
        self._stderr = Stderr(stdout)
        self._progress = Screen(2, self._stderr)
        self._page = Screen(1)
        self._display = Board(now, total) if several else JobStatus(now)
        self._live: Live | None = None
        self._answer: events.OutputText | None = None
        self._listed: list[events.ListedJob | events.Run] = []
        self._requests: list[events.DryRun] = []
        self._end = RunEnd(rerun)
        self._hint = ""
        self._has_progress = False
        self._step: events.Progress | None = None
        """The last step that was shown."""

    def wait(self) -> None:
        """Start the live display if the terminal supports it; it is cleared when it stops."""
        if self._live is None and self._progress.can_live:
            self._live = Live(
                self._display,
                console=self._progress,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start(refresh=True)

    def write(self, event: Event) -> None:
        """Show one event."""
        self._display.update(event)
        is_last = exit_code_of(event) is not None
        if is_last:
            self._stderr.wait_for_reader()
            self._stop()
        match event:
            case events.RunProgress():
                self._print_progress(event)
            case events.OutputText():
                self._answer = event
                if self._several:
                    self._print_answer()
            case events.OutputTextDelta():
                pass  # the whole text comes at the end; the board counts by itself
            case events.Progress():
                if is_news(event, self._step):
                    self._step = event
                    self._print_event(event)
            case events.ListedJob() | events.Run():
                self._listed.append(event)
            case events.Response():
                self._print_response(event)
            case events.Summary():
                self._print_summary(event)
            case events.DryRun() if self._several:
                self._requests.append(event)
            case events.DryRun():
                self._print_request(event)
            case _:
                self._print_event(event)
        command = getattr(event, "next", None)
        if command and (is_last or not self._several) and not self._is_active():
            self._print(f"Next: {shlex.join(command)}", STRONG, soft_wrap=True)
        if step := next_step(event):
            self._print(step, STRONG, soft_wrap=True)
        if isinstance(event, _WAITING):
            self.wait()

    def _print_event(self, event: Event) -> None:
        self._print_answer()
        if not (self._progress.can_live and self._is_transient(event)):
            words, style = describe(event)
            name = job_name(event) if self._several else None
            if name is not None and not (event.of is None and isinstance(event, _NAMED)):
                words = f"{name}: {words}"
            self._print(words, style)
        if isinstance(event, events.Final) and not self._several:
            self._progress.print(usage_page(event), soft_wrap=True)
        hint = event.hint if isinstance(event, events.Error) else None
        if hint and hint != self._hint:
            self._print(hint)
            self._hint = hint  # many jobs may have the same hint
        if self._several and isinstance(event, Ended) and exit_code_of(event) is None:
            self._end.note(event)

    def _is_transient(self, event: Event) -> bool:
        """Whether only the live display shows the event, so that no line is printed."""
        if not self._several:
            return isinstance(event, _TRANSIENT)
        is_shown = isinstance(event, _TRANSIENT_OF_SEVERAL) and exit_code_of(event) is None
        return is_shown or _has_succeeded(event)

    def _is_active(self) -> bool:
        """Whether the page is of a run that another process runs: `next` would be refused."""
        return len(self._listed) == 1 and getattr(self._listed[0], "is_active", None) is True

    def _print_progress(self, event: events.RunProgress) -> None:
        """Print how far a run is; on a terminal, only what had ended before it."""
        is_first, self._has_progress = not self._has_progress, True
        if not self._progress.can_live or (is_first and event.done):
            self._print(*describe(event))

    def _print_summary(self, event: events.Summary) -> None:
        """Print the table of a list, the plan of a dry run, or the end of a run."""
        if self._requests:
            self._write(self._rendered(plan_page(self._requests, event)))
            return
        match self._listed:
            case [events.Run() as run] if run.results_file and event.results_file:
                self._write(self._rendered(run_page(run, event)))
                return
        if self._listed:
            self._write(self._rendered(list_table(self._listed, self._page.width)))
            self._print("")
            self._print(counted(event.counts), STRONG)
            return
        if (table := self._end.table(event, self._progress.width)) is not None:
            self._progress.print(table, soft_wrap=True)
        for line in self._end.lines(event):
            self._print_text(line)
        for retry in self._end.retries(event):
            self._print(retry, STRONG, soft_wrap=True)

    def _print_response(self, event: events.Response) -> None:
        answer, self._answer = self._answer, None
        page = self._rendered(response_page(event))
        self._write(page if answer is None else f"{page}\n{self._answer_text(answer.text)}")

    def _print_request(self, event: events.DryRun) -> None:
        self._print(*describe(event))
        for file in event.attachments:
            self._print(f"  {file.path}: {file.type}, {size(file.bytes)}")
        self._write(request_page(event))

    def _print_answer(self) -> None:
        """Print the answer to stdout; in a run with several jobs, below its job's name."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        self._stop()
        name = f"{one_line(str(job_name(answer)))}:\n" if self._several else ""
        self._write(f"{name}{self._answer_text(answer.text)}")
        if self._page.is_tty:
            self._print("")

    def _answer_text(self, text: str) -> str:
        text = text.replace("\r\n", "\n")
        if self._page.is_tty and not self._page.is_dumb_terminal and is_markdown(text):
            return self._rendered(Answer(text))
        return inert(text)

    def _rendered(self, content: RenderableType) -> str:
        """Return rendered content for stdout. The terminal itself folds long lines of `Text`."""
        with self._page.capture() as captured:
            self._page.print(content, soft_wrap=isinstance(content, Text))
        return "\n".join(row.rstrip() for row in captured.get().split("\n"))

    def _write(self, text: str) -> None:
        self._stdout.write(utf8(text if text.endswith("\n") else f"{text}\n"))

    def _print(self, words: str, style: str = "", *, soft_wrap: bool = False) -> None:
        """Print a line to stderr. It is folded between words, but a long ID is never split."""
        self._print_text(plain(words, style), soft_wrap=soft_wrap)

    def _print_text(self, line: Text, *, soft_wrap: bool = False) -> None:
        has_long = any(len(word) >= self._progress.width for word in line.plain.split())
        self._progress.print(line, soft_wrap=soft_wrap or has_long)

    def _stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


def _has_succeeded(event: Event) -> bool:
    return bool(getattr(event, "ok", False) or getattr(event, "cancelled", False))
