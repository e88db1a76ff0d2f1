"""Each kind of scripted fault does what `KINDS` says, to the requests that it matches."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, get_args

import httpx2
import pytest
from openai.types.responses import ResponseStreamEvent

from oaibg.sandbox import Fault, Personality, Sandbox
from oaibg.sandbox.faults import parse_faults
from sandbox_client import LONG, create, end, events, refused, request
from sandbox_streams import numbers, resume, streamed

if TYPE_CHECKING:
    from openai import OpenAI


# --- faults of any request -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, None),
        (401, "invalid_api_key"),
        (403, "unsupported_country_region_territory"),
        (404, None),
        (418, None),
        (429, "rate_limit_exceeded"),
        (500, None),
        (503, "server_is_overloaded"),
        (599, None),
    ],
)
def test_status_replies_as_the_api_does(
    sandbox: Sandbox, http: httpx2.Client, status: int, code: str | None
) -> None:
    """A `status` fault sends the API's error for that status, and nothing takes effect."""
    sandbox.script(Fault(on="create", kind="status", status=status))
    answer = http.post("/responses", json=request())
    assert (answer.status_code, refused(answer)["code"]) == (status, code)
    assert (sandbox.jobs, sandbox.posts[0].status) == ({}, status)


def test_status_takes_a_body_and_headers(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A `status` fault can set the body and headers; 502 has an HTML page by default."""
    quota = {"error": {"message": "m", "type": "t", "param": None, "code": "insufficient_quota"}}
    sandbox.script(
        Fault(kind="status", status=429, body=quota, headers={"Retry-After": "7"}),
        Fault(kind="status", status=500, body="", headers={"Content-Type": "text/plain"}),
        Fault(kind="status", status=502),
    )
    first, second, third = (http.get("/responses/x") for _ in range(3))
    assert (first.json(), first.headers["retry-after"]) == (quota, "7")
    assert (second.status_code, second.text) == (500, "")
    assert second.headers.get_list("content-type") == ["text/plain"]
    assert (third.status_code, third.headers["content-type"]) == (502, "text/html; charset=utf-8")


@pytest.mark.parametrize(("kind", "jobs"), [("reset_before", 0), ("reset_after", 1)])
def test_reset_resets_the_connection(
    sandbox: Sandbox, http: httpx2.Client, kind: str, jobs: int
) -> None:
    """A reset comes before or after the job is created, and the log has no status."""
    sandbox.script(Fault(on="create", kind=kind))
    with pytest.raises(httpx2.ReadError, match="reset"):
        http.post("/responses", json=request())
    assert len(sandbox.jobs) == jobs
    assert [post.status for post in sandbox.posts] == [None]
    assert create(http)["status"] == "queued"


@pytest.mark.parametrize(("kind", "jobs"), [("hang_before", 0), ("hang_after", 1)])
def test_hang_never_replies(sandbox: Sandbox, http: httpx2.Client, kind: str, jobs: int) -> None:
    """A hang lasts until the client times out, before or after the job is created."""
    sandbox.script(Fault(on="create", kind=kind))
    with pytest.raises(httpx2.ReadTimeout):
        http.post("/responses", json=request(), timeout=0.1)
    assert (len(sandbox.jobs), sandbox.posts[0].status) == (jobs, None)


@pytest.mark.parametrize("kind", ["hang_before", "hang_after", "delay"])
def test_a_wait_with_seconds_ends_with_the_reply(
    sandbox: Sandbox, http: httpx2.Client, kind: str
) -> None:
    """A hang or delay with `seconds` ends with the normal reply."""
    sandbox.script(Fault(kind=kind, seconds=0.1))
    begun = time.monotonic()
    assert create(http)["status"] == "queued"
    assert 0.1 <= time.monotonic() - begun < 2


def test_drip_sends_byte_by_byte(sandbox: Sandbox, http: httpx2.Client) -> None:
    """`drip` sends the complete reply one byte at a time."""
    whole = http.get("/responses/x").content
    sandbox.script(Fault(on="retrieve", kind="drip", seconds=0.0005))
    with http.stream("GET", "/responses/x") as answer:
        pieces = list(answer.iter_raw())
    assert b"".join(pieces) == whole
    assert len(pieces) > len(whole) / 2


@pytest.mark.parametrize("after", [None, 0, 10])
def test_truncate_cuts_the_body(sandbox: Sandbox, http: httpx2.Client, after: int | None) -> None:
    """The body is shorter than its content-length, and the job is created anyway."""
    sandbox.script(Fault(on="create", kind="truncate", after=after))
    with (
        pytest.raises(httpx2.RemoteProtocolError, match="without sending complete"),
        http.stream("POST", "/responses", json=request()) as answer,
    ):
        answer.read()
    assert (len(sandbox.jobs), sandbox.posts[0].status) == (1, 200)


def test_truncate_cuts_a_stream(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A truncated stream ends without its last chunk."""
    sandbox.script(Fault(on="stream", kind="truncate", after=100))
    with pytest.raises(httpx2.RemoteProtocolError):
        http.post("/responses", json=request(stream=True))


def test_html_and_raw_replace_the_reply(sandbox: Sandbox, http: httpx2.Client) -> None:
    """The reply is 200 with another body, and both jobs are created."""
    sandbox.script(Fault(kind="html"), Fault(kind="raw", body='{"id": '))
    page, raw = (http.post("/responses", json=request()) for _ in range(2))
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (raw.status_code, raw.text) == (200, '{"id": ')
    assert len(sandbox.jobs) == 2


# --- faults of streams ---------------------------------------------------------------------


def test_cut_ends_a_stream_early(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A cut stream ends without an error; the job keeps running, and the rest can be read."""
    sandbox.script(Fault(on="stream", kind="cut", after=2))
    head = events(http.post("/responses", json=request(stream=True)).text)
    url = f"/responses/{head[0]['response']['id']}"
    tail = events(http.get(url, params={"stream": "true", "starting_after": 1}).text)
    assert [one["sequence_number"] for one in head] == [0, 1]
    assert (tail[0]["sequence_number"], tail[-1]["type"]) == (2, "response.completed")


def test_plain_ignores_a_requested_stream(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A create and a retrieve with `stream=true` get JSON."""
    sandbox.script(Fault(on="stream", kind="plain", times=2))
    answer = http.post("/responses", json=request(stream=True))
    assert (answer.headers["content-type"], answer.json()["status"]) == (
        "application/json",
        "queued",
    )
    job = create(http)["id"]
    assert http.get(f"/responses/{job}", params={"stream": "true"}).json()["id"] == job


@pytest.mark.parametrize("seconds", [None, 0.05])
def test_silent_stops_a_stream_and_keeps_it_open(
    sandbox: Sandbox, http: httpx2.Client, seconds: float | None
) -> None:
    """A silent stream stays open forever, or for `seconds`."""
    sandbox.script(Fault(on="stream", kind="silent", after=1, seconds=seconds))
    lines: list[str] = []
    with http.stream("POST", "/responses", json=request(stream=True), timeout=0.3) as answer:
        try:
            lines += answer.iter_lines()
        except httpx2.ReadTimeout:
            assert seconds is None
        else:
            assert len(lines) == 3
            assert seconds is not None


@pytest.mark.parametrize("after", [None, 1, 5])
def test_gap_leaves_out_one_event(sandbox: Sandbox, http: httpx2.Client, after: int | None) -> None:
    """The stream continues after the gap, and a later reader gets the event."""
    sandbox.script(Fault(kind="gap", after=after))
    sent = streamed(http)
    (job,) = sandbox.jobs
    whole = events(resume(http, job).text)
    missing = after or 0
    assert sent == whole[:missing] + whole[missing + 1 :]


def test_gap_can_leave_out_the_end(sandbox: Sandbox, http: httpx2.Client) -> None:
    """The stream ends without its last event."""
    whole = streamed(http)
    job = whole[0]["response"]["id"]
    sandbox.script(Fault(kind="gap", after=len(whole) - 1))
    assert events(resume(http, job).text) == whole[:-1]


def test_keepalive_inserts_a_foreign_event(sandbox: Sandbox, http: httpx2.Client) -> None:
    """`keepalive` inserts an event of an unknown type without a number, and a comment."""
    sandbox.script(Fault(kind="keepalive", after=2))
    text = http.post("/responses", json=request(stream=True)).text
    blocks = text.split("\n\n")
    assert blocks[2:4] == ['event: keepalive\ndata: {"type":"keepalive"}', ": ping"]
    sent = events("\n\n".join(blocks[:2] + blocks[4:]))
    assert numbers(sent) == list(range(len(sent)))
    assert sent[-1]["type"] == "response.completed"


def test_keepalive_does_not_wait_for_the_next_event(sandbox: Sandbox, http: httpx2.Client) -> None:
    """`keepalive` is sent at once, not together with the next event."""
    sandbox.script(Fault(kind="keepalive", after=2))
    body = request(stream=True, metadata={"sandbox_seconds": str(LONG)})
    with http.stream("POST", "/responses", json=body) as stream:
        lines = stream.iter_lines()
        while next(lines) != ": ping":
            pass


def test_error_event_ends_a_stream(sandbox: Sandbox, http: httpx2.Client, sdk: OpenAI) -> None:
    """The `error` event has an SDK type and the next number; the job keeps running."""
    kinds = get_args(get_args(ResponseStreamEvent)[0])
    sandbox.script(Fault(kind="error_event", after=4))
    sent = list(sdk.responses.create(model="m", input="Hi", background=True, stream=True))
    assert all(type(event) in kinds for event in sent)
    assert [event.sequence_number for event in sent] == [0, 1, 2, 3, 4]
    last = sent[-1]
    assert last.type == "error"
    assert last.code == "server_error"
    (job,) = sandbox.jobs
    assert end(http, job)["status"] == "completed"
    assert events(resume(http, job, 3).text)[0]["type"] != "error"


def test_no_deltas_sends_the_text_as_a_whole(sandbox: Sandbox, http: httpx2.Client) -> None:
    """Only the deltas of the text are left out, and the numbers have no gap."""
    whole = streamed(http)
    job = whole[0]["response"]["id"]
    sandbox.script(Fault(kind="no_deltas", times=2))
    sent = events(resume(http, job).text)
    assert numbers(sent) == list(range(len(sent)))
    types = [one["type"] for one in whole if one["type"] != "response.output_text.delta"]
    assert [one["type"] for one in sent] == types
    assert len(types) < len(whole)
    assert [one["text"] for one in sent if one["type"] == "response.output_text.done"] == [
        whole[-1]["response"]["output"][1]["content"][0]["text"]
    ]
    assert events(resume(http, job, 4).text) == sent[5:]


def test_empty_end_only_empties_the_last_event(sandbox: Sandbox, http: httpx2.Client) -> None:
    """The last event has an empty `output`; all items are in the other events, and in a poll."""
    whole = streamed(http)
    job = whole[0]["response"]["id"]
    sandbox.script(Fault(kind="empty_end"))
    *others, last = events(resume(http, job).text)
    assert others == whole[:-1]
    assert last["response"] == {**whole[-1]["response"], "output": []}
    assert end(http, job)["output"] == whole[-1]["response"]["output"]


@pytest.mark.parametrize("outcome", ["failed", "incomplete", "refusal"])
def test_outcome_of_created_jobs(sandbox: Sandbox, http: httpx2.Client, outcome: str) -> None:
    """The fault `outcome` says how the next jobs end, whatever their metadata say."""
    sandbox.script(Fault(on="create", kind="outcome", body=outcome, times=2))
    usual = request(metadata={"sandbox_outcome": "cancelled"})
    ids = [http.post("/responses", json=usual).json()["id"] for _ in range(3)]
    status = "completed" if outcome == "refusal" else outcome
    assert [end(http, job)["status"] for job in ids] == [status, status, "cancelled"]
    with pytest.raises(ValueError, match="body must be one of completed, failed"):
        Fault(on="create", kind="outcome", body=["failed"])


@pytest.mark.parametrize("kind", ["gap", "keepalive", "error_event"])
def test_a_fault_that_is_never_reached_changes_nothing(
    sandbox: Sandbox, http: httpx2.Client, kind: str
) -> None:
    """A stream with fewer events than `after` is complete and unchanged."""
    whole = streamed(http)
    sandbox.script(Fault(kind=kind, after=len(whole) + 1))
    assert events(resume(http, whole[0]["response"]["id"]).text) == whole


@pytest.mark.parametrize("kind", ["gap", "keepalive", "error_event", "no_deltas", "empty_end"])
def test_stream_faults_only_apply_to_streams(
    sandbox: Sandbox, http: httpx2.Client, kind: str
) -> None:
    """A stream fault can't be scripted for a retrieve, and doesn't affect polls."""
    with pytest.raises(ValueError, match=f"stream or any for the kind {kind}, not"):
        Fault(kind=kind, on="retrieve")
    sandbox.script(Fault(kind=kind))
    assert end(http, create(http)["id"])["status"] == "completed"


def test_after_counts_the_events_of_the_stream(sandbox: Sandbox, http: httpx2.Client) -> None:
    """`after` counts the events of this stream, including repeated ones."""
    sandbox.become(Personality(stream="gaps"))
    job = streamed(http)[0]["response"]["id"]
    sandbox.script(Fault(kind="cut", after=3))
    assert numbers(events(resume(http, job, 5).text)) == [4, 5, 8]


def test_stream_and_retrieve_faults_are_independent(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A stream fault doesn't affect polls, nor a retrieve fault streams."""
    sandbox.script(Fault(kind="cut"), Fault(on="retrieve", kind="status", status=500))
    streamed = http.post("/responses", json=request(stream=True))
    assert (streamed.status_code, streamed.text) == (200, "")
    (job,) = sandbox.jobs
    assert http.get(f"/responses/{job}", params={"stream": "true"}).status_code == 200
    assert http.get(f"/responses/{job}").status_code == 500


# --- scripts -------------------------------------------------------------------------------


def test_faults_apply_in_order_and_as_often_as_scripted(
    sandbox: Sandbox, http: httpx2.Client
) -> None:
    """`skip` passes requests, `times` limits a fault (0: no limit), and others succeed."""
    job = create(http)["id"]
    sandbox.script(
        Fault(on="retrieve", kind="status", status=500, skip=1, times=2),
        Fault(on="retrieve", kind="status", status=503, skip=1),
        Fault(on="cancel", kind="status", status=501, times=0),
        Fault(on="any", kind="status", status=418, response_id="other"),
    )
    seen = [http.get(f"/responses/{job}").status_code for _ in range(5)]
    assert seen == [200, 500, 500, 503, 200]
    assert {http.post(f"/responses/{job}/cancel").status_code for _ in range(4)} == {501}
    applied = [one.fault for one in sandbox.requests if one.method == "GET"]
    assert applied == [None, "status", "status", "status", None]
    assert http.get("/responses/other").status_code == 418
    assert http.get("/responses/other").status_code == 404


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "expected a JSON array of faults"),
        ([1], "fault 1: expected a JSON object"),
        ([{}], "fault 1: kind is required"),
        ([{"kind": []}], "fault 1: kind must be one of"),
        ([{"kind": "delay"}, {"kind": "odd"}], "fault 2: kind must be one of"),
        ([{"kind": "delay", "color": 1}], "fault 1: unknown field 'color'"),
        ([{"kind": "delay", "on": "poll"}], "fault 1: on must be one of"),
        ([{"kind": "delay", "times": -1}], "fault 1: times must be a whole number"),
        ([{"kind": "delay", "skip": True}], "fault 1: skip must be a whole number"),
        ([{"kind": "delay", "seconds": "1"}], "fault 1: seconds must be a number"),
        ([{"kind": "status", "status": 99}], "fault 1: status must be 200 to 599"),
        (
            [{"kind": "status", "status": 204}],
            r"fault 1: status must be 200 to 599 \(except 204 and 304\), not 204",
        ),
        ([{"kind": "status", "headers": {"a b": ""}}], "fault 1: headers must be valid HTTP"),
        (
            [{"kind": "status", "headers": {"Content-Length": "1"}}],
            "fault 1: headers can't contain Content-Length",
        ),
        (
            [{"kind": "cut", "on": "retrieve"}],
            "fault 1: on must be create, stream or any for the kind cut",
        ),
        ([{"kind": "raw"}], "fault 1: body is required for the kind raw"),
        ([{"kind": "delay", "response_id": 5}], "fault 1: response_id must be a string"),
    ],
)
def test_invalid_faults_are_refused(value: object, message: str) -> None:
    """The message has the number of the fault and the field."""
    with pytest.raises(ValueError, match=message):
        parse_faults(value)
