"""The sandbox's operations other than create and stream: delete, cancel, lists, log and control."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from sandbox_client import LONG, create, end, refused, request

if TYPE_CHECKING:
    import httpx2
    from openai import OpenAI

    from oaibg.sandbox import Sandbox


def test_input_items_are_listed_newest_first_in_pages(http: httpx2.Client, sdk: OpenAI) -> None:
    """Input items have content parts in place of plain texts, and parse strictly."""
    given = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": [{"type": "input_text", "text": "three"}]},
    ]
    job = create(http, input=given)["id"]
    listed = http.get(f"/responses/{job}/input_items", params={"limit": 2}).json()
    texts = [item["content"][0]["text"] for item in listed["data"]]
    assert (texts, listed["has_more"]) == (["three", "two"], True)
    rest = sdk.responses.input_items.list(job, after=listed["last_id"])
    assert [item.type for item in rest.data] == ["message"]
    assert len(sdk.responses.input_items.list(job, order="asc").data) == 3


def test_a_deleted_or_forgotten_response_is_not_found(
    sandbox: Sandbox, http: httpx2.Client
) -> None:
    """A response gets 404 after a delete by the API and after `Sandbox.forget`."""
    deleted, forgotten = create(http)["id"], create(http)["id"]
    answer = http.delete(f"/responses/{deleted}").json()
    assert answer == {"id": deleted, "object": "response", "deleted": True}
    sandbox.forget(forgotten)
    for job in (deleted, forgotten):
        answer = http.get(f"/responses/{job}")
        assert answer.status_code == 404
        assert refused(answer)["message"] == f"Response with id '{job}' not found."


# --- cancel --------------------------------------------------------------------------------


def test_a_cancel_of_a_running_job_is_final(http: httpx2.Client, sdk: OpenAI) -> None:
    """A cancel, a second cancel and a retrieve return the same cancelled response."""
    job = create(http, metadata={"sandbox_seconds": str(LONG)})["id"]
    answers = [sdk.responses.cancel(job), sdk.responses.cancel(job), sdk.responses.retrieve(job)]
    assert [answer.status for answer in answers] == ["cancelled"] * 3
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("outcome", ["completed", "failed", "incomplete", "expired"])
def test_a_cancel_of_an_ended_job_is_refused(http: httpx2.Client, outcome: str) -> None:
    """A cancel of an ended job gets 400, and the job keeps its status."""
    metadata = {"sandbox_outcome": outcome, "sandbox_seconds": "0"}
    job = create(http, metadata=metadata)["id"]
    answer = http.post(f"/responses/{job}/cancel")
    assert answer.status_code == 400
    assert refused(answer)["message"] == "Cannot cancel a completed response."
    assert end(http, job)["status"] == outcome


def test_cancel_of_unknown_and_synchronous_responses(http: httpx2.Client) -> None:
    """A cancel gets 404 for an unknown response and 400 for a synchronous one."""
    assert http.post("/responses/resp_none/cancel").status_code == 404
    job = create(http, background=None, metadata={"sandbox_seconds": "0"})["id"]
    assert http.post(f"/responses/{job}/cancel").status_code == 400


# --- keys, paths, log and control ----------------------------------------------------------


def test_a_key_is_optional_but_can_be_refused(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A key that begins with `invalid` gets 401; neither the reply nor the log contains it."""
    answer = http.get("/responses/x", headers={"authorization": "Bearer invalid-hush"})
    assert (answer.status_code, refused(answer)["code"]) == (401, "invalid_api_key")
    assert "hush" not in answer.text
    assert sandbox.requests[-1].headers["authorization"] == "Bearer ***"
    assert create(http)["status"] == "queued"
    assert "authorization" not in sandbox.requests[-1].headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/responses", 405), ("PUT", "/responses/x", 405)],
)
def test_unknown_paths_and_methods_get_the_api_error(
    http: httpx2.Client, method: str, path: str, status: int
) -> None:
    """An unknown path gets 404 and a wrong method 405, with the API's error body."""
    answer = http.request(method, path)
    assert (answer.status_code, refused(answer)["type"]) == (status, "invalid_request_error")


def test_the_log_keeps_requests_in_order(sandbox: Sandbox, http: httpx2.Client) -> None:
    """The log has each request, its status, and the ID of the job that it is about."""
    job = create(http)["id"]
    http.get(f"/responses/{job}", params={"include": "x"})
    http.get("/responses/none")
    post, get, lost = sandbox.requests
    assert (post.method, post.path, post.status, post.response_id) == (
        "POST",
        "/v1/responses",
        200,
        job,
    )
    assert post.body == request() == json.loads(post.raw_body)
    assert (get.path, get.query, get.body) == (f"/v1/responses/{job}", {"include": "x"}, None)
    assert (lost.status, lost.response_id) == (404, "none")
    assert sandbox.posts == [post]
    assert post.at <= get.at <= lost.at <= time.time()


def test_other_processes_control_the_sandbox_over_http(
    sandbox: Sandbox, http: httpx2.Client
) -> None:
    """Control requests script faults, list requests and clear the state; none is logged."""
    root = sandbox.base_url.removesuffix("/v1")
    script = [{"on": "create", "kind": "status", "status": 500}]
    assert http.post(f"{root}/sandbox/faults", json=script).json() == {"added": 1}
    assert http.post("/responses", json=request()).status_code == 500
    (logged,) = http.get(f"{root}/sandbox/requests").json()
    assert (logged["method"], logged["status"], logged["body"]) == ("POST", 500, request())
    assert logged["fault"] == "status"
    bad = http.post(f"{root}/sandbox/faults", json=[{"kind": "odd"}])
    assert bad.status_code == 400
    assert bad.json()["error"]["message"].startswith("fault 1: kind must be one of")
    assert http.post(f"{root}/sandbox/faults", content=b"{").status_code == 400
    assert http.delete(f"{root}/sandbox").status_code == 200
    assert (sandbox.requests, sandbox.jobs) == ([], {})
