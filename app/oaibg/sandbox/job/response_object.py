"""The response object: a job as the API or another personality shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oaibg.sandbox.job.outcomes import View, output_items
from oaibg.sandbox.job.text import first_half
from oaibg.sandbox.personality import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Collection

    from oaibg.sandbox.job.job import Job
    from oaibg.sandbox.personality import Personality

_FAILURE = {"code": "server_error", "message": "The model failed to generate a response."}


def response_object(
    job: Job, status: str, personality: Personality = DEFAULT, include: Collection[str] = ()
) -> dict[str, Any]:
    """Return the response object of a job with `status`; `include` is that of the request."""
    running = status in ("queued", "in_progress")
    if running and personality.statuses != "usual":
        status = personality.statuses
    payload = _whole(View(job, status, job.text, include), personality.incomplete_reason)
    if personality.partial and status == "in_progress":
        text = job.text and first_half(job.text)
        payload["output"] = output_items(View(job, "in_progress", text, include))
    elif personality.null_output and running:
        payload["output"] = None
    if personality.sparse:
        nothing_yet = running and payload["output"] == []
        kept = ("id", "status") if nothing_yet else ("id", "status", "output")
        payload = {key: payload[key] for key in kept}
    return payload


def _whole(view: View, incomplete_reason: str) -> dict[str, Any]:
    job, status = view.job, view.status
    done = status == "completed"
    partial = status == "incomplete"
    tier = job.settings["service_tier"]
    running = status in ("queued", "in_progress")
    return {
        "id": job.id,
        "object": "response",
        "created_at": int(job.created),
        "status": status,
        "background": job.background,
        "billing": {"payer": "developer"},
        "completed_at": int(job.ended) if done else None,
        "error": _FAILURE if status == "failed" else None,
        "frequency_penalty": 0.0,
        "incomplete_details": {"reason": incomplete_reason} if partial else None,
        **job.settings,
        "output": output_items(view) if done or partial else [],
        "presence_penalty": 0.0,
        "service_tier": "default" if tier == "auto" and not running else tier,
        "usage": job.usage if done or partial else None,
        "metadata": job.request.get("metadata") or {},
    }
