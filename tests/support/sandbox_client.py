"""Requests to the sandbox from a plain HTTP client, and its replies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import typing
from typing import Any

if typing.TYPE_CHECKING:
    import httpx2

LONG = 60.0
"""Seconds of a job that must not end within a test."""


def request(**changes: Any) -> dict[str, Any]:
    """Return the body of a valid background create, with changes; None leaves a key out."""
    body = {"model": "gpt-5.2", "input": "Say hello.", "background": True, **changes}
    return {key: value for key, value in body.items() if value is not None}


def create(http: httpx2.Client, **changes: Any) -> dict[str, Any]:
    """Create a job and return the response."""
    answer = http.post("/responses", json=request(**changes))
    assert answer.status_code == 200, answer.text
    return typing.cast("dict[str, Any]", answer.json())


def end(http: httpx2.Client, response_id: str) -> dict[str, Any]:
    """Poll until the job has ended and return the response."""
    while (answer := http.get(f"/responses/{response_id}").json())["status"] in (
        "queued",
        "in_progress",
    ):
        time.sleep(0.005)
    return typing.cast("dict[str, Any]", answer)


def events(text: str) -> list[dict[str, Any]]:
    """Parse a complete event stream, and check its framing."""
    parsed = []
    for block in text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        parsed.append(event)
    return parsed


def refused(answer: httpx2.Response) -> dict[str, Any]:
    """Return the error of a reply; its envelope must be complete."""
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
    return typing.cast("dict[str, Any]", body["error"])


def command(*arguments: str) -> subprocess.Popen[str]:
    """Start `python -m oaibg.sandbox`."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "oaibg.sandbox", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
