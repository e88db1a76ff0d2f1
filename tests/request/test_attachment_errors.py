"""`submit --attach`: files that are refused, the limits of sizes, and arbitrary content."""

from __future__ import annotations

import base64
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from attaching import MAGIC, PDF, PNG, names_of, parts_of, refusal, write
from ledger import count
from oaibg.request.attachments import BYTES_MAX, IMAGES_MAX, PDF_BYTES_MAX, TEXT_CHARACTERS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

TEXTS = st.text(st.characters(codec="utf-8")).map(str.encode)
FILES = st.one_of(
    st.binary(max_size=64),
    TEXTS,
    st.builds(bytes.__add__, st.sampled_from([*MAGIC.values(), b"\xef\xbb\xbf"]), st.binary()),
    st.builds(bytes.__add__, TEXTS, st.binary(max_size=3)),
)


@pytest.mark.parametrize("option", ["--messages-json-file", "--input-json-file", "--jobs-file"])
def test_attach_without_a_prompt(run: Callable[..., Result], folder: Path, option: str) -> None:
    """`--attach` can't be combined with an input other than a prompt."""
    write(folder / "in.json", b'[{"role": "user", "content": "x"}]')
    write(folder / "a.txt")
    message = refusal(run("submit", option, "in.json", "--attach", "a.txt", "--dry-run"))
    assert message == (
        f"--attach can't be combined with {option}; put the content parts into that file."
    )


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("-", "--attach '-': give a file's path; only a prompt can come from stdin ("),
        ("", "--attach '': give a file's path;"),
        ("gone.txt", "--attach gone.txt: No such file or directory."),
        ("gone/*.md", "--attach gone/*.md: no file matches this pattern."),
        ("fold*", "--attach fold*: no file matches this pattern."),
        ("folder", "--attach folder: this is a directory; use 'folder/*' for its files."),
        ("pipe", "--attach pipe: this is a pipe or a device; save its content to a file first."),
        ("p*", "--attach pipe: this is a pipe or a device"),
        ("/dev/zero", "--attach /dev/zero: this is a pipe or a device"),
        ("dangling", "--attach dangling: No such file or directory."),
        ("a\0b", "--attach 'a\\x00b': not a valid path ("),
        ("old.doc", "--attach old.doc: neither UTF-8 text nor a PNG, JPEG, WEBP, GIF or PDF"),
        ("old.doc", "or PDF file (byte 4 is 0x11, which is not text)."),
        ("utf16.txt", "or PDF file (byte 3 is 0x00, which is not text)."),
        ("latin1.txt", "or PDF file (byte 3 is not UTF-8: unexpected end of data)."),
        ("late.txt", "or PDF file (byte 5000 is 0x00, which is not text)."),
    ],
)  # fmt: skip
def test_files_that_are_refused(
    attach: Callable[..., Result], folder: Path, pattern: str, message: str
) -> None:
    """A file that can't be attached is a usage error with the option, file and reason."""
    write(folder / "folder/inside.txt")
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to("nowhere")
    write(folder / "old.doc", b"\xd0\xcf\xe0\xa1\x11")
    write(folder / "utf16.txt", "hi".encode("utf-16"))
    write(folder / "latin1.txt", b"caf\xe9")
    write(folder / "late.txt", b"a" * 5000 + b"\0")
    assert message in refusal(attach(pattern))


def test_hint_for_other_types(attach: Callable[..., Result], folder: Path) -> None:
    """The hint for other types is to convert the file, or to upload it and use its ID."""
    write(folder / "a.zip", b"PK\x03\x04")
    result = attach("a.zip")
    assert refusal(result).startswith("--attach a.zip: ")
    assert "Convert the file" in result.last["hint"]
    assert "--input-json-file" in result.last["hint"]


def test_pattern_that_the_shell_has_expanded(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """If the shell has expanded a pattern, the hint is to quote it."""
    result = run("submit", "--prompt", "x", "--attach", "a.py", "b.py")
    assert (result.code, sandbox.posts) == (2, [])
    assert "Quote the pattern" in result.last["hint"]


def test_name_that_is_not_utf8(attach: Callable[..., Result], folder: Path) -> None:
    """A file whose name is not UTF-8 is refused, and the error is valid JSON."""
    try:
        (folder / os.fsdecode(b"\xff.txt")).touch()
    except OSError:
        pytest.skip("this file system only has Unicode names")
    assert "the name is not UTF-8" in refusal(attach("*.txt"))


def test_file_without_read_permission(unprivileged: Callable[..., Result], tmp_path: Path) -> None:
    """For a file without read permission, the error has the system's message."""
    path = tmp_path / "mine.txt"
    write(path)
    path.chmod(0)
    result = unprivileged("submit", "--prompt", "x", "--attach", str(path), "--dry-run")
    assert refusal(result) == f"--attach {path}: Permission denied."


@pytest.mark.parametrize(
    ("magic", "expected"),
    [
        (b"a" * 2000, "(text/plain) is 10,485,760 characters."),
        (b"%PDF-", "(application/pdf) is 52,428,800 bytes."),
        (MAGIC["image/png"], "(image/png) is 268,435,456 bytes."),
        (b"PK\x03\x04", "(byte 2 is 0x03, which is not text)."),
    ],
)
def test_ten_gigabytes_are_not_read(
    attach: Callable[..., Result], folder: Path, magic: bytes, expected: str
) -> None:
    """A file of 10 GiB is refused because of its size or its first bytes, without reading it."""
    write(folder / "huge", magic, size=10 << 30)
    message = refusal(attach("huge"))
    assert message.startswith("--attach huge: ")
    assert expected in message
    assert ("the file has 10,737,418,240 bytes" in message) == (magic != b"PK\x03\x04")


@pytest.mark.slow
def test_the_longest_text(attach: Callable[..., Result], folder: Path) -> None:
    """The limit of a text counts characters, including those of its heading."""
    room = TEXT_CHARACTERS_MAX - len("File: a\n\n")
    write(folder / "a", ("é" * room).encode())
    (part,) = parts_of(attach("a"))
    assert len(part["text"]) == TEXT_CHARACTERS_MAX
    write(folder / "a", ("é" * (room + 1)).encode())
    assert refusal(attach("a")) == (
        "--attach a: with its heading, the text has 10,485,761 characters; the limit is "
        "10,485,760. Split the file."
    )


def test_pdfs_together(attach: Callable[..., Result], command: Command, folder: Path) -> None:
    """All PDFs together share one limit; the error names the last PDF."""
    write(folder / "a.pdf", PDF, size=PDF_BYTES_MAX - len(PDF))
    write(folder / "b.pdf", PDF)
    argv = ("submit", "--prompt", "x", "--dry-run", "--attach", f"{folder}/*.pdf")
    assert command.run(*argv, stdout=subprocess.DEVNULL, fresh=True).code == 0
    write(folder / "c.pdf", b"%PDF-")
    assert refusal(attach("*.pdf")).startswith(
        "--attach c.pdf: all PDFs together have 52,428,805 bytes; the limit for a request is "
        "52,428,800."
    )


def test_all_attachments_together(attach: Callable[..., Result], folder: Path) -> None:
    """All attachments together share one limit; the error names the last one."""
    for name in ("a", "b", "c"):
        write(folder / name, PNG, size=BYTES_MAX // 2)
    write(folder / "c", b"text")
    assert refusal(attach("a", "b", "c")).startswith(
        "--attach c: all attachments together have 268,435,460 bytes; the limit for a "
        "request is 268,435,456."
    )


def test_number_of_images(attach: Callable[..., Result], folder: Path) -> None:
    """A request can have 1,500 images; the error names the next one."""
    for number in range(IMAGES_MAX):
        write(folder / f"{number:04}.gif", MAGIC["image/gif"])
    assert len(parts_of(attach("*.gif"))) == IMAGES_MAX
    write(folder / "last.gif", MAGIC["image/gif"])
    assert refusal(attach("*.gif")).startswith("--attach last.gif: there are 1,501 images;")


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(content=FILES)
@example(content=b"\xef\xbb\xbf%PDF-")
@example(content=b"\xed\xa0\x80")
@example(content=b"RIFF\n\n\n\nWEBP")
def test_arbitrary_content(
    attach: Callable[..., Result], sandbox: Sandbox, folder: Path, content: bytes
) -> None:
    """A file with arbitrary content is sent without loss, or refused by its name."""
    count("fuzzed")
    write(folder / "f", content)
    result = attach("f")
    if result.code == 0:
        (part,) = parts_of(result)
        (listed,) = result.last["attachments"]
        assert listed == {"path": "f", "type": part["type"], "bytes": len(content)}
        if part["type"] == "input_text":
            sent = part["text"].removeprefix("File: f\n\n").encode()
            assert sent == content.removeprefix(b"\xef\xbb\xbf")
            assert b"\0" not in content
        else:
            url = part.get("image_url") or part["file_data"]
            assert base64.b64decode(url.partition(",")[2], validate=True) == content
    else:
        assert refusal(result).startswith("--attach f: ")
    assert not sandbox.requests


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    pattern=st.text(
        st.sampled_from("ab*?[]!-~./\\ é\0\n{}^") | st.characters(codec=None), max_size=8
    )
)
@example(pattern="\0*")
@example(pattern="\ud800")
@example(pattern="[")
@example(pattern="[b-a]")
@example(pattern="**")
def test_arbitrary_pattern(attach: Callable[..., Result], folder: Path, pattern: str) -> None:
    """An arbitrary pattern attaches existing files, or is a usage error."""
    count("fuzzed")
    write(folder / "ab")
    write(folder / "a/b")
    result = attach(f"./{pattern.replace('..', '.')}")
    if result.code == 0:
        assert {os.path.relpath(name) for name in names_of(result)} <= {"ab", "a/b"}
    else:
        assert "--attach" in refusal(result)
