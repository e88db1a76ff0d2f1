"""The board of a run: what it shows of the events of several jobs, at any size of the terminal."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from oaibg.contract.events import CallError, CancelResult, Event, PollError, Timeout
from oaibg.output.human.board import Board
from run_events import final, poll, progress, refused, start, submitted

HOSTILE = "\x1b]0;owned\x07[bold red]x[/]\u202e"


class Screen:
    """A board with a clock that the test sets."""

    def __init__(self, total: int | None, max_cost_usd: float | None = None) -> None:
        self.now = 0.0
        self._board = Board(lambda: self.now, lambda: total, lambda: max_cost_usd)

    def feed(self, *events: Event) -> None:
        """Update the board."""
        for event in events:
            self._board.update(event)

    def rows(self, width: int = 80, height: int = 24, *, colors: bool = False) -> list[str]:
        """Return the rows of the board in a terminal of this size."""
        file = StringIO()
        Console(
            file=file,
            width=width,
            height=height,
            force_terminal=colors,
            color_system="standard" if colors else None,
            _environ={},
        ).print(self._board)
        return file.getvalue().rstrip("\n").split("\n")


def test_a_resumed_run_begins_at_what_is_done() -> None:
    """The first `run_progress` says what is done; later ends, tokens and costs are added to it."""
    screen = Screen(2000)
    usage = {"total_tokens": 1_000_000}
    counts = {"completed": 520, "failed": 4}
    screen.feed(progress(524, counts=counts, usage=usage, cost_usd=2.5))
    assert screen.rows() == [
        f"524 of 2,000 done  {'━' * 40}  0 s",
        "520 completed · 4 failed",
        "1,000,000 tokens · about $2.50",
    ]
    screen.feed(submitted("a"), submitted("b"))
    screen.now = 60.0
    screen.feed(final("a", cost_usd=0.25), final("b", cost_usd=0.25))
    screen.feed(progress(526, counts={"completed": 522, "failed": 4}, cost_usd=3.0))
    assert screen.rows() == [
        f"526 of 2,000 done  {'━' * 40}  1 min 00 s",
        "522 completed · 4 failed",
        "2 a minute · about 12 h 17 min left · 1,003,000 tokens · about $3.00",
    ]


def test_a_batch() -> None:
    """Each `run_progress` counts for a batch, until its jobs end all at once."""
    screen = Screen(None)
    screen.feed(progress(0, total=3, counts={}))
    screen.feed(poll("batch", "in_progress").of_many(None))
    screen.feed(
        progress(0, total=400, counts={"in_progress": 400}, response_id="resp_batch"),
        poll("batch", "validating").of_many(None),
    )
    assert screen.rows()[1] == "400 validating"
    screen.feed(poll("batch", "in_progress").of_many(None))
    screen.feed(
        progress(2, total=3, counts={"completed": 2, "in_progress": 1}, response_id="resp_batch")
    )
    rows = [f"2 of 3 done  {'━' * 40}  0 s", "2 completed", "1 in progress"]
    assert screen.rows()[:3] == rows
    screen.feed(final("a"), final("b"), final("c", "failed", 4))
    screen.feed(final("batch").of_many(None))
    assert screen.rows()[:2] == [f"3 of 3 done  {'━' * 40}  0 s", "2 completed · 1 failed"]


def test_jobs_that_run_and_wait() -> None:
    """The board counts jobs by status, and those that wait to be submitted."""
    screen = Screen(10)
    screen.feed(*map(start, "abcd"), *map(submitted, "abc"), poll("a", "in_progress"))
    assert screen.rows()[1] == "2 queued · 1 in progress · 1 submitting · 6 to submit"
    screen.feed(final("a"), refused("d"))
    assert screen.rows()[1:3] == ["1 completed · 1 refused", "2 queued · 6 to submit"]


def test_jobs_that_are_not_followed_any_more() -> None:
    """Jobs whose wait ended neither run on the board nor wait to be submitted."""
    screen = Screen(3)
    screen.feed(*map(start, "ab"), *map(submitted, "ab"))
    for name in "ab":
        timeout = Timeout(
            response_id=name, status="queued", elapsed_seconds=1.0, exit_code=3, next=None
        )
        screen.feed(timeout.of_many(name))
    assert screen.rows()[1:] == ["1 to submit"]


def test_nothing_waits_to_be_submitted_without_a_submit() -> None:
    """`monitor` and `cancel` of several IDs, and a batch, count all of them from the start."""
    screen = Screen(3)
    screen.feed(poll(None, "in_progress"))
    assert screen.rows()[1:] == ["1 in progress", "resp_None  in progress"]
    cancelled = CancelResult(
        response_id="resp_1", status="cancelled", cancelled=True, exit_code=0, next=None
    )
    screen.feed(cancelled.of_many(None))
    assert screen.rows()[:2] == [f"1 of 3 done  {'━' * 40}  0 s", "1 cancelled"]


def test_times_are_those_of_the_jobs() -> None:
    """A job's time runs from its create. A job of an earlier command has none."""
    screen = Screen(2)
    screen.feed(start("new"), start("old"), submitted("old", "in_progress", reattached=True))
    screen.now = 90.0
    screen.feed(submitted("new"))
    screen.now = 102.0
    screen.feed(poll("old", "in_progress"), poll("new", "queued"))
    assert screen.rows()[2:] == ["new  queued             12 s", "old  in progress"]


def test_ids_are_whole() -> None:
    """The IDs that `monitor` follows fit into 80 columns."""
    screen = Screen(1)
    name = "a" * 50
    screen.feed(poll(name, "in_progress").of_many(None))
    assert screen.rows()[-1] == f"resp_{name}  in progress"


def test_between_the_last_poll_and_the_end() -> None:
    """A job that ended with its last poll is neither running nor done before its end event."""
    screen = Screen(2)
    screen.feed(poll("a", "in_progress"), poll("a", "completed", last=True))
    assert screen.rows() == [f"0 of 2 done  {'━' * 40}  0 s", "1 in progress", "a  in progress"]


def test_pace() -> None:
    """The rate is that of the latest ends. Requests that were refused don't count.

    Neither do jobs that had ended when this command looked at them for the first time.
    """
    screen = Screen(2000)
    screen.now = 60.0
    for number in range(20):
        screen.feed(start(f"r{number}"), refused(f"r{number}"))
        screen.feed(submitted(f"s{number}", reattached=True), final(f"s{number}", usage=None))
    assert screen.rows()[1] == "20 refused · 20 completed"
    assert "minute" not in "".join(screen.rows()[2:])
    for minute in range(1, 8):
        screen.now = 60.0 * minute
        for number in range(100 if minute == 1 else 50):
            name = f"{minute}.{number}"
            screen.feed(submitted(name), final(name, usage=None))
    assert "60 a minute · about 26 minutes left" in screen.rows()


def ends(screen: Screen, count: int, seconds: float, *, running: int, name: str) -> None:
    """Let so many jobs end evenly in so many seconds, while others run."""
    began = screen.now
    names = [f"{name}{number}" for number in range(count + running)]
    screen.feed(*(submitted(one) for one in names[:running]))
    for number in range(count):
        screen.now = began + seconds * (number + 1) / count
        screen.feed(final(names[number], usage=None), submitted(names[number + running]))


def test_no_pace_before_it_is_known() -> None:
    """Until as many jobs have ended as are running, the first ones say too little."""
    screen = Screen(2000)
    ends(screen, 49, 60, running=50, name="a")
    assert "a minute" not in "".join(screen.rows(height=8))
    screen.feed(final("a49", usage=None))
    assert "50 a minute · about 39 minutes left" in screen.rows()


def test_no_pace_while_more_jobs_run() -> None:
    """The pace of a few jobs says nothing of the pace with many, as after a cost limit's start."""
    screen = Screen(2000)
    ends(screen, 100, 60, running=5, name="few")
    assert "100 a minute · about 19 minutes left" in screen.rows()
    screen.now = 60.0
    ends(screen, 45, 6, running=45, name="many")
    assert "a minute" not in "".join(screen.rows(height=8))
    ends(screen, 60, 6, running=0, name="more")
    assert "a minute" not in "".join(screen.rows(height=8))


def test_cost_limit() -> None:
    """The cost is shown with its limit."""
    screen = Screen(10, max_cost_usd=0.1)
    screen.feed(final("a", cost_usd=0.05))
    assert screen.rows()[-1] == "1,500 tokens · about $0.050 of $0.10"


@pytest.mark.parametrize(("height", "jobs", "more"), [(24, 18, 33), (60, 51, 0), (10, 4, 47)])
def test_as_many_rows_as_fit(height: int, jobs: int, more: int) -> None:
    """The board has a row per job if they fit; otherwise it says how many have none."""
    screen = Screen(100)
    screen.feed(*(submitted(f"job-{number:02}") for number in range(51)))
    rows = screen.rows(height=height)
    assert len([row for row in rows if row.startswith("job-")]) == jobs
    assert len(rows) <= height - 3
    assert [row for row in rows if row.startswith("…")] == [f"… and {more} more"] * (more > 0)


def test_unknown_total() -> None:
    """While the number of jobs is unknown, there is no bar."""
    screen = Screen(None)
    screen.feed(final("a"))
    assert screen.rows()[:2] == ["1 done  0 s", "1 completed"]


def test_colors() -> None:
    """Completed jobs are green, jobs that need action yellow, and failures red."""
    screen = Screen(5)
    refusal = final("b", code=10, refusal="no")
    screen.feed(final("a"), refusal, final("c", "failed", 4), refused("d"))
    shown = screen.rows(colors=True)[1]
    assert re.findall(r"\x1b\[(\d+)m(\d [^\x1b]+)", shown) == [
        ("32", "1 completed"),
        ("33", "1 needs action"),
        ("31", "1 failed"),
        ("31", "1 refused"),
    ]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (40, 15), (20, 8)])
def test_sizes(width: int, height: int) -> None:
    """Every row fits, the bar stays at the top, and the board is lower than the terminal."""
    screen = Screen(1_234_567)
    usage = {"total_tokens": 1_234_567_890}
    counts = {"completed": 1_000, "failed": 27, "needs_action": 1, "incomplete": 3, "refused": 4}
    screen.feed(progress(1_035, counts=counts, usage=usage, cost_usd=12.5))
    names = [f"a-long-name-of-a-job-that-is-cut-{number}" for number in range(50)]
    screen.feed(*map(start, names), *map(submitted, names[:40]))
    screen.feed(*(poll(name, "in_progress") for name in names[:20]))
    error = CallError(code="e", message="HTTP 503: " + "x" * 200, http_status=503, request_id=None)
    screen.feed(
        PollError(
            response_id="resp_1",
            attempt=1,
            elapsed_seconds=1.0,
            consecutive=1,
            error=error,
            retry_in_seconds=1.0,
        ).of_many(names[0])
    )
    screen.now = 4000.0
    screen.feed(final(names[30]))
    rows = screen.rows(width, height)
    assert max(map(len, rows)) <= width
    assert len(rows) < height
    assert rows[0].startswith("1,036 of 1,234,567")
    assert ("━" in rows[0]) == (width > 20)
    assert (rows[-2].endswith("1 h 06 min") and rows[-1].endswith(" more")) == (height > 8)


def test_hostile_names() -> None:
    """A job's name, its status and a server's message are never markup or control."""
    screen = Screen(1)
    screen.feed(submitted(HOSTILE, f"[red]{HOSTILE}"))
    shown = "\n".join(screen.rows(200))
    assert "\\x1b]0;owned\\x07[bold red]x[/]\\u202e  [red]\\x1b]0;owned" in shown
