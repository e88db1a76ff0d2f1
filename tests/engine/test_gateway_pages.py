"""Gateway pages in place of polls: if the API had a job, only its own 404 ends the wait soon."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fault_runs import FAST, LONG
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

PAGES: list[tuple[int, object]] = [
    (404, "<html><title>404 Not Found</title></html>"),
    (410, "<html><title>Gone</title></html>"),
    (404, "default backend - 404"),
    (404, "no available server"),
    (404, ""),
    (404, {"detail": "Not Found"}),
    (404, {"error": {"message": "Application not found", "code": 404}}),
    (404, {"message": "no Route matched with those values"}),
    (405, "<html><title>405 Not Allowed</title></html>"),
    (400, {"error": "No response received from backend"}),
    (400, {"error": {"message": "Response deadline expired", "type": "invalid_request_error"}}),
    (400, {"error": {"message": "Invalid ID token", "type": "invalid_request_error"}}),
]
OWN: list[tuple[int, object]] = [
    (404, {"error": {"message": "Not found.", "type": "invalid_request_error"}}),
    (404, {"detail": "Response 'resp_1' not found"}),
    (404, "Response with id 'resp_1' not found."),
    (400, {"error": "No response found with id 'resp_1'"}),
]


ROW = "Poll: a gateway's 404 or 410 pages, for a job that the API had before"


def pages(body: object, status: int, times: int = 0) -> Fault:
    """Return the fault that answers looks with this page."""
    return Fault(on="retrieve", kind="status", status=status, body=body, times=times)


def shown(value: Any) -> str:
    """Return a short name of a parameter."""
    return json.dumps(value)[:40]


@pytest.mark.row(ROW)
@pytest.mark.parametrize(("status", "body"), PAGES, ids=shown)
def test_pages_after_a_good_poll(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, status: int, body: object
) -> None:
    """Pages of a gateway for a minute after a good poll are failed polls, and nothing more."""
    identifier = run("submit", "--prompt", "x", "--detach", *LONG).id
    sandbox.script(
        Fault(on="retrieve", kind="delay", seconds=0.0),
        pages(body, status, times=9),
        Fault(on="retrieve", kind="raw", body={"id": identifier, "status": "failed"}),
    )
    result = run("monitor", identifier, "--poll-seconds", "2")
    assert (result.code, result.last["event"]) == (4, "final")
    assert result.events.count("poll_error") == 9


@pytest.mark.parametrize(("status", "body"), PAGES[:7], ids=shown)
def test_pages_from_the_first_poll_on(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, status: int, body: object
) -> None:
    """For a job that the state knows, such pages are an outage (7), and `next` resumes."""
    identifier = run("submit", "--prompt", "x", "--detach", *LONG).id
    sandbox.script(pages(body, status))
    result = run("monitor", identifier, *FAST)
    assert (result.code, result.last["event"]) == (7, "error")
    assert identifier in result.last["next"]
    assert run("show", "--list").lines[0]["status"] == "queued"


@pytest.mark.parametrize(("status", "body"), PAGES[:5], ids=shown)
def test_pages_for_ever(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, status: int, body: object
) -> None:
    """After five minutes of nothing but such pages, the wait ends; the state notes nothing."""
    sandbox.script(Fault(on="retrieve", kind="delay", seconds=0.0), pages(body, status))
    result = run("submit", "--prompt", "x", *LONG)
    assert (result.code, result.last["code"], result.last["next"]) == (5, "not_found", None)
    assert result.events.count("poll_error") >= 10
    assert run("show", "--list").lines[0]["status"] == "queued"


@pytest.mark.parametrize(("status", "body"), OWN, ids=shown)
def test_the_api_own_words(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, status: int, body: object
) -> None:
    """The API's own "not found" ends the wait after 15 s, also after a good poll."""
    sandbox.script(Fault(on="retrieve", kind="delay", seconds=0.0), pages(body, status))
    result = run("submit", "--prompt", "x", *LONG)
    assert (result.code, result.last["code"], result.last["next"]) == (5, "not_found", None)
    assert result.events.count("poll_error") <= 4
    assert run("show", "--list").lines[0]["status"] == "not_found"
