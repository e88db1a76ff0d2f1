"""The renderer of human mode: progress on stderr, the answer on stdout."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from oaibg.base.text import inert, one_line, utf8
from oaibg.contract import events
from oaibg.contract.advice import for_people
from oaibg.contract.events import Event, exit_code_of
from oaibg.output.actions import next_step
from oaibg.output.human.amounts import size
from oaibg.output.human.answer import Answer, is_markdown
from oaibg.output.human.board import Board
from oaibg.output.human.frame import Frame
from oaibg.output.human.lines import WAITING, has_line
from oaibg.output.human.live import JobStatus
from oaibg.output.human.names import job_name, plain
from oaibg.output.human.next_line import LIMITS, name_of, next_line
from oaibg.output.human.notes import Notes, note_on_list
from oaibg.output.human.pages import plan_page, request_page, response_page, run_page
from oaibg.output.human.run_end import RunEnd
from oaibg.output.human.steps import is_news
from oaibg.output.human.streamed import Streamed
from oaibg.output.human.tables import list_counts, list_table
from oaibg.output.human.terminal import Screen
from oaibg.output.human.words import Ended, describe, in_words, spent
from oaibg.output.stdout import Stderr, Stdout

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType


class Human:
    """Shows events to a person. Untrusted text is never read as markup or control.

    On a terminal, a live display shows the status. A pipe or dumb terminal gets a line per event of
    a single job; of several jobs, it gets a line of progress now and then. Each job of several that
    ends without success has a line in either case.

    Args:
        stdout: takes the answer.
        several: whether the run has several jobs.
        total: returns the number of jobs in the run; None while that is unknown.
        max_cost_usd: returns the cost limit of the run; None if there is none.
        rerun: returns the argv that repeats a submit; None if it can't be repeated.
        server: the host of the API.
        now: returns the monotonic time in seconds.
    """

    def __init__(
        self,
        stdout: Stdout,
        *,
        several: bool = False,
        total: Callable[[], int | None] = lambda: None,
        max_cost_usd: Callable[[], float | None] = lambda: None,
        rerun: Callable[[], list[str] | None] = lambda: None,
        server: str = "",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stdout, self._several = stdout, several
        self._server = server
        self._names: dict[str, str] = {}
        """What commands accept, by response ID: keys as far as known."""
        self._stderr = Stderr(stdout)
        self._progress = Screen(2, self._stderr)
        self._page = Screen(1)
        self._streamed = Streamed()
        self._display = (
            Board(now, total, max_cost_usd) if several else JobStatus(now, self._streamed)
        )
        self._frame = Frame(self._display)
        self._live: Live | None = None
        self._answer: events.OutputText | None = None
        self._listed: list[events.ListedJob | events.Run] = []
        self._is_empty_list = False
        self._requests: list[events.DryRun] = []
        self._end = RunEnd(rerun)
        self._hint = ""
        self._notes = Notes(server)
        self._limit: str | None = None
        """The code of the warning that the run can't continue with its cost limit."""
        self._shows_ids = False
        """Whether the local state may lack IDs, so that they must be printed."""
        self._has_progress = False
        self._step: events.Progress | None = None
        """The last step that was shown."""
        self._is_empty = True
        """Whether nothing was printed on the terminal yet."""
        self._is_below_answer = False
        """Whether the next line of progress follows the answer on the terminal."""

    def wait(self) -> None:
        """Start the live display if the terminal supports it; it is cleared when it stops."""
        if self._live is None and self._progress.can_live:
            self._live = Live(
                self._frame,
                console=self._progress,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start(refresh=True)

    def write(self, event: Event) -> None:
        """Show one event."""
        self._display.update(event)
        if isinstance(event, events.Warning):
            self._shows_ids = self._shows_ids or event.code.startswith("state_")
            self._limit = event.code if event.code in LIMITS else self._limit
        if event.response_id is not None:
            self._names[event.response_id] = name_of(event.response_id, event.alias)
        is_last = exit_code_of(event) is not None
        if is_last:
            self._stderr.wait_for_reader()
            self._stop()
            if self._answer is None:
                self._print_answer(self._streamed.take_rest())
        if not self._several and (introduction := self._notes.introduction(event)):
            self._print(introduction)
        match event:
            case events.RunProgress():
                self._print_progress(event)
            case events.OutputText():
                self._answer = event
                if self._several:
                    self._print_whole_answer()
            case events.OutputTextDelta():
                self._stream(event)
            case events.OutputTextMissing() if event.path is None and _is_told(event):
                pass
            case events.Progress():
                if is_news(event, self._step):
                    self._step = event
                    self._print_event(event)
            case events.Warning() if event.code == "state_empty":
                self._is_empty_list = True  # the hint of the summary says why
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
        self._print_next(event, is_last=is_last)
        if isinstance(event, WAITING):
            self.wait()

    def _print_event(self, event: Event) -> None:
        self._print_whole_answer()
        if has_line(event, several=self._several, live=self._progress.can_live) or (
            self._shows_ids and isinstance(event, events.Submitted)
        ):
            self._print(describe(event, self._server, several=self._several))
        if isinstance(event, events.Final) and not self._several:
            self._print_used(event)
        hint = self._in_words(self._notes.hint(event))
        if hint and hint != self._hint:
            self._print(plain(hint))
            self._hint = hint  # many jobs may have the same hint
        if self._several and isinstance(event, Ended) and exit_code_of(event) is None:
            self._end.note(event)

    def _print_used(self, event: events.Final) -> None:
        if used := spent(event.usage, event.cost_usd, event.model):
            self._print(used)

    def _print_next(self, event: Event, *, is_last: bool) -> None:
        """Print what to do next: the event's command, or what a job needs."""
        argv = getattr(event, "next", None)
        if argv and (is_last or not self._several):
            line = next_line(event, argv, self._names, several=self._several, limit=self._limit)
            self._print(plain(line), soft_wrap=True)
        if step := next_step(event):
            self._print(plain(self._in_words(step)), soft_wrap="oaibg " in step)

    def _in_words(self, hint: str) -> str:
        """Return a hint for people, with keys in place of IDs, and no names of JSON keys."""
        words = [
            shlex.quote(self._names[word]) if word in self._names else word
            for word in for_people(hint).split(" ")
        ]
        return in_words(" ".join(words))

    def _print_progress(self, event: events.RunProgress) -> None:
        """Print how far a run is; on a terminal, only what had ended before it."""
        is_first, self._has_progress = not self._has_progress, True
        if not self._progress.can_live or (is_first and event.done):
            self._print(describe(event))

    def _print_summary(self, event: events.Summary) -> None:
        """Print the table of a list, the plan of a dry run, or the end of a run."""
        if self._requests:
            self._write(self._rendered(plan_page(self._requests, event, self._page.width)))
            return
        match self._listed:
            case [events.Run() as run] if run.results_file and event.results_file:
                self._write(self._rendered(run_page(run, event, self._page.width)))
                return
        if self._listed:
            self._write(self._rendered(list_table(self._listed, self._page.width)))
            self._is_below_answer = self._progress.is_tty
            self._print(list_counts(self._listed, event))
            if note := note_on_list(event):
                self._print(plain(note))
            return
        if self._is_empty_list:
            self._print(plain(self._in_words(event.hint or "")))
            return
        if (table := self._end.table(event, self._progress.width)) is not None:
            self._space()
            self._print(table, soft_wrap=True)
        for line in self._end.lines(event):
            self._print(line)
        for retry in self._end.retries(event):
            self._print(plain(retry), soft_wrap=True)

    def _print_response(self, event: events.Response) -> None:
        answer, self._answer = self._answer, None
        page = self._rendered(response_page(event, self._page.width))
        self._write(page if answer is None else f"{page}\n{self._answer_text(answer.text)}")
        self._is_below_answer = self._page.is_tty and self._progress.is_tty

    def _print_request(self, event: events.DryRun) -> None:
        self._print(describe(event))
        for file in event.attachments:
            self._print(plain(f"  {file.path}: {file.type}, {size(file.bytes)}"))
        self._write(request_page(event))

    def _stream(self, event: events.OutputTextDelta) -> None:
        """Take the next part of the answer; a terminal gets each block that is complete."""
        if not self._several:
            self._streamed.add(event.delta)
            if self._page.is_tty:
                self._print_answer(self._streamed.take_blocks())

    def _print_whole_answer(self) -> None:
        """Print what the answer adds to its blocks that were printed already."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if self._several:
            self._print_answer(answer.text, f"{one_line(str(job_name(answer)))}:\n")
        else:
            self._print_answer(self._streamed.take_end(answer.text))

    def _print_answer(self, text: str, heading: str = "") -> None:
        """Print the answer, or blocks of it, to stdout; a terminal gets empty lines around it."""
        if text.strip() or (text and not self._page.is_tty):
            self._stop()
            self._space()
            self._write(f"{heading}{self._answer_text(text)}")
            self._is_below_answer = self._page.is_tty and self._progress.is_tty

    def _answer_text(self, text: str) -> str:
        text = text.replace("\r\n", "\n")
        if not self._page.is_tty:
            return inert(text)
        if self._page.is_dumb_terminal or not is_markdown(text):
            return inert(text.strip("\n"))
        return self._rendered(Answer(text)).strip("\n")

    def _rendered(self, content: RenderableType) -> str:
        """Return rendered content for stdout. The terminal itself folds long lines of `Text`."""
        with self._page.capture() as captured:
            self._page.print(content, soft_wrap=isinstance(content, Text))
        return "\n".join(row.rstrip() for row in captured.get().split("\n"))

    def _write(self, text: str) -> None:
        """Write to stdout."""
        self._stdout.write(utf8(text if text.endswith("\n") else f"{text}\n"))
        self._is_empty = self._is_empty and not self._page.is_tty

    def _print(self, line: Text, *, soft_wrap: bool = False) -> None:
        """Print to stderr. A line is folded between words, but a long ID is never split."""
        if self._is_below_answer:
            self._space()
            self._is_below_answer = False
        self._frame.note_line()
        has_long = any(len(word) >= self._progress.width for word in line.plain.split())
        self._progress.print(line, soft_wrap=soft_wrap or has_long)
        self._is_empty = self._is_empty and not self._progress.is_tty

    def _space(self) -> None:
        """Print an empty line to the terminal, unless it is the first one."""
        if self._page.is_tty and not self._is_empty:
            self._stdout.write(b"\n")

    def _stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


def _is_told(event: events.OutputTextMissing) -> bool:
    """Whether the status, or what the job needs, says why there is no text."""
    return event.status != "completed" or event.reason in ("tool_calls", "refusal")
