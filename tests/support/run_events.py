"""Events of a run over several jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oaibg.contract.events import Error, Final, Poll, RunProgress, SubmitStart, Submitted, Summary

if TYPE_CHECKING:
    from oaibg.contract.events import Event

USAGE = {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500}


def start(name: str) -> Event:
    """The job's request is valid."""
    return SubmitStart(
        response_id=None,
        model="m",
        reasoning_effort=None,
        verbosity=None,
        poll_seconds=1.0,
        job_key="k",
        request_sha256="",
    ).of_many(name)


def submitted(name: str, status: str = "queued", *, reattached: bool = False) -> Event:
    """The job has an ID."""
    return Submitted(
        response_id=f"resp_{name}", status=status, request_id=None, reattached=reattached
    ).of_many(name)


def poll(name: str | None, status: str, *, last: bool = False) -> Event:
    """The job was retrieved."""
    return Poll(
        response_id=f"resp_{name}",
        attempt=1,
        status=status,
        elapsed_seconds=1.0,
        next_poll_seconds=None if last else 1.0,
    ).of_many(name)


def final(name: str | None, status: str = "completed", code: int = 0, **more: Any) -> Event:
    """The job ended."""
    values: dict[str, Any] = {
        "model": "m",
        "usage": USAGE,
        "error": None,
        "incomplete_details": None,
        "output_text_bytes": 1,
        "output_types": {},
        "refusal": None,
        "calls": [],
        "service_tier": None,
        "job_seconds": 12.0,
        "cost_usd": None,
        "elapsed_seconds": 1.0,
        "next": None,
    }
    return Final(
        response_id=f"resp_{name}", status=status, ok=code == 0, exit_code=code, **values | more
    ).of_many(name)


def refused(name: str) -> Event:
    """The API refused the request."""
    return Error(
        response_id=None,
        code="invalid_value",
        message="HTTP 400: Invalid value",
        http_status=400,
        request_id=None,
        retryable=False,
        outcome="not_created",
        hint=None,
        exit_code=1,
        next=None,
    ).of_many(name)


def progress(done: int, total: int = 2000, **more: Any) -> RunProgress:
    """How far the run is."""
    values: dict[str, Any] = dict.fromkeys(("response_id", "usage", "cost_usd"))
    values |= {"in_flight": 0, "per_minute": None, "eta_seconds": None}
    return RunProgress(total=total, done=done, **{"counts": {"completed": done}, **values, **more})


def summary(counts: dict[str, int], **more: Any) -> Summary:
    """The run ended."""
    values = {"elapsed_seconds": 90.0, "exit_code": 0, "next": None, **more}
    return Summary(response_id=None, counts=counts, **values)
