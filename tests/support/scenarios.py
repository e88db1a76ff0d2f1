"""Generated scenarios: commands one after the other, and what the server replies meanwhile."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from hypothesis import strategies as st

from harness import with_text
from oaibg.api.payload import TERMINAL
from oaibg.contract.errors import CallFailed
from oaibg.engine.run_options import Wait
from scripted_server import FOREVER, OWN_CODES, Answer
from strategies import imf_fixdate

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from scripted_server import Raising


RUNNING_STATUS = st.sampled_from(["queued", "in_progress"])
ENDED = st.sampled_from(["completed", "completed", *sorted(TERMINAL)])
ODD_STATUS: SearchStrategy[Any] = st.sampled_from(
    ["", "contemplating", "COMPLETED", "canceled", "x" * 2000, "\ud800"]
)
WORD = st.sampled_from(["", "word", "two\nlines", "\0", "\ud800", "\u202eé" * 600])
ODD: SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, 0, -1.5, 10**30, math.inf, math.nan, "", "word", "\udc00", [], [["x"]], {}),
        *({"code": None, "message": "m"}, {"reason": ["\ud800"]}, {"\0": {"x": math.nan}}),
        *(with_text("An answer.")["output"], with_text("\ud800 é")["output"]),
        [None, {"type": "message", "content": [None, {"type": "output_text", "text": 5}]}],
    ]
)
RETRY_AFTER = st.one_of(
    st.none(),
    st.integers(0, 700).map(str),
    st.integers(-100, 1000).map(imf_fixdate),
    st.sampled_from(["-5", "1e3", "nonsense", "", "inf", "nan", "1_0", "\u0663", "9" * 400]),
)
CODES = WORD | st.sampled_from(sorted(OWN_CODES))


def payloads(statuses: SearchStrategy[Any], ids: SearchStrategy[Any]) -> SearchStrategy[bytes]:
    """Generate response objects; their other fields are odd."""
    keys = ("model", "usage", "error", "incomplete_details", "output")
    return st.fixed_dictionaries(
        {"id": ids, "status": statuses}, optional=dict.fromkeys(keys, ODD)
    ).map(lambda payload: json.dumps(payload).encode())


def failures(*, sent: bool, statuses: SearchStrategy[int | None]) -> SearchStrategy[Raising]:
    """Generate failed calls with these statuses."""
    return st.builds(
        partial,
        st.just(CallFailed),
        CODES,
        WORD,
        http_status=statuses,
        request_id=st.none() | WORD,
        retry_after=RETRY_AFTER,
        sent=st.just(sent),
        envelope=st.booleans(),
    )


SECONDS = st.sampled_from([0.0, 0.0, 0.0, 0.4, 7.0, FOREVER])
UNSENT = failures(sent=False, statuses=st.none())
BUSY = failures(sent=True, statuses=st.just(429))
DOUBTFUL = failures(sent=True, statuses=st.sampled_from([None, 200, 408, 500, 502, 503, 504]))
COMMON = st.sampled_from(
    [None, 200, 400, 401, 403, 404, 405, 408, 410, 429, 500, 501, 502, 503, 504]
)
FAILED = failures(sent=True, statuses=COMMON | st.integers(300, 599))
REFUSED = failures(sent=True, statuses=st.sampled_from([401, 403, 404]))
NO_PAYLOAD = ODD.map(lambda value: json.dumps(value).encode()) | st.sampled_from([b"", b"<html>"])
GIVEN_ID = st.sampled_from(["resp_1", "~", "-x", "--", "r" * 1024])
OTHER_ID = st.just("resp_1") | ODD

CREATED = payloads(RUNNING_STATUS, GIVEN_ID)
ODDLY_CREATED = payloads(ENDED | ODD_STATUS | ODD, GIVEN_ID | ODD)
RUNNING = payloads(RUNNING_STATUS, OTHER_ID)
ODDLY_SEEN = payloads(ENDED | ODD_STATUS | ODD, OTHER_ID)
DONE = payloads(ENDED, OTHER_ID)


def answers(*brings: SearchStrategy[Any]) -> SearchStrategy[Answer]:
    """Generate answers with these results, after a short or long time or never."""
    return st.builds(
        Answer,
        st.one_of(*brings),
        connecting=SECONDS,
        answering=SECONDS,
        begun=st.sampled_from([False, False, True]),
    )


def script(
    steps: SearchStrategy[Answer], last: SearchStrategy[Answer], most: int, *times: int
) -> SearchStrategy[list[Answer]]:
    """Generate some steps, each `times` times in a row, and a last one that repeats forever."""
    bursts = st.builds(lambda step, number: [step] * number, steps, st.sampled_from(times))
    some = st.lists(bursts, max_size=most)
    return st.builds(lambda found, end: [*chain.from_iterable(found), end], some, last)


@dataclass(frozen=True)
class Run:
    """A command and its options, and the signal that may interrupt it."""

    command: Literal["submit", "monitor", "cancel", "show"]
    by: Literal["id", "key"] = "id"
    wait: Wait = Wait()  # noqa: RUF009 - it is frozen
    show_text: bool = False
    json_folder: str | None = None
    text_folder: str | None = None
    detach: bool = False
    resubmit: bool = False
    late: float = 0.0
    """Seconds from the process's start to the command's."""
    signal_after: float | None = None


WAITS = st.builds(
    Wait,
    poll_seconds=st.sampled_from([0.5, 4.0, 10.0, 90.0]) | st.floats(0.5, 100),
    max_wait_seconds=st.none() | st.sampled_from([0.3, 2.0, 45.0]) | st.floats(0.01, 400),
    cancel_on_interrupt=st.booleans(),
    events=st.sampled_from(["all", "changes"]),
)
FOLDERS = st.sampled_from([None, None, "here", "gone"])
RUNS = st.builds(
    Run,
    command=st.sampled_from(["submit", "submit", "monitor", "monitor", "cancel", "show"]),
    by=st.sampled_from(["id", "key"]),
    wait=WAITS,
    show_text=st.booleans(),
    json_folder=FOLDERS,
    text_folder=FOLDERS,
    detach=st.sampled_from([False, False, True]),
    resubmit=st.sampled_from([False, False, True]),
    late=st.sampled_from([0.0, 0.0, 0.4, 3.0]),
    signal_after=st.none() | st.none() | st.floats(0, 100),
)


@dataclass(frozen=True)
class Scenario:
    """Commands one after the other, and the server's answers."""

    runs: list[Run]
    keyed: bool
    creates: list[Answer]
    retrieves: list[Answer]
    cancels: list[Answer]


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Generate scenarios that end: a server fails forever only if every run has a wait limit."""
    runs = draw(st.lists(RUNS, min_size=1, max_size=3))
    runs[0] = draw(st.sampled_from([runs[0], replace(runs[0], command="submit")]))
    bounded = all(run.wait.max_wait_seconds is not None for run in runs)
    end = answers(FAILED, ODDLY_SEEN) if bounded and draw(st.booleans()) else DONE.map(Answer)
    created = st.one_of(
        CREATED.map(Answer),
        DOUBTFUL.map(Answer),
        answers(CREATED, FAILED, ODDLY_CREATED, NO_PAYLOAD),
    )
    seen = answers(RUNNING, FAILED, FAILED, REFUSED, ODDLY_SEEN, NO_PAYLOAD)
    cancelled = answers(RUNNING, DONE, FAILED, NO_PAYLOAD)
    return Scenario(
        runs=runs,
        keyed=draw(st.booleans()),
        creates=draw(script(UNSENT.map(Answer) | BUSY.map(Answer), created, 2, 1)),
        retrieves=draw(script(seen, end, 4, 1, 1, 2, 5)),
        cancels=draw(script(cancelled, answers(DONE, FAILED), 2, 1)),
    )
