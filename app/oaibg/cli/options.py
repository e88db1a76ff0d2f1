"""The options: one `Annotated` alias each, and the checks that belong to one option alone."""

from __future__ import annotations

import math
import os
import sys
from functools import partial
from typing import Annotated, Literal

import typer

from oaibg.api.payload import is_response_id

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


def _seconds(value: str | float) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise typer.BadParameter(f"{value!r} is not a number of seconds above 0.")
    return seconds


def _whole(value: str, least: int = 1, most: float = math.inf) -> int:
    try:
        number = int(value)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        wanted = f"of {least} or more" if most == math.inf else f"from {least} to {most}"
        raise typer.BadParameter(f"{value!r} is not a whole number {wanted}.")
    return number


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


# What stands together in the help; each text has to fit its line there, in 80 columns

_which = partial(typer.Option, rich_help_panel="Which job")
_input = partial(typer.Option, rich_help_panel="Input")
_request = partial(typer.Option, rich_help_panel="Request")
_many = partial(typer.Option, rich_help_panel="Many jobs")
_safety = partial(typer.Option, rich_help_panel="Safety")
_waiting = partial(typer.Option, rich_help_panel="Waiting")
_output = partial(typer.Option, rich_help_panel="Output")

# Input

Prompt = Annotated[str | None, _input("--prompt", metavar="TEXT", help="The user message's text.")]
PromptFile = Annotated[
    str | None,
    _input("--prompt-file", metavar="PATH", help="The same from a file; - is stdin."),
]
SystemPrompt = Annotated[
    str | None,
    _input("--system-prompt", metavar="TEXT", help="A system message before the prompt."),
]
DeveloperPrompt = Annotated[
    str | None,
    _input("--developer-prompt", metavar="TEXT", help="A developer message before the prompt."),
]
Attach = Annotated[
    list[str] | None,
    _input("--attach", metavar="PATH", help="A text, image or PDF to add; repeatable."),
]
MessagesFile = Annotated[
    str | None,
    _input("--messages-json-file", metavar="PATH", help="A JSON array of messages; - is stdin."),
]
InputFile = Annotated[
    str | None,
    _input(
        "--input-json-file", metavar="PATH", help="The whole `input` field as JSON; - is stdin."
    ),
]

# Request

Model = Annotated[
    str,
    _request(
        "--model",
        metavar="NAME",
        envvar="OAIBG_MODEL",
        callback=_named,
        help="The model (default: OAIBG_MODEL, else gpt-5.2).",
    ),
]
ReasoningEffort = Annotated[
    Effort,
    _request("--reasoning-effort", metavar="EFFORT", help="How much it thinks (default: medium)."),
]
TextVerbosity = Annotated[
    Verbosity,
    _request("--verbosity", metavar="LEVEL", help="low, medium (default), high; or omit."),
]
Instructions = Annotated[
    str | None, _request("--instructions", metavar="TEXT", help="The request's `instructions`.")
]
MaxOutputTokens = Annotated[
    int | None,
    _request(
        "--max-output-tokens",
        metavar="N",
        parser=_whole,
        help="Limit of reasoning and output tokens.",
    ),
]
CompletionWindow = Annotated[
    Window | None,
    _request(
        "--completion-window",
        metavar="WINDOW",
        help="Cheaper: soonest, 2h, 8h; 24h with --jobs-file.",
    ),
]
PreviousResponseId = Annotated[
    str | None,
    _request(
        "--previous-response-id", callback=_named, metavar="ID", help="Continue that response."
    ),
]
ToolsFile = Annotated[
    str | None,
    _request("--tools-json-file", metavar="PATH", help="A JSON array of tools; none without."),
]
SchemaFile = Annotated[
    str | None,
    _request("--json-schema-file", metavar="PATH", help="Structured output: a JSON Schema."),
]
Metadata = Annotated[
    list[str] | None,
    _request("--metadata", metavar="KEY=VALUE", help="Metadata; up to 16 times."),
]
BodyFile = Annotated[
    str | None,
    _request(
        "--body-json-file", metavar="PATH", help="A JSON object merged over the request last."
    ),
]

# Many jobs

JobsFilePath = Annotated[
    str | None,
    _many(
        "--jobs-file",
        metavar="PATH",
        callback=_input_path,
        help="Jobs: JSON Lines in the Batch API's format.",
    ),
]
ResultsFilePath = Annotated[
    str | None,
    _many(
        "--results-file",
        metavar="PATH",
        callback=_output_path,
        help="Their results, in its output format.",
    ),
]
MaxInFlight = Annotated[
    int | None,
    _many(
        "--max-in-flight",
        metavar="N",
        parser=partial(_whole, most=100_000),
        help="Jobs alive at the API at a time (default: 50).",
    ),
]

# Safety

DryRunFlag = Annotated[
    bool, _safety("--dry-run", help="Print the request and its hash; send nothing.")
]
JobKey = Annotated[
    str | None,
    _safety(
        "--job-key",
        metavar="KEY",
        callback=_job_key,
        help="Pay once: a rerun goes on with the key's job.",
    ),
]
ResubmitUnknown = Annotated[
    bool,
    _safety("--resubmit-unknown", help="Submit the key again after exit 6: may pay twice."),
]

# Which job

ResponseId = Annotated[
    str | None,
    typer.Argument(
        metavar="RESPONSE_ID",
        callback=_response_id,
        help="The job's id.",
        rich_help_panel="Which job",
    ),
]
ResponseIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RESPONSE_ID...",
        callback=_response_ids,
        help="The jobs' ids; - reads them from stdin.",
        rich_help_panel="Which job",
    ),
]
KeyOfJob = Annotated[
    str | None,
    _which(
        "--job-key", metavar="KEY", callback=_job_key, help="The job of this key, not of an id."
    ),
]
ListFlag = Annotated[bool, _which("--list", help="List the jobs that were submitted here.")]
Limit = Annotated[
    int | None,
    _which(
        "--limit",
        metavar="N",
        parser=partial(_whole, most=2**31 - 1),
        help="With --list: at most so many, newest first.",
    ),
]

# Waiting

PollSeconds = Annotated[
    float,
    _waiting(
        "--poll-seconds",
        metavar="SECONDS",
        parser=_seconds,
        help="Seconds between polls (default: 10).",
    ),
]
MaxWaitSeconds = Annotated[
    float | None,
    _waiting(
        "--max-wait-seconds",
        metavar="SECONDS",
        parser=_seconds,
        help="Stop waiting after so long (exit 3), else never.",
    ),
]
Detach = Annotated[
    bool, _waiting("--detach", help="Submit, print the id, and end without waiting.")
]
CancelOnInterrupt = Annotated[
    bool,
    _waiting("--cancel-on-interrupt", help="Cancel the job where a signal ends the wait."),
]
EventsChoice = Annotated[
    Events | None,
    _waiting("--events", metavar="WHICH", help="all polls (default), or changes alone."),
]
Stream = Annotated[bool, _waiting("--stream", help="Tell each step as it comes: progress events.")]
StreamText = Annotated[
    bool, _waiting("--stream-text", help="The same, and the text as it is written.")
]
StartingAfter = Annotated[
    int | None,
    _waiting(
        "--starting-after",
        metavar="N",
        parser=partial(_whole, least=0),
        help="The same, from after that sequence_number.",
    ),
]

# Output

ShowOutputText = Annotated[
    bool, _output("--show-output-text", help="Tell the answer, as an output_text event.")
]
OutputTextFlag = Annotated[
    bool, _output("--output-text", help="Print the answer's text alone, as it is.")
]
OutputJsonFile = Annotated[
    str | None,
    _output(
        "--output-json-file", metavar="PATH", callback=_output_path, help="Save the API's object."
    ),
]
OutputTextFile = Annotated[
    str | None,
    _output(
        "--output-text-file", metavar="PATH", callback=_output_path, help="Save the answer's text."
    ),
]
BatchResultsFile = Annotated[
    str | None,
    _output(
        "--results-file",
        metavar="PATH",
        callback=_output_path,
        help="Save the results of one batch.",
    ),
]
HumanFlag = Annotated[
    bool, _output("--human", help="For people: progress on stderr, answer on stdout.")
]
