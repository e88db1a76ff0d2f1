"""Streams of the sandbox, as a bare HTTP client reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox_client import events, request

if TYPE_CHECKING:
    import httpx2


def streamed(http: httpx2.Client, **changes: Any) -> list[dict[str, Any]]:
    """Create a job and return all events of its stream."""
    reply = http.post("/responses", json=request(stream=True, **changes))
    assert reply.status_code == 200, reply.text
    return events(reply.text)


def resume(http: httpx2.Client, response_id: str, after: int | None = None) -> httpx2.Response:
    """Retrieve the stream of a job, from the start or after a `sequence_number`."""
    query = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
    return http.get(f"/responses/{response_id}", params=query)


def numbers(stream: list[dict[str, Any]]) -> list[int]:
    """Return the sequence numbers of stream events."""
    return [one["sequence_number"] for one in stream]
