"""The Typer app: the program and its four commands, whose options are the fields of a record.

`oaibg.cli.help` writes the help, and `oaibg.cli.suggestions` the usage errors.
Importing this must stay cheap: the SDK, SQLite, asyncio and Rich are imported only when used.
"""

from __future__ import annotations

from functools import wraps
from inspect import Parameter, Signature, get_annotations
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from oaibg import __version__
from oaibg.cli import options as o  # noqa: TC001 - `_command` reads the annotations

if TYPE_CHECKING:
    from collections.abc import Callable


class _OwnHelp:
    def format_help(self, ctx: Any, formatter: Any) -> None:
        from oaibg.cli.help import help_text

        formatter.write(help_text(ctx))


class _Command(_OwnHelp, TyperCommand):
    allow_extra_args = True  # rejected below: Typer's own error does not keep them

    def invoke(self, ctx: Any) -> Any:
        if ctx.args:
            ctx.fail("Too many arguments.")
        return super().invoke(ctx)


class _Program(_OwnHelp, TyperGroup):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Typer has no options whose value may be left out.
        if args in (["--install-completion"], ["--show-completion"]):
            from oaibg.cli.completion import user_shell

            args = [*args, *user_shell()]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # Typer would parse an unknown command that begins with - as an option.
        if args[0] not in self.commands and not ctx.resilient_parsing:
            ctx.fail("No such command.")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="oaibg",
    cls=_Program,
    help="Run OpenAI requests that take minutes or hours: submit each one once, in background "
    "mode, follow it, and save the answer. Set OPENAI_API_KEY first.",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,  # Typer's options take no shell
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
)


def _printing(option: str, text: str, output: Callable[[Any], str], usage: str = "") -> Any:
    """Return an option that prints something instead of running a command.

    `usage` is the name of its value, if it has one; `output` gets the value.
    """

    def print_output(context: typer.Context, value: Any) -> None:
        if value and not context.resilient_parsing:
            typer.echo(output(value))
            raise typer.Exit

    return typer.Option(
        option, callback=print_output, is_eager=True, help=text, metavar=usage or None
    )


def _schema(_wanted: bool) -> str:
    import json

    from oaibg.contract.schema import event_schema

    return json.dumps(event_schema(), indent=2)


def _install_completion(shell: o.Shell) -> str:
    from oaibg.cli.completion import install

    return install(shell)


def _show_completion(shell: o.Shell) -> str:
    from oaibg.cli.completion import script

    return script(shell)


@app.callback()
def _root(
    context: typer.Context,
    _version: Annotated[
        bool, _printing("--version", "Print the version.", lambda _: f"oaibg {__version__}")
    ] = False,
    _event_schema: Annotated[
        bool, _printing("--event-schema", "Print the JSON Schema of the lines on stdout.", _schema)
    ] = False,
    _install: Annotated[
        o.Shell | None,
        _printing(
            "--install-completion",
            "Install shell completion: bash, zsh or fish.",
            _install_completion,
            "SHELL",
        ),
    ] = None,
    _show: Annotated[
        o.Shell | None,
        _printing(
            "--show-completion",
            "Print the script instead of installing it.",
            _show_completion,
            "SHELL",
        ),
    ] = None,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _command(about: str) -> Callable[[Callable[[typer.Context, Any], int]], None]:
    """Turn a function into a command; its `options` record declares the command's options.

    The help can't be the function's docstring: PYTHONOPTIMIZE=2 removes those.
    """

    def add(run: Callable[[typer.Context, Any], int]) -> None:
        record = get_type_hints(run)["options"]

        @wraps(run)
        def callback(context: typer.Context, **_options: object) -> int:
            return run(context, record(**context.params))

        parameters = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=getattr(record, name), annotation=hint)
            for name, hint in get_annotations(record, eval_str=True).items()
        ]
        first = Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)
        vars(callback)["__signature__"] = Signature([first, *parameters])  # what Typer reads
        callback.__name__ = run.__name__.removeprefix("_")
        app.command(cls=_Command, help=about)(callback)

    return add


@_command("Submit a job, or a file of jobs, and follow it until it ends.")
def _submit(context: typer.Context, options: o.SubmitOptions) -> int:
    from oaibg.cli.submit import run

    return run(context, options)


@_command("Follow jobs that were submitted earlier until they end.")
def _monitor(context: typer.Context, options: o.MonitorOptions) -> int:
    from oaibg.cli.monitor import run

    return run(context, options)


@_command("Cancel queued or running jobs.")
def _cancel(context: typer.Context, options: o.CancelOptions) -> int:
    from oaibg.cli.cancel import run

    return run(context, options)


@_command("Show a job's status and result, or list all jobs.")
def _show(context: typer.Context, options: o.ShowOptions) -> int:
    from oaibg.cli.show import run

    return run(context, options)
