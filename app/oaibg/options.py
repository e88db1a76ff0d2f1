"""The options: one `Annotated` alias each, and the checks that belong to one option alone."""

from __future__ import annotations

import math
import os
import sys
from typing import Annotated, Literal

import typer

from oaibg.payload import is_response_id

_ID = "one is 1 to 1,024 of letters, digits and _ - = . : + ~"
_STDIN_MAX = 64 << 20

PATHS = (
    "--jobs-file",
    "--results-file",
    "--tools-json-file",
    "--json-schema-file",
    "--body-json-file",
)
"""The options of a run over a jobs file whose values are paths."""

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max", "omit"]
Verbosity = Literal["low", "medium", "high", "omit"]
Window = Literal["soonest", "2h", "8h", "24h"]
Events = Literal["all", "changes"]


def _seconds(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value} is not a number of seconds above 0.")
    return value


def _response_id(value: str | None) -> str | None:
    if value is not None and not is_response_id(value):
        raise typer.BadParameter(f"no response id; {_ID}")
    return value


def _response_ids(values: list[str] | None) -> list[str] | None:
    """The ids, each once; `-` stands for what stdin has, which is read here."""
    found: dict[str, None] = {}
    for value in values or []:
        if value == "-":
            for number, line in enumerate(_stdin_lines(), 1):
                for word in line.split():
                    if not is_response_id(word):
                        raise typer.BadParameter(f"stdin, line {number}: no response id; {_ID}")
                    found[word] = None
        else:
            found[str(_response_id(value))] = None
    if values and not found:
        raise typer.BadParameter("there is no id on stdin.")
    return list(found) or None


def _stdin_lines() -> list[str]:
    if sys.stdin is None:
        raise typer.BadParameter("stdin is closed; there are no ids to read.")
    try:
        return sys.stdin.read(_STDIN_MAX).splitlines()
    except (OSError, UnicodeError) as error:
        raise typer.BadParameter(f"stdin can't be read: {error}.") from error


def _job_key(value: str | None) -> str | None:
    if value is not None and not (0 < len(value) <= 512 and value.isprintable()):
        raise typer.BadParameter("a job key is 1 to 512 printable characters.")
    return value


def _named(value: str | None) -> str | None:
    if value is not None and not value.strip():
        raise typer.BadParameter("it is empty.")
    return value


def _input_path(value: str | None) -> str | None:
    """The one path of a file that is read more than once, and that a run is known by."""
    if value == "-":
        raise typer.BadParameter("it is read more than once; a file's path is needed.")
    try:
        return value and os.path.realpath(value)
    except ValueError as error:
        raise typer.BadParameter(f"no valid path ({error}).") from error
    except OSError as error:
        raise typer.BadParameter(f"the working directory is gone ({error.strerror}).") from error


def _output_path(value: str | None) -> str | None:
    """The absolute path, where a file can be put there as far as can be told before the run."""
    if value is None:
        return None
    if value in ("", "-"):
        raise typer.BadParameter("a file's path is needed; `oaibg show` prints to stdout.")
    try:
        path = os.path.abspath(value)  # noqa: PTH100
    except OSError as error:
        raise typer.BadParameter(f"the working directory is gone ({error.strerror}).") from error
    folder = os.path.dirname(path)  # noqa: PTH120
    if os.path.isdir(path):  # noqa: PTH112
        raise typer.BadParameter(f"{path} is a folder.")
    if not os.path.isdir(folder):  # noqa: PTH112
        raise typer.BadParameter(f"there is no folder {folder}.")
    if is_same_file(path, 1):
        raise typer.BadParameter(f"{path} is this command's stdout, which has its lines.")
    return path


def is_same_file(one: str, other: str | int) -> bool:
    """Whether two paths (or a descriptor) are one file; the null device takes everything."""
    if os.path.realpath(one) == os.devnull:
        return False
    try:
        return os.path.samestat(os.stat(one), os.stat(other))  # noqa: PTH116
    except OSError:
        return not isinstance(other, int) and os.path.realpath(one) == os.path.realpath(other)


# Input

Prompt = Annotated[
    str | None,
    typer.Option("--prompt", metavar="TEXT", help="The user message's text.", show_default=False),
]
PromptFile = Annotated[
    str | None,
    typer.Option("--prompt-file", metavar="PATH", help="The user message's text; - is stdin."),
]
SystemPrompt = Annotated[
    str | None,
    typer.Option("--system-prompt", metavar="TEXT", help="A system message before the prompt."),
]
DeveloperPrompt = Annotated[
    str | None,
    typer.Option(
        "--developer-prompt", metavar="TEXT", help="A developer message before the prompt."
    ),
]
MessagesFile = Annotated[
    str | None,
    typer.Option(
        "--messages-json-file", metavar="PATH", help="A JSON array of messages; - is stdin."
    ),
]
InputFile = Annotated[
    str | None,
    typer.Option(
        "--input-json-file",
        metavar="PATH",
        help="The whole `input` field: a JSON text or array of input items; - is stdin.",
    ),
]

JobsFilePath = Annotated[
    str | None,
    typer.Option(
        "--jobs-file",
        metavar="PATH",
        callback=_input_path,
        help="Many jobs: JSON Lines in the Batch API's request format.",
    ),
]
ResultsFilePath = Annotated[
    str | None,
    typer.Option(
        "--results-file",
        metavar="PATH",
        callback=_output_path,
        help="Where their results go: JSON Lines in the Batch API's output format.",
    ),
]
MaxInFlight = Annotated[
    int | None,
    typer.Option(
        "--max-in-flight",
        metavar="N",
        min=1,
        max=100_000,
        help="With --jobs-file: jobs alive at the API at a time (default: 50).",
        show_default=False,
    ),
]

# Settings

Model = Annotated[
    str,
    typer.Option(
        "--model", metavar="NAME", envvar="OAIBG_MODEL", callback=_named, help="The model."
    ),
]
ReasoningEffort = Annotated[
    Effort, typer.Option("--reasoning-effort", help="Reasoning effort; omit leaves it out.")
]
TextVerbosity = Annotated[
    Verbosity, typer.Option("--verbosity", help="The answer's verbosity; omit leaves it out.")
]
Instructions = Annotated[
    str | None, typer.Option("--instructions", metavar="TEXT", help="The request's `instructions`.")
]
MaxOutputTokens = Annotated[
    int | None,
    typer.Option(
        "--max-output-tokens", metavar="N", min=1, help="Limit of output and reasoning tokens."
    ),
]
CompletionWindow = Annotated[
    Window | None,
    typer.Option("--completion-window", help="Later and cheaper: when it must be done."),
]
PreviousResponseId = Annotated[
    str | None,
    typer.Option(
        "--previous-response-id", callback=_named, metavar="ID", help="Continue that response."
    ),
]
ToolsFile = Annotated[
    str | None,
    typer.Option("--tools-json-file", metavar="PATH", help="A JSON array of tools; none without."),
]
SchemaFile = Annotated[
    str | None,
    typer.Option(
        "--json-schema-file",
        metavar="PATH",
        help="Structured output: a JSON Schema, or {name, schema, strict}.",
    ),
]
Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="KEY=VALUE", help="Metadata; up to 16 times."),
]
BodyFile = Annotated[
    str | None,
    typer.Option(
        "--body-json-file",
        metavar="PATH",
        help="A JSON object merged over the request last (RFC 7396).",
    ),
]

# Safety

DryRunFlag = Annotated[
    bool, typer.Option("--dry-run", help="Print the request and its hash; send nothing.")
]
JobKey = Annotated[
    str | None,
    typer.Option(
        "--job-key",
        metavar="KEY",
        callback=_job_key,
        help="Never submit this key's request twice: a rerun goes on with the same job.",
    ),
]
KeyOfJob = Annotated[
    str | None,
    typer.Option(
        "--job-key", metavar="KEY", callback=_job_key, help="The job of this key, not of an id."
    ),
]
ResubmitUnknown = Annotated[
    bool,
    typer.Option(
        "--resubmit-unknown",
        help="Submit the job key again although an earlier outcome is unknown: may pay twice.",
    ),
]

# Which job

ResponseId = Annotated[
    str | None,
    typer.Argument(
        metavar="[RESPONSE_ID]",
        callback=_response_id,
        help="The response's id; after -- where it begins with a hyphen.",
        show_default=False,
    ),
]

ResponseIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RESPONSE_ID]...",
        callback=_response_ids,
        help="The responses' ids; - is stdin; after -- where one begins with a hyphen.",
        show_default=False,
    ),
]

# Waiting

PollSeconds = Annotated[
    float,
    typer.Option(
        "--poll-seconds", metavar="SECONDS", callback=_seconds, help="Seconds between polls."
    ),
]
MaxWaitSeconds = Annotated[
    float | None,
    typer.Option(
        "--max-wait-seconds",
        metavar="SECONDS",
        callback=_seconds,
        help="Stop waiting (exit 3) this long after the start, else never; the job goes on.",
    ),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Submit, print the id, and end without waiting.")
]
CancelOnInterrupt = Annotated[
    bool, typer.Option("--cancel-on-interrupt", help="Cancel the job where a signal ends the wait.")
]
EventsChoice = Annotated[
    Events | None,
    typer.Option(
        "--events",
        help="Every poll (all, the default), or changes and a heartbeat a minute (changes; the "
        "default of a jobs file).",
    ),
]

Stream = Annotated[
    bool, typer.Option("--stream", help="Follow the job's event stream: progress events at once.")
]
StreamText = Annotated[
    bool, typer.Option("--stream-text", help="The same, with the text's deltas as they come.")
]
StartingAfter = Annotated[
    int | None,
    typer.Option(
        "--starting-after",
        metavar="N",
        min=0,
        help="The same, going on after the stream's event of that sequence_number.",
    ),
]

# Output

ShowOutputText = Annotated[
    bool, typer.Option("--show-output-text", help="An output_text event with the answer's text.")
]
OutputJsonFile = Annotated[
    str | None,
    typer.Option(
        "--output-json-file", metavar="PATH", callback=_output_path, help="Save the API's object."
    ),
]
OutputTextFile = Annotated[
    str | None,
    typer.Option(
        "--output-text-file", metavar="PATH", callback=_output_path, help="Save the answer's text."
    ),
]
HumanFlag = Annotated[
    bool, typer.Option("--human", help="For people: progress on stderr, the answer on stdout.")
]
OutputTextFlag = Annotated[
    bool, typer.Option("--output-text", help="Print the answer's text alone, as it is.")
]
ListFlag = Annotated[bool, typer.Option("--list", help="List the jobs that were submitted here.")]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        max=2**31 - 1,
        help="With --list: at most so many, newest first.",
    ),
]
