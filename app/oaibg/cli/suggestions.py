"""What was probably meant where a command, an option or a value does not exist."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from oaibg.api.payload import is_response_id
from oaibg.contract.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import typer

_ID = "RESPONSE_ID"

COMMANDS = {
    "list ls jobs": "show --list",
    "status get retrieve fetch result results": "show",
    "watch follow wait poll resume tail attach": "monitor",
    "run create send start new": "submit",
    "batch": "submit --jobs-file",
    "stop abort kill delete": "cancel",
    "help": "--help",
    "version": "--version",
}
"""Words that other tools have for what ours do: what to write after `oaibg` instead."""

OPTIONS = {
    "-h": "--help",
    "-v -V": "--version",
    "-p --message --question --query": "--prompt",
    "--text": "--prompt --output-text --show-output-text",
    "-f --file --input": "--prompt-file --input-json-file",
    "--system": "--system-prompt",
    "--developer": "--developer-prompt",
    "--messages --messages-file": "--messages-json-file",
    "-m": "--model",
    "--effort --reasoning": "--reasoning-effort",
    "--max-tokens --max-completion-tokens": "--max-output-tokens",
    "--tools --tool": "--tools-json-file",
    "--schema --json-schema --format --response-format": "--json-schema-file",
    "--body --extra-body": "--body-json-file",
    "--window": "--completion-window",
    "--jobs --batch": "--jobs-file",
    "--results": "--results-file",
    "--parallel --concurrency --workers": "--max-in-flight",
    "-n": "--dry-run --limit",
    "--key --name --idempotency-key": "--job-key",
    "--id --response-id --job-id": f"{_ID} --previous-response-id",
    "--wait --timeout --max-wait --deadline": "--max-wait-seconds",
    "--interval --poll --poll-interval": "--poll-seconds",
    "--no-wait --no-follow --async": "--detach",
    "-o --out --output --output-file --save": "--output-text-file --output-json-file",
    "--json": "stdout has JSON lines anyway; --output-json-file saves the API's object.",
    "--follow --watch": "submit and monitor follow a job anyway; --stream tells each step at once.",
    "--background": "Every job runs in background mode; --detach ends without waiting.",
    "--api-key": "The key goes into the environment variable OPENAI_API_KEY.",
    "--base-url --api-base --url": "It goes into the environment variable OPENAI_BASE_URL.",
    "--conversation --include --max-tool-calls --parallel-tool-calls --prompt-cache-key "
    "--safety-identifier --seed --service-tier --store --temperature --tool-choice --top-logprobs "
    "--top-p --truncation --user": "submit takes it as a field in --body-json-file PATH.",
}
"""Options that other tools have: ours, those that fit best first, or else what to do."""


def usage_error(error: typer.TyperException, ctx: Any, args: list[str]) -> UsageError:
    """An error of Typer's in our words.

    Args:
        error: what was raised; Typer has no public names for its kinds, but for their attributes.
        ctx: Typer's context of the command.
        args: what followed the command's name.
    """
    option = getattr(error, "option_name", None)
    if option is None:
        choices = getattr(getattr(getattr(error, "param", None), "type", None), "choices", ())
        value = error.message.partition(" is not one of ")[0].strip("'")
        return _error(error.format_message(), ctx, _did_you_mean(_nearest(value, choices)))
    if hasattr(error, "possibilities"):
        return _no_such_option(option, ctx, args)
    for param in ctx.command.get_params(ctx):
        if option in param.opts and not param.is_flag:
            return _error(f"{option} needs a value: {option} {param.make_metavar(ctx)}.", ctx)
    return _error(f"{option} takes no value.", ctx)


def no_such_command(ctx: Any, word: str) -> UsageError:
    """The error for a command that does not exist.

    Args:
        ctx: Typer's context of the program.
        word: what stood in the command's place; it may be a prompt, and is told only where it
            is like a command.
    """
    if word.startswith(("resp_", "batch_")) and is_response_id(word):
        return _error(
            "An id is no command.",
            ctx,
            f"`oaibg monitor {word}` follows it to its end, `oaibg show {word}` looks once.",
        )
    meanings = {one: meant for words, meant in COMMANDS.items() for one in words.split()}
    meanings |= {name: name for name in ctx.command.commands}
    meant = meanings.get(_nearest(word, meanings), "")
    if not meant:
        return _error("No such command.", ctx, "A prompt goes with `oaibg submit --prompt`.")
    return _error(f"No such command: {word}.", ctx, _did_you_mean(f"`oaibg {meant}`"))


def too_many_arguments(ctx: Any, args: list[str], rest: list[str]) -> UsageError:
    """The error for arguments too many; they may be a prompt, and are not told.

    Args:
        ctx: Typer's context of the command.
        args: what followed the command's name.
        rest: what of that is no option and no value of one.
    """
    name = ctx.command.name
    if _ID in _offers(ctx.command):
        return _error(f"{name} takes one id.", ctx, "`oaibg monitor` takes several.")
    if any(word.partition("=")[0] == "--attach" for word in args):
        meant = "The pattern of --attach needs quotes, or the shell puts names of files there."
    elif os.path.isfile(rest[0]):  # noqa: PTH113 - a prompt is no path
        meant = "A file with a prompt goes with --prompt-file."
    else:
        meant = "A prompt goes with --prompt, in quotes."
    return _error(f"{name} takes options alone, and no arguments.", ctx, meant)


def _no_such_option(option: str, ctx: Any, args: list[str]) -> UsageError:
    is_word = re.fullmatch(r"--?[\w-]+", option) is not None
    message = f"No such option: {option}." if is_word else "No such option."  # a prompt, perhaps
    known = next((meant for words, meant in OPTIONS.items() if option in words.split()), "")
    if known and not known.startswith(("-", _ID)):
        return _error(message, ctx, known)
    wanted = [option, *known.split()]
    own = _offers(ctx.command)
    found = [one for one in wanted if one in own]
    if found[:1] == [_ID]:
        return _error(message, ctx, f"The id is an argument: {ctx.command_path} {_ID}.")
    if found:
        return _error(message, ctx, _did_you_mean(" or ".join(found)))
    program = ctx.find_root().command
    if ctx.parent is None:
        named = {name: one for name, one in program.commands.items() if name in args}
        for one, name in _places(wanted, named or program.commands):
            return _error(message, ctx, f"It goes after the command: oaibg {name} {one}.")
    elif places := _places(wanted, {**program.commands, "": program}):
        here = [f"`{f'oaibg {name}'.strip()}`" for one, name in places if one == places[0][0]]
        return _error(message, ctx, f"{places[0][0]} is an option of {' and '.join(here)}.")
    return _error(message, ctx, _did_you_mean(_nearest(option, own)))


def _offers(command: Any) -> list[str]:
    """The options of a command, and its id."""
    options = [param.opts[0] for param in command.params if param.param_type_name == "option"]
    return [*options, "--help"] + [_ID] * (len(options) < len(command.params))


def _places(wanted: list[str], commands: dict[str, Any]) -> list[tuple[str, str]]:
    """Which of the wanted options there are elsewhere, and of which command they are."""
    return [(one, name) for one in wanted for name in commands if one in _offers(commands[name])]


def _nearest(word: str, names: Iterable[str]) -> str:
    """The name that a word begins, else one that begins it, else the one most like it, or none."""
    word = word.lower().lstrip("-")
    bare = {name.lstrip("-"): name for name in names}
    begun = sorted((name for name in bare if word and name.startswith(word)), key=len)
    longer = [name for name in bare if word.startswith(name) and word[len(name) :].isalpha()]
    found = begun or longer or get_close_matches(word, bare, n=1)
    return bare[found[0]] if found else ""


def _did_you_mean(meant: str) -> str:
    return meant and f"Did you mean {meant}?"


def _error(message: str, ctx: Any, meant: str = "") -> UsageError:
    return UsageError(message, hint=f"{meant} Try '{ctx.command_path} --help'.".strip())
