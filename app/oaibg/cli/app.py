"""The Typer app: the program, and four commands whose options are the fields of a record.

Importing this must stay cheap: the SDK, SQLite, asyncio and Rich are imported where they are used.
"""

from __future__ import annotations

from functools import wraps
from inspect import Parameter, Signature, get_annotations
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from oaibg import __version__
from oaibg.cli import options as o  # noqa: TC001 - `_command` reads the annotations
from oaibg.cli.typer_classes import Command, Group

if TYPE_CHECKING:
    from collections.abc import Callable

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


def _command(run: Callable[[typer.Context, Any], int]) -> None:
    """Make a function a command; the record that it takes as `options` declares the options."""
    record = get_type_hints(run)["options"]

    @wraps(run)
    def callback(context: typer.Context, **_options: object) -> int:
        return run(context, record(**context.params))

    parameters = [Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for name, annotation in get_annotations(record, eval_str=True).items():
        default = getattr(record, name)
        parameters.append(
            Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )
    vars(callback)["__signature__"] = Signature(parameters)  # what Typer reads
    app.command(cls=Command)(callback)


@_command
def submit(context: typer.Context, options: o.SubmitOptions) -> int:
    """Submit a job, or a file of them, and follow it to its end."""
    from oaibg.cli.submit import run

    return run(context, options)


@_command
def monitor(context: typer.Context, options: o.MonitorOptions) -> int:
    """Follow jobs that were submitted before, to their end."""
    from oaibg.cli.monitor import run

    return run(context, options)


@_command
def cancel(context: typer.Context, options: o.CancelOptions) -> int:
    """Cancel jobs that are queued or running."""
    from oaibg.cli.cancel import run

    return run(context, options)


@_command
def show(context: typer.Context, options: o.ShowOptions) -> int:
    """Look once at a job: of an id, or the newest one submitted here."""
    from oaibg.cli.show import run

    return run(context, options)
