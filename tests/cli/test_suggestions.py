"""Usage errors for misspelled or unknown words, and what they suggest instead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from oaibg.cli import suggestions

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result

COMMANDS = ("submit", "monitor", "cancel", "show")


def hint_for(run: Callable[..., Result], *argv: str) -> str:
    """Return the hint of a usage error, which is the only event; stderr has the same text."""
    result = run(*argv)
    last = result.last
    assert (result.code, last["event"], last["code"]) == (2, "error", "usage")
    assert result.err == f"Error: {last['message']}\n{last['hint']}\n"
    assert result.events == ["error"]
    return str(last["hint"])


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("submit --prom x", "Did you mean --prompt?"),
        ("submit --promtp x", "Did you mean --prompt?"),
        ("submit --prev x", "Did you mean --previous-response-id?"),
        ("submit --Prompt x", "Did you mean --prompt?"),
        ("submit --reasoning_effort low", "Did you mean --reasoning-effort?"),
        ("submit --file x", "Did you mean --prompt-file or --input-json-file?"),
        ("submit --output x", "Did you mean --output-text-file or --output-json-file?"),
        ("submit --output-file x", "Did you mean --output-text-file or --output-json-file?"),
        ("submit --out x", "Did you mean --output-text-file or --output-json-file?"),
        ("show -o x", "Did you mean --output-text-file or --output-json-file?"),
        ("submit --wait 5", "Did you mean --max-wait-seconds?"),
        ("submit --timeout 5", "Did you mean --max-wait-seconds?"),
        ("monitor --max-wait=5", "Did you mean --max-wait-seconds?"),
        ("submit --interval 5", "Did you mean --poll-seconds?"),
        ("submit --effort low", "Did you mean --reasoning-effort?"),
        ("submit --key k", "Did you mean --job-key?"),
        ("submit --text x", "Did you mean --prompt or --show-output-text?"),
        ("show --text", "Did you mean --output-text?"),
        ("submit --tools x", "Did you mean --tools-json-file?"),
        ("submit --schema x", "Did you mean --json-schema-file?"),
        ("submit --system x", "Did you mean --system-prompt?"),
        ("submit --messages x", "Did you mean --messages-json-file?"),
        ("submit --input x", "Did you mean --prompt-file or --input-json-file?"),
        ("submit --window 2h", "Did you mean --completion-window?"),
        ("submit --no-wait", "Did you mean --detach?"),
        ("submit --id resp_1", "Did you mean --continue?"),
        ("--verison", "Did you mean --version?"),
        ("submit --json", "--output-json-file saves"),
        ("show --follow", "--stream emits an event per step"),
        ("submit --background", "--detach submits it without waiting"),
        ("submit --store", "--body-json-file"),
        ("submit --temperature 1", "--body-json-file"),
        ("submit --top-p=1", "--body-json-file"),
        ("submit --api-key x", "OPENAI_API_KEY"),
        ("--base-url x submit", "OPENAI_BASE_URL"),
        ("monitor --response-id resp_1", "The ID is an argument: `oaibg monitor RESPONSE_ID`."),
        ("show --id resp_1", "The ID is an argument: `oaibg show RESPONSE_ID`."),
        ("monitor --prompt x", "--prompt is an option of `oaibg submit`."),
        ("submit --list", "--list is an option of `oaibg show`."),
        (
            "show --timeout 5",
            "--max-wait-seconds is an option of `oaibg submit` and `oaibg monitor`.",
        ),
        ("submit --event-schema", "--event-schema is an option of `oaibg`."),
        ("--job-key x submit", "Put it after the command: `oaibg submit --job-key`."),
        ("--job-key x show", "Put it after the command: `oaibg show --job-key`."),
        ("--timeout 5 monitor x", "Put it after the command: `oaibg monitor --max-wait-seconds`."),
        ("--prompt x", "Put it after the command: `oaibg submit --prompt`."),
    ],
)
def test_wrong_option(run: Callable[..., Result], line: str, meant: str) -> None:
    """The hint for an unknown option names the right option, or what to do instead."""
    hint = hint_for(run, *line.split())
    assert meant in hint
    assert hint.endswith(" --help`.")


def test_option_without_a_similar_one(run: Callable[..., Result]) -> None:
    """If no option is similar, the hint only names the help."""
    assert hint_for(run, "show", "--frobnicate") == "Try `oaibg show --help`."


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("submit --reasoning-effort hi", "high"),
        ("submit --reasoning-effort MEDIUM", "medium"),
        ("submit --reasoning-effort maximum", "max"),
        ("submit --verbosity hight", "high"),
        ("submit --completion-window 24", "24h"),
        ("monitor x --events change", "changes"),
    ],
)
def test_wrong_value(run: Callable[..., Result], line: str, meant: str) -> None:
    """The hint for an invalid value names the most similar valid value."""
    assert f"Did you mean {meant}?" in hint_for(run, *line.split())


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        *(
            (words, f"Did you mean `oaibg {meant}`?")
            for words, meant in suggestions.COMMANDS.items()
        ),
        ("submti sumbit", "Did you mean `oaibg submit`?"),
        ("lst", "Did you mean `oaibg show --list`?"),
        ("resp_123", "Use `oaibg monitor resp_123` to follow it"),
        ("batch_123", "or `oaibg show batch_123` to see it now."),
    ],
)
def test_wrong_command(run: Callable[..., Result], words: str, meant: str) -> None:
    """The hint for another tool's command name, or a misspelled one, names our command."""
    for word in words.split():
        assert meant in hint_for(run, word, "resp_1")


def test_prompt_without_a_command(run: Callable[..., Result]) -> None:
    """For a prompt without a command, the hint names `submit`; the prompt is not repeated."""
    assert '`oaibg submit "PROMPT"`' in hint_for(run, "my secret")
    assert b"secret" not in run("my secret").out


@pytest.mark.parametrize("word", ["question", "Status?", "job-x", "lists of lakes"])
def test_question_without_a_command(run: Callable[..., Result], word: str) -> None:
    """A word that is not close to a command may be a prompt."""
    expected = 'For a prompt: `oaibg submit "PROMPT"`. Try `oaibg --help`.'
    assert hint_for(run, word) == expected


def test_key_instead_of_a_command(run: Callable[..., Result]) -> None:
    """The hint for a key in place of a command names the commands that accept it."""
    run("submit", "x", "--detach", "--job-key", "job-x")
    assert "Use `oaibg monitor job-x` to follow it, or" in hint_for(run, "job-x")


def test_help_is_named_once(run: Callable[..., Result]) -> None:
    """A hint that means the help names it once."""
    assert hint_for(run, "help") == "Did you mean `oaibg --help`?"


def test_cancel_without_a_job(run: Callable[..., Result]) -> None:
    """`cancel` without a job asks for one."""
    last = run("cancel").last
    assert last["message"] == "Which job? Give its ID or key: `oaibg cancel ID|KEY`."


def test_second_id_for_show(run: Callable[..., Result]) -> None:
    """`show` refuses a second ID; the hint names the command that accepts several."""
    assert "`oaibg monitor` accepts several" in hint_for(run, "show", "resp_1", "resp_2")


def test_suggested_names_exist(run: Callable[..., Result]) -> None:
    """Every option and command that a suggestion names exists; no synonym does."""
    helps = [run(*name.split(), "--help").out.decode() for name in ("", *COMMANDS)]
    exist = set(re.findall(r"(?m)^  (--[a-z-]+)", "".join(helps)))
    for words, meant in suggestions.OPTIONS.items():
        assert set(re.findall(r"--[a-z-]+", meant)) <= exist
        assert not set(words.split()) & exist
    for words, meant in suggestions.COMMANDS.items():
        assert set(re.findall(r"--[a-z-]+", meant)) <= exist
        assert {meant.split()[0]} <= {*COMMANDS, "--help", "--version"}
        assert not set(words.split()) & set(COMMANDS)
    every = [word for words in suggestions.OPTIONS for word in words.split()]
    assert len(every) == len(set(every))


@pytest.mark.parametrize(("word", "kind"), [("resp_123", "response"), ("batch_123", "batch")])
def test_id_instead_of_a_command(run: Callable[..., Result], word: str, kind: str) -> None:
    """An ID in place of a command is named as an ID."""
    assert run(word).last["message"] == f"That is a {kind} ID, not a command."
