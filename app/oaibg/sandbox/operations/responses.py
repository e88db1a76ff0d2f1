"""The operations of the Responses API."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from oaibg.sandbox.checks.create import check_create
from oaibg.sandbox.checks.include import included_in_query
from oaibg.sandbox.errors import ApiError
from oaibg.sandbox.job.items import input_items
from oaibg.sandbox.job.job import new_job
from oaibg.sandbox.job.response_object import response_object
from oaibg.sandbox.operations.pages import page_of, whole_number
from oaibg.sandbox.wire.event_stream import EventStream
from oaibg.sandbox.wire.reply import ReplyAtEnd, json_reply

if TYPE_CHECKING:
    from oaibg.sandbox.call import Call
    from oaibg.sandbox.job.job import Job
    from oaibg.sandbox.wire.reply import Answer, Reply


def create(call: Call) -> Answer:
    """Create a job."""
    state = call.state
    request = check_create(call.body(), state.find)
    _check_stream(call)
    if not state.personality.background:
        request = {**request, "background": False}
    earlier = state.jobs.values()
    job = new_job(
        request, time.time(), state.seconds, state.personality, earlier, outcome=call.outcome
    )
    state.jobs[job.id] = job
    state.keep_container(job)
    call.log.response_id = job.id
    include = request.get("include") or ()
    show = partial(state.show, include=include)
    if call.streams:
        return EventStream(job, show, state.personality.stream, include)
    if not job.background:
        return ReplyAtEnd(job, show)
    return json_reply(response_object(job, "queued", state.personality, include))


def retrieve(call: Call) -> Answer:
    """Return a job, or stream its events."""
    job = _job(call)
    state = call.state
    include = included_in_query(call.scope["query_string"])
    show = partial(state.show, include=include)
    if not call.streams:
        return json_reply(show(job, job.status(time.time())))
    _check_stream(call)
    if not job.streamable:
        message = "This response cannot be streamed because it was not created with stream=true."
        raise ApiError(400, message, param="stream")
    if state.personality.stream == "resume_refused":
        message = "This response can no longer be streamed because it is too old."
        raise ApiError(400, message, param="stream")
    starting_after = whole_number(call.log.query, "starting_after", -1)
    return EventStream(job, show, state.personality.stream, include, starting_after)


def cancel(call: Call) -> Reply:
    """Cancel a job."""
    job = _job(call)
    personality = call.state.personality
    if personality.cancel == "refused":
        raise ApiError(personality.cancel_status, "This server does not cancel responses.")
    if not job.background:
        raise ApiError(400, "Cannot cancel a synchronous response.")
    if not job.cancel(time.time(), overtaken=personality.cancel == "overtaken"):
        raise ApiError(400, "Cannot cancel a completed response.")
    return json_reply(call.state.show(job, "cancelled"))


def delete(call: Call) -> Reply:
    """Delete a job."""
    job = _job(call)
    call.state.forget(job.id)
    return json_reply({"id": job.id, "object": "response", "deleted": True})


def list_input_items(call: Call) -> Reply:
    """List the input items of a job, newest first unless `order` is `asc`."""
    query = call.log.query
    items = input_items(_job(call))
    if query.get("order", "desc") != "asc":
        items.reverse()
    return page_of([(one["id"], partial(dict, one)) for one in items], query, 20, 100)


def _job(call: Call) -> Job:
    job = call.state.find(call.id)
    if job is None:
        message = f"Response with id '{call.id}' not found."
        raise ApiError(call.state.personality.not_found, message)
    return job


def _check_stream(call: Call) -> None:
    if call.streams and call.state.personality.stream == "refused":
        raise ApiError(400, "This server does not stream responses.", param="stream")
