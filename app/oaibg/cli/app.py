"""The Typer app: four signatures. Typer hands the values over in its context.

Importing this must stay cheap: the SDK, SQLite, asyncio and Rich are imported where they are used.
"""

# ruff: noqa: ARG001 - the values are read from the context, as one record

from __future__ import annotations

from typing import Annotated

import typer

from oaibg import __version__
from oaibg.cli import options as o  # noqa: TC001 - Typer reads the annotations
from oaibg.cli.typer_classes import Command, Group
from oaibg.engine.run_options import Wait

DEFAULT_MODEL = "gpt-5.2"

app = typer.Typer(
    name="oaibg",
    cls=Group,
    help="Run OpenAI Responses API jobs in background mode and follow them to their end, as JSON "
    "lines on stdout: no job is lost, and none is paid twice.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"oaibg {__version__}")
        raise typer.Exit


def _print_schema(wanted: bool) -> None:
    if wanted:
        import json

        from oaibg.contract.schema import event_schema

        typer.echo(json.dumps(event_schema(), indent=2))
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    _event_schema: Annotated[
        bool,
        typer.Option(
            "--event-schema",
            callback=_print_schema,
            is_eager=True,
            help="Print the JSON Schema of the lines on stdout.",
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(cls=Command)
def submit(
    context: typer.Context,
    prompt: o.Prompt = None,
    prompt_file: o.PromptFile = None,
    system_prompt: o.SystemPrompt = None,
    developer_prompt: o.DeveloperPrompt = None,
    attach: o.Attach = None,
    messages_json_file: o.MessagesFile = None,
    input_json_file: o.InputFile = None,
    model: o.Model = DEFAULT_MODEL,
    reasoning_effort: o.ReasoningEffort = "medium",
    verbosity: o.TextVerbosity = "medium",
    instructions: o.Instructions = None,
    max_output_tokens: o.MaxOutputTokens = None,
    completion_window: o.CompletionWindow = None,
    previous_response_id: o.PreviousResponseId = None,
    tools_json_file: o.ToolsFile = None,
    json_schema_file: o.SchemaFile = None,
    metadata: o.Metadata = None,
    body_json_file: o.BodyFile = None,
    dry_run: o.DryRunFlag = False,
    job_key: o.JobKey = None,
    resubmit_unknown: o.ResubmitUnknown = False,
    jobs_file: o.JobsFilePath = None,
    results_file: o.ResultsFilePath = None,
    max_in_flight: o.MaxInFlight = None,
    poll_seconds: o.PollSeconds = Wait.poll_seconds,
    max_wait_seconds: o.MaxWaitSeconds = None,
    detach: o.Detach = False,
    cancel_on_interrupt: o.CancelOnInterrupt = False,
    events: o.EventsChoice = None,
    stream: o.Stream = False,
    stream_text: o.StreamText = False,
    starting_after: o.StartingAfter = None,
    show_output_text: o.ShowOutputText = False,
    output_json_file: o.OutputJsonFile = None,
    output_text_file: o.OutputTextFile = None,
    human: o.HumanFlag = False,
) -> int:
    """Submit a job, or a file of them, and follow it to its end."""
    from oaibg.cli.submit import run

    return run(context)


@app.command(cls=Command)
def monitor(
    context: typer.Context,
    response_ids: o.ResponseIds = None,
    job_key: o.KeyOfJob = None,
    poll_seconds: o.PollSeconds = Wait.poll_seconds,
    max_wait_seconds: o.MaxWaitSeconds = None,
    cancel_on_interrupt: o.CancelOnInterrupt = False,
    events: o.EventsChoice = None,
    stream: o.Stream = False,
    stream_text: o.StreamText = False,
    starting_after: o.StartingAfter = None,
    show_output_text: o.ShowOutputText = False,
    output_json_file: o.OutputJsonFile = None,
    output_text_file: o.OutputTextFile = None,
    results_file: o.BatchResultsFile = None,
    human: o.HumanFlag = False,
) -> int:
    """Follow jobs that were submitted before, to their end."""
    from oaibg.cli.monitor import run

    return run(context)


@app.command(cls=Command)
def cancel(
    context: typer.Context,
    response_ids: o.ResponseIds = None,
    job_key: o.KeyOfJob = None,
    human: o.HumanFlag = False,
) -> int:
    """Cancel jobs that are queued or running."""
    from oaibg.cli.cancel import run

    return run(context)


@app.command(cls=Command)
def show(
    context: typer.Context,
    response_id: o.ResponseId = None,
    job_key: o.KeyOfJob = None,
    output_text: o.OutputTextFlag = False,
    output_json_file: o.OutputJsonFile = None,
    output_text_file: o.OutputTextFile = None,
    list_: o.ListFlag = False,
    limit: o.Limit = None,
    human: o.HumanFlag = False,
) -> int:
    """Look once at a job: of an id, or the newest one submitted here."""
    from oaibg.cli.show import run

    return run(context)
