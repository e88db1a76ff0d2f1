"""Whatever comes in, the promises hold: ids, input files, headers, and scripts of faults."""

from __future__ import annotations

import asyncio
import calendar
import hashlib
import json
import math
import random
import sys
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jsonschema
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness import (
    FakeClient,
    FakeClock,
    cancel_steps,
    fake_context,
    follow_steps,
    job_of,
    response,
    show_steps,
    submit,
    with_text,
)
from ledger import count, rows_of
from oaibg.api.payload import TERMINAL, Payload, is_response_id
from oaibg.base.json_text import json_line
from oaibg.base.text import utf8
from oaibg.contract.errors import CallFailed, UsageError
from oaibg.contract.events import (
    CancelResult,
    Detached,
    Error,
    Event,
    Final,
    Interrupted,
    Poll,
    PollError,
    Response,
    SubmitError,
    Submitted,
    Timeout,
    WroteJson,
    WroteText,
    exit_code_of,
)
from oaibg.contract.events import Warning as WarningEvent
from oaibg.contract.schema import event_schema
from oaibg.engine import commands
from oaibg.engine.claim import Submission
from oaibg.engine.find import Target
from oaibg.engine.patience import retry_after
from oaibg.engine.run_options import Output, Wait
from oaibg.request import fields
from oaibg.request.body import Request, Settings, build_request
from oaibg.state.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from hypothesis.strategies import SearchStrategy

    from harness import Result
    from oaibg.engine.context import Context
    from oaibg.sandbox import Sandbox

slow = partial(settings, deadline=None, suppress_health_check=[HealthCheck.too_slow])
shared = partial(
    settings,
    deadline=None,
    # `run` begins anew with every call, and nothing that these examples run leaves a trace.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

ANY_TEXT = st.text(st.characters(codec=None), max_size=12)
"""Also control characters, NUL and lone surrogates."""

UTF8_TEXT = st.text(st.characters(codec="utf-8"), max_size=8)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all the examples of this module."""
    return tmp_path_factory.mktemp("properties")


# --- ids -----------------------------------------------------------------------------------

ID_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-=.:+~"
IDS = st.text(ID_CHARACTERS, min_size=1, max_size=40).filter(lambda text: text.strip("."))
ID_LIKE = st.one_of(
    ANY_TEXT,
    IDS,
    st.text("./%?#@ \\\n\t\0é\u0661" + ID_CHARACTERS, max_size=12),
    st.builds(
        "{}{}".format, IDS, st.sampled_from(["\n", " ", "/", "/cancel", "?a=b", "\0", "\ud800"])
    ),
    st.builds(str.__mul__, st.sampled_from("r."), st.integers(1020, 1030)),
)


def is_plain_id(text: str) -> bool:
    """The contract's words: 1 to 1,024 of some characters, and not dots alone."""
    fits = 1 <= len(text) <= 1024 and all(char in ID_CHARACTERS for char in text)
    return fits and any(char != "." for char in text)


@slow(max_examples=200)
@given(text=ID_LIKE)
def test_which_texts_are_ids(text: str) -> None:
    """Exactly those of which the contract says so."""
    count("fuzzed")
    assert is_response_id(text) == is_plain_id(text)


@shared(max_examples=40)
@given(
    text=ID_LIKE.filter(lambda text: not is_plain_id(text)),
    command=st.sampled_from(["monitor", "cancel", "show"]),
)
@example(text="", command="show")
@example(text="../resp_1", command="cancel")
@example(text="r\0", command="monitor")
@example(text="\udcff", command="monitor")
@example(text="r" * 100_000, command="show")
def test_hostile_ids(run: Callable[..., Result], sandbox: Sandbox, text: str, command: str) -> None:
    """One line that says `usage`, exit 2, and nobody is asked."""
    count("fuzzed")
    result = run(command, "--", text)
    assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
    assert not sandbox.requests


# --- input files ---------------------------------------------------------------------------

PLAIN = Settings(model="m", reasoning_effort="medium", verbosity="medium")


def json_values(texts: SearchStrategy[str], *, finite: bool) -> SearchStrategy[Any]:
    """JSON values with such texts; unless `finite` also with numbers that JSON does not have."""
    floats = st.floats(allow_nan=not finite, allow_infinity=not finite)
    return st.recursive(
        st.none() | st.booleans() | st.integers() | floats | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=4,
    )


JSON = json_values(UTF8_TEXT, finite=True)
ODD_JSON = json_values(ANY_TEXT, finite=False)
PART = st.fixed_dictionaries({"type": UTF8_TEXT}, optional={"text": UTF8_TEXT, "x": JSON})
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(fields.ROLES),
            "content": UTF8_TEXT | st.lists(PART, min_size=1, max_size=2),
        },
        optional={"type": st.just("message"), "x": JSON},
    ),
    min_size=1,
    max_size=3,
)
ODD_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(fields.ROLES) | ANY_TEXT,
            "content": ODD_JSON,
            "type": ANY_TEXT,
        },
    ),
    max_size=3,
)


def written(value: Any, ascii_only: bool, indent: int | None, mark: bytes) -> bytes:
    """A JSON value as one of many programs may write it."""
    return mark + json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(
        errors="surrogatepass"
    )


def files_of(values: SearchStrategy[Any]) -> SearchStrategy[bytes]:
    """Files that hold such values, in several spellings."""
    marks = st.sampled_from([b"", b"\xef\xbb\xbf", b" \r\n"])
    return st.builds(written, values, st.booleans(), st.none() | st.just(1), marks)


def mutated(raw: bytes, at: int, cut: int, piece: bytes) -> bytes:
    """Some bytes in the middle replaced by others."""
    at %= len(raw) + 1
    return raw[:at] + piece + raw[at + cut :]


def nested(levels: int) -> bytes:
    """A message with a part that is nested so deeply."""
    inner = b"[" * levels + b"]" * levels
    return b'[{"role":"user","content":[{"type":"x","y":%b}]}]' % inner


ODD_FILES = st.one_of(
    files_of(ODD_JSON),
    files_of(ODD_MESSAGES),
    st.binary(max_size=40),
    st.builds(
        mutated,
        files_of(MESSAGES),
        st.integers(0, 10_000),
        st.integers(0, 4),
        st.binary(max_size=3) | st.sampled_from([b"NaN", b"1e999", b"9" * 5000, b'"role":1,']),
    ),
    st.sampled_from([1, 190, 195, 196, 197, 210, 100_000]).map(nested),
    files_of(MESSAGES).map(lambda raw: raw.replace(b"{", b'{"content": "x",', 1)),
)


def holds(value: Any, raw: bytes) -> bool:
    """Whether a value has all that stands in a file: 1, 1.0 and true differ, no key is dropped."""
    texts = (json.dumps(value), raw.decode("utf-8-sig"))
    one, other = (repr(json.loads(text, object_pairs_hook=list)) for text in texts)
    return one == other


def body_or_refusal(read: Callable[[str], Any], path: Path) -> dict[str, Any] | UsageError:
    """The request's body with a file's input, or the error that says why there is none."""
    try:
        return build_request(read(str(path)), PLAIN).body
    except UsageError as error:
        return error


@slow(max_examples=100)
@given(messages=MESSAGES, data=st.data())
def test_messages_go_out_as_they_stand(scratch: Path, messages: Any, data: st.DataObject) -> None:
    """An array of messages is taken in every spelling, and is the request's input unchanged."""
    count("fuzzed")
    path = scratch / "messages.json"
    raw = data.draw(files_of(st.just(messages)))
    path.write_bytes(raw)
    for read in (fields.read_messages, fields.read_input):
        body = build_request(read(str(path)), PLAIN).body
        assert body["input"] == messages
        assert holds(body["input"], raw)


@slow(max_examples=200)
@given(raw=ODD_FILES)
def test_odd_input_files(scratch: Path, raw: bytes) -> None:
    """A usage error that names the file or the place in it, or the exact array."""
    count("fuzzed")
    path = scratch / "odd.json"
    path.write_bytes(raw)
    for read in (fields.read_messages, fields.read_input):
        body = body_or_refusal(read, path)
        if isinstance(body, UsageError):
            assert body.message.startswith((str(path), "The request can't be sent: input"))
        else:
            assert holds(body["input"], raw)


@shared(max_examples=30)
@given(
    raw=ODD_FILES | files_of(MESSAGES),
    option=st.sampled_from(["--messages-json-file", "--input-json-file"]),
)
def test_input_files_through_the_command(
    run: Callable[..., Result], sandbox: Sandbox, scratch: Path, raw: bytes, option: str
) -> None:
    """One line: the request that would go out, or what is wrong; nothing is sent."""
    count("fuzzed")
    path = scratch / "input.json"
    path.write_bytes(raw)
    result = run("submit", option, str(path), "--dry-run")
    if result.code == 0:
        assert result.events == ["dry_run"]
        assert holds(result.last["body"]["input"], raw)
    else:
        assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
        assert result.last["outcome"] == "not_created"
    assert not sandbox.requests


# --- Retry-After ---------------------------------------------------------------------------

ZONES = ("UTC0", "EST5EDT,M3.2.0,M11.1.0", "<+0545>-5:45", "<+14>-14", "<-11>11")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
HEADER_TEXT = st.one_of(
    ANY_TEXT,
    st.text("0123456789.+-eE_ infaINFA\u0661", max_size=8),
    st.lists(
        st.sampled_from(["Sun,", "Sunday,", "Nov", "06", "6", "1994", "94", "0", "99999", "-1"])
        | st.sampled_from(["08:49:37", "24:61:61", "8.49", ":", "GMT", "+9999", "-0000", ",", "-"])
        | st.sampled_from(["06-Nov-94", "AM", "PM", "\0", "Z", "(", ")"]),
        max_size=8,
    ).map(" ".join),
)


@contextmanager
def time_zone(zone: str) -> Iterator[None]:
    """Be in a time zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        yield
    time.tzset()


def http_dates(instant: int) -> list[str]:
    """An instant in the three forms of HTTP dates: IMF-fixdate, RFC 850 and asctime."""
    when = time.gmtime(instant)
    day, month = DAYS[when.tm_wday], MONTHS[when.tm_mon - 1]
    clock = f"{when.tm_hour:02}:{when.tm_min:02}:{when.tm_sec:02}"
    return [
        f"{day[:3]}, {when.tm_mday:02} {month} {when.tm_year} {clock} GMT",
        f"{day}, {when.tm_mday:02}-{month}-{when.tm_year % 100:02} {clock} GMT",
        f"{day[:3]} {month} {when.tm_mday:2} {clock} {when.tm_year}",
    ]


@slow(max_examples=500)
@given(header=HEADER_TEXT, now=st.floats(0, 4e9))
def test_any_retry_after(header: str, now: float) -> None:
    """It asks for nothing, or for more than no and at most ten minutes; it never breaks."""
    count("fuzzed")
    seconds = retry_after(header, now)
    assert seconds is None or 0 < seconds <= 600


@slow(max_examples=100)
@given(
    now=st.integers(978_307_200, 2_840_140_800),  # 2001 to 2059: two digits tell the year
    wait=st.integers(1, 900) | st.integers(-10_000_000, 100_000_000),
    zone=st.sampled_from(ZONES),
)
def test_retry_after_in_all_forms(now: int, wait: int, zone: str) -> None:
    """Seconds and all forms of dates ask for the same, wherever the machine is."""
    count("fuzzed")
    wait = min(wait, 2_840_140_800 - now)
    with time_zone(zone):
        asked = [retry_after(text, now) for text in (str(wait), *http_dates(now + wait))]
    expected = min(wait, 600) if wait > 0 else None
    assert asked == [expected] * 4


# --- scripts of faults: what a server does --------------------------------------------------

FOREVER = 1e9
START = 1_700_001_000
"""Unix time when the fake clock begins."""

Raising = partial[CallFailed]


@dataclass(frozen=True)
class Answer:
    """What one call brings: bytes or a failure, after seconds of connecting and of waiting."""

    brings: bytes | Raising
    connecting: float = 0.0
    answering: float = 0.0
    begun: bool = False
    """Whether it had begun to arrive when the time for it was over."""


@dataclass
class Call:
    """One call, as a server with a log sees it; times are the fake clock's."""

    name: str
    at: float
    end: float = 0.0
    sent: bool = False
    failure: CallFailed | None = None
    payload: Payload | None = None

    @property
    def may_have_created(self) -> bool:
        """Whether a job may exist after this create: nobody has said that there is none."""
        failure = self.failure
        if not self.sent or failure is None:
            return self.sent
        status = failure.http_status
        if status == 503 and failure.code == "server_is_overloaded":
            return False
        return status is None or status < 300 or status in (303, 408) or status >= 500


class Clock(FakeClock):
    """A fake clock with an alarm, for what comes in the middle of something."""

    def __init__(self) -> None:
        super().__init__()
        self.alarm_at = FOREVER
        self.alarm: Callable[[], object] | None = None

    async def sleep(self, seconds: float) -> None:
        """Pass time at once."""
        self.time += seconds
        if self.alarm is not None and self.time >= self.alarm_at:
            alarm, self.alarm = self.alarm, None
            alarm()
        await asyncio.sleep(0)


class Server(FakeClient):
    """Answers from scripts without an end, refuses what the real client refuses, keeps a log."""

    def __init__(self, clock: FakeClock, **scripts: Iterator[Answer]) -> None:
        super().__init__(clock)
        self.scripts = scripts
        self.log: list[Call] = []

    async def create(
        self, body: dict[str, Any], on_sending: Callable[[], Awaitable[None]], *, timeout: float
    ) -> Payload:
        """A payload with a usable id."""
        assert body["background"] is True
        with self._call("create") as call:
            payload = _read(await self._bring(call, timeout, on_sending))
            if payload is None or payload.id is None or not is_plain_id(payload.id):
                raise CallFailed("bad_reply", "no id", http_status=200)
            call.payload = payload
            return payload

    async def retrieve(self, response_id: str, timeout: float) -> Payload:
        """A payload with a status."""
        assert is_plain_id(response_id)
        with self._call("retrieve") as call:
            payload = _read(await self._bring(call, timeout))
            if payload is None or payload.status is None:
                raise CallFailed("bad_reply", "no status", http_status=200)
            call.payload = payload
            return payload

    async def cancel(  # type: ignore[override] # the real one may give nothing, too
        self, response_id: str, timeout: float
    ) -> Payload | None:
        """A payload with a status, or nothing."""
        assert is_plain_id(response_id)
        with self._call("cancel") as call:
            payload = _read(await self._bring(call, timeout))
            call.payload = payload if payload and payload.status is not None else None
            return call.payload

    @contextmanager
    def _call(self, name: str) -> Iterator[Call]:
        call = Call(name, self.clock.time)
        self.log.append(call)
        try:
            yield call
        except CallFailed as failure:
            call.failure = failure
            raise
        finally:
            call.end = self.clock.time

    async def _bring(
        self, call: Call, timeout: float, on_sending: Callable[[], Awaitable[None]] | None = None
    ) -> bytes:
        answer = next(self.scripts[call.name])
        raising = answer.brings if isinstance(answer.brings, partial) else None
        await self.clock.sleep(min(answer.connecting, timeout))
        if raising is not None and not raising.keywords["sent"]:
            raise raising()
        left = timeout - answer.connecting
        if left <= 0:
            raise CallFailed("connect_timeout", "no connection", sent=False)
        if on_sending is not None:
            await on_sending()
        call.sent = True
        await self.clock.sleep(min(answer.answering, left))
        if answer.answering >= left:
            raise CallFailed("timeout", "no answer", begun=answer.begun)
        if raising is not None:
            raise raising()
        assert isinstance(answer.brings, bytes)
        return answer.brings


def _read(raw: bytes) -> Payload | None:
    try:
        return Payload(raw, "req_1")
    except ValueError:
        return None


def imf_fixdate(offset: float) -> str:
    """The date so many seconds after the fake clock's start, as most servers write it."""
    return http_dates(START + int(offset))[0]


def asked_for(header: str | None, now: float) -> float:
    """The seconds of a plain `Retry-After`; 0 for what is odd."""
    if header is None or not header.isascii():
        return 0
    if header.isdigit():
        return min(int(header), 600)
    with suppress(ValueError):
        date = calendar.timegm(time.strptime(header, "%a, %d %b %Y %H:%M:%S GMT"))
        return min(max(date - now, 0), 600)
    return 0


# --- scripts of faults: which there are ----------------------------------------------------

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
CODES = WORD | st.sampled_from(
    ["server_is_overloaded", "insufficient_quota", "rate_limit_exceeded", "model_not_found"]
)


def payloads(statuses: SearchStrategy[Any], ids: SearchStrategy[Any]) -> SearchStrategy[bytes]:
    """Response objects, of which the rest is odd."""
    keys = ("model", "usage", "error", "incomplete_details", "output")
    return st.fixed_dictionaries(
        {"id": ids, "status": statuses}, optional=dict.fromkeys(keys, ODD)
    ).map(lambda payload: json.dumps(payload).encode())


def failures(*, sent: bool, statuses: SearchStrategy[int | None]) -> SearchStrategy[Raising]:
    """Calls that fail with such a status."""
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
COMMON = st.sampled_from([None, 200, 400, 401, 403, 404, 408, 410, 429, 500, 502, 503, 504])
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
    """Answers that bring such things, soon or late or never."""
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
    """Some steps, each that many times in a row, and one that is repeated for ever."""
    bursts = st.builds(lambda step, number: [step] * number, steps, st.sampled_from(times))
    some = st.lists(bursts, max_size=most)
    return st.builds(lambda found, end: [*chain.from_iterable(found), end], some, last)


@dataclass(frozen=True)
class Run:
    """A command, and what may come in its middle."""

    command: Literal["submit", "monitor", "cancel", "show"]
    by: Literal["id", "key"] = "id"
    wait: Wait = Wait()  # noqa: RUF009 - it is frozen
    show_text: bool = False
    json_folder: str | None = None
    text_folder: str | None = None
    detach: bool = False
    resubmit: bool = False
    late: float = 0.0
    """Seconds that the start takes."""
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
    """Commands one after the other, and what the server does meanwhile."""

    runs: list[Run]
    keyed: bool
    creates: list[Answer]
    retrieves: list[Answer]
    cancels: list[Answer]


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Scripts that end: for ever fails only what has a deadline."""
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


# --- scripts of faults: what must hold ------------------------------------------------------

TOLERANCE = 0.002
"""Seconds: lines tell milliseconds."""


@dataclass
class Told:
    """An event, when it came, and the calls that had been made by then."""

    event: Event
    at: float
    calls: int


@dataclass
class Played:
    """A run that is over. Times are the fake clock's, calls this run's."""

    run: Run
    started: float
    told: list[Told]
    calls: list[Call]

    @property
    def last(self) -> Event:
        """The line that ended it."""
        return self.told[-1].event

    @property
    def elapsed(self) -> float:
        """Seconds from its start to its end."""
        return self.told[-1].at - self.started

    def called(self, name: str) -> list[Call]:
        """Its calls of a name."""
        return [call for call in self.calls if call.name == name]

    def warnings(self) -> list[str]:
        """The codes of its warnings."""
        return [told.event.code for told in self.told if isinstance(told.event, WarningEvent)]


class World:
    """A state, a server and a clock, over which commands are run and held to the contract."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self.folder, self.key = folder, "k" if scenario.keyed else None
        self.clock = Clock()
        self.server = Server(
            self.clock,
            create=_endless(scenario.creates),
            retrieve=_endless(scenario.retrieves),
            cancel=_endless(scenario.cancels),
        )
        where = str(folder) if scenario.keyed else None
        self.store = Store(where, now=self.clock.now)
        self.known: Literal["nothing", "unknown", "created"] = "nothing"
        """What the key's job has come to."""
        self.response_id = "resp_elsewhere"

    def perform(self, run: Run) -> None:
        """Run one command to its end, and check it."""
        before, begun, started = self.known, len(self.server.log), self.clock.time
        told = asyncio.run(self._tell(run))
        played = Played(run, started, told, self.server.log[begun:])
        check_stream(played)
        if run.command == "submit":
            self._check_submit(played, before)
            self._check_state()
        else:
            assert not played.called("create")
        check_identity(played, self)
        check_deadline(played)
        check_pace(played)
        check_reasons(played)
        check_end(played, self.response_id)
        self._check_files(played)

    async def _tell(self, run: Run) -> list[Told]:
        task = asyncio.current_task()
        assert task is not None
        output = Output(
            show_output_text=run.show_text,
            output_json_file=self._path(run.json_folder, "o.json"),
            output_text_file=self._path(run.text_folder, "o.md"),
        )
        context = fake_context(self.server, self.store, wait=run.wait, output=output)
        self.clock.time += run.late
        if run.signal_after is not None:
            self.clock.alarm_at = self.clock.time + run.signal_after
            self.clock.alarm = task.cancel
        begun, told = len(self.server.log), []

        async def emit(event: Event) -> None:
            told.append(Told(event, self.clock.time, len(self.server.log) - begun))
            check_line(event)
            if isinstance(event, Submitted):
                self._check_stored(event)

        await emit(await self._steps(run, context.but(emit=emit)))
        self.clock.alarm = None
        return told

    async def _steps(self, run: Run, context: Context) -> Event:
        if run.command == "submit":
            job = job_of(context, submitting=True)
            submission = Submission(
                request=Request(body={"background": True}, sha256="0" * 64),
                model="m",
                job_key=self.key,
                detach=run.detach,
                resubmit_unknown=run.resubmit and self.key is not None,
            )
            return await commands.submit(submission, job, context)
        by_key = run.by == "key" and self.key is not None
        target = Target(job_key=self.key) if by_key else Target(response_id=self.response_id)
        steps = {"monitor": follow_steps, "cancel": cancel_steps, "show": show_steps}
        return await steps[run.command](target, context)

    def _path(self, folder: str | None, name: str) -> str | None:
        return None if folder is None else str(self.folder / folder / name)

    def _rows(self) -> list[tuple[str, str | None]]:
        """The steps and ids of the jobs that were submitted, as another process would see them."""
        if self.key is None:
            rows = [(row.step, row.response_id) for row in self.store.jobs()]
        else:
            rows = rows_of(self.folder)
        return [row for row in rows if row[0] in ("sending", "submitted")]

    def _check_stored(self, event: Submitted) -> None:
        """An id is in the state before it is told."""
        assert ("submitted", event.response_id) in self._rows()

    def _check_submit(self, played: Played, before: str) -> None:
        """One request that may have created a job, and none where there may be one already."""
        creates, last, run = played.called("create"), played.last, played.run
        reached = [call for call in creates if call.may_have_created]
        over = before == "unknown" and run.resubmit
        if self.key is not None and before != "nothing" and not over:
            assert not creates
        assert reached in ([], creates[-1:])
        outcome = getattr(last, "outcome", None)
        if reached and (created := reached[-1].payload) is not None:
            self.known, self.response_id = "created", str(created.id)
            assert outcome in (None, "created")
        elif reached:
            self.known = "unknown"
            assert outcome == "unknown"
            assert isinstance(last, Interrupted) or exit_code_of(last) == 6
        elif self.key is not None and before == "created":
            assert outcome in (None, "created")
        elif self.key is not None and before == "unknown" and not over:
            assert (exit_code_of(last), outcome) == (6, "unknown")
        else:
            assert outcome == "not_created"

    def _check_state(self) -> None:
        """The state has what the next process must know."""
        rows = self._rows()
        if self.known == "created":
            assert ("submitted", self.response_id) in rows
        elif self.known == "unknown":
            assert ("sending", None) in rows
        else:
            assert not rows

    def _check_files(self, played: Played) -> None:
        """Files hold what the server sent, as whole as the lines say."""
        seen = [call.payload for call in self.server.log if call.payload is not None]
        for told in played.told:
            event = told.event
            if isinstance(event, WroteJson | WroteText):
                data = Path(event.path).read_bytes()
                assert (event.bytes, event.sha256) == (len(data), hashlib.sha256(data).hexdigest())
                whole = isinstance(event, WroteJson)
                assert data in [one.raw if whole else utf8(one.text) for one in seen]


def _endless(steps: list[Answer]) -> Iterator[Answer]:
    return chain(steps, repeat(steps[-1]))


@cache
def validators() -> dict[str, jsonschema.Draft202012Validator]:
    """The validator of each event's lines."""
    return {
        schema["properties"]["event"]["const"]: jsonschema.Draft202012Validator(schema)
        for schema in event_schema()["oneOf"]
    }


def check_line(event: Event) -> None:
    """It is one line of ASCII JSON, as the schema says."""
    line = json_line(event.to_dict("2026-11-22T09:00:00.112Z"))
    assert line.isascii()
    assert line.index(b"\n") == len(line) - 1
    validators()[event.event].validate(json.loads(line))


def check_stream(played: Played) -> None:
    """The last line alone has an exit code, one of the contract's, and nothing was a bug."""
    codes = [exit_code_of(told.event) for told in played.told]
    assert codes[-1] in (0, 1, 3, 4, 5, 6, 7, 8, 9, 143)
    assert codes[:-1] == [None] * (len(codes) - 1)
    assert not isinstance(played.last, Error) or played.last.code != "internal"


def check_identity(played: Played, world: World) -> None:
    """All lines are of one job; where its key has none that is known, nobody is asked."""
    ids = {told.event.response_id for told in played.told}
    if played.run.command == "submit":
        assert ids <= {None, world.response_id}
    elif played.run.by == "id" or world.key is None or world.known == "created":
        assert ids == {world.response_id}
    else:
        assert exit_code_of(played.last) == (6 if world.known == "unknown" else 5)
        assert not played.calls


def check_deadline(played: Played) -> None:
    """The wait ends when it is over; a create's reply has five seconds more."""
    run, limit = played.run, played.run.wait.max_wait_seconds
    if isinstance(played.last, Interrupted):
        return
    if run.command in ("show", "cancel"):
        long = any(call.failure is not None and call.failure.begun for call in played.calls)
        bound = 1000 if long else 60  # a look; a cancel is one, and up to six more
        assert played.elapsed <= run.late + bound * (1 if run.command == "show" else 7)
    elif limit is not None:
        deadline = played.started + limit
        created = played.called("create")
        grace = 5 if any(call.at <= deadline < call.end for call in created) else 0
        looks = played.called("retrieve")
        look = looks[0].at - played.started + 1 if looks else 0  # the first one has a second
        assert played.elapsed <= max(limit, run.late, look) + grace + 0.02
    if isinstance(played.last, Timeout):
        assert limit is not None
        assert played.elapsed >= limit - TOLERANCE


def check_pace(played: Played) -> None:
    """Nothing is asked before its time, and a server that asks to wait is heard."""
    answered = False
    for place, told in enumerate(played.told):
        event, call = told.event, played.calls[told.calls - 1] if told.calls else None
        answered = answered or any(call.payload for call in played.calls[: told.calls])
        promise = 0.0
        if isinstance(event, PollError | SubmitError):
            assert call is not None
            failure = check_told(event, call, played)
            promise = event.retry_in_seconds
            asked = asked_for(failure.retry_after, 1_700_000_000 + told.at)
            limit = played.run.wait.max_wait_seconds or FOREVER
            limit = limit if answered or isinstance(event, SubmitError) else min(limit, 60)
            assert promise >= min(max(asked, 0.5), played.started + limit - told.at) - TOLERANCE
        elif isinstance(event, Poll):
            assert call is not None
            assert call.payload is not None
            assert event.status == call.payload.status
            promise = event.next_poll_seconds or 0
        elif isinstance(event, Submitted) and not event.reattached:
            promise = played.run.wait.poll_seconds
        following = played.told[place + 1 :]
        if following and not isinstance(following[0].event, Interrupted):
            later = [call.at for call in played.calls[told.calls :]]
            assert not later or later[0] >= told.at + promise - TOLERANCE


def check_told(event: PollError | SubmitError, call: Call, played: Played) -> CallFailed:
    """A failure is told as it was, with how many there were in a row; gives it."""
    failure = call.failure
    assert failure is not None
    assert (event.error.code, event.error.http_status) == (failure.code, failure.http_status)
    if isinstance(event, PollError):
        calls = played.called("retrieve")
        before = calls[: calls.index(call) + 1]
        good = [place for place, one in enumerate(before) if one.failure is None]
        assert event.consecutive == len(before) - (good[-1] + 1 if good else 0)
    return failure


def check_reasons(played: Played) -> None:
    """A wait ends early only where the key is refused, the job is gone, or nobody ever answers."""
    looks = played.called("retrieve")
    if played.run.command not in ("submit", "monitor") or not looks:
        return
    code = exit_code_of(played.last)
    failed = [call.failure for call in looks]
    if code == 5 or "local_copy" in played.warnings():
        row = 0
        while row < len(looks) and is_missing(failed[-1 - row]):
            row += 1
        assert row >= 3
        assert looks[-1].end - looks[-row].end >= 15 - TOLERANCE
    elif code == 8:
        refused = [one is not None and is_refused(one) for one in failed[-2:]]
        assert refused == [True, True]
    elif code == 7:
        assert all(failed)
        assert played.elapsed >= 60 - TOLERANCE
    else:
        assert not isinstance(played.last, Error)


def is_missing(failure: CallFailed | None) -> bool:
    """Whether it may say that there is no such job."""
    return failure is not None and failure.http_status in (400, 404, 410)


def is_refused(failure: CallFailed) -> bool:
    """Whether it says that the key is refused."""
    return failure.http_status == 401 or (failure.http_status == 403 and failure.envelope)


def check_end(played: Played, response_id: str) -> None:
    """The exit code is the status's, and `next` is the command to go on with."""
    last = played.last
    code = exit_code_of(last)
    if isinstance(last, Final | Response) and last.status in TERMINAL:
        completed = 9 if "write_failed" in played.warnings() else 0
        assert code == (completed if last.status == "completed" else 4)
    elif isinstance(last, Response):
        assert code == 3
    following: str | None = None
    if isinstance(last, Timeout | Detached):
        following = "monitor"
    elif isinstance(last, Final):
        following = "show" if code else None
    elif isinstance(last, Response):
        following = None if last.status in TERMINAL else "monitor"
    elif isinstance(last, CancelResult):
        following = {0: None, 4: "show"}.get(code or 0, "monitor")
        assert last.cancelled == (last.status == "cancelled") == (code == 0)
    elif isinstance(last, Interrupted):
        known = last.response_id is not None
        following = ("show" if last.job_cancelled else "monitor") if known else None
    elif isinstance(last, Error):
        stays = last.outcome == "created" or (played.run.command == "monitor" and code in (7, 8))
        following = "monitor" if stays else None
        assert last.retryable == (code == 7)
    check_next(getattr(last, "next", None), following, response_id, played.run)


def check_next(argv: list[str] | None, name: str | None, response_id: str, run: Run) -> None:
    """It can be run as it stands, and waits as this run did."""
    if argv is None or name is None:
        assert (argv, name) == (None, None)
        return
    at = argv.index(name)
    assert argv[:at] in (["oaibg"], [sys.executable, "-m", "oaibg"])
    assert argv[-1] == response_id
    assert (argv[-2] == "--") == response_id.startswith("-")
    if name == "monitor":
        limit = run.wait.max_wait_seconds
        assert ("--max-wait-seconds" in argv) == (limit is not None)
        assert ("--cancel-on-interrupt" in argv) == run.wait.cancel_on_interrupt
        assert ("--output-json-file" in argv) == (run.json_folder is not None)


def play(scenario: Scenario, folder: Path) -> None:
    """Run all its commands, and again a submit whose outcome is unknown; its key has one job.

    Without a key a submit is another job each time.
    """
    count("fuzzed")
    (folder / "here").mkdir()
    world = World(scenario, folder)
    with closing(world.store):
        for run in scenario.runs:
            if run.command != "submit" or world.key is not None or world.known == "nothing":
                world.perform(run)
        if world.key is not None and world.known == "unknown":
            world.perform(Run("submit"))


@slow(max_examples=200)
@given(scenario=scenarios())
def test_any_script_of_faults(tmp_path_factory: pytest.TempPathFactory, scenario: Scenario) -> None:
    """Submits, monitors, cancels and shows keep every promise, whatever a server does."""
    play(scenario, tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize(
    ("wait", "then"),
    [(Wait(max_wait_seconds=2.0), []), (Wait(), ["in_progress"])],
    ids=["deadline", "answered"],
)
def test_cancelled_job_that_is_taken_up(tmp_path: Path, wait: Wait, then: list[str]) -> None:
    """It is looked at once more, within the wait; what is seen then is an answer as any other."""
    states = [_payload("cancelled"), *map(_payload, then)]
    hang = Answer(b"", answering=FOREVER)
    scenario = Scenario(
        runs=[Run("submit"), Run("submit", wait=wait, signal_after=300.0)],
        keyed=True,
        creates=[_payload("queued")],
        retrieves=[*states, hang],
        cancels=[hang],
    )
    play(scenario, tmp_path)


# --- a day ----------------------------------------------------------------------------------

DAY = 86_400.0


class Day:
    """A day of one job at a server that often fails, but never for so long that it is believed."""

    def __init__(self, clock: FakeClock, seed: int) -> None:
        self._clock, self._random = clock, random.Random(seed)
        self._end = clock.time + DAY

    def creates(self) -> Iterator[Answer]:
        """Some that certainly create nothing, and the one that counts."""
        for _ in range(self._random.randrange(4)):
            yield self._random.choice([self._unconnected, self._busy])()
        yield _payload("queued")

    def retrieves(self) -> Iterator[Answer]:
        """Until the day is over; then the job is completed."""
        faults = [self._error, self._busy, self._lost, self._hang, self._page, self._proxy]
        while self._clock.time < self._end:
            for _ in range(self._random.randrange(1, 40)):
                yield _payload("in_progress")
            for _ in range(self._random.randrange(1, 5)):
                yield from (self._missing() for _ in range(self._random.randrange(3)))
                yield self._failed(401) if self._random.random() < 0.2 else self._error()
                fault = self._random.choice([*faults, self._unconnected])
                yield from (fault() for _ in range(self._random.randrange(12)))
                yield self._random.choice(faults)()
        yield Answer(json.dumps(with_text("The end.", id="resp_day")).encode())

    def _failed(self, status: int | None, code: str | None = None, **more: Any) -> Answer:
        code = code or f"http_{status}"
        more = {"sent": True, "envelope": True, **more}
        return Answer(partial(CallFailed, code, "no", http_status=status, **more))

    def _error(self) -> Answer:
        return self._failed(self._random.choice([500, 502, 503, 504, 520]), envelope=False)

    def _busy(self) -> Answer:
        seconds = self._random.randrange(90)
        header = self._random.choice(
            [None, "soon", str(seconds), imf_fixdate(self._clock.time - 1000 + seconds)]
        )
        return self._failed(429, "rate_limit_exceeded", retry_after=header)

    def _lost(self) -> Answer:
        return self._failed(None, "connection_error")

    def _unconnected(self) -> Answer:
        return self._failed(None, "connect_error", sent=False)

    def _hang(self) -> Answer:
        return Answer(b"", answering=FOREVER)

    def _page(self) -> Answer:
        return Answer(b"<html>A proxy's page</html>")

    def _proxy(self) -> Answer:
        return self._failed(403, envelope=False)

    def _missing(self) -> Answer:
        return self._failed(404)


def _payload(status: str) -> Answer:
    return Answer(json.dumps(response(status, id="resp_day")).encode())


@pytest.mark.parametrize("seed", range(3))
def test_a_day_of_faults(tmp_path: Path, seed: int) -> None:
    """A job is followed for a day, every fault is told and none ends it, and there is one job."""
    count("fuzzed")
    clock = Clock()
    day = Day(clock, seed)
    server = Server(clock, create=day.creates(), retrieve=day.retrieves())
    with closing(Store(str(tmp_path / "state"), now=clock.now)) as store:
        request = Request(body={"background": True}, sha256="0" * 64)
        submission = Submission(request=request, model="m", job_key="k")
        told = submit(submission, fake_context(server, store, wait=Wait(poll_seconds=10.0)))
    final, polls = told[-1], [event for event in told if isinstance(event, Poll | PollError)]
    assert isinstance(final, Final)
    assert (final.status, final.exit_code) == ("completed", 0)
    assert final.elapsed_seconds >= DAY
    creates = [call for call in server.log if call.name == "create"]
    assert [call.payload is not None for call in creates] == [False] * (len(creates) - 1) + [True]
    assert sum(isinstance(event, SubmitError) for event in told) == len(creates) - 1
    row = 0
    for attempt, (call, poll) in enumerate(zip(server.log[len(creates) :], polls, strict=True), 1):
        check_line(poll)
        assert poll.attempt == attempt
        row = row + 1 if call.failure else 0
        if isinstance(poll, PollError):
            assert call.failure is not None
            assert (poll.consecutive, poll.error.code) == (row, call.failure.code)
            asked = asked_for(call.failure.retry_after, 1_700_000_000 + call.end)
            assert poll.retry_in_seconds >= max(asked, 5) - TOLERANCE
        else:
            assert call.payload is not None
            assert poll.status == call.payload.status
