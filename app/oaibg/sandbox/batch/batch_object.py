"""The batch object, as the API shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oaibg.sandbox.batch.batch import ENDED
from oaibg.sandbox.checks.batch import ENDPOINT

if TYPE_CHECKING:
    from oaibg.sandbox.batch.batch import Batch
    from oaibg.sandbox.batch.plan import Tokens


def batch_object(batch: Batch, now: float) -> dict[str, Any]:
    """Return the batch object at `now`."""
    status = batch.status(now)
    known = status not in ("validating", "failed")
    plan, done = batch.plan, batch.plan.done(batch.ran(now))
    ended = status in ENDED
    undone = status in ("expired", "cancelled") and done.lines < len(plan.lines)
    failed = done.lines - done.completed
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": ENDPOINT,
        "model": plan.model if known else None,
        "errors": {"object": "list", "data": plan.errors} if status == "failed" else None,
        "input_file_id": batch.request["input_file_id"],
        "completion_window": batch.request["completion_window"],
        "status": status,
        "output_file_id": batch.output_file_id if ended and done.completed else None,
        "error_file_id": batch.error_file_id if ended and (failed or undone) else None,
        "created_at": int(batch.created),
        **_times(batch, now, status),
        "request_counts": {
            "total": len(plan.lines) if known else 0,
            "completed": done.completed,
            "failed": failed,
        },
        "usage": _usage(done.tokens if ended else (0, 0, 0)),
        "metadata": batch.request.get("metadata"),
    }


def _times(batch: Batch, now: float, status: str) -> dict[str, int | None]:
    """Return the time at which the batch reached each status; None if it did not."""
    cancelled = batch.cancelled_after if status in ("cancelling", "cancelled") else None
    until = now - batch.created if cancelled is None else cancelled
    valid = not batch.plan.errors

    def when(after: float, reached: bool) -> int | None:
        return int(batch.created + after) if reached else None

    ended = batch.run_ends + batch.pause
    cancelling = cancelled or 0.0
    return {
        "in_progress_at": when(batch.pause, valid and until >= batch.pause),
        "expires_at": when(batch.window, True),
        "finalizing_at": when(batch.run_ends, valid and until >= batch.run_ends),
        "completed_at": when(ended, status == "completed"),
        "failed_at": when(batch.pause, status == "failed"),
        "expired_at": when(ended, status == "expired"),
        "cancelling_at": when(cancelling, cancelled is not None),
        "cancelled_at": when(cancelling + batch.cancel_takes, status == "cancelled"),
    }


def _usage(tokens: Tokens) -> dict[str, Any]:
    tokens_in, tokens_out, thought = tokens
    return {
        "input_tokens": tokens_in,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": tokens_out,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": tokens_in + tokens_out,
    }
