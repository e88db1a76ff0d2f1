"""Finds which job a refused command line names, so that its error can name the job, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from oaibg.api.payload import is_api_id
from oaibg.cli import option_checks
from oaibg.cli.texts import is_text

if TYPE_CHECKING:
    from oaibg.engine.job import Job


def note_named(job: Job, program: Any, argv: list[str]) -> None:
    """Note the key and the ID that a command line names; `program` is Typer's group.

    A key that may be a prompt is not repeated.
    """
    options = _parsed(program, argv)
    key = options.get("job_key")
    job.note_key(key if isinstance(key, str) and _is_plain(key) else None)
    names = options.get("name") or options.get("names")
    named = [names] if isinstance(names, str) else list(names or ())
    named = [one for one in named if not one.startswith("-")]  # unknown options
    if job.response_id is None and len(named) == 1 and is_api_id(named[0]):
        job.identify(named[0])


def _parsed(program: Any, argv: list[str]) -> dict[str, Any]:
    """Return the values of the command's options, as far as they can be parsed."""
    command = program.commands.get(argv[0]) if argv else None
    if command is None:
        return {}
    lenient = {"resilient_parsing": True, "ignore_unknown_options": True}
    return dict(command.make_context(argv[0], argv[1:], **lenient).params)


def _is_plain(key: str) -> bool:
    """Whether a key is valid, and can't be a text."""
    try:
        option_checks.job_key(key)
    except typer.BadParameter:
        return False
    return len(key.split()) == 1 and not is_text(key)
