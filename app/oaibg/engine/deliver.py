"""A job's result, handed out as it was asked for: into files, and as an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.base.files import save
from oaibg.base.text import has_surrogates, utf8
from oaibg.contract.events import WroteJson, WroteText
from oaibg.engine import report
from oaibg.engine.persist import in_thread

if TYPE_CHECKING:
    from oaibg.api.payload import Payload
    from oaibg.contract.events import Event
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.engine.run_options import Output


async def deliver(payload: Payload, job: Job, context: Context) -> bool:
    """Hand a result out, and report that; returns whether everything could be written.

    Partial output, of a job that did not complete, counts too.
    """
    results, output, added = context.results, context.output, True
    if results is not None:
        try:
            await results.add_payload(str(job.custom_id), payload)
        except OSError as error:
            added = False
            await context.emit(report.not_written(job, results.path, error))
    if output.output_json_file is None and output.output_text_file is None:
        events, written = hand_out(payload, job, output)
    else:
        events, written = await in_thread(hand_out, payload, job, output)
    for event in events:
        await context.emit(event)
    return added and written


def hand_out(payload: Payload, job: Job, output: Output) -> tuple[list[Event], bool]:
    """Write the files that were asked for: the events about the result, and whether all worked."""
    events: list[Event] = []
    written = True

    def write(path: str, data: bytes, kind: type[WroteJson | WroteText]) -> None:
        nonlocal written
        try:
            save(path, data)
            events.append(report.wrote(job, kind, path, data))
        except OSError as error:
            written = False
            events.append(report.not_written(job, path, error))

    if output.output_json_file is not None:
        write(output.output_json_file, payload.raw, WroteJson)
    if output.output_text_file is None and not output.shows_text:
        return events, written
    text = payload.text
    if not text:
        return [*events, report.output_text_missing(job, payload)], written
    if output.output_text_file is not None:
        if has_surrogates(text):
            message = "The text has lone surrogates; they are U+FFFD in the text file."
            events.append(report.warning(job, "text_replaced", message))
        write(output.output_text_file, utf8(text), WroteText)
    if output.shows_text:
        events.append(report.output_text(job, text))
    return events, written
