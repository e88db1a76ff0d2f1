"""Prompts in the wrong place: the errors say so, and don't repeat them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

TEXT = "Summarize the secret plan of our company in five words, please."
JSON = '[{"role": "user", "content": "the secret plan"}]'
FILES = (
    *("--prompt-file", "--messages-json-file", "--input-json-file", "--tools-json-file"),
    *("--json-schema-file", "--body-json-file", "--jobs-file", "--attach"),
)


@pytest.mark.parametrize("option", FILES)
@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        JSON,
        "Tell me\nthe secret plan",
        "secret plan " * 100,
        '{"secret plan": 1}',
        '{"input":"hi"}',
    ],
)
def test_a_text_in_place_of_a_path(
    run: Callable[..., Result], sandbox: Sandbox, folder: Path, option: str, text: str
) -> None:
    """A text in place of the path of an input file is named as such, and is not repeated."""
    del folder
    for argv in ((option, text), (f"{option}={text}",)):
        result = run("submit", *argv)
        assert (result.code, result.last["code"]) == (2, "usage")
        assert option in result.last["message"]
        assert "looks like the text itself" in result.last["message"]
        assert "secret plan" not in result.out.decode() + result.err
    assert not sandbox.requests


def test_a_short_prompt_in_place_of_a_path(run: Callable[..., Result], folder: Path) -> None:
    """A prompt of two words is one, too; the name of a missing file is still repeated."""
    assert "looks like the text" in run("submit", "--prompt-file", "my text").last["message"]
    for name in ("my text.txt", "Notes of 3 May 2024.md", "gone", f"{folder}/my file"):
        message = run("submit", "--prompt-file", name).last["message"]
        assert message == f"{name}: No such file or directory."


@pytest.mark.parametrize(
    "option",
    [
        *("--reasoning-effort", "--poll-seconds", "--max-output-tokens", "--metadata"),
        *("--output-text-file", "--results-file", "--artifacts-dir", "--max-cost-usd"),
        *("--completion-window", "--continue", "--include", "--job-key", "--no-such-option"),
    ],
)
def test_a_text_in_place_of_another_value(
    run: Callable[..., Result], sandbox: Sandbox, folder: Path, option: str
) -> None:
    """The error for a wrong value does not repeat a text."""
    del folder
    for argv in ((option, f"{TEXT}/{TEXT}"), (f"{option}={TEXT}/\n{TEXT}",)):
        result = run("submit", *argv)
        assert result.code == 2
        assert "secret plan" not in result.out.decode() + result.err
    assert not sandbox.requests


@pytest.mark.parametrize("command", ["monitor", "cancel", "show"])
def test_a_text_in_place_of_an_id(run: Callable[..., Result], command: str) -> None:
    """The error for a text in place of an ID does not repeat it."""
    result = run(command, TEXT)
    assert result.code in (2, 5)
    assert "secret plan" not in result.out.decode() + result.err


@pytest.mark.parametrize(
    ("argv", "response_id", "job_key"),
    [
        (("submit", "x", "--job-key", "k", "--bogus"), None, "k"),
        (("submit", "--bogus", "--job-key", "k", "x"), None, "k"),
        (("submit", "x", "--max-wait-seconds", "soon", "--job-key=k"), None, "k"),
        (("submit", "--prompt-file", "gone", "--job-key", "k"), None, "k"),
        (("submit", "x", "--results-file", "r", "--job-key", "k"), None, "k"),
        (("show", "--job-key", "k", "--output-text-file", "gone/a.md"), None, "k"),
        (("show", "resp_1", "--output-text-file", "gone/a.md"), "resp_1", None),
        (("monitor", "resp_1", "--bogus"), "resp_1", None),
        (("cancel", "resp_1", "--job-key", "k"), "resp_1", "k"),
        (("submit", "x", "--bogus", "--job-key", "secret plan"), None, None),
        (("submit", "x", "--bogus", "--job-key", JSON.replace(" ", "")), None, None),
        (("submit", "x", "--bogus", "--job-key", ""), None, None),
        (("submit", "--bogus", "--prompt", "--job-key", "secret"), None, None),
        (("submit", "--bogus", "--", "--job-key", "secret"), None, None),
        (("show", "secret", "--bogus"), None, None),
        (("secret", "--job-key", "k"), None, None),
        (("monitor", "resp_1", "resp_2", "--bogus"), None, None),
    ],
)
def test_a_usage_error_names_the_job(
    run: Callable[..., Result],
    folder: Path,
    argv: tuple[str, ...],
    response_id: str | None,
    job_key: str | None,
) -> None:
    """A refused command line keeps its job key and its ID, but nothing that may be a prompt."""
    del folder
    result = run(*argv)
    assert (result.code, result.last["code"]) == (2, "usage")
    assert (result.last["response_id"], result.last["job_key"]) == (response_id, job_key)
