"""The options: a record per command, whose fields are the command's options, in the help's order.

A field's name is the option's: `jobs_file` is --jobs-file. The functions at the end make of them
what the engine takes, or refuse what does not go together in several commands.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import typer

from oaibg.base.record import Record
from oaibg.cli import option_checks as check
from oaibg.contract.errors import UsageError
from oaibg.engine.run_options import Events, Output, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R", bound=Record)
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max", "omit"]
Verbosity = Literal["low", "medium", "high", "omit"]
Window = Literal["soonest", "2h", "8h", "24h"]


def _option(group: str, usage: str, text: str, default: Any = None, **more: Any) -> Any:
    """One option as the help shows it; the text has to fit its line there, in 80 columns.

    `usage` is what the value is called. An option without a value is spelt out there, because
    Typer would add a --no- option to it.
    """
    if usage.startswith("--"):
        return typer.Option(False, usage, help=text, rich_help_panel=group)
    return typer.Option(default, metavar=usage, help=text, rich_help_panel=group, **more)


def _id(usage: str, text: str, check_id: Callable[..., Any]) -> Any:
    return typer.Argument(
        None, metavar=usage, help=text, rich_help_panel="Which job", callback=check_id
    )


_which = partial(_option, "Which job")
_input = partial(_option, "Input")
_request = partial(_option, "Request")
_safety = partial(_option, "Safety")
_many = partial(_option, "Many jobs")
_waiting = partial(_option, "Waiting")
_output = partial(_option, "Output")

# What several commands have

_IDS = _id("RESPONSE_ID...", "The jobs' ids; - reads them from stdin.", check.response_ids)
_JOB_KEY = _which("KEY", "The job of this key, not of an id.", callback=check.job_key)
_POLL_SECONDS = _waiting(
    "SECONDS", "Seconds between polls (default: 10).", Wait.poll_seconds, parser=check.seconds
)
_MAX_WAIT_SECONDS = _waiting(
    "SECONDS", "Stop waiting after so long (exit 3), else never.", parser=check.seconds
)
_CANCEL_ON_INTERRUPT = _waiting(
    "--cancel-on-interrupt", "Cancel the job where a signal ends the wait."
)
_EVENTS = _waiting("WHICH", "all polls (default), or changes alone.")
_STREAM = _waiting("--stream", "Tell each step as it comes: progress events.")
_STREAM_TEXT = _waiting("--stream-text", "The same, and the text as it is written.")
_STARTING_AFTER = _waiting(
    "N", "The same, from after that sequence_number.", parser=partial(check.whole_number, least=0)
)
_SHOW_OUTPUT_TEXT = _output("--show-output-text", "Tell the answer, as an output_text event.")
_OUTPUT_JSON_FILE = _output("PATH", "Save the API's object.", callback=check.output_path)
_OUTPUT_TEXT_FILE = _output("PATH", "Save the answer's text.", callback=check.output_path)
_HUMAN = _output("--human", "For people: progress on stderr, answer on stdout.")


class SubmitOptions(Record):
    """The options of `oaibg submit`."""

    prompt: str | None = _input("TEXT", "The user message's text.")
    prompt_file: str | None = _input("PATH", "The same from a file; - is stdin.")
    system_prompt: str | None = _input("TEXT", "A system message before the prompt.")
    developer_prompt: str | None = _input("TEXT", "A developer message before the prompt.")
    attach: list[str] | None = _input("PATH", "A text, image or PDF to add; repeatable.")
    messages_json_file: str | None = _input("PATH", "A JSON array of messages; - is stdin.")
    input_json_file: str | None = _input("PATH", "The whole `input` field as JSON; - is stdin.")
    model: str = _request(
        "NAME",
        "The model (default: OAIBG_MODEL, else gpt-5.2).",
        "gpt-5.2",
        envvar="OAIBG_MODEL",
        callback=check.not_empty,
    )
    reasoning_effort: Effort = _request("EFFORT", "How much it thinks (default: medium).", "medium")
    verbosity: Verbosity = _request("LEVEL", "low, medium (default), high; or omit.", "medium")
    instructions: str | None = _request("TEXT", "The request's `instructions`.")
    max_output_tokens: int | None = _request(
        "N", "Limit of reasoning and output tokens.", parser=check.whole_number
    )
    completion_window: Window | None = _request(
        "WINDOW", "Cheaper: soonest, 2h, 8h; 24h with --jobs-file."
    )
    previous_response_id: str | None = _request(
        "ID", "Continue that response.", callback=check.not_empty
    )
    tools_json_file: str | None = _request("PATH", "A JSON array of tools; none without.")
    json_schema_file: str | None = _request("PATH", "Structured output: a JSON Schema.")
    metadata: list[str] | None = _request("KEY=VALUE", "Metadata; up to 16 times.")
    body_json_file: str | None = _request("PATH", "A JSON object merged over the request last.")
    dry_run: bool = _safety("--dry-run", "Print the request and its hash; send nothing.")
    job_key: str | None = _safety(
        "KEY", "Pay once: a rerun goes on with the key's job.", callback=check.job_key
    )
    resubmit_unknown: bool = _safety(
        "--resubmit-unknown", "Submit the key again after exit 6: may pay twice."
    )
    jobs_file: str | None = _many(
        "PATH", "Jobs: JSON Lines in the Batch API's format.", callback=check.input_path
    )
    results_file: str | None = _many(
        "PATH", "Their results, in its output format.", callback=check.output_path
    )
    max_in_flight: int | None = _many(
        "N",
        "Jobs alive at the API at a time (default: 50).",
        parser=partial(check.whole_number, most=100_000),
    )
    poll_seconds: float = _POLL_SECONDS
    max_wait_seconds: float | None = _MAX_WAIT_SECONDS
    detach: bool = _waiting("--detach", "Submit, print the id, and end without waiting.")
    cancel_on_interrupt: bool = _CANCEL_ON_INTERRUPT
    events: Events | None = _EVENTS
    stream: bool = _STREAM
    stream_text: bool = _STREAM_TEXT
    starting_after: int | None = _STARTING_AFTER
    show_output_text: bool = _SHOW_OUTPUT_TEXT
    output_json_file: str | None = _OUTPUT_JSON_FILE
    output_text_file: str | None = _OUTPUT_TEXT_FILE
    human: bool = _HUMAN


class MonitorOptions(Record):
    """The options of `oaibg monitor`."""

    response_ids: check.ResponseIds[str] = _IDS
    job_key: str | None = _JOB_KEY
    poll_seconds: float = _POLL_SECONDS
    max_wait_seconds: float | None = _MAX_WAIT_SECONDS
    cancel_on_interrupt: bool = _CANCEL_ON_INTERRUPT
    events: Events | None = _EVENTS
    stream: bool = _STREAM
    stream_text: bool = _STREAM_TEXT
    starting_after: int | None = _STARTING_AFTER
    show_output_text: bool = _SHOW_OUTPUT_TEXT
    output_json_file: str | None = _OUTPUT_JSON_FILE
    output_text_file: str | None = _OUTPUT_TEXT_FILE
    results_file: str | None = _output(
        "PATH", "Save the results of one batch.", callback=check.output_path
    )
    human: bool = _HUMAN


class CancelOptions(Record):
    """The options of `oaibg cancel`."""

    response_ids: check.ResponseIds[str] = _IDS
    job_key: str | None = _JOB_KEY
    human: bool = _HUMAN


class ShowOptions(Record):
    """The options of `oaibg show`."""

    response_id: str | None = _id("RESPONSE_ID", "The job's id.", check.response_id)
    job_key: str | None = _JOB_KEY
    output_text: bool = _output("--output-text", "Print the answer's text alone, as it is.")
    output_json_file: str | None = _OUTPUT_JSON_FILE
    output_text_file: str | None = _OUTPUT_TEXT_FILE
    list_: bool = _which("--list", "List the jobs that were submitted here.")
    limit: int | None = _which(
        "N",
        "With --list: at most so many, newest first.",
        parser=partial(check.whole_number, most=2**31 - 1),
    )
    human: bool = _HUMAN


def part_of(options: Record, record: type[R], **more: Any) -> R:
    """The record with `more` in it, and the options that are its fields by name."""
    values = {**options.values(), **more}
    return record(**{name: value for name, value in values.items() if name in record.fields})


def wait_of(options: SubmitOptions | MonitorOptions, events: Events = "all") -> Wait:
    """How to wait; `events` is what holds if the user does not say."""
    # Each of these options implies --stream.
    stream = options.stream or options.stream_text or options.starting_after is not None
    return part_of(options, Wait, events=options.events or events, stream=stream)


def output_of(options: Record, **more: Any) -> Output:
    """Where the answer goes; raises `UsageError` if two answers go into one file."""
    output = part_of(options, Output, **more)
    json_file, text_file = output.output_json_file, output.output_text_file
    if json_file is not None and text_file is not None and check.is_same_file(json_file, text_file):
        raise UsageError("--output-json-file and --output-text-file name the same file.")
    return output


def check_id_or_key(response_ids: list[str], job_key: str | None) -> None:
    """Raise `UsageError` unless there is either an id or a job key."""
    if bool(response_ids) == (job_key is not None):
        raise UsageError(
            "Give either a RESPONSE_ID or --job-key KEY.",
            hint="`oaibg show --list` has the jobs that were submitted here.",
        )
