"""Writes the messages of usage errors, and suggests what was probably meant."""

from __future__ import annotations

import os
import re
import shlex
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from oaibg.api.payload import is_response_id
from oaibg.cli.known_names import known
from oaibg.contract.errors import UsageError
from oaibg.request.sources import QUOTE_PATTERN

if TYPE_CHECKING:
    from collections.abc import Iterable

    import typer

_ID = "ID|KEY"

_COMMAND_ALIKE = 0.75
"""How similar a word must be to a command, from 0 to 1: it may also be a question."""

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
"""Names that other tools use for commands, and what to write after `oaibg` instead."""

OPTIONS = {
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
    "--key --idempotency-key": "--job-key",
    "--name --title --tag": "--label --job-key",
    "--id --response-id --job-id": f"{_ID} --continue",
    "--wait --timeout --max-wait --deadline": "--max-wait-seconds",
    "--interval --poll --poll-interval": "--poll-seconds",
    "--no-wait --no-follow --async": "--detach",
    "-o --out --output --output-file --save": "--output-text-file --output-json-file",
    "--artifacts --images --download": "--artifacts-dir",
    "--json": "stdout always has JSON lines; --output-json-file saves the API's object.",
    "--follow --watch": "submit and monitor follow a job; --stream emits an event per step.",
    "--background": "Every job runs in background mode; --detach submits it without waiting.",
    "--api-key": "Set the environment variable OPENAI_API_KEY instead.",
    "--base-url --api-base --url": "Set the environment variable OPENAI_BASE_URL instead.",
    "--conversation --max-tool-calls --parallel-tool-calls --prompt-cache-key "
    "--safety-identifier --seed --service-tier --store --temperature --tool-choice --top-logprobs "
    "--top-p --truncation --user": "Use `oaibg submit --body-json-file PATH` to set this field.",
}
"""Options of other tools, with our options (the best match first) or what to do instead."""


def usage_error(error: typer.TyperException, program: Any, argv: list[str]) -> UsageError:
    """Translate one of Typer's errors, without repeating what may be a prompt.

    Typer's error classes have no public names, but differ in their attributes. `program` is Typer's
    group of our commands.
    """
    first, second = (*argv, "", "")[:2]
    word = second if first == "--" else first
    context = getattr(error, "ctx", None)
    # Typer's error for a missing or superfluous value has no context.
    command: Any = context.command if context else program.commands.get(word, program)
    option: Any = getattr(error, "option_name", None)
    if hasattr(error, "possibilities"):
        if command.name == "submit" and _is_prompt(option, argv):
            return _error("No such option.", command, "Put a prompt that begins with - after --.")
        named = f": {option}" if re.fullmatch(r"--?[\w-]+", option) else ""  # may be a prompt
        meant = _instead_of(option, command, program, argv)
        return _error(f"No such option{named}.", command, meant)
    if option is not None:
        return _wrong_use(option, command)
    param = getattr(error, "param", None)
    if param is None and command is program:
        return _no_such_command(word, program)
    if param is None and context is not None and context.args:
        return _too_many_arguments(command, argv, context)
    choices = getattr(getattr(param, "type", None), "choices", ())
    value = error.message.partition(" is not one of ")[0].strip("'")
    return _error(error.format_message(), command, _did_you_mean(_nearest(value, choices)))


def _is_prompt(option: str, argv: list[str]) -> bool:
    """Whether an unknown option is the beginning of a text, such as a list with hyphens."""
    texts = [word for word in argv if word.startswith(option) and len(word.split()) > 1]
    return bool(texts) and re.fullmatch(r"--[\w-]+", option) is None


def _wrong_use(option: str, command: Any) -> UsageError:
    for param in command.params:
        if option in param.opts and not param.is_flag:
            choices = ", ".join(getattr(param.type, "choices", ()))
            meant = choices and f"{param.metavar} is one of {choices}."
            return _error(f"{option} needs a value: {option} {param.metavar}.", command, meant)
    return _error(f"{option} takes no value.", command)


def _no_such_command(word: str, program: Any) -> UsageError:
    if word.startswith(("resp_", "batch_")) and is_response_id(word):
        kind = "batch" if word.startswith("batch_") else "response"
        return _error(f"That is a {kind} ID, not a command.", program, _for_job(word))
    meanings = {one: meant for words, meant in COMMANDS.items() for one in words.split()}
    meanings |= {name: name for name in program.commands}
    is_word = word.strip("?!. ") == word and len(word.split()) == 1
    meant = meanings.get(_nearest(word, meanings, _COMMAND_ALIKE), "") if is_word else ""
    if not meant and is_word and word in known():
        return _error("That is the key of a job, not a command.", program, _for_job(word))
    if not meant:
        return _error("No such command.", program, 'For a prompt: `oaibg submit "PROMPT"`.')
    return _error(f"No such command: {word}.", program, _did_you_mean(f"`oaibg {meant}`"))


def _for_job(name: str) -> str:
    name = shlex.quote(name)
    return f"Use `oaibg monitor {name}` to follow it, or `oaibg show {name}` to see it now."


def _too_many_arguments(command: Any, argv: list[str], context: Any) -> UsageError:
    if _ID in _offers(command):
        return _error(
            f"{command.name} accepts one ID or key.", command, "`oaibg monitor` accepts several."
        )
    params = context.params
    words = [params["prompt"], params["prompt_argument"], *context.args]
    words = [word for word in words if word is not None]
    if any(word.partition("=")[0] == "--attach" for word in argv):
        meant = QUOTE_PATTERN
    elif any(map(os.path.isfile, words)):
        meant = "To send files, use --attach PATH after the prompt, or --prompt-file PATH."
    else:
        meant = 'Put the whole prompt in quotes: `oaibg submit "PROMPT"`.'
    return _error(f"{command.name} accepts one prompt, not {len(words)}.", command, meant)


def _instead_of(option: str, command: Any, program: Any, argv: list[str]) -> str:
    """Return what to write instead of an unknown option, or an empty text."""
    known = next((meant for words, meant in OPTIONS.items() if option in words.split()), "")
    if known and not known.startswith(("-", _ID)):
        return known
    wanted = [option, *known.split()]
    own = _offers(command)
    found = [one for one in wanted if one in own]
    if found[:1] == [_ID]:
        return f"The ID is an argument: `{_path(command)} RESPONSE_ID`."
    if found:
        return _did_you_mean(" or ".join(found))
    commands = list(program.commands.values())
    if command is program:
        named = [one for one in commands if one.name in argv]
        if places := _places(wanted, named or commands):
            one, place = places[0]
            return f"Put it after the command: `{_path(place)} {one}`."
    elif places := _places(wanted, [*commands, program]):
        here = [f"`{_path(place)}`" for one, place in places if one == places[0][0]]
        return f"{places[0][0]} is an option of {' and '.join(here)}."
    return _did_you_mean(_nearest(option, own))


def _offers(command: Any) -> list[str]:
    """Return the options of a command, and `_ID` if it accepts one."""
    options = [param.opts[0] for param in command.params if param.param_type_name == "option"]
    arguments = [param.metavar for param in command.params if param.param_type_name == "argument"]
    return [*options, "--help", *(_ID for name in arguments if name.startswith(_ID))]


def _places(wanted: list[str], commands: list[Any]) -> list[tuple[str, Any]]:
    """Return each wanted option with each command that has it."""
    return [(one, command) for one in wanted for command in commands if one in _offers(command)]


def _path(command: Any) -> str:
    return "oaibg" if command.name == "oaibg" else f"oaibg {command.name}"


def _nearest(word: str, names: Iterable[str], alike: float = 0.6) -> str:
    """Return a name that starts with the word, or that the word starts with, or the closest one."""
    word = word.lower().lstrip("-")
    bare = {name.lstrip("-"): name for name in names}
    begun = sorted((name for name in bare if word and name.startswith(word)), key=len)
    longer = [name for name in bare if word.startswith(name) and word[len(name) :].isalpha()]
    found = begun or longer or get_close_matches(word, bare, n=1, cutoff=alike)
    return bare[found[0]] if found else ""


def _did_you_mean(meant: str) -> str:
    return meant and f"Did you mean {meant}?"


def _error(message: str, command: Any, meant: str = "") -> UsageError:
    more = f"`{_path(command)} --help`"
    return UsageError(message, hint=meant if more in meant else f"{meant} Try {more}.".strip())
