"""Each choice of `Personality.stream` changes how the sandbox streams."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from oaibg.sandbox import Personality, Sandbox
from sandbox_client import LONG, create, end, events, refused, request
from sandbox_streams import numbers, resume, streamed


def until_silence(http: httpx2.Client, method: str, path: str, **how: Any) -> list[dict[str, Any]]:
    """Return the events of a stream until 0.3 s without data; the stream must stay open."""
    lines: list[str] = []
    with (
        http.stream(method, path, timeout=0.3, **how) as answer,
        pytest.raises(httpx2.ReadTimeout),
    ):
        lines += answer.iter_lines()
    return events("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(("errors", "key"), [("envelope", "error"), ("detail", "detail")])
def test_a_server_without_streams_refuses_them(
    sandbox: Sandbox, http: httpx2.Client, errors: str, key: str
) -> None:
    """A stream gets 400 in the server's format; a refused create creates no job."""
    sandbox.become(Personality(stream="refused", errors=errors))
    answer = http.post("/responses", json=request(stream=True))
    assert (answer.status_code, list(answer.json()), sandbox.jobs) == (400, [key], {})
    job = create(http)["id"]
    assert resume(http, job).status_code == 400
    assert end(http, job)["status"] == "completed"


def test_a_server_can_ignore_stream(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A create with an ignored `stream` gets JSON, and its job can never be streamed."""
    sandbox.become(Personality(stream="ignored"))
    answer = http.post("/responses", json=request(stream=True))
    assert answer.headers["content-type"] == "application/json"
    job = answer.json()["id"]
    assert resume(http, job).json()["id"] == job
    sandbox.become("openai")
    assert resume(http, job).status_code == 400


def test_a_server_can_refuse_to_resume(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A create streams to the end; a retrieve can't stream."""
    sandbox.become(Personality(stream="resume_refused"))
    seen = streamed(http)
    assert seen[-1]["type"] == "response.completed"
    for after in (None, 3):
        answer = resume(http, seen[0]["response"]["id"], after)
        assert (answer.status_code, refused(answer)["param"]) == (400, "stream")
        assert "too old" in refused(answer)["message"]


def test_a_server_can_cut_every_stream(sandbox: Sandbox, http: httpx2.Client) -> None:
    """Every stream ends after 3 events, so a reader gains up to 3 events per connection."""
    sandbox.become(Personality(stream="cut"))
    seen = streamed(http)
    job = seen[0]["response"]["id"]
    assert numbers(seen) == [0, 1, 2]
    while seen[-1]["type"] != "response.completed":
        more = events(resume(http, job, seen[-1]["sequence_number"]).text)
        assert 1 <= len(more) <= 3
        seen += more
    assert numbers(seen) == list(range(len(seen)))


@pytest.mark.slow
def test_a_server_can_go_mute_after_a_cancel(sandbox: Sandbox, http: httpx2.Client) -> None:
    """Every reader gets the events before the cancel; the stream then stays open."""
    sandbox.become(Personality(stream="mute"))
    body = request(stream=True, metadata={"sandbox_seconds": str(LONG)})
    assert numbers(until_silence(http, "POST", "/responses", json=body)) == [0, 1]
    (job,) = sandbox.jobs
    assert http.post(f"/responses/{job}/cancel").json()["status"] == "cancelled"
    for after, expected in ((None, [0, 1]), (0, [1]), (9, [])):
        query = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
        seen = until_silence(http, "GET", f"/responses/{job}", params=query)
        assert numbers(seen) == expected


def test_a_mute_server_ends_streams_without_a_cancel(sandbox: Sandbox, http: httpx2.Client) -> None:
    """Without a cancel, the stream of a mute server is complete."""
    sandbox.become(Personality(stream="mute"))
    seen = streamed(http)
    assert (numbers(seen), seen[-1]["type"]) == (list(range(len(seen))), "response.completed")


def test_a_mute_server_keeps_current_streams_open(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A stream that is open at the time of the cancel stays open."""
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
    """A resumed stream repeats 2 events, leaves out the next 2, and has all others."""
    sandbox.become(Personality(stream="gaps"))
    whole = streamed(http)
    job = whole[0]["response"]["id"]
    assert numbers(whole) == list(range(len(whole)))
    assert events(resume(http, job).text) == whole
    seen = events(resume(http, job, after).text)
    assert numbers(seen)[: len(first)] == first
    assert seen == [whole[number] for number in numbers(seen)]
    assert numbers(seen)[len(first) :] == list(range(first[-1] + 1, len(whole)))


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_a_server_with_gaps_never_leaves_out_the_end(
    sandbox: Sandbox, http: httpx2.Client, before: int
) -> None:
    """A reader that resumes near the end still gets the last event."""
    sandbox.become(Personality(stream="gaps"))
    whole = streamed(http)
    last = len(whole) - 1
    seen = numbers(events(resume(http, whole[0]["response"]["id"], last - before).text))
    assert seen == [last - before - 1, last - before, *([last] if before else [])]


def test_resumed_streams_of_a_sparse_server_are_sparse(
    sandbox: Sandbox, http: httpx2.Client
) -> None:
    """The response in the last event equals that of a retrieve."""
    sandbox.become(Personality(stream="gaps", sparse=True))
    job = streamed(http)[0]["response"]["id"]
    last = events(resume(http, job, 2).text)[-1]
    assert last["response"] == http.get(f"/responses/{job}").json()
    assert list(last["response"]) == ["id", "status", "output"]


def test_an_unknown_choice_of_stream_is_refused() -> None:
    """The message lists the choices."""
    with pytest.raises(ValueError, match="stream must be one of usual, refused, ignored"):
        Personality(stream="odd")
