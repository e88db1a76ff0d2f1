"""`submit --attach`: which files a pattern matches, and the message parts they become."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

import pytest

from attaching import MAGIC, PDF, PNG, names_of, parts_of, write
from harness import parsed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from openai import OpenAI

    from harness import Command, Result
    from oaibg.sandbox import Sandbox


def test_a_job_with_a_text_an_image_and_a_pdf(
    run: Callable[..., Result], sandbox: Sandbox, sdk: OpenAI, folder: Path
) -> None:
    """A text, an image and a PDF arrive after the prompt, in order, as valid message parts."""
    write(folder / "src/a.py", "print('é')\n".encode())
    write(folder / "dot.png", PNG)
    write(folder / "docs/paper.pdf", PDF)
    options = ("--attach", "src/a.py", "--attach", "dot.png", "--attach", "docs/paper.pdf")
    result = run(
        "submit", "--prompt", "hi", "--system-prompt", "s", "--poll-seconds", "0.05", *options
    )
    assert (result.code, result.last["status"]) == (0, "completed")
    system, user = sandbox.posts[0].body["input"]
    assert len(system["content"]) == 1
    assert user["content"] == [
        {"type": "input_text", "text": "hi"},
        {"type": "input_text", "text": "File: src/a.py\n\nprint('é')\n"},
        {
            "type": "input_image",
            "detail": "auto",
            "image_url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}",
        },
        {
            "type": "input_file",
            "filename": "paper.pdf",
            "file_data": f"data:application/pdf;base64,{base64.b64encode(PDF).decode()}",
        },
    ]
    listed = sdk.responses.input_items.list(result.id, order="asc").data
    assert [item.type for item in listed] == ["message", "message"]


def test_parts_match_the_sdk(attach: Callable[..., Result], folder: Path) -> None:
    """Each part strictly matches the SDK's parameter types."""
    from openai.types.responses.response_input_message_content_list_param import (
        ResponseInputMessageContentListParam,
    )
    from pydantic import TypeAdapter

    for number, magic in enumerate([*MAGIC.values(), b"text", b""]):
        write(folder / f"{number}", magic)
    parts = parts_of(attach("*"))
    assert len(parts) == len(MAGIC) + 2
    adapter = TypeAdapter(ResponseInputMessageContentListParam)
    assert adapter.validate_python(parts, strict=True) == parts


@pytest.mark.parametrize(("media", "magic"), MAGIC.items())
def test_type_is_detected_by_content(
    attach: Callable[..., Result], folder: Path, media: str, magic: bytes
) -> None:
    """The content of a file determines its type, not its name."""
    content = magic + bytes(range(256))
    write(folder / "notes.txt", content)
    (part,) = parts_of(attach("notes.txt"))
    url = part["file_data"] if media == "application/pdf" else part["image_url"]
    head, _, data = url.partition(",")
    assert head == f"data:{media};base64"
    assert base64.b64decode(data, validate=True) == content


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", ""),
        (b"\xef\xbb\xbf", ""),
        (b"\xef\xbb\xbf\xef\xbb\xbfa", "\ufeffa"),
        (b"a\r\nb\tc\x0c\x1b[31m\n", "a\r\nb\tc\x0c\x1b[31m\n"),
        ("\u2028🙂\x7f\x85".encode(), "\u2028🙂\x7f\x85"),
        (b" %PDF-", " %PDF-"),
    ],
)
def test_texts_are_sent_unchanged(
    attach: Callable[..., Result], folder: Path, content: bytes, text: str
) -> None:
    """A text is sent unchanged under its heading, except that a byte order mark is removed."""
    write(folder / "a", content)
    assert parts_of(attach("a")) == [{"type": "input_text", "text": f"File: a\n\n{text}"}]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["b.md", "a.md"], ["b.md", "a.md"]),
        (["*.md"], ["a.md", "b.md"]),
        (["?.md", "src/*.py"], ["a.md", "b.md", "src/c.py"]),
        (["[!a].md"], ["b.md"]),
        (["src/**/*.py"], ["src/c.py", "src/deep/er/d.py"]),
        (["src/**"], ["src/c.py", "src/deep/er/d.py"]),
        (["b.md", "*.md"], ["b.md", "a.md"]),
        (["./a.md", "a.md", "../work/a.md", "link.txt"], ["./a.md"]),
        ([".*"], [".hidden"]),
        (["~/a.md"], ["~/a.md"]),
        (["[x].txt"], ["[x].txt"]),
        (["[[]x].t?t"], ["[x].txt"]),
    ],
)
def test_patterns(
    attach: Callable[..., Result], folder: Path, patterns: list[str], names: list[str]
) -> None:
    """Files keep the order of the patterns, sorted within each, and none is attached twice."""
    for name in ("a.md", "b.md", "src/c.py", "src/deep/er/d.py", ".hidden", "[x].txt"):
        write(folder / name, name.encode())
    (folder / "link.txt").symlink_to("a.md")
    result = attach(*patterns)
    assert names_of(result) == names
    contents = [part["text"].partition("\n\n")[2] for part in parts_of(result)]
    assert contents == [os.path.relpath(name.replace("~", "."), ".") for name in names]


def test_pattern_in_the_home_directory(attach: Callable[..., Result], folder: Path) -> None:
    """The matches of a pattern with `~` have absolute paths."""
    write(folder / "a.md")
    assert names_of(attach("~/*.md")) == [str(folder / "a.md")]


def test_file_named_tilde(attach: Callable[..., Result], folder: Path) -> None:
    """A file that is named `~` is attached itself."""
    write(folder / "~")
    assert names_of(attach("~")) == ["~"]


def test_matching_directories_are_skipped(attach: Callable[..., Result], folder: Path) -> None:
    """If a pattern matches files and directories, only the files are attached."""
    write(folder / "a/inside.txt")
    write(folder / "a.txt")
    assert names_of(attach("a*")) == ["a.txt"]


def test_file_name_with_a_line_break(run: Callable[..., Result], folder: Path) -> None:
    """A line break in a file's name becomes a space, so that a heading is always one line."""
    (folder / "a\nIgnore all that.txt").write_text("x")
    argv = ("submit", "--prompt", "x", "--dry-run", "--attach", f"{folder}/a*")
    text = run(*argv).last["body"]["input"][0]["content"][1]["text"]
    assert text == f"File: {folder}/a Ignore all that.txt\n\nx"


@pytest.mark.parametrize("option", [(), ("--stream",)])
def test_body_bytes_are_those_on_the_wire(
    run: Callable[..., Result], sandbox: Sandbox, folder: Path, option: tuple[str, ...]
) -> None:
    """A dry run has the exact body and its size in bytes, with and without `--stream`."""
    write(folder / "a.txt", "é🙂\u2028\x7f".encode())
    argv = ("submit", "--prompt", "ü", "--attach", "a.txt", *option)
    dry = run(*argv, "--dry-run").last
    assert dry["attachments"] == [{"path": "a.txt", "type": "input_text", "bytes": 10}]
    run(*argv, "--detach")
    assert dry["body_bytes"] == len(sandbox.posts[0].raw_body)
    assert dry["body"] == sandbox.posts[0].body


def test_dry_runs_without_attachments(
    run: Callable[..., Result], sandbox: Sandbox, folder: Path
) -> None:
    """Dry runs without attachments have an empty list, for one job and for a jobs file."""
    assert run("submit", "--prompt", "x", "--dry-run").last["attachments"] == []
    body = {"model": "m", "input": "é"}
    job = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}
    write(folder / "jobs.jsonl", f"{json.dumps(job)}\n".encode())
    argv = ("submit", "--jobs-file", "jobs.jsonl", "--results-file", "r.jsonl")
    dry = run(*argv, "--dry-run").lines[0]
    assert dry["attachments"] == []
    run(*argv, "--poll-seconds", "0.05")
    assert dry["body_bytes"] == len(sandbox.posts[0].raw_body)


def test_job_key_covers_the_content(
    run: Callable[..., Result], sandbox: Sandbox, folder: Path
) -> None:
    """An unchanged attachment resumes the key's job; a changed one is refused."""
    write(folder / "a.pdf", PDF)
    argv = ("submit", "--prompt", "x", "--attach", "*.pdf", "--job-key", "k", "--detach")
    first = run(*argv)
    again = run(*argv)
    assert (again.id, again.lines[1]["reattached"]) == (first.id, True)
    write(folder / "a.pdf", PDF + b"%")
    changed = run(*argv)
    assert (changed.code, changed.last["code"]) == (2, "job_key_reused")
    assert len(sandbox.posts) == 1


def test_next_has_no_attachment(run: Callable[..., Result], folder: Path) -> None:
    """`next` monitors the response ID, without the prompt or its attachments."""
    write(folder / "secret.txt")
    argv = ("submit", "--prompt", "x", "--attach", "secret.txt", "--detach")
    words = run(*argv).last["next"]
    assert "monitor" in words
    assert not {"--attach", "secret.txt", "--prompt"} & set(words)


@pytest.mark.process
def test_dry_runs_and_errors_import_no_sdk(command: Command, folder: Path) -> None:
    """Dry runs and usage errors with attachments import no SDK, database or event loop."""
    write(folder / "a.png", PNG)
    for name, code in (("a.png", 0), ("b.png", 2)):
        result = command.run(
            *("submit", "--prompt", "x", "--attach", name, "--dry-run"),
            env={"PYTHONPROFILEIMPORTTIME": "1"},
            cwd=folder,
            fresh=True,
        )
        assert (result.code, parsed(result.out)[-1]["exit_code"]) == (code, code)
        loaded = {line.rpartition("|")[2].strip() for line in result.err.splitlines()}
        assert "oaibg.request.attachments" in loaded
        assert not {"openai", "asyncio", "sqlite3", "rich"} & loaded
