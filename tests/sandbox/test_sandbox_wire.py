"""The sandbox's streams: their events, readers that resume, and prompt reactions to changes."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING, Any, get_args

import httpx2
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import ResponseStreamEvent

from oaibg.sandbox.wire.event_stream import Cursor
from sandbox_client import LONG, create, events, refused, request
from sandbox_streams import streamed

if TYPE_CHECKING:
    from collections.abc import Callable

    from oaibg.sandbox import Sandbox


# --- events --------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["completed", "failed", "incomplete", "cancelled"])
def test_every_stream_event_parses_strictly(sdk: OpenAI, outcome: str) -> None:
    """Every event has an SDK type, numbers start at 0, and the last event has the outcome."""
    kinds = get_args(get_args(ResponseStreamEvent)[0])
    stream = sdk.responses.create(
        model="gpt-5.2",
        input="Hi",
        background=True,
        stream=True,
        metadata={"sandbox_outcome": outcome},
    )
    seen = list(stream)
    assert all(type(event) in kinds for event in seen)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    types = [event.type for event in seen]
    assert types[:3] == ["response.created", "response.queued", "response.in_progress"]
    ends = {"cancelled": "response.failed"}
    assert types[-1] == ends.get(outcome, f"response.{outcome}")
    last = seen[-1]
    assert last.type in ("response.completed", "response.failed", "response.incomplete")
    assert last.response.status == outcome


def test_a_stream_contains_the_items_of_the_output(http: httpx2.Client) -> None:
    """The events cover the reasoning, then the message, its part and its deltas."""
    streamed = events(http.post("/responses", json=request(stream=True)).text)
    types = [one["type"].removeprefix("response.") for one in streamed]
    assert list(dict.fromkeys(types)) == [
        "created",
        "queued",
        "in_progress",
        "output_item.added",
        "output_item.done",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "completed",
    ]
    assert types.count("output_text.delta") > 3
    items = [one["item"] for one in streamed if one["type"] == "response.output_item.done"]
    assert items == streamed[-1]["response"]["output"]


def test_a_stream_contains_the_searches(sdk: OpenAI) -> None:
    """Each search has five events in order, and its last item equals that in the output."""
    kinds = get_args(get_args(ResponseStreamEvent)[0])
    stream = sdk.responses.create(
        model="m", input="Hi", background=True, stream=True, metadata={"sandbox_tools": "2"}
    )
    sent = list(stream)
    assert all(type(event) in kinds for event in sent)
    assert [event.sequence_number for event in sent] == list(range(len(sent)))
    plain = [event.to_dict() for event in sent]
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
    last = sent[-1]
    assert last.type == "response.completed"
    assert done == last.response.to_dict()["output"]


# --- readers -------------------------------------------------------------------------------


async def _follow(sandbox: Sandbox) -> tuple[list[int], float]:
    async with AsyncOpenAI(
        base_url=sandbox.base_url,
        api_key="sandbox",
        max_retries=0,
        timeout=5,
        _strict_response_validation=True,
    ) as sdk:
        job = await sdk.responses.create(
            model="gpt-5.2",
            input="Hi",
            background=True,
            stream=True,
            metadata={"sandbox_seconds": "0.3"},
        )
        first = await anext(aiter(job))
        assert first.type == "response.created"
        await job.close()
        begun = time.monotonic()
        rest = await sdk.responses.retrieve(first.response.id, stream=True, starting_after=0)
        return [event.sequence_number async for event in rest], time.monotonic() - begun


def test_a_disconnected_reader_resumes_after_its_last_event(sandbox: Sandbox) -> None:
    """The job keeps running, and the rest arrives live, without gaps or repeats."""
    numbers, took = asyncio.run(_follow(sandbox))
    assert numbers == list(range(1, numbers[-1] + 1))
    assert took > 0.2
    assert [job.status(time.time()) for job in sandbox.jobs.values()] == ["completed"]


def test_every_reader_sees_the_same_events(http: httpx2.Client) -> None:
    """A live stream, a replay and a replay from any number have the same events."""
    live = events(http.post("/responses", json=request(stream=True)).text)
    url = f"/responses/{live[0]['response']['id']}"
    assert events(http.get(url, params={"stream": "true"}).text) == live
    later = http.get(url, params={"stream": "true", "starting_after": 7}).text
    assert events(later) == live[8:]
    past = http.get(url, params={"stream": "true", "starting_after": 99})
    assert (past.status_code, past.text) == (200, "")


def test_a_cancel_reaches_the_readers_of_a_stream(http: httpx2.Client) -> None:
    """A cancel ends the stream of every reader with `response.failed`."""
    body = request(stream=True, metadata={"sandbox_seconds": str(LONG)})
    with http.stream("POST", "/responses", json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        job = json.loads(next(lines).removeprefix("data: "))["response"]["id"]
        assert http.post(f"/responses/{job}/cancel").json()["status"] == "cancelled"
        last = [line for line in lines if line.startswith("data: ")][-1]
    event = json.loads(last.removeprefix("data: "))
    assert (event["type"], event["response"]["status"]) == ("response.failed", "cancelled")
    replay = events(http.get(f"/responses/{job}", params={"stream": "true"}).text)
    assert [one["sequence_number"] for one in replay] == [0, 1, 2]
    assert replay[-1] == event


def test_a_job_without_stream_cannot_be_streamed(http: httpx2.Client) -> None:
    """A stream of a job created without `stream`, or from a non-number, gets 400."""
    plain, streamed = create(http)["id"], http.post("/responses", json=request(stream=True)).text
    assert http.get(f"/responses/{plain}", params={"stream": "true"}).status_code == 400
    job = events(streamed)[0]["response"]["id"]
    bad = http.get(f"/responses/{job}", params={"stream": "true", "starting_after": "x"})
    assert (bad.status_code, refused(bad)["param"]) == (400, "starting_after")


def test_a_disconnected_reader_is_removed(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A job keeps no watcher for a reader that has disconnected."""
    body = request(stream=True, metadata={"sandbox_seconds": str(LONG)})
    with http.stream("POST", "/responses", json=body):
        (job,) = sandbox.jobs.values()
        wait_until(lambda: len(job.watchers) == 1)
    wait_until(lambda: not job.watchers)


# --- timing --------------------------------------------------------------------------------


class Reader(threading.Thread):
    """Reads the stream of a long job and records when each type of event arrives."""

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
    """Wait up to 2 s until the condition holds."""
    limit = time.monotonic() + 2
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.001)


def cancel(sandbox: Sandbox, reader: Reader) -> float:
    """Cancel a job through the API; return the time of the cancel."""
    url = f"{sandbox.base_url}/responses/{reader.job.id}/cancel"
    assert httpx2.post(url, trust_env=False).status_code == 200
    assert reader.job.cancelled is not None
    return reader.job.cancelled


def let_end(_: Sandbox, reader: Reader) -> float:
    """End a job by moving its create into the past; return the time of the change."""
    now = time.time()
    reader.job.created -= LONG
    return now


def cancel_here(_: Sandbox, reader: Reader) -> float:
    """Cancel a job in this thread; return the time of the cancel."""
    now = time.time()
    assert reader.job.cancel(now)
    return now


@pytest.mark.parametrize(
    ("change", "last"),
    [(cancel, "failed"), (cancel_here, "failed"), (let_end, "completed")],
)
def test_a_stream_reports_a_change_at_once(
    sandbox: Sandbox, change: Callable[[Sandbox, Reader], float], last: str
) -> None:
    """The fastest of 5 streams reports a change by any thread within 10 ms, and all end."""
    readers = [Reader(sandbox, stream=True) for _ in range(5)]
    late = [reader.late(last, change(sandbox, reader)) for reader in readers]
    assert min(late) < 0.01
    assert all("end" in reader.came for reader in readers)


def test_a_change_sends_all_events_that_are_due(sandbox: Sandbox) -> None:
    """If a job ends early, its stream still has all events in order."""
    reader = Reader(sandbox, stream=True)
    let_end(sandbox, reader)
    reader.join(timeout=2)
    assert list(reader.came)[:3] == ["created", "queued", "in_progress"]
    assert list(reader.came)[-3:] == ["content_part.done", "completed", "end"]


def test_a_synchronous_create_replies_when_its_job_ends(sandbox: Sandbox) -> None:
    """A create without background mode also replies if the job ends before its time."""
    reader = Reader(sandbox, background=None)
    let_end(sandbox, reader)
    reader.join(timeout=2)
    assert "end" in reader.came


def test_a_stream_ends_on_time(sandbox: Sandbox, http: httpx2.Client) -> None:
    """No stream ends before its job; the fastest of 5 ends within a second after it."""
    late = []
    for _ in range(5):
        streamed(http)
        now = time.time()
        late.append(now - list(sandbox.jobs.values())[-1].ended)
    assert 0 <= min(late) < 1


def test_a_stream_sleeps_while_nothing_happens(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream only checks its job when an event is due."""
    checks = 0
    due_in = Cursor.due_in

    def counted(cursor: Cursor, now: float) -> float | None:
        nonlocal checks
        checks += 1
        return due_in(cursor, now)

    reader = Reader(sandbox, stream=True)
    monkeypatch.setattr(Cursor, "due_in", counted)
    time.sleep(0.2)
    assert checks == 0
    let_end(sandbox, reader)
    reader.join(timeout=2)
    assert checks > 0
