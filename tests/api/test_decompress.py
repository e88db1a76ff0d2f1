"""Compressed replies: several members, other formats, and bodies that are cut off."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import response, with_text
from oaibg.api.decompress import PIECE_BYTES, decompressed
from oaibg.contract.errors import CallFailed
from raw_server import Answer, chunked, head, reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from harness import Result
    from raw_server import RawServer

FAST = ("--poll-seconds", "0.05", "--max-wait-seconds", "20")
GZIP = "Content-Encoding: gzip"
DONE = json.dumps(with_text("The answer.")).encode()


def members(body: bytes, size: int) -> list[bytes]:
    """Return a body as gzip members, of this many bytes each."""
    return [gzip.compress(body[at : at + size]) for at in range(0, len(body), size)]


def raw_deflate(body: bytes) -> bytes:
    """Return a body in deflate without the header of zlib."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def read(packed: bytes, size: int, encoding: str = "gzip") -> bytes:
    """Decompress a body that arrives in pieces of this size."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(packed), size):
            yield packed[start : start + size]

    async def run() -> bytes:
        return b"".join([piece async for piece in decompressed(pieces(), encoding)])

    return asyncio.run(run())


TAILS = [b"", b"\0" * 9, b"\0", b"junk", b"\x1f", b"\0" * 3 + gzip.compress(b"")]


@settings(deadline=None)
@given(
    body=st.binary(max_size=300),
    member=st.integers(1, 300),
    padding=st.integers(0, 3),
    tail=st.sampled_from(TAILS),
    size=st.integers(1, 400),
)
def test_members_in_any_pieces(
    body: bytes, member: int, padding: int, tail: bytes, size: int
) -> None:
    """All members are read however the pieces divide them; padding and a tail are ignored."""
    packed = (b"\0" * padding).join(members(body, member) or [gzip.compress(b"")])
    assert read(packed + tail, size) == body


@settings(deadline=None)
@given(
    body=st.binary(max_size=300), size=st.integers(1, 400), pack=st.sampled_from(["zlib", "raw"])
)
def test_both_forms_of_deflate(body: bytes, size: int, pack: str) -> None:
    """Deflate is read with the header of zlib and without it."""
    body = b"{" + body  # nobody compresses what looks like plain JSON when it is compressed
    packed = zlib.compress(body) if pack == "zlib" else raw_deflate(body)
    assert read(packed, size, "deflate") == body


@given(cut=st.integers(1, 20), size=st.integers(1, 400))
def test_cut_off(cut: int, size: int) -> None:
    """A body that ends within a member is an error, also within its checksum."""
    packed = b"".join(members(DONE, 100))
    with pytest.raises(CallFailed, match="cut off"):
        read(packed[:-cut], size)


def test_exact_pieces() -> None:
    """A body that expands to exactly the size of a piece, or a little more, is read in full."""
    for length in (*range(PIECE_BYTES - 1, PIECE_BYTES + 260, 26), 3 * PIECE_BYTES):
        assert read(gzip.compress(bytes(length)), 1000) == bytes(length)
        assert read(raw_deflate(bytes(length)), PIECE_BYTES, "deflate") == bytes(length)
    assert read(b"", 1) == b""


def test_invalid() -> None:
    """A body that can't be decompressed is an error that says so."""
    with pytest.raises(CallFailed, match="invalid"):
        read(gzip.compress(DONE)[:10] + b"\xff" * 50, 1000)


ENCODINGS = ["gzip", "x-gzip", "deflate", "br", "zstd", "utf-8", "none", "UTF-8, gzip", '"gzip"']


@given(size=st.integers(1, 400), encoding=st.sampled_from(["gzip", "deflate", "br", "none"]))
def test_plain_bodies_in_any_pieces(size: int, encoding: str) -> None:
    """A body that is not compressed is read as it is, however its pieces divide it."""
    for body in (DONE, b"\n " + DONE, b"data: {}\n\n", b"{}"):
        assert read(body, size, encoding) == body


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_job_with_a_false_encoding(
    run: Callable[..., Result], raw: RawServer, encoding: str
) -> None:
    """A reply that is not compressed, although its header says so, is read by every call."""
    named = f"Content-Encoding: {encoding}"
    created = json.dumps(response("queued"))
    raw.answer = lambda request: Answer(
        reply(created if b"POST" in request else DONE, "200", named)
    )
    result = run("submit", "--prompt", "x", *FAST)
    assert (result.code, result.id, len(raw.requests)) == (0, "resp_1", 2)


@pytest.mark.parametrize(
    "encoding", ["identity, gzip", "gzip, identity", "none,gzip", "gzip, gzip"]
)
def test_job_with_odd_lists(run: Callable[..., Result], raw: RawServer, encoding: str) -> None:
    """Encodings that change nothing may be in the list, and one that was applied only once."""
    named = f"Content-Encoding: {encoding}"
    raw.answer = Answer(reply(gzip.compress(DONE), "200 OK", named))
    assert run("monitor", "resp_1", *FAST).code == 0


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress"])
def test_unsupported_encodings(run: Callable[..., Result], raw: RawServer, encoding: str) -> None:
    """An encoding that oaibg can't read is named in the message."""
    raw.answer = Answer(reply(b"\x28\xb5\x2f\xfd" * 9, "200 OK", f"Content-Encoding: {encoding}"))
    result = run("submit", "--prompt", "x")
    assert result.code == 6
    assert f"unsupported content encoding '{encoding}'" in result.last["message"]


@pytest.mark.parametrize("size", [7, 100, 1000])
@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
def test_job_with_members(
    run: Callable[..., Result], raw: RawServer, tmp_path: Path, size: int, framing: str
) -> None:
    """A submit and its retrieves read replies of several members."""

    def packed(body: bytes) -> bytes:
        data = b"".join(members(body, size))
        if framing == "length":
            return reply(data, "200 OK", GZIP)
        if framing == "chunks":
            return head("200 OK", GZIP, "Transfer-Encoding: chunked") + chunked(data, 11)
        return head("200 OK", GZIP) + data

    created = json.dumps(response("queued", pad="x" * 500)).encode()
    raw.answer = lambda request: Answer(packed(created if b"POST" in request else DONE))
    text = tmp_path / "o.md"
    result = run("submit", "--prompt", "x", *FAST, "--output-text-file", str(text))
    assert (result.code, result.id, text.read_text()) == (0, "resp_1", "The answer.")
    assert len(raw.requests) == 2


def test_cut_off_retrieve_is_repeated(run: Callable[..., Result], raw: RawServer) -> None:
    """A compressed retrieve whose JSON is cut off is repeated."""
    packed = b"".join(members(DONE, 100))
    replies = iter(
        [Answer(reply(packed[:-40], "200 OK", GZIP)), Answer(reply(packed, "200", GZIP))]
    )
    raw.answer = lambda _: next(replies)
    result = run("monitor", "resp_1", *FAST)
    assert (result.code, result.events) == (0, ["poll_error", "poll", "final"])
    assert "cut off" in result.lines[0]["error"]["message"]


def test_batch_with_members(run: Callable[..., Result], raw: RawServer, tmp_path: Path) -> None:
    """No line of a batch's output is lost if the file comes as several members."""
    batch = {"id": "batch_1", "object": "batch", "status": "completed", "output_file_id": "file_1"}
    batch["request_counts"] = {"total": 50, "completed": 50, "failed": 0}  # type: ignore[assignment]
    lines = b"".join(
        json.dumps(
            {
                "id": f"batch_req_{number}",
                "custom_id": f"job {number}",
                "response": {"status_code": 200, "request_id": "r", "body": with_text("ok")},
                "error": None,
            }
        ).encode()
        + b"\n"
        for number in range(50)
    )
    packed = reply(b"".join(members(lines, 333)), "200 OK", GZIP)
    raw.answer = lambda request: Answer(
        packed if b"/content" in request else reply(json.dumps(batch))
    )
    results = tmp_path / "r.jsonl"
    result = run("monitor", "batch_1", "--results-file", str(results), *FAST)
    assert (result.code, result.last["counts"]) == (0, {"completed": 50})
    assert results.read_bytes() == lines
