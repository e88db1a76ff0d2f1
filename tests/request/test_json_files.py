"""Input files as such: encoding, paths and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oaibg.contract.errors import UsageError
from oaibg.request import fields, json_files
from runs import refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox


def test_file_that_is_not_utf8(tmp_path: Path) -> None:
    """The error for a file that is not UTF-8 names the first invalid byte."""
    path = tmp_path / "m.json"
    path.write_bytes(b'["\xff"]')
    with pytest.raises(UsageError, match="byte 2 is not UTF-8"):
        fields.read_messages(str(path))


def test_file_that_is_too_large(run: Callable[..., Result], tmp_path: Path) -> None:
    """A file above the limit is refused, even if it never ends."""
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(json_files.INPUT_BYTES_MAX + 1)
    for path in (str(large), "/dev/zero"):
        result = run("submit", "--messages-json-file", path)
        assert (result.code, result.last["code"]) == (2, "usage")
        assert result.last["message"] == f"{path}: larger than the limit of 256 MiB."


JSON_OPTIONS = (
    *("--messages-json-file", "--input-json-file", "--body-json-file", "--tools-json-file"),
    "--json-schema-file",
)
PASTED = [
    ("curl https://api.openai.com/v1/responses -d '{}'\n", "this is a curl", "JSON after -d into"),
    ("\n$ curl -X POST\\\n -d '{}'", "this is a curl command", "only the JSON after -d"),
    ('```json\n{"a": 1}\n```\n', "this is Markdown", "between the lines with ```"),
    ("Summarize this.\n", "this is not JSON", "For the text of a prompt, use --prompt-file."),
    ("Überblick: 5 Punkte", "this is not JSON", "use --prompt-file."),
]


@pytest.mark.parametrize("option", JSON_OPTIONS)
@pytest.mark.parametrize(("content", "found", "hint"), PASTED)
def test_a_text_in_place_of_json(
    run: Callable[..., Result],
    sandbox: Sandbox,
    tmp_path: Path,
    option: str,
    content: str,
    found: str,
    hint: str,
) -> None:
    """A curl command, Markdown or prose in place of JSON is named, with what to do instead."""
    path = tmp_path / "in.json"
    path.write_text(content)
    prompt = () if option in JSON_OPTIONS[:3] else ("--prompt", "x")
    refused(run("submit", *prompt, option, str(path)), sandbox, f"{path}: {found}", hint)


@pytest.mark.parametrize(
    "content", ['{"a": 1,}', "{'a': 1}", "[1, 2", "NaN", '"a', "1 2", "true x"]
)
def test_invalid_json(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, content: str
) -> None:
    """An error in JSON is not taken for another kind of text."""
    path = tmp_path / "in.json"
    path.write_text(content)
    result = run("submit", "--input-json-file", str(path))
    refused(result, sandbox)
    assert "this is" not in result.last["message"]
