"""Checks that more than one command makes of its options together, and the records they give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from oaibg.base.record import Record
from oaibg.cli.option_checks import is_same_file
from oaibg.contract.errors import UsageError
from oaibg.engine.run_options import Events, Output, Wait

if TYPE_CHECKING:
    from oaibg.cli.options import MonitorOptions, SubmitOptions

R = TypeVar("R", bound=Record)


def part_of(options: Record, record: type[R], **more: Any) -> R:
    """The record with `more` in it, and the options that are its fields by name."""
    values = {**options.values(), **more}
    return record(**{name: value for name, value in values.items() if name in record.fields})


def wait_of(options: SubmitOptions | MonitorOptions, events: Events = "all") -> Wait:
    """How to wait; `events` is what holds if the user does not say."""
    # All of its options ask for the stream.
    stream = options.stream or options.stream_text or options.starting_after is not None
    return part_of(options, Wait, events=options.events or events, stream=stream)


def output_of(options: Record, **more: Any) -> Output:
    """Where the answer goes; raises `UsageError` if two answers go into one file."""
    output = part_of(options, Output, **more)
    json_file, text_file = output.output_json_file, output.output_text_file
    if json_file is not None and text_file is not None and is_same_file(json_file, text_file):
        raise UsageError("--output-json-file and --output-text-file name the same file.")
    return output


def check_id_or_key(response_ids: list[str], job_key: str | None) -> None:
    """Raise `UsageError` unless there is either an id or a job key."""
    if bool(response_ids) == (job_key is not None):
        raise UsageError(
            "Give either a RESPONSE_ID or --job-key KEY.",
            hint="`oaibg show --list` has the jobs that were submitted here.",
        )
