"""Text files in other encodings, and files that are not text."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from attaching import PDF, PNG
from runs import Files, line, refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

TEXT = "Grüße, café: what's new?\n" * 3
JAPANESE = "これはテストです。新しいことは何ですか。\n" * 3
KOREAN = "안녕하세요. 새로운 소식이 있나요?\n" * 3
CHINESE = "你好。有什么新消息。请用中文回答。\n" * 3
RUSSIAN = "Здравствуйте, расскажите новости.\n" * 3
ENCODED = [
    (TEXT, "utf-16", "UTF-16"),
    (TEXT, "utf-16-le", "UTF-16LE"),
    (TEXT, "utf-16-be", "UTF-16BE"),
    (JAPANESE, "utf-16-le", "UTF-16LE"),
    (TEXT, "utf-32", "UTF-32"),
    (TEXT, "utf-32-le", "UTF-32LE"),
    (TEXT, "utf-32-be", "UTF-32BE"),
    (TEXT, "cp1252", "WINDOWS-1252"),
    (JAPANESE, "shift_jis", "SHIFT_JIS"),
    (JAPANESE, "euc_jp", "EUC-JP"),
    (KOREAN, "euc_kr", "EUC-KR"),
    (CHINESE, "gb18030", "GB18030"),
    (RUSSIAN, "cp1251", "WINDOWS-1251"),
    (RUSSIAN, "koi8_r", "KOI8-R"),
]
OPTIONS = (
    *("--prompt-file", "--messages-json-file", "--input-json-file", "--body-json-file"),
    *("--tools-json-file", "--json-schema-file"),
)


@pytest.mark.process
@pytest.mark.parametrize(("text", "codec", "name"), ENCODED)
def test_other_encodings(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, text: str, codec: str, name: str
) -> None:
    """A prompt in another encoding is refused, and the command in the hint converts it."""
    path = tmp_path / "my prompt.txt"
    path.write_bytes(text.encode(codec))
    result = run("submit", "--prompt-file", str(path), "--dry-run")
    refused(result, sandbox, f"{path}: ", f"looks like {name}")
    subprocess.run(result.last["hint"].removeprefix("Convert it: "), shell=True, check=True)
    body = run("submit", "--prompt-file", str(tmp_path / "my prompt.utf8.txt"), "--dry-run").last[
        "body"
    ]
    assert body["input"][0]["content"][0]["text"] == text


@pytest.mark.parametrize("option", OPTIONS)
def test_all_inputs(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, option: str
) -> None:
    """UTF-16 is recognized whichever option reads the file."""
    path = tmp_path / "in.json"
    path.write_text(json.dumps({"a": "b"}), encoding="utf-16")
    prompt = () if option in OPTIONS[:3] else ("--prompt", "x")
    result = run("submit", *prompt, option, str(path), "--dry-run")
    refused(result, sandbox, "the text looks like UTF-16", "iconv -f UTF-16 -t UTF-8")


@pytest.mark.parametrize("codec", ["UTF-16", "UTF-16LE", "UTF-32BE"])
def test_jobs_files(run: Callable[..., Result], sandbox: Sandbox, files: Files, codec: str) -> None:
    """A jobs file or a table in UTF-16 or UTF-32 is recognized as a whole."""
    files.jobs.write_text(json.dumps(line("a")), encoding=codec)
    result = run(*files.argv("--dry-run"))
    refused(result, sandbox, f"iconv -f {codec} -t UTF-8 {files.jobs} > ")
    files.jobs = files.jobs.with_suffix(".csv")
    files.jobs.write_text("prompt\nHi\n", encoding=codec)
    refused(run(*files.argv("--dry-run")), sandbox, f"looks like {codec}")


@pytest.mark.process
@pytest.mark.parametrize("codec", ["utf-16", "cp1252"])
def test_converted_tables(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, codec: str
) -> None:
    """The command in the hint for a table in another encoding writes a table that can be run."""
    files.jobs = files.folder / "jobs.csv"
    files.jobs.write_text("prompt;n\nGrüße, café;1\n", encoding=codec)
    result = run(*files.argv("--dry-run"))
    refused(result, sandbox, "looks like ", "iconv -f ")
    command = "iconv" + result.last["hint"].partition("iconv")[2]
    subprocess.run(command, shell=True, check=True)
    files.jobs = files.folder / "jobs.utf8.csv"
    assert run(*files.argv("--dry-run")).lines[0]["body"]["input"] == "Grüße, café"


@pytest.mark.parametrize("content", [b"PK\x03\x04\x14\0", b"\xd0\xcf\x11\xe0\xa1", b"PAR1", PDF])
@pytest.mark.parametrize("name", ["jobs.xlsx", "jobs.csv", "jobs.jsonl"])
def test_jobs_files_that_are_not_text(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, content: bytes, name: str
) -> None:
    """For a spreadsheet or the like as jobs file, the hint is to save it as CSV."""
    files.jobs = files.folder / name
    files.jobs.write_bytes(content)
    result = run(*files.argv())
    refused(result, sandbox, "not text. A jobs file is JSON Lines or", "as CSV (in Excel, as")
    assert "--attach" not in result.last["hint"]


def test_stdin(
    run: Callable[..., Result], sandbox: Sandbox, stdin: Callable[[bytes], None]
) -> None:
    """For stdin, the hint is to convert it in the pipe."""
    stdin(TEXT.encode("utf-16"))
    result = run("submit", "--prompt", "-", "--dry-run")
    refused(result, sandbox, "stdin: the text looks like UTF-16", "| iconv -f UTF-16 -t UTF-8 |")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"abc\0d", "byte 3 is NUL, which is not text"),
        (b"one.txt\0two.txt\0" * 9, "byte 7 is NUL"),
        (PNG, "this is a PNG image, not text"),
        (PDF, "this is a PDF file, not text. Attach images and PDFs to a prompt with --attach."),
        (
            b"PK\x03\x04\x14\0",
            "this is a ZIP archive or an Office document, not text. Save its content as text in",
        ),
        (b"\xd0\xcf\x11\xe0\xa1", "this is an Office document, not text. Save its content as text"),
        (b"\x1f\x8b\x08", "this is a file compressed with gzip, not text. Decompress it"),
        ("né".encode()[:-1], "byte 1 is not UTF-8 (unexpected end of data). The file ends in the"),
    ],
)
def test_files_that_are_not_text(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, content: bytes, words: str
) -> None:
    """A prompt file that is not text is refused, and the error says what it is."""
    path = tmp_path / "p.txt"
    path.write_bytes(content)
    refused(run("submit", "--prompt-file", str(path), "--dry-run"), sandbox, words)


def test_attached_texts(attach: Callable[..., Result], folder: Path) -> None:
    """For a text in another encoding, the hint of --attach is how to convert it."""
    for codec, name in (("utf-16", "UTF-16"), ("cp1252", "WINDOWS-1252")):
        (folder / "a.txt").write_text(TEXT, encoding=codec)
        hint = attach("a.txt").last["hint"]
        assert hint.endswith(f"Convert it: iconv -f {name} -t UTF-8 a.txt > a.utf8.txt")
