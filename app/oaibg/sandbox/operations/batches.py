"""The operations of the Batch API."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from oaibg.sandbox.batch.batch import new_batch
from oaibg.sandbox.batch.batch_object import batch_object
from oaibg.sandbox.checks.batch import check_batch
from oaibg.sandbox.errors import ApiError
from oaibg.sandbox.operations.pages import page_of
from oaibg.sandbox.wire.reply import json_reply

if TYPE_CHECKING:
    from oaibg.sandbox.batch.batch import Batch
    from oaibg.sandbox.call import Call
    from oaibg.sandbox.wire.reply import Reply


def create(call: Call) -> Reply:
    """Create a batch. Errors in its lines only show later."""
    state = call.state

    def purpose_of(file_id: str) -> str | None:
        file = state.files.get(file_id)
        return None if file is None else file.purpose

    request = check_batch(call.body(), purpose_of)
    batch = new_batch(
        request,
        state.files[request["input_file_id"]].content,
        time.time(),
        state.seconds,
        state.batch_window,
        state.find,
        state.personality,
    )
    state.batches[batch.id] = batch
    call.log.response_id = batch.id
    # In the reply to a create, the API's batch is always still validating.
    return json_reply(batch_object(batch, batch.created - 1))


def retrieve(call: Call) -> Reply:
    """Return a batch."""
    return json_reply(batch_object(_batch(call), time.time()))


def list_all(call: Call) -> Reply:
    """List the batches, newest first."""
    now = time.time()
    batches = reversed(list(call.state.batches.values()))
    listed = [(one.id, partial(batch_object, one, now)) for one in batches]
    return page_of(listed, call.log.query, 20, 100)


def cancel(call: Call) -> Reply:
    """Start to cancel a batch; 409 if it has ended."""
    batch = _batch(call)
    now = time.time()
    if not batch.cancel(now):
        raise ApiError(409, f"Cannot cancel a batch with status '{batch.status(now)}'.")
    return json_reply(batch_object(batch, time.time()))


def _batch(call: Call) -> Batch:
    batch = call.state.batches.get(call.id)
    if batch is None:
        raise ApiError(404, f"No batch found with id '{call.id}'.")
    return batch
