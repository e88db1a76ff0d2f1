"""The command classes: help and usage errors in our words, which are imported when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Callable


class Command(TyperCommand):
    """A command whose options stand in groups, with examples and exit codes below them."""

    allow_extra_args = True  # an argument too many is told here

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; raises `UsageError`."""
        given = list(args)
        rest = _parsed(super().parse_args, ctx, args)
        if rest and not ctx.resilient_parsing:
            from oaibg.cli.suggestions import too_many_arguments

            raise too_many_arguments(ctx, given, rest)
        return rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole help."""
        _write_help(ctx, formatter)


class Group(TyperGroup):
    """The program itself: the commands, and the options that come before any."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; raises `UsageError`."""
        return _parsed(super().parse_args, ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of that name; raises `UsageError`."""
        if args[0] not in self.commands and not ctx.resilient_parsing:
            from oaibg.cli.suggestions import no_such_command

            raise no_such_command(ctx, args[0])
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole help."""
        _write_help(ctx, formatter)


def _parsed(parse: Callable[[Any, list[str]], list[str]], ctx: Any, args: list[str]) -> list[str]:
    given = list(args)
    try:
        return parse(ctx, args)
    except typer.TyperException as error:
        from oaibg.cli.suggestions import usage_error

        raise usage_error(error, ctx, given) from error


def _write_help(ctx: Any, formatter: Any) -> None:
    from oaibg.cli.help import help_text

    formatter.write(help_text(ctx))
