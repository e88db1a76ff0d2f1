"""How the sandbox's streams differ, and what its jobs cost: over real HTTP on loopback."""

from __future__ import annotations

import json
import threading
import time
import typing
from typing import Any, get_args

import httpx2
import pytest
from openai.types.responses import ResponseStreamEvent

from oaibg.sandbox import Fault, Personality, Sandbox
from oaibg.sandbox.wire.event_stream import Cursor
from sandbox_client import LONG, command, create, end, events, refused, request

if typing.TYPE_CHECKING:
    from collections.abc import Callable

    from openai import OpenAI


def streamed(http: httpx2.Client, **changes: Any) -> list[dict[str, Any]]:
    """Create a job and return all events of its stream."""
    answer = http.post("/responses", json=request(stream=True, **changes))
    assert answer.status_code == 200, answer.text
    return events(answer.text)


def resume(http: httpx2.Client, response_id: str, after: int | None = None) -> httpx2.Response:
    """Ask for the stream of a job."""
    query = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
    return http.get(f"/responses/{response_id}", params=query)


def numbers(told: list[dict[str, Any]]) -> list[int]:
    """Return the numbers of events."""
    return [one["sequence_number"] for one in told]


def until_silence(http: httpx2.Client, method: str, path: str, **how: Any) -> list[dict[str, Any]]:
    """Read a stream until nothing has come for 0.3 s, and return its events; it must not end."""
    lines: list[str] = []
    with (
        http.stream(method, path, timeout=0.3, **how) as answer,
        pytest.raises(httpx2.ReadTimeout),
    ):
        lines += answer.iter_lines()
    return events("".join(f"{line}\n" for line in lines))


# --- servers -------------------------------------------------------------------------------


@pytest.mark.parametrize(("errors", "key"), [("envelope", "error"), ("detail", "detail")])
def test_a_server_without_streams_refuses_them(
    sandbox: Sandbox, http: httpx2.Client, errors: str, key: str
) -> None:
    """400 in the server's shape: a create makes no job, and a job's stream is refused, too."""
    sandbox.become(Personality(stream="refused", errors=errors))
    answer = http.post("/responses", json=request(stream=True))
    assert (answer.status_code, list(answer.json()), sandbox.jobs) == (400, [key], {})
    job = create(http)["id"]
    assert resume(http, job).status_code == 400
    assert end(http, job)["status"] == "completed"


def test_a_server_can_ignore_that_a_stream_was_asked_for(
    sandbox: Sandbox, http: httpx2.Client
) -> None:
    """JSON at the create and later; the job has no stream, whatever the server becomes."""
    sandbox.become(Personality(stream="ignored"))
    answer = http.post("/responses", json=request(stream=True))
    assert answer.headers["content-type"] == "application/json"
    job = answer.json()["id"]
    assert resume(http, job).json()["id"] == job
    sandbox.become("openai")
    assert resume(http, job).status_code == 400


def test_a_server_can_refuse_to_resume(sandbox: Sandbox, http: httpx2.Client) -> None:
    """The create streams to the end; later streams are too old."""
    sandbox.become(Personality(stream="resume_refused"))
    told = streamed(http)
    assert told[-1]["type"] == "response.completed"
    for after in (None, 3):
        answer = resume(http, told[0]["response"]["id"], after)
        assert (answer.status_code, refused(answer)["param"]) == (400, "stream")
        assert "too old" in refused(answer)["message"]


def test_a_server_can_cut_every_stream(sandbox: Sandbox, http: httpx2.Client) -> None:
    """After 3 events, so that a reader gets on by 3 with every connection."""
    sandbox.become(Personality(stream="cut"))
    told = streamed(http)
    job = told[0]["response"]["id"]
    assert numbers(told) == [0, 1, 2]
    while told[-1]["type"] != "response.completed":
        more = events(resume(http, job, told[-1]["sequence_number"]).text)
        assert 1 <= len(more) <= 3
        told += more
    assert numbers(told) == list(range(len(told)))


def test_a_server_can_go_mute_after_a_cancel(sandbox: Sandbox, http: httpx2.Client) -> None:
    """What came before it is told to every reader; the end never comes, and nothing closes."""
    sandbox.become(Personality(stream="mute"))
    body = request(stream=True, metadata={"sandbox_seconds": str(LONG)})
    assert numbers(until_silence(http, "POST", "/responses", json=body)) == [0, 1]
    (job,) = sandbox.jobs
    assert http.post(f"/responses/{job}/cancel").json()["status"] == "cancelled"
    for after, told in ((None, [0, 1]), (0, [1]), (9, [])):
        query = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
        seen = until_silence(http, "GET", f"/responses/{job}", params=query)
        assert numbers(seen) == told


def test_a_server_that_goes_mute_ends_streams_without_a_cancel(
    sandbox: Sandbox, http: httpx2.Client
) -> None:
    """As any other."""
    sandbox.become(Personality(stream="mute"))
    told = streamed(http)
    assert (numbers(told), told[-1]["type"]) == (list(range(len(told))), "response.completed")


def test_a_reader_is_there_when_a_server_goes_mute(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A stream that was open at the cancel stays open."""
    sandbox.become(Personality(stream="mute"))
    body = request(stream=True, metadata={"sandbox_seconds": str(LONG)})
    with http.stream("POST", "/responses", json=body, timeout=0.3) as stream:
        lines = stream.iter_lines()
        while not next(lines).startswith("event: response.queued"):
            pass
        (job,) = sandbox.jobs
        assert http.post(f"/responses/{job}/cancel").status_code == 200
        with pytest.raises(httpx2.ReadTimeout):
            assert not [line for line in lines if "failed" in line]


@pytest.mark.parametrize(
    ("after", "first"),
    [(0, [0, 3, 4]), (1, [0, 1, 4, 5]), (7, [6, 7, 10, 11])],
)
def test_a_server_can_repeat_and_leave_out_events(
    sandbox: Sandbox, http: httpx2.Client, after: int, first: list[int]
) -> None:
    """At a resume: the last 2 come again, the next 2 never, and the rest as it is."""
    sandbox.become(Personality(stream="gaps"))
    whole = streamed(http)
    job = whole[0]["response"]["id"]
    assert numbers(whole) == list(range(len(whole)))
    assert events(resume(http, job).text) == whole
    told = events(resume(http, job, after).text)
    assert numbers(told)[: len(first)] == first
    assert told == [whole[number] for number in numbers(told)]
    assert numbers(told)[len(first) :] == list(range(first[-1] + 1, len(whole)))


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_a_server_with_gaps_never_leaves_out_the_end(
    sandbox: Sandbox, http: httpx2.Client, before: int
) -> None:
    """However near it a reader resumes; one who has it all gets the last 2 again."""
    sandbox.become(Personality(stream="gaps"))
    whole = streamed(http)
    last = len(whole) - 1
    told = numbers(events(resume(http, whole[0]["response"]["id"], last - before).text))
    assert told == [last - before - 1, last - before, *([last] if before else [])]


def test_sparse_servers_streams_are_sparse_with_gaps_too(
    sandbox: Sandbox, http: httpx2.Client
) -> None:
    """The response of the last event has what a retrieve has."""
    sandbox.become(Personality(stream="gaps", sparse=True))
    job = streamed(http)[0]["response"]["id"]
    last = events(resume(http, job, 2).text)[-1]
    assert last["response"] == http.get(f"/responses/{job}").json()
    assert list(last["response"]) == ["id", "status", "output"]


def test_an_unknown_way_with_streams_is_refused() -> None:
    """With the choices."""
    with pytest.raises(ValueError, match="stream must be one of usual, refused, ignored"):
        Personality(stream="odd")


# --- faults --------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [None, 1, 5])
def test_gap_leaves_out_one_event(sandbox: Sandbox, http: httpx2.Client, after: int | None) -> None:
    """And goes on; a later reader gets it."""
    sandbox.script(Fault(kind="gap", after=after))
    told = streamed(http)
    (job,) = sandbox.jobs
    whole = events(resume(http, job).text)
    missing = after or 0
    assert told == whole[:missing] + whole[missing + 1 :]


def test_gap_can_leave_out_the_end(sandbox: Sandbox, http: httpx2.Client) -> None:
    """The stream ends without it."""
    whole = streamed(http)
    job = whole[0]["response"]["id"]
    sandbox.script(Fault(kind="gap", after=len(whole) - 1))
    assert events(resume(http, job).text) == whole[:-1]


def test_keepalive_sends_what_is_no_event_of_the_job(sandbox: Sandbox, http: httpx2.Client) -> None:
    """At once after so many events: an unknown type, which has no number, and a comment."""
    sandbox.script(Fault(kind="keepalive", after=2))
    text = http.post("/responses", json=request(stream=True)).text
    blocks = text.split("\n\n")
    assert blocks[2:4] == ['event: keepalive\ndata: {"type":"keepalive"}', ": ping"]
    told = events("\n\n".join(blocks[:2] + blocks[4:]))
    assert numbers(told) == list(range(len(told)))
    assert told[-1]["type"] == "response.completed"


def test_keepalive_comes_while_the_next_event_is_awaited(
    sandbox: Sandbox, http: httpx2.Client
) -> None:
    """And not with that."""
    sandbox.script(Fault(kind="keepalive", after=2))
    body = request(stream=True, metadata={"sandbox_seconds": str(LONG)})
    with http.stream("POST", "/responses", json=body) as stream:
        lines = stream.iter_lines()
        while next(lines) != ": ping":
            pass


def test_error_event_ends_a_stream(sandbox: Sandbox, http: httpx2.Client, sdk: OpenAI) -> None:
    """With an event of the API's type, which has the next number; the job goes on."""
    kinds = get_args(get_args(ResponseStreamEvent)[0])
    sandbox.script(Fault(kind="error_event", after=4))
    told = list(sdk.responses.create(model="m", input="Hi", background=True, stream=True))
    assert all(type(event) in kinds for event in told)
    assert [event.sequence_number for event in told] == [0, 1, 2, 3, 4]
    last = told[-1]
    assert last.type == "error"
    assert last.code == "server_error"
    (job,) = sandbox.jobs
    assert end(http, job)["status"] == "completed"
    assert events(resume(http, job, 3).text)[0]["type"] != "error"


@pytest.mark.parametrize("kind", ["gap", "keepalive", "error_event"])
def test_a_fault_that_is_never_reached_changes_nothing(
    sandbox: Sandbox, http: httpx2.Client, kind: str
) -> None:
    """A stream that is over before has all its events, and no more."""
    whole = streamed(http)
    sandbox.script(Fault(kind=kind, after=len(whole) + 1))
    assert events(resume(http, whole[0]["response"]["id"]).text) == whole


@pytest.mark.parametrize("kind", ["gap", "keepalive", "error_event"])
def test_faults_of_streams_are_for_streams_alone(
    sandbox: Sandbox, http: httpx2.Client, kind: str
) -> None:
    """They cannot be meant for a retrieve, and leave polls alone."""
    with pytest.raises(ValueError, match=f"stream or any for the kind {kind}, not"):
        Fault(kind=kind, on="retrieve")
    sandbox.script(Fault(kind=kind))
    assert end(http, create(http)["id"])["status"] == "completed"


def test_faults_count_from_where_a_stream_begins(sandbox: Sandbox, http: httpx2.Client) -> None:
    """Not from the number 0; what a server repeats counts, too."""
    sandbox.become(Personality(stream="gaps"))
    job = streamed(http)[0]["response"]["id"]
    sandbox.script(Fault(kind="cut", after=3))
    assert numbers(events(resume(http, job, 5).text)) == [4, 5, 8]


# --- tool calls ----------------------------------------------------------------------------


def test_metadata_makes_a_job_search_the_web(sdk: OpenAI) -> None:
    """Between the reasoning and the message; all of it parses strictly."""
    job = sdk.responses.create(
        model="m", input="Hi", metadata={"sandbox_tools": "2", "sandbox_seconds": "0"}
    )
    assert [item.type for item in job.output] == [
        *("reasoning", "web_search_call", "web_search_call", "message")
    ]
    assert len({item.id for item in job.output}) == 4
    assert job.output_text


def test_searches_are_told_by_the_stream(sdk: OpenAI) -> None:
    """Each with its five events, in order and in its place; done, they are as in the output."""
    kinds = get_args(get_args(ResponseStreamEvent)[0])
    stream = sdk.responses.create(
        model="m", input="Hi", background=True, stream=True, metadata={"sandbox_tools": "2"}
    )
    told = list(stream)
    assert all(type(event) in kinds for event in told)
    assert [event.sequence_number for event in told] == list(range(len(told)))
    plain = [event.to_dict() for event in told]
    for index in (1, 2):
        types = [
            str(one["type"]).removeprefix("response.")
            for one in plain
            if one.get("output_index") == index
        ]
        assert types == [
            "output_item.added",
            "web_search_call.in_progress",
            "web_search_call.searching",
            "web_search_call.completed",
            "output_item.done",
        ]
    done = [one["item"] for one in plain if one["type"] == "response.output_item.done"]
    last = told[-1]
    assert last.type == "response.completed"
    assert done == last.response.to_dict()["output"]


def test_partial_output_has_the_searches(sandbox: Sandbox, http: httpx2.Client) -> None:
    """Where a server shows some of the text, they are over."""
    sandbox.become(Personality(partial=True, statuses="in_progress"))
    job = create(http, metadata={"sandbox_tools": "1", "sandbox_seconds": str(LONG)})
    assert [item["type"] for item in job["output"]] == ["reasoning", "web_search_call", "message"]


def test_a_job_can_search_and_say_nothing(http: httpx2.Client) -> None:
    """Its output ends with the searches."""
    metadata = {"sandbox_tools": "1", "sandbox_empty": "true"}
    job = end(http, create(http, metadata=metadata)["id"])
    assert [item["type"] for item in job["output"]] == ["reasoning", "web_search_call"]


@pytest.mark.parametrize("value", ["", "-1", "1.5", "x", "1001", "²"])
def test_a_number_of_searches_that_makes_no_sense_is_refused(
    http: httpx2.Client, value: str
) -> None:
    """400, by the metadata."""
    body = json.dumps(request(metadata={"sandbox_tools": value}))
    answer = http.post("/responses", content=body)
    assert (answer.status_code, refused(answer)["param"]) == (400, "metadata")


# --- what it costs -------------------------------------------------------------------------


class Reader(threading.Thread):
    """Reads the stream of a long job and notes when each event came, by its type."""

    def __init__(self, sandbox: Sandbox, **changes: Any) -> None:
        super().__init__(daemon=True)
        self.came: dict[str, float] = {}
        self._url = f"{sandbox.base_url}/responses"
        self._body = request(metadata={"sandbox_seconds": str(LONG)}, **changes)
        known = set(sandbox.jobs)
        self.start()
        while not (new := set(sandbox.jobs) - known):
            time.sleep(0.001)
        self.job = sandbox.jobs[new.pop()]
        wait_until(lambda: len(self.job.watchers) == 1)
        time.sleep(0.01)

    def run(self) -> None:
        """Read to the end."""
        with (
            httpx2.Client(timeout=5, trust_env=False) as http,
            http.stream("POST", self._url, json=self._body) as answer,
        ):
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    self.came[line.removeprefix("event: response.")] = time.time()
        self.came["end"] = time.time()

    def late(self, kind: str, since: float) -> float:
        """Wait for the end; return how long after `since` that event came."""
        self.join(timeout=2)
        return self.came[kind] - since


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for what is to come soon."""
    limit = time.monotonic() + 2
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.001)


def cancel(sandbox: Sandbox, reader: Reader) -> float:
    """Cancel a job by the API; return when."""
    url = f"{sandbox.base_url}/responses/{reader.job.id}/cancel"
    assert httpx2.post(url, trust_env=False).status_code == 200
    assert reader.job.cancelled is not None
    return reader.job.cancelled


def let_end(_: Sandbox, reader: Reader) -> float:
    """Let the time of a job be over; return when."""
    now = time.time()
    reader.job.created -= LONG
    return now


def cancel_here(_: Sandbox, reader: Reader) -> float:
    """Cancel a job in this thread; return when."""
    now = time.time()
    assert reader.job.cancel(now)
    return now


@pytest.mark.parametrize(
    ("change", "last"),
    [(cancel, "failed"), (cancel_here, "failed"), (let_end, "completed")],
)
def test_a_stream_tells_a_change_at_once(
    sandbox: Sandbox, change: Callable[[Sandbox, Reader], float], last: str
) -> None:
    """The best of some is within 10 ms, whichever thread made it, and the stream is over."""
    readers = [Reader(sandbox, stream=True) for _ in range(5)]
    late = [reader.late(last, change(sandbox, reader)) for reader in readers]
    assert min(late) < 0.01
    assert all("end" in reader.came for reader in readers)


def test_a_change_tells_all_events_that_are_due(sandbox: Sandbox) -> None:
    """Those of the output too, in their order."""
    reader = Reader(sandbox, stream=True)
    let_end(sandbox, reader)
    reader.join(timeout=2)
    assert list(reader.came)[:3] == ["created", "queued", "in_progress"]
    assert list(reader.came)[-3:] == ["content_part.done", "completed", "end"]


def test_a_create_that_waits_is_answered_once_its_job_has_ended(sandbox: Sandbox) -> None:
    """Also where the end comes before its time."""
    reader = Reader(sandbox, background=None)
    let_end(sandbox, reader)
    reader.join(timeout=2)
    assert "end" in reader.came


def test_the_end_of_a_stream_comes_in_time(sandbox: Sandbox, http: httpx2.Client) -> None:
    """Not before the job has ended; the best of some is within 5 ms after it."""
    late = []
    for _ in range(5):
        streamed(http)
        now = time.time()
        late.append(now - list(sandbox.jobs.values())[-1].ended)
    assert 0 <= min(late) < 0.005


def test_a_stream_sleeps_while_nothing_happens(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at its job when an event is due, and not before."""
    looks = 0
    look = Cursor.due_in

    def counted(cursor: Cursor, now: float) -> float | None:
        nonlocal looks
        looks += 1
        return look(cursor, now)

    reader = Reader(sandbox, stream=True)
    monkeypatch.setattr(Cursor, "due_in", counted)
    time.sleep(0.2)
    assert looks == 0
    let_end(sandbox, reader)
    reader.join(timeout=2)
    assert looks > 0


def test_a_reader_that_left_is_forgotten(sandbox: Sandbox, http: httpx2.Client) -> None:
    """Its job tells nobody any more."""
    body = request(stream=True, metadata={"sandbox_seconds": str(LONG)})
    with http.stream("POST", "/responses", json=body):
        (job,) = sandbox.jobs.values()
        wait_until(lambda: len(job.watchers) == 1)
    wait_until(lambda: not job.watchers)


def test_requests_need_not_be_kept() -> None:
    """Faults strike all the same, and whoever wants to hears of every exchange."""
    told: list[str | None] = []
    with (
        Sandbox.running(log=False, on_done=lambda log: told.append(log.fault)) as sandbox,
        httpx2.Client(base_url=sandbox.base_url, trust_env=False) as http,
    ):
        sandbox.script(Fault(on="retrieve", kind="status", status=500))
        job = create(http)["id"]
        assert http.get(f"/responses/{job}").status_code == 500
        assert end(http, job)["status"] == "completed"
        root = sandbox.base_url.removesuffix("/v1")
        assert http.get(f"{root}/sandbox/requests").json() == []
        assert (sandbox.requests, sandbox.posts) == ([], [])
    assert told[:3] == [None, "status", None]


@pytest.mark.process
def test_the_command_need_not_keep_requests() -> None:
    """By an option."""
    with command("--no-log", "--quiet") as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip().removeprefix("export OPENAI_BASE_URL=")
        assert httpx2.get(f"{base_url}/responses/x", trust_env=False).status_code == 404
        root = base_url.removesuffix("/v1")
        assert httpx2.get(f"{root}/sandbox/requests", trust_env=False).json() == []
        process.terminate()
        process.communicate(timeout=5)
