"""Delivers a job's result as requested: to files, and as an event."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from oaibg.base.files import save
from oaibg.base.text import has_surrogates, utf8
from oaibg.contract.events import WroteJson, WroteText
from oaibg.engine import report
from oaibg.engine.artifacts import save_artifacts
from oaibg.engine.persist import in_thread, readable_copy
from oaibg.engine.written import Written

if TYPE_CHECKING:
    from oaibg.api.payload import Payload
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job

_LEAST_PATIENCE = 0.3
"""Seconds to wait for the reader of a pipe, if the wait limit is reached."""


async def deliver(payload: Payload, job: Job, context: Context) -> Written:
    """Write and emit a result as requested.

    A job that did not complete may have partial output, which is delivered as well.
    """
    results, output, written = context.results, context.output, Written.ALL
    path, text = output.output_json_file, payload.text
    if path is not None:
        written = max(written, await _write(path, payload.raw, WroteJson, job, context))
    path = output.output_text_file
    if "\ufffd" in text and payload.is_altered:
        message = "The answer has bytes that are not UTF-8; the text has U+FFFD in their place."
        await context.emit(report.warning(job, "text_replaced", message))
    elif path is not None and has_surrogates(text):
        message = "The text contains lone surrogates; the file has U+FFFD in their place."
        await context.emit(report.warning(job, "text_replaced", message))
    if path is not None and text:
        written = max(written, await _write(path, utf8(text), WroteText, job, context))
    artifacts = await save_artifacts(payload.data.get("output"), job, context)
    written = max(written, artifacts)
    # Last, because a rerun ignores jobs that have a result: one that may save more gets none yet.
    waits = artifacts is Written.RETRY and await readable_copy(job, context) is not None
    if results is not None and not waits:
        try:
            await results.add_payload(str(job.custom_id), payload)
        except OSError as error:
            written = Written.RETRY
            await context.emit(report.not_written(job, results.path, error))
    if not job.is_batch or output.writes_files:  # only the jobs of a batch have texts
        for event in text_events(payload, job, context):
            await context.emit(event)
    return written


def text_events(payload: Payload, job: Job, context: Context) -> list[Event]:
    """The event with the result's text, or `output_text_missing`, if the text was requested."""
    output = context.output
    if not payload.text and (output.shows_text or output.needs_text):
        return [report.output_text_missing(job, payload, output.output_text_file)]
    return [report.output_text(job, payload.text)] if output.shows_text else []


def _patience(context: Context) -> float:
    """Return how many seconds to wait for the reader of a pipe."""
    return max(context.deadline - context.clock.monotonic(), _LEAST_PATIENCE)


async def _write(
    path: str, data: bytes, kind: type[WroteJson | WroteText], job: Job, context: Context
) -> Written:
    try:
        saving = partial(save, path, data, patience=_patience(context))
        in_place = await in_thread(saving)
    except OSError as error:
        await context.emit(report.not_written(job, path, error))
        return Written.RETRY
    job.note_file(path)
    if in_place:
        await context.emit(report.written_in_place(job, path))
    await context.emit(report.wrote(job, kind, path, data))
    return Written.ALL
