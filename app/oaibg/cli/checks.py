"""Checks that more than one command makes of its options together, and the records they give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.cli.option_checks import is_same_file
from oaibg.contract.errors import UsageError
from oaibg.engine.run_options import Events, Output, Wait

if TYPE_CHECKING:
    from oaibg.cli.options import MonitorOptions, ShowOptions, SubmitOptions


def wait_of(options: SubmitOptions | MonitorOptions, events: Events = "all") -> Wait:
    """How to wait; `events` is what holds if the user does not say."""
    return Wait(
        poll_seconds=options.poll_seconds,
        max_wait_seconds=options.max_wait_seconds,
        cancel_on_interrupt=options.cancel_on_interrupt,
        events=options.events or events,
        # All of its options ask for the stream.
        stream=options.stream or options.stream_text or options.starting_after is not None,
        stream_text=options.stream_text,
        starting_after=options.starting_after,
    )


def output_of(
    options: SubmitOptions | MonitorOptions | ShowOptions, *, show_output_text: bool
) -> Output:
    """Where the answer goes; raises `UsageError` if two answers go into one file."""
    json_file, text_file = options.output_json_file, options.output_text_file
    if json_file is not None and text_file is not None and is_same_file(json_file, text_file):
        raise UsageError("--output-json-file and --output-text-file name the same file.")
    return Output(
        show_output_text=show_output_text,
        output_json_file=json_file,
        output_text_file=text_file,
        human=options.human,
    )


def check_id_or_key(response_ids: list[str], job_key: str | None) -> None:
    """Raise `UsageError` unless there is either an id or a job key."""
    if bool(response_ids) == (job_key is not None):
        raise UsageError(
            "Give either a RESPONSE_ID or --job-key KEY.",
            hint="`oaibg show --list` has the jobs that were submitted here.",
        )
