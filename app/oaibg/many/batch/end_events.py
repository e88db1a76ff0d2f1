"""The events of the end of a job in a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.api.payload import Payload
from oaibg.engine import report_end
from oaibg.engine.deliver import text_events
from oaibg.engine.job import Job
from oaibg.engine.written import Written
from oaibg.many.results.result_line import ending_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oaibg.contract.event import Event
    from oaibg.engine.context import Context
    from oaibg.many.results.result_line import ResultLine


def end_events(line: ResultLine, job: Job, context: Context) -> Iterator[Event]:
    """Yield the events of a job's end; they are the same as in background mode."""
    ending = ending_of(Payload(line.raw).data)
    assert ending is not None  # noqa: S101 - the line was read before
    payload, refusal = ending
    if refusal is not None:
        yield report_end.error(Job(job.response_id, submitting=True), refusal, context.next_command)
    if payload is None:
        return
    yield from text_events(payload, job, context)
    own = Job(job.response_id, is_batch=True)
    yield report_end.final(own, payload, context, Written.ALL)
