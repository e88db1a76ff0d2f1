"""The prompt as the argument of `submit`, and what is refused as one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox


def messages(result: Result) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the roles and the content of the messages in a dry run."""
    assert result.code == 0
    return [(message["role"], message["content"]) for message in result.last["body"]["input"]]


def refusal(run: Callable[..., Result], *argv: str) -> tuple[str, str]:
    """Return the message and the hint of the usage error of a submit."""
    result = run("submit", *argv)
    assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
    return result.last["message"], result.last["hint"]


def test_prompt_as_the_argument(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The argument is the same request as --prompt."""
    question = "Name three rivers?"
    assert run("submit", question, "--poll-seconds", "0.05").code == 0
    assert sandbox.posts[0].body["input"] == [
        {"role": "user", "content": [{"type": "input_text", "text": question}]}
    ]
    hashes = {
        run("submit", *argv, "--dry-run").last["request_sha256"]
        for argv in ((question,), ("--prompt", question))
    }
    assert len(hashes) == 1


def test_argument_combines_as_prompt_does(run: Callable[..., Result], folder: Path) -> None:
    """Messages before the prompt and attachments are added to the argument."""
    (folder / "a.md").write_text("x")
    argv = ("--system-prompt", "s", "--developer-prompt", "d", "--attach", "a.md", "--dry-run")
    found = messages(run("submit", "Review it.", *argv))
    assert [role for role, _ in found] == ["system", "developer", "user"]
    assert len(found[-1][1]) == 2


@pytest.mark.parametrize("argv", [("-",), ("--prompt", "-")])
def test_argument_from_stdin(
    run: Callable[..., Result], stdin: Callable[[bytes], None], argv: tuple[str, ...]
) -> None:
    """`-` reads the prompt from stdin."""
    stdin(b"Name three rivers.")
    ((_, content),) = messages(run("submit", *argv, "--dry-run"))
    assert content[0]["text"] == "Name three rivers."


@pytest.mark.parametrize(
    "argv",
    [
        ("q", "--prompt", "x"),
        ("q", "--prompt-file", "x"),
        ("q", "--messages-json-file", "x"),
        ("q", "--input-json-file", "x"),
        ("q", "--jobs-file", "x", "--results-file", "y"),
    ],
)
def test_argument_and_another_input(run: Callable[..., Result], argv: tuple[str, ...]) -> None:
    """Only one input is allowed, and the error names both."""
    assert refusal(run, *argv)[0] == f"Give only one of PROMPT and {argv[1]}."


def test_argument_and_an_option_that_read_stdin(run: Callable[..., Result]) -> None:
    """Only one of the argument and the options can read stdin."""
    assert "Only one option can read stdin" in refusal(run, "-", "--tools-json-file", "-")[0]


def test_argument_and_a_body_with_an_input(run: Callable[..., Result], folder: Path) -> None:
    """The input in --body-json-file would replace the argument, which is an error."""
    (folder / "body.json").write_text('{"input": "x"}')
    message, _ = refusal(run, "q", "--body-json-file", "body.json")
    assert "which would replace that of PROMPT" in message


@pytest.mark.parametrize(
    "argv",
    [
        "Name three rivers",
        "What is the largest river of Bavaria?",
        "--prompt Name three rivers",
        "Name three --detach rivers",
        "-- -5 and 3",
    ],
)
def test_prompt_without_quotes(run: Callable[..., Result], argv: str) -> None:
    """The hint shows where the prompt goes, and repeats none of it: agents may run what it says."""
    message, hint = refusal(run, *argv.split())
    assert '`oaibg submit "PROMPT"`' in hint
    assert not {"Name", "three", "What", "river", "5"} & set(re.findall(r"\w+", message + hint))


def test_two_words_of_which_one_is_an_option(run: Callable[..., Result]) -> None:
    """If the second word of an unquoted --prompt becomes the argument, the hint names quotes."""
    assert "in quotes" in refusal(run, "--prompt", "Why", "not?")[1]


@pytest.mark.parametrize("argv", ["", "--detach", "--attach a.md", "--job-key k"])
def test_no_input(run: Callable[..., Result], argv: str) -> None:
    """Without an input, the hint says what to write."""
    message, hint = refusal(run, *argv.split())
    assert message == "There is no input."
    assert '`oaibg submit "Name three rivers."`' in hint
    assert "`oaibg submit -`" in hint


@pytest.mark.parametrize("prompt", ["", "  "])
def test_empty_argument(run: Callable[..., Result], prompt: str) -> None:
    """An empty prompt is an error."""
    assert refusal(run, prompt)[0] == "The prompt is empty."


@pytest.mark.parametrize("before", [(), ("--prompt",)])
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("task.md", "`oaibg submit --prompt-file task.md`"),
        ("my task", "`oaibg submit --prompt-file 'my task'`"),
        ("Makefile", "`oaibg submit --prompt-file Makefile`"),
        ("jobs.csv", "`oaibg submit --jobs-file jobs.csv --results-file …`"),
        ("messages.JSON", "`oaibg submit --messages-json-file messages.JSON`"),
        ("lake.png", "`oaibg submit PROMPT --attach lake.png`"),
    ],
)
def test_file_as_the_prompt(
    run: Callable[..., Result],
    folder: Path,
    sandbox: Sandbox,
    before: tuple[str, ...],
    name: str,
    meant: str,
) -> None:
    """The path of a file is not a prompt: nothing is sent; the hint has the right command."""
    (folder / name).write_text("x")
    message, hint = refusal(run, *before, name)
    assert message == f"{name} is a file, not a prompt."
    assert meant in hint
    assert not sandbox.requests


@pytest.mark.parametrize("argv", [("--attach", "a.md", "b.md"), ("q", "--attach", "a.md", "b.md")])
def test_pattern_that_the_shell_expanded(
    run: Callable[..., Result], folder: Path, argv: tuple[str, ...]
) -> None:
    """If the shell expanded a pattern of --attach, the hint says to quote it."""
    for name in ("a.md", "b.md"):
        (folder / name).write_text("x")
    hint = refusal(run, *argv)[1].lower()
    assert "pattern" in hint
    assert "quote" in hint


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("taks.md", "taks.md looks like a path, not a prompt."),
        ("./task", "./task looks like a path, not a prompt."),
        ("notes", "notes is a directory, not a prompt."),
        ("resp_123", "resp_123 is a response ID, not a prompt."),
        ("batch_123", "batch_123 is a batch ID, not a prompt."),
    ],
)
def test_word_that_is_no_prompt(
    run: Callable[..., Result], folder: Path, word: str, message: str
) -> None:
    """A single word that looks like a path or an ID is refused; --prompt sends it."""
    (folder / "notes").mkdir()
    found, hint = refusal(run, word)
    assert found == message
    assert hint.endswith("To send this word as it is, use --prompt.")
    assert run("submit", "--prompt", word, "--dry-run").code == 0


@pytest.mark.parametrize("prompt", ["hello", "Why?", "Summarize taks.md", "3.14", "résumé", "a/b"])
def test_short_prompts(run: Callable[..., Result], prompt: str) -> None:
    """Other words are prompts, and so are sentences that end with a path."""
    ((_, content),) = messages(run("submit", prompt, "--dry-run"))
    assert content[0]["text"] == prompt


def test_key_as_the_prompt(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The key of a job is refused as a prompt, unless the same command has a job key."""
    assert run("submit", "hello", "--job-key", "hello", "--detach").code == 0
    assert run("submit", "hello", "--job-key", "hello", "--detach").code == 0
    message, hint = refusal(run, "hello")
    assert message == "hello is the key or ID of a job, not a prompt."
    assert "`oaibg monitor hello`" in hint
    assert len(sandbox.posts) == 1


@pytest.mark.parametrize("prompt", ["- one", "-5 + 3", "--force means what?"])
def test_prompt_that_begins_with_a_hyphen(run: Callable[..., Result], prompt: str) -> None:
    """A prompt that begins with a hyphen goes after `--`, and the hint says so."""
    assert "Put a prompt that begins with - after --." in refusal(run, prompt)[1]
    ((_, content),) = messages(run("submit", "--dry-run", "--", prompt))
    assert content[0]["text"] == prompt
