"""The options: an `Annotated` alias for each, grouped as in the help, and a record per command."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

import typer

from oaibg.base.record import Record
from oaibg.cli import option_checks as check

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max", "omit"]
Verbosity = Literal["low", "medium", "high", "omit"]
Window = Literal["soonest", "2h", "8h", "24h"]
Events = Literal["all", "changes"]


def _option(group: str, usage: str, text: str, **more: Any) -> Any:
    """One option as the help shows it; the text has to fit its line there, in 80 columns."""
    flag, _, metavar = usage.partition(" ")
    return typer.Option(flag, metavar=metavar or None, help=text, rich_help_panel=group, **more)


_id = partial(typer.Argument, rich_help_panel="Which job")
_which = partial(_option, "Which job")
_input = partial(_option, "Input")
_request = partial(_option, "Request")
_safety = partial(_option, "Safety")
_many = partial(_option, "Many jobs")
_waiting = partial(_option, "Waiting")
_output = partial(_option, "Output")

# Input

Prompt = Annotated[str | None, _input("--prompt TEXT", "The user message's text.")]
PromptFile = Annotated[
    str | None, _input("--prompt-file PATH", "The same from a file; - is stdin.")
]
SystemPrompt = Annotated[
    str | None, _input("--system-prompt TEXT", "A system message before the prompt.")
]
DeveloperPrompt = Annotated[
    str | None, _input("--developer-prompt TEXT", "A developer message before the prompt.")
]
Attach = Annotated[
    list[str] | None, _input("--attach PATH", "A text, image or PDF to add; repeatable.")
]
MessagesFile = Annotated[
    str | None, _input("--messages-json-file PATH", "A JSON array of messages; - is stdin.")
]
InputFile = Annotated[
    str | None, _input("--input-json-file PATH", "The whole `input` field as JSON; - is stdin.")
]

# Request

Model = Annotated[
    str,
    _request(
        "--model NAME",
        "The model (default: OAIBG_MODEL, else gpt-5.2).",
        envvar="OAIBG_MODEL",
        callback=check.not_empty,
    ),
]
ReasoningEffort = Annotated[
    Effort, _request("--reasoning-effort EFFORT", "How much it thinks (default: medium).")
]
TextVerbosity = Annotated[
    Verbosity, _request("--verbosity LEVEL", "low, medium (default), high; or omit.")
]
Instructions = Annotated[
    str | None, _request("--instructions TEXT", "The request's `instructions`.")
]
MaxOutputTokens = Annotated[
    int | None,
    _request(
        "--max-output-tokens N", "Limit of reasoning and output tokens.", parser=check.whole_number
    ),
]
CompletionWindow = Annotated[
    Window | None,
    _request("--completion-window WINDOW", "Cheaper: soonest, 2h, 8h; 24h with --jobs-file."),
]
PreviousResponseId = Annotated[
    str | None,
    _request("--previous-response-id ID", "Continue that response.", callback=check.not_empty),
]
ToolsFile = Annotated[
    str | None, _request("--tools-json-file PATH", "A JSON array of tools; none without.")
]
SchemaFile = Annotated[
    str | None, _request("--json-schema-file PATH", "Structured output: a JSON Schema.")
]
Metadata = Annotated[
    list[str] | None, _request("--metadata KEY=VALUE", "Metadata; up to 16 times.")
]
BodyFile = Annotated[
    str | None, _request("--body-json-file PATH", "A JSON object merged over the request last.")
]

# Safety

DryRunFlag = Annotated[bool, _safety("--dry-run", "Print the request and its hash; send nothing.")]
JobKey = Annotated[
    str | None,
    _safety(
        "--job-key KEY", "Pay once: a rerun goes on with the key's job.", callback=check.job_key
    ),
]
ResubmitUnknown = Annotated[
    bool, _safety("--resubmit-unknown", "Submit the key again after exit 6: may pay twice.")
]

# Many jobs

JobsFilePath = Annotated[
    str | None,
    _many(
        "--jobs-file PATH", "Jobs: JSON Lines in the Batch API's format.", callback=check.input_path
    ),
]
ResultsFilePath = Annotated[
    str | None,
    _many(
        "--results-file PATH", "Their results, in its output format.", callback=check.output_path
    ),
]
MaxInFlight = Annotated[
    int | None,
    _many(
        "--max-in-flight N",
        "Jobs alive at the API at a time (default: 50).",
        parser=partial(check.whole_number, most=100_000),
    ),
]

# Which job

ResponseId = Annotated[
    str | None, _id(metavar="RESPONSE_ID", help="The job's id.", callback=check.response_id)
]
ResponseIds = Annotated[
    list[str] | None,
    _id(
        metavar="RESPONSE_ID...",
        help="The jobs' ids; - reads them from stdin.",
        callback=check.response_ids,
    ),
]
KeyOfJob = Annotated[
    str | None,
    _which("--job-key KEY", "The job of this key, not of an id.", callback=check.job_key),
]
ListFlag = Annotated[bool, _which("--list", "List the jobs that were submitted here.")]
Limit = Annotated[
    int | None,
    _which(
        "--limit N",
        "With --list: at most so many, newest first.",
        parser=partial(check.whole_number, most=2**31 - 1),
    ),
]

# Waiting

PollSeconds = Annotated[
    float,
    _waiting(
        "--poll-seconds SECONDS", "Seconds between polls (default: 10).", parser=check.seconds
    ),
]
MaxWaitSeconds = Annotated[
    float | None,
    _waiting(
        "--max-wait-seconds SECONDS",
        "Stop waiting after so long (exit 3), else never.",
        parser=check.seconds,
    ),
]
Detach = Annotated[bool, _waiting("--detach", "Submit, print the id, and end without waiting.")]
CancelOnInterrupt = Annotated[
    bool, _waiting("--cancel-on-interrupt", "Cancel the job where a signal ends the wait.")
]
EventsChoice = Annotated[
    Events | None, _waiting("--events WHICH", "all polls (default), or changes alone.")
]
Stream = Annotated[bool, _waiting("--stream", "Tell each step as it comes: progress events.")]
StreamText = Annotated[bool, _waiting("--stream-text", "The same, and the text as it is written.")]
StartingAfter = Annotated[
    int | None,
    _waiting(
        "--starting-after N",
        "The same, from after that sequence_number.",
        parser=partial(check.whole_number, least=0),
    ),
]

# Output

ShowOutputText = Annotated[
    bool, _output("--show-output-text", "Tell the answer, as an output_text event.")
]
OutputTextFlag = Annotated[
    bool, _output("--output-text", "Print the answer's text alone, as it is.")
]
OutputJsonFile = Annotated[
    str | None,
    _output("--output-json-file PATH", "Save the API's object.", callback=check.output_path),
]
OutputTextFile = Annotated[
    str | None,
    _output("--output-text-file PATH", "Save the answer's text.", callback=check.output_path),
]
BatchResultsFile = Annotated[
    str | None,
    _output("--results-file PATH", "Save the results of one batch.", callback=check.output_path),
]
HumanFlag = Annotated[bool, _output("--human", "For people: progress on stderr, answer on stdout.")]

# What the options of each command parse to: Typer's `context.params`, which has every field


class _Followed(Record):
    """What submit and monitor share: how to wait, and where the results go."""

    job_key: str | None
    results_file: str | None
    poll_seconds: float
    max_wait_seconds: float | None
    cancel_on_interrupt: bool
    events: Events | None
    stream: bool
    stream_text: bool
    starting_after: int | None
    show_output_text: bool
    output_json_file: str | None
    output_text_file: str | None
    human: bool


class SubmitOptions(_Followed):
    """The options of `oaibg submit`."""

    prompt: str | None
    prompt_file: str | None
    system_prompt: str | None
    developer_prompt: str | None
    attach: tuple[str, ...]
    messages_json_file: str | None
    input_json_file: str | None
    model: str
    reasoning_effort: Effort
    verbosity: Verbosity
    instructions: str | None
    max_output_tokens: int | None
    completion_window: Window | None
    previous_response_id: str | None
    tools_json_file: str | None
    json_schema_file: str | None
    metadata: tuple[str, ...]
    body_json_file: str | None
    dry_run: bool
    resubmit_unknown: bool
    jobs_file: str | None
    max_in_flight: int | None
    detach: bool


class MonitorOptions(_Followed):
    """The options of `oaibg monitor`."""

    response_ids: check.ResponseIds


class CancelOptions(Record):
    """The options of `oaibg cancel`."""

    response_ids: check.ResponseIds
    job_key: str | None
    human: bool


class ShowOptions(Record):
    """The options of `oaibg show`."""

    response_id: str | None
    job_key: str | None
    output_text: bool
    output_json_file: str | None
    output_text_file: str | None
    list_: bool
    limit: int | None
    human: bool
