"""Typer's command classes with our help; `suggestions` words their usage errors."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


class _OwnHelp:
    def format_help(self, ctx: Any, formatter: Any) -> None:
        from oaibg.cli.help import help_text

        formatter.write(help_text(ctx))


class Command(_OwnHelp, TyperCommand):
    """One of the commands."""

    allow_extra_args = True  # refused below: Typer's own refusal does not keep them

    def invoke(self, ctx: Any) -> Any:
        """Run the command, unless it got more arguments than it takes."""
        if ctx.args:
            ctx.fail("Too many arguments.")
        return super().invoke(ctx)


class Group(_OwnHelp, TyperGroup):
    """The program itself: its commands, and the options that come before them."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; Typer would parse an unknown one that begins with - as an option."""
        if args[0] not in self.commands and not ctx.resilient_parsing:
            ctx.fail("No such command.")
        return super().resolve_command(ctx, args)
