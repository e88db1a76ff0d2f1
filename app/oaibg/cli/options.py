"""The options: one record per command. Its fields are the command's options, in the help's order.

A field is named like its option: `jobs_file` is --jobs-file. The functions at the end turn the
options into what the engine takes, or reject combinations that several commands reject.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import typer

from oaibg.base.record import Record
from oaibg.cli import known_names as known
from oaibg.cli import option_checks as check
from oaibg.contract.errors import UsageError
from oaibg.engine.run_options import Events, Output, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R", bound=Record)
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max", "omit"]
Verbosity = Literal["low", "medium", "high", "omit"]
Window = Literal["soonest", "2h", "8h", "24h"]
Shell = Literal["bash", "zsh", "fish"]
_STATUSES = [
    *("queued", "in_progress", "completed", "needs_action", "failed", "incomplete", "cancelled"),
    *("expired", "not_submitted", "outcome_unknown"),
]


def _option(
    group: str, usage: str, text: str, default: Any = None, *names: str, **more: Any
) -> Any:
    """Return one option as the help shows it; its text must fit on one line of 80 columns.

    `usage` is the name of the value. For an option without a value it is the option itself, because
    Typer would add a --no- form to it. `names` replace the option's name.
    """
    if usage.startswith("--"):
        return typer.Option(False, usage, help=text, rich_help_panel=group, **more)
    return typer.Option(default, *names, metavar=usage, help=text, rich_help_panel=group, **more)


def _name(usage: str, text: str, check_name: Callable[..., Any]) -> Any:
    return typer.Argument(
        None,
        metavar=usage,
        help=text,
        rich_help_panel="Which job",
        callback=check_name,
        autocompletion=known.names,
    )


_which = partial(_option, "Which job")
_input = partial(_option, "Input")
_request = partial(_option, "Request")
_input_file = partial(_input, callback=check.text_path)
_request_file = partial(_request, callback=check.text_path)
_safety = partial(_option, "Safety")
_many = partial(_option, "Many jobs")
_waiting = partial(_option, "Waiting")
_output = partial(_option, "Output")

# Options of several commands

_JOB_KEY = _which(
    "KEY",
    "Use the job or run with this key.",
    callback=check.job_key,
    autocompletion=known.keys,
)
_POLL_SECONDS = _waiting(
    "SECONDS", "Seconds between polls (default: 10).", Wait.poll_seconds, parser=check.seconds
)
_MAX_WAIT_SECONDS = _waiting(
    "SECONDS", "Wait limit, then exit 3. Default: 0, no limit.", parser=check.wait_limit
)
_CANCEL_ON_INTERRUPT = _waiting(
    "--cancel-on-interrupt", "Cancel the job if a signal ends the wait."
)
_EVENTS = _waiting("WHICH", "Lines to print: all (default), changes, summary.")
_STREAM = _waiting("--stream", "Stream the job: emit a progress event per step.")
_STREAM_TEXT = _waiting("--stream-text", "Stream the job, and emit its text as it grows.")
_STARTING_AFTER = _waiting(
    "N",
    "Resume the stream after this sequence_number.",
    parser=partial(check.whole_number, least=0),
)
_INCLUDE = _output(
    "VALUE", "Additional data to request; repeatable.", callback=check.each_not_empty
)
_SHOW_OUTPUT_TEXT = _output("--show-output-text", "Emit the answer as an output_text event.")
_OUTPUT_JSON_FILE = _output("PATH", "Save the API's response object.", callback=check.output_path)
_OUTPUT_TEXT_FILE = _output("PATH", "Save the answer's text.", callback=check.output_path)
_ARTIFACTS_DIR = _output(
    "DIR", "Save images and code interpreter files here.", callback=check.output_folder
)
_HUMAN = _output(
    "--human", "For people: progress on stderr, answer on stdout.", callback=check.human
)


class SubmitOptions(Record):
    """The options of `oaibg submit`."""

    prompt_argument: str | None = typer.Argument(
        None,
        metavar="PROMPT",
        help="The prompt, in quotes; - is stdin.",
        rich_help_panel="Input",
    )
    prompt: str | None = _input("TEXT", "The text of the user message; - is stdin.")
    prompt_file: str | None = _input_file("PATH", "Read the prompt from a file; - is stdin.")
    system_prompt: str | None = _input("TEXT", "Put a system message before the prompt.")
    developer_prompt: str | None = _input("TEXT", "Put a developer message before the prompt.")
    attach: list[str] | None = _input(
        "PATH", "Attach a text file, image or PDF; repeatable.", callback=check.attached_paths
    )
    messages_json_file: str | None = _input_file("PATH", "JSON array of messages; - is stdin.")
    input_json_file: str | None = _input_file(
        "PATH", "The whole `input` field as JSON; - is stdin."
    )
    model: str = _request(
        "NAME",
        "The model (default: OAIBG_MODEL, or gpt-5.2).",
        "gpt-5.2",
        envvar="OAIBG_MODEL",
        callback=check.not_empty,
        autocompletion=known.models,
    )
    reasoning_effort: Effort = _request("EFFORT", "Reasoning effort (default: medium).", "medium")
    verbosity: Verbosity = _request(
        "LEVEL", "Answer length: low, medium (default), high, omit.", "medium"
    )
    instructions: str | None = _request("TEXT", "The request's `instructions` field.")
    max_output_tokens: int | None = _request(
        "N", "Limit reasoning and output tokens.", parser=check.whole_number
    )
    completion_window: Window | None = _request(
        "WINDOW", "Give the API more time, for a lower price."
    )
    continue_: str | None = _request(
        "ID|KEY",
        "Continue the response with this ID or job key.",
        None,
        "--continue",
        callback=check.not_empty,
        autocompletion=known.names,
    )
    previous_response_id: str | None = _request(
        "ID", "Like --continue, but without checks.", callback=check.not_empty
    )
    tools_json_file: str | None = _request_file("PATH", "JSON array of tools. Default: none.")
    json_schema_file: str | None = _request_file(
        "PATH", "JSON Schema of the answer (structured output)."
    )
    include: list[str] | None = _request(
        "VALUE", "Additional data to request; repeatable.", callback=check.each_not_empty
    )
    metadata: list[str] | None = _request("KEY=VALUE", "Metadata; repeatable up to 16 times.")
    body_json_file: str | None = _request_file(
        "PATH", "JSON object to merge into the request, last."
    )
    dry_run: bool = _safety("--dry-run", "Print the request and its hash; send nothing.")
    job_key: str | None = _safety(
        "KEY",
        "A rerun with this key continues the same job.",
        callback=check.job_key,
        autocompletion=known.keys,
    )
    label: str | None = _safety("TEXT", "Name the job in lists.", callback=check.label)
    resubmit_unknown: bool = _safety(
        "--resubmit-unknown", "Submit again after exit 6; you may pay twice."
    )
    retry_failed: bool = _safety("--retry-failed", "Submit unsuccessful jobs again; you pay again.")
    jobs_file: str | None = _many(
        "PATH", "Read jobs from this file (JSON Lines, CSV, TSV).", callback=check.input_path
    )
    results_file: str | None = _many(
        "PATH", "Write results to this file (same formats).", callback=check.output_path
    )
    max_in_flight: Any = _many(
        "N",
        "Maximum jobs at once, or auto (default: 50).",
        parser=check.jobs_at_once,
    )
    max_cost_usd: float | None = _many(
        "N", "Stop submitting jobs at this cost (USD).", parser=check.dollars
    )
    poll_seconds: Any = _waiting(
        "SECONDS",
        "Seconds between polls, or auto (default: 10).",
        Wait.poll_seconds,
        parser=check.seconds_or_auto,
    )
    max_wait_seconds: float | None = _MAX_WAIT_SECONDS
    detach: bool = _waiting("--detach", "Submit, print the response ID, and don't wait.")
    cancel_on_interrupt: bool = _CANCEL_ON_INTERRUPT
    events: Events | None = _EVENTS
    stream: bool = _STREAM
    stream_text: bool = _STREAM_TEXT
    starting_after: int | None = _STARTING_AFTER
    show_output_text: bool = _SHOW_OUTPUT_TEXT
    output_json_file: str | None = _OUTPUT_JSON_FILE
    output_text_file: str | None = _OUTPUT_TEXT_FILE
    artifacts_dir: str | None = _ARTIFACTS_DIR
    human: bool = _HUMAN


class MonitorOptions(Record):
    """The options of `oaibg monitor`."""

    names: check.Names[str] = _name(
        "ID|KEY...",
        "IDs or keys; - is stdin. Default: newest submit.",
        check.names,
    )
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
    artifacts_dir: str | None = _ARTIFACTS_DIR
    include: list[str] | None = _INCLUDE
    results_file: str | None = _output(
        "PATH", "Save the results of one batch.", callback=check.output_path
    )
    human: bool = _HUMAN


class CancelOptions(Record):
    """The options of `oaibg cancel`."""

    names: check.Names[str] = _name(
        "ID|KEY...", "Response IDs or keys; - reads them from stdin.", check.names
    )
    job_key: str | None = _JOB_KEY
    human: bool = _HUMAN


class ShowOptions(Record):
    """The options of `oaibg show`."""

    name: str | None = _name("ID|KEY", "A response ID or key. Default: newest submit.", check.name)
    job_key: str | None = _JOB_KEY
    output_text: bool = _output("--output-text", "Print only the answer's text, unchanged.")
    output_json_file: str | None = _OUTPUT_JSON_FILE
    output_text_file: str | None = _OUTPUT_TEXT_FILE
    artifacts_dir: str | None = _ARTIFACTS_DIR
    include: list[str] | None = _INCLUDE
    list_: bool = _which("--list", "List the jobs and runs submitted from this machine.")
    status: str | None = _which(
        "STATUS",
        "With --list: only jobs with this status.",
        callback=check.not_empty,
        autocompletion=lambda: _STATUSES,
    )
    limit: int | None = _which(
        "N",
        "With --list: show only the N newest lines.",
        parser=partial(check.whole_number, most=2**31 - 1),
    )
    human: bool = _HUMAN


def part_of(options: Record, record: type[R], **more: Any) -> R:
    """Return the record, filled with `more` and with the options of the same names."""
    values = {**options.values(), **more}
    return record(**{name: value for name, value in values.items() if name in record.fields})


def wait_of(options: SubmitOptions | MonitorOptions, events: Events = "all") -> Wait:
    """Return how to wait; `events` is the default of --events."""
    # Each of these options implies --stream.
    stream = options.stream or options.stream_text or options.starting_after is not None
    # `next` of a single job can't repeat `auto`, which is for the run.
    seconds = Wait.poll_seconds if options.poll_seconds == check.AUTO else options.poll_seconds
    return part_of(
        options,
        Wait,
        events=options.events or events,
        stream=stream,
        poll_seconds=seconds,
        max_wait_seconds=options.max_wait_seconds or None,
    )


def output_of(options: Record, **more: Any) -> Output:
    """Return where the answer goes."""
    include = tuple(options.values().get("include") or ())
    return part_of(options, Output, include=include, **more)


def check_name_or_key(names: list[str], job_key: str | None, *, newest: bool = False) -> None:
    """Raise `UsageError` unless there is either an argument that names a job, or a job key.

    There may be neither if the command is then for the `newest` submit.
    """
    if not (names or job_key is not None or newest):
        raise UsageError(
            "Which job? Give its ID or key: `oaibg cancel ID|KEY`.",
            hint="`oaibg show --list` lists the jobs submitted from this machine.",
        )
    if names and job_key is not None:
        raise UsageError(
            "Give the ID or key as an argument or with --job-key, not both.",
        )
