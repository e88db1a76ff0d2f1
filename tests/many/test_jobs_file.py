"""Jobs files: what is a usage error, and the requests that come from one."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from oaibg.contract.errors import OaibgError
from oaibg.request.body import Settings, canonical_json
from oaibg.request.jobs_file import JobsFile
from runs import BatchFiles, Files, as_bytes, line, refused
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox


@pytest.mark.slow
def test_a_batch_with_too_many_jobs(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """A batch of 50,001 jobs is a usage error."""
    body = '"method":"POST","url":"/v1/responses","body":{"input":"x"}}\n'
    batch.jobs.write_text("".join(f'{{"custom_id":"{n}",{body}' for n in range(50_001)))
    refused(run(*batch.argv()), sandbox, "50,001", "50,000", "Split")
    assert not batch.results.exists()


@pytest.mark.slow
def test_a_batch_with_too_many_bytes(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """The size of a batch is the size of its upload, with the options filled in."""
    batch.write(*(line(str(number)) for number in range(1000)))
    instructions = batch.folder / "body.json"
    instructions.write_text(json.dumps({"instructions": "x" * 200_000}))
    result = run(*batch.argv("--body-json-file", str(instructions)))
    refused(result, sandbox, "the limit for a batch is 200,000,000", "Split")


def test_a_batch_with_two_models(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """A batch has one model: the error names the two lines that differ."""
    batch.write(line("a"), "", line("b", model="gpt-5.1"))
    refused(run(*batch.argv()), sandbox, "line 3", "'gpt-5.1'", "line 1", "'gpt-5.2'")


GOOD = line("good")


def without(key: str) -> dict[str, Any]:
    """Return the good line without a key."""
    return {name: value for name, value in GOOD.items() if name != key}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (as_bytes(GOOD, b"{nonsense\n"), "line 2: invalid JSON at column 2"),
        (as_bytes(GOOD, b'{"a": NaN}\n'), "line 2: NaN is not valid JSON"),
        (as_bytes(GOOD, b"\n\n", [1]), "line 4: expected a JSON object, found an array"),
        (as_bytes(without("body")), "line 1: body is missing"),
        (as_bytes(GOOD | {"extra": 1}), "line 1: unknown key 'extra'"),
        (as_bytes(GOOD | {"method": "GET"}), "line 1: method must be"),
        (as_bytes(GOOD | {"url": "/v1/embeddings"}), "line 1: url must be"),
        (as_bytes(GOOD | {"body": "x"}), "line 1: body: expected an object"),
        (as_bytes(GOOD, b'{"custom_id":"a","custom_id":"b"}\n'), "an object contains the key"),
        (as_bytes(line(1)), "line 1: custom_id must be"),
        (as_bytes(line("")), "line 1: custom_id must be"),
        (as_bytes(line("x" * 513)), "line 1: custom_id must be"),
        (as_bytes(line("a\nb")), "line 1: custom_id must be"),
        (as_bytes(line("\udc80")), "line 1: custom_id must be"),
        (as_bytes(GOOD, b"\n", line("x"), GOOD), "line 4: line 1 already has the custom_id 'good'"),
        (as_bytes(line("a", input="")), "line 1: The request can't be sent: input is missing"),
        (as_bytes(line("a", input=[])), "line 1: The request can't be sent: input is missing"),
        (as_bytes(line("a", input=None)), "line 1: The request can't be sent: input is missing"),
        (as_bytes(GOOD | {"body": {}}), "line 1: The request can't be sent: input is missing"),
        (as_bytes(line("a", background=False)), "line 1: body: remove `background`"),
        (as_bytes(line("a", stream=True)), "line 1: body: remove `stream`"),
        (as_bytes(line("a", stream=None)), "line 1: body: remove `stream`"),
        (as_bytes(line("a", user="\udc80")), "line 1: The request can't be sent"),
        (as_bytes(GOOD, b"\xff\xfe\n"), "line 2: byte 0 is not UTF-8"),
        (json.dumps(GOOD).encode("utf-16"), "not UTF-8"),
        (b"", "contains no jobs"),
        (b"\n \r\n\n", "contains no jobs"),
        (b"\xef\xbb\xbf\n", "contains no jobs"),
        (as_bytes(GOOD)[:-20], "line 1: invalid JSON at column"),
    ],
)  # fmt: skip
def test_a_bad_jobs_file(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, content: bytes, message: str
) -> None:
    """A bad line is a usage error with the line's number, and nothing is sent or written."""
    files.jobs.write_bytes(content)
    for options in ((), ("--dry-run",)):
        result = run(*files.argv(*options))
        assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
        assert result.last["message"].startswith(f"{files.jobs}: ")
        assert message in result.last["message"]
        assert result.last["outcome"] == "not_created"
    assert not sandbox.requests
    assert not files.results.exists()


def test_bad_lines_are_reported_together(run: Callable[..., Result], files: Files) -> None:
    """One error names each mistake once, with the numbers of up to five lines that have it."""
    bad = [{"custom_id": f"b{one}"} for one in range(9)]
    files.write(line("a"), *bad[:3], line("b"), bad[3])
    message = run(*files.argv()).last["message"]
    assert message.startswith(f"{files.jobs}: line 2, line 3, line 4, line 6: body is missing")
    files.write(*bad, {"prompt": 1})
    message = run(*files.argv()).last["message"]
    assert message.count("body is missing") == 1
    assert ": line 1, line 2, line 3, line 4, line 5, and 4 more: body is missing" in message
    assert "; line 10: " in message


def test_paths_that_are_not_files(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """stdin, a directory, a pipe and a missing file are usage errors at once."""
    pipe = files.folder / "pipe"
    os.mkfifo(pipe)
    for path in ("-", "", str(files.folder), str(pipe), str(files.folder / "none"), "a\0b"):
        result = run("submit", "--jobs-file", path, "--results-file", str(files.results))
        assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
    assert not sandbox.requests


@pytest.mark.parametrize(
    "options",
    [
        ("--prompt", "x"),
        ("--input-json-file", "x"),
        ("--system-prompt", "x"),
        ("--output-json-file", "x"),
        ("--output-text-file", "x"),
        ("--detach",),
        ("--max-in-flight", "0"),
        ("--results-file", "/no/such/folder/f"),
        ("--results-file", "-"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_fit(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, options: tuple[str, ...]
) -> None:
    """Options that don't fit a jobs file are usage errors, and nothing is sent."""
    files.add(1)
    result = run(*files.argv(*options))
    assert (result.code, result.events, len(sandbox.requests)) == (2, ["error"], 0)


def test_a_results_file_is_needed(run: Callable[..., Result], files: Files) -> None:
    """A jobs file needs a results file except in a dry run; a prompt can't have one."""
    files.add(1)
    assert run("submit", "--jobs-file", str(files.jobs)).code == 2
    assert run("submit", "--jobs-file", str(files.jobs), "--dry-run").code == 0
    assert run("submit", "--prompt", "x", "--results-file", str(files.results)).code == 2
    assert run("submit", "--prompt", "x", "--max-in-flight", "2").code == 2


def test_line_ends_and_marks(many: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """A BOM, CRLF, blank lines and a last line without a line end are accepted."""
    content = as_bytes(line("a"), b"\n", line("\u00e9 \u4e2d"), b" \t\n")
    content = b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n") + as_bytes(line("c"))[:-1]
    files.jobs.write_bytes(content)
    assert many(*files.argv()).code == 0
    assert set(files.read()) == {"a", "\u00e9 \u4e2d", "c"}


def test_options_fill_in_bodies(
    many: Callable[..., Result], files: Files, sandbox: Sandbox
) -> None:
    """Options fill in missing keys, null stays, and the body file overrides everything."""
    schema = {"type": "object", "properties": {"a": {"default": None, "enum": [None, 1]}}}
    form = {"type": "json_schema", "name": "n", "schema": schema}
    lines = [
        line("plain"),
        line("own", model="m", text={"verbosity": "high"}, reasoning={"summary": "auto"}),
        line("null", reasoning=None, text=None, metadata=None, instructions=None),
        line("schema", text={"format": form}, metadata={"a": "own"}, tools=[]),
        line("forced", top_p=0.5, background=True, max_output_tokens=7),
    ]
    patch = files.folder / "patch.json"
    patch.write_text('{"top_p": 0.1, "reasoning": {"effort": "xhigh"}, "max_output_tokens": null}')
    bodies: dict[str, Any] = {}
    for some in (lines[:3], lines[3:]):  # a dry run prints three
        files.write(*some)
        result = many(
            *("submit", "--jobs-file", str(files.jobs), "--dry-run", "--verbosity", "low"),
            *("--body-json-file", str(patch), "--metadata", "a=b", "--metadata", "c=d"),
            *("--model", "general", "--instructions", "Be brief.", "--max-output-tokens", "9"),
        )
        bodies |= {one["custom_id"]: one["body"] for one in result.lines[:-1]}
    usual = {
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "reasoning": {"effort": "xhigh"},
        "metadata": {"a": "b", "c": "d"},
        "model": "general",
        "instructions": "Be brief.",
        "background": True,
        "top_p": 0.1,
    }
    texts = {name: {"input": f"input of {name}"} for name in bodies}
    assert bodies == {
        "plain": usual | texts["plain"],
        "own": usual | texts["own"] | {
            "model": "m",
            "text": {"format": {"type": "text"}, "verbosity": "high"},
            "reasoning": {"effort": "xhigh", "summary": "auto"},
        },
        "null": usual | texts["null"] | {
            "text": None, "metadata": None, "instructions": None,
        },
        "schema": usual | texts["schema"] | {
            "text": {"format": form, "verbosity": "low"},
            "metadata": {"a": "own", "c": "d"},
            "tools": [],
        },
        "forced": usual | texts["forced"],
    }  # fmt: skip
    assert not sandbox.requests


def test_a_dry_run_prints_what_is_sent(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run needs no key and sends nothing; a real run sends exactly the bodies it printed."""
    files.write(
        line("a", text={"verbosity": "low"}, input=[{"role": "user", "content": "\u00e9\u2028"}]),
        line("b", temperature=1.0, metadata={"x": "y"}),
        line("c", reasoning={"effort": "low"}, model="other"),
    )
    options = ("--metadata", "k=v", "--completion-window", "2h", "--verbosity", "omit")
    key = os.environ["OPENAI_API_KEY"]
    monkeypatch.delenv("OPENAI_API_KEY")
    dry = many(*files.argv(*options, "--dry-run"))
    assert (dry.code, dry.events) == (0, ["dry_run"] * 3 + ["summary"])
    assert [one["custom_id"] for one in dry.lines] == ["a", "b", "c", None]
    assert {one["exit_code"] for one in dry.lines[:-1]} == {None}
    assert {one["url"] for one in dry.lines[:-1]} == {f"{sandbox.base_url}/responses"}
    assert dry.last["counts"] == {"valid": 3}
    assert not sandbox.requests
    assert not files.results.exists()
    monkeypatch.setenv("OPENAI_API_KEY", key)
    result = many(*files.argv(*options))
    sent = Counter(canonical_json(post.body) for post in sandbox.posts)
    assert sent == Counter(canonical_json(one["body"]) for one in dry.lines[:-1])
    starts = {one["custom_id"]: one["request_sha256"] for one in result.lines
              if one["event"] == "submit_start"}  # fmt: skip
    assert starts == {one["custom_id"]: one["request_sha256"] for one in dry.lines[:-1]}


def test_a_dry_run_is_short(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """A dry run checks all lines, and prints only the first three requests."""
    files.add(20)
    dry = checked(run(*files.argv("--dry-run")))
    assert (dry.code, dry.events) == (0, ["dry_run"] * 3 + ["summary"])
    assert [one["custom_id"] for one in dry.lines] == ["job 0", "job 1", "job 2", None]
    assert dry.last["counts"] == {"valid": 20}
    files.jobs.write_bytes(files.jobs.read_bytes() + b"{}\n")
    dry = run(*files.argv("--dry-run"))
    assert (dry.code, dry.events) == (2, ["error"])
    assert "line 21: body is missing" in dry.last["message"]
    assert not sandbox.requests


def test_a_jobs_file_that_changes_during_a_run(files: Files) -> None:
    """A line that changed after validation is not sent, and a replaced file is not read."""
    files.write(line("a"), line("b"), line("c"))
    settings = Settings(model="m", reasoning_effort="low", verbosity="low")
    file = JobsFile(str(files.jobs), settings)
    good = [file.request(one) for one in file.lines]
    other = files.folder / "other"
    other.write_text("something else")
    other.replace(files.jobs)
    assert [file.request(one) for one in file.lines] == good
    file.close()
    files.write(line("a"), line("b"), line("c"))
    file = JobsFile(str(files.jobs), settings)
    text = files.jobs.read_text()
    with files.jobs.open("r+") as writer:  # the same file, and the same length
        writer.write(text.replace("input of b", "input of B").replace('"c"', '"d"'))
    assert file.request(file.lines[0]) == good[0]
    for changed in file.lines[1:]:
        with pytest.raises(OaibgError) as caught:
            file.request(changed)
        assert (caught.value.code, caught.value.outcome) == ("jobs_file_changed", "not_created")
        assert f"line {changed.number} changed" in caught.value.message
    file.close()


def test_a_directory_above_a_link(
    many: Callable[..., Result], files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`link/..` is the directory above the link's target, as the system resolves it."""
    (files.folder / "a" / "b").mkdir(parents=True)
    (files.folder / "link").symlink_to(files.folder / "a" / "b")
    files.add(1)
    inner = Files(files.folder / "a")
    inner.add(1, first=7)
    monkeypatch.chdir(files.folder)
    result = many("submit", "--dry-run", "--jobs-file", "link/../jobs.jsonl")
    assert [line["custom_id"] for line in result.lines if line["event"] == "dry_run"] == ["job 7"]
