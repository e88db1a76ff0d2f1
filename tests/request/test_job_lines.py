"""Short lines of a jobs file, and files in another format."""

from __future__ import annotations

import json
import subprocess
from shutil import which
from typing import TYPE_CHECKING, Any

import pytest

from runs import Files, as_bytes, line, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

HELLO = [{"role": "user", "content": "Hello"}]
ITEMS = [{"role": "user", "content": [{"type": "input_text", "text": "é"}]}]


def jobs(dry: Result) -> dict[str, Any]:
    """Return the input of each request that a dry run printed, by custom_id."""
    assert dry.code == 0, dry.out
    return {one["custom_id"]: one["body"]["input"] for one in dry.lines[:-1]}


def test_short_lines(run: Callable[..., Result], files: Files) -> None:
    """A line needs only a prompt, an input or a body; its number is the default of custom_id."""
    files.write({"prompt": " a\n"}, "", {"input": ITEMS}, {"input": "c", "custom_id": "mine"})
    assert jobs(run(*files.argv("--dry-run"))) == {"1": " a\n", "3": ITEMS, "mine": "c"}
    files.write({"body": {"input": "d"}}, {"url": "/v1/responses", "prompt": "e"})
    assert jobs(run(*files.argv("--dry-run"))) == {"1": "d", "2": "e"}


def test_short_lines_and_long_lines_are_the_same_jobs(
    many: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """A short line is the same job as a line in the Batch API's format, also in a rerun."""
    files.write({"prompt": "input of 1"}, {"input": "input of 2", "custom_id": "b"})
    assert many(*files.argv("--instructions", "Be brief.")).code == 0
    assert {post.body["instructions"] for post in sandbox.posts} == {"Be brief."}
    files.write(line("1"), line("b", input="input of 2"))
    result = many(*files.argv("--instructions", "Be brief."))
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    assert len(sandbox.posts) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"prompt": "a"}, line("1")], "line 2: line 1 already has the custom_id '1'"),
        ([line("2"), {"prompt": "a"}], "line 2: line 1 already has the custom_id '2'"),
        ([{"custom_id": "a"}], "line 1: body is missing; a line has one of body, prompt and input"),
        ([{"prompt": "a", "input": "b"}], "line 1: found both prompt and input; a line has one of"),
        ([{"prompt": "a", "body": {}}], "line 1: found both body and prompt; a line has one of"),
        ([{"prompt": " \n"}], "line 1: the prompt is empty"),
        ([{"prompt": None}], "line 1: prompt: expected a string, found null"),
        ([{"prompt": {"id": "pmpt_1"}}], "line 1: prompt: expected a string, found an object"),
        ([{"input": []}], "line 1: The request can't be sent: input is missing or empty"),
        ([{"input": ""}], "line 1: The request can't be sent: input is missing or empty"),
        ([{"input": 1}], "line 1: input: expected a string or an array of input items, found a"),
        ([{"prompt": "a", "model": "m"}], '1 in Responses format: {"body": {"input": "a", "model"'),
        ([{"body": {"input": "a"}, "model": "m"}], "'model'; a line can have custom_id, method, "),
        ([{"prompt": "a", "custom_id": None}], "line 1: custom_id must be"),
    ],
)
def test_bad_short_lines(
    run: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    content: list[dict[str, Any]],
    message: str,
) -> None:
    """A bad short line is a usage error that names the line."""
    files.write(*content)
    refused(run(*files.argv()), sandbox, message)


@pytest.mark.parametrize(
    "chat",
    [
        {"messages": HELLO, "model": "m"},
        line("a") | {"body": {"model": "m", "messages": HELLO}},
        line("a")
        | {
            "url": "/v1/chat/completions",
            "body": {"messages": HELLO},
        },
    ],
)
def test_chat_lines(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, chat: dict[str, Any]
) -> None:
    """Lines for chat completions are named, with a line in Responses format."""
    files.write(line("first"), chat)
    words = ("line 2: this is chat format (`messages`)", '"input": [{"role": "user", "content"')
    refused(run(*files.argv()), sandbox, *words)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf\n "])
def test_an_array_of_jobs(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, indent: int | None, mark: bytes
) -> None:
    """The error for a JSON array shows its first element as a line."""
    array = [{"custom_id": "é", "prompt": "[Hi]"}, {"prompt": "b"}]
    files.jobs.write_bytes(mark + json.dumps(array, indent=indent).encode())
    words = ("the file is a JSON array", 'then: {"custom_id": "é", "prompt": "[Hi]"}')
    refused(run(*files.argv()), sandbox, *words)


@pytest.mark.parametrize("content", [b"[", b"[1]", b'[["a"]', b"[" * 100_000])
def test_arrays_that_have_no_first_job(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, content: bytes
) -> None:
    """The error for any other array says how to write a jobs file."""
    files.jobs.write_bytes(content)
    result = run(*files.argv())
    refused(result, sandbox, "the file is a JSON array", "on a line of its own")
    name = f"{files.folder / 'jobs'}.lines.jsonl"
    assert result.last["hint"].endswith(f"jq -c '.[]' {files.jobs} > {name}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("curl https://api.openai.com/v1/responses, -d '{}'\n", "JSON after -d into the file."),
        ('```json\n{"prompt": "a"}\n```\n', "only the JSON between the lines with ```"),
    ],
)
def test_pasted_text_is_not_prompts(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, content: str, words: str
) -> None:
    """The lines of a curl command or of Markdown are not taken for prompts."""
    files.jobs.write_text(content)
    result = run(*files.argv())
    refused(result, sandbox, words)
    assert result.last["message"].startswith(f"{files.jobs}: ")
    assert "jq" not in result.last["hint"]


@pytest.mark.process
@pytest.mark.skipif(which("jq") is None, reason="jq is not installed")
@pytest.mark.parametrize("content", ['["a; b", "c"]', '[\n "a; b",\n "c"\n]\n', '"a; b"\n"c"\n'])
def test_prompts_that_are_json_strings(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, content: str
) -> None:
    """The command in the hint turns an array of strings, or a string per line, into jobs."""
    files.jobs.write_text(content)
    result = run(*files.argv())
    refused(result, sandbox, "is a prompt, run: jq -c '")
    subprocess.run("jq" + result.last["hint"].partition("run: jq")[2], shell=True, check=True)
    files.jobs = files.folder / "jobs.lines.jsonl"
    dry = run(*files.argv("--dry-run")).lines[:-1]
    assert [one["body"]["input"] for one in dry] == ["a; b", "c"]


@pytest.mark.parametrize(
    ("content", "extension"),
    [("Prompt,id\nx,1\n", ".csv"), ('\ufeff"id";"prompt"\r\n', ".csv"), ("id\tprompt\n", ".tsv")],
)
def test_a_table_whose_name_is_not_that_of_one(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, content: str, extension: str
) -> None:
    """The error for a table without a table's extension says which one it needs."""
    files.jobs.write_text(content)
    refused(run(*files.argv()), sandbox, "looks like a table", f"ends in {extension}.")


def test_a_line_with_its_number_as_custom_id(
    many: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """The results have the numbers of the lines, blank ones included."""
    files.jobs.write_bytes(as_bytes({"prompt": "a"}, b"\n", {"prompt": "b"}))
    assert many(*files.argv()).code == 0
    assert files.read().keys() == {"1", "3"}
