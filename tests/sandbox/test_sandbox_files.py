"""The sandbox's Files API: uploads, lists, deletes and expiry."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import httpx2
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from sandbox_batches import end, jsonl, lines, read, start, upload

if TYPE_CHECKING:
    from openai.types.batch_create_params import OutputExpiresAfter

    from oaibg.sandbox import Sandbox


def test_an_upload_is_stored_unchanged(sandbox: Sandbox, sdk: OpenAI) -> None:
    """Any bytes, the name and the purpose are stored; the log doesn't parse the content."""
    content = bytes(range(256)) * 300 + b"\r\n--boundary--\r\n"
    file = sdk.files.create(file=("a b.bin", io.BytesIO(content)), purpose="user_data")
    assert re.fullmatch("file-[0-9A-Za-z]{22}", file.id)
    assert (file.filename, file.bytes, file.expires_at) == ("a b.bin", len(content), None)
    assert sdk.files.content(file.id).content == content
    assert sdk.files.retrieve(file.id) == file
    (post,) = sandbox.file_posts
    assert post.body == {"purpose": "user_data", "filename": "a b.bin", "bytes": len(content)}
    assert (post.status, post.response_id) == (200, file.id)
    assert list(sandbox.files) == [file.id]


def test_files_of_batches_expire(sdk: OpenAI) -> None:
    """A file for a batch expires after 30 days, unless its upload sets another time."""
    usual = sdk.files.create(file=("in.jsonl", b"{}"), purpose="batch")
    sooner = sdk.files.create(
        file=("in.jsonl", b"{}"),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert usual.expires_at == usual.created_at + 30 * 86400
    assert sooner.expires_at == sooner.created_at + 3600
    with pytest.raises(BadRequestError, match="3600 to 2592000"):
        sdk.files.create(
            file=("in.jsonl", b"{}"),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 5},
        )


def test_result_files_expire_as_the_batch_sets(sdk: OpenAI) -> None:
    """`output_expires_after` counts from the creation of the result files."""
    expires: OutputExpiresAfter = {"anchor": "created_at", "seconds": 7200}
    batch = end(
        sdk,
        sdk.batches.create(
            input_file_id=upload(sdk, jsonl(lines(1))),
            endpoint="/v1/responses",
            completion_window="24h",
            output_expires_after=expires,
        ),
    )
    file = sdk.files.retrieve(batch.output_file_id or "")
    assert file.expires_at == file.created_at + 7200


def test_files_are_listed_in_pages(sdk: OpenAI) -> None:
    """A list is newest first or last, and can be limited to one purpose."""
    ids = [upload(sdk, b"{}") for _ in range(3)]
    other = sdk.files.create(file=("x.txt", b"x"), purpose="user_data").id
    assert [file.id for file in sdk.files.list(order="asc")] == [*ids, other]
    assert [file.id for file in sdk.files.list(purpose="batch", limit=2)] == ids[::-1]
    first = sdk.files.list(order="asc", limit=1)
    assert (first.has_more, [file.id for file in first.data]) == (True, ids[:1])
    with pytest.raises(BadRequestError, match="not found"):
        sdk.files.list(after="file-none")


def test_a_deleted_file_is_gone(sandbox: Sandbox, sdk: OpenAI) -> None:
    """A deleted file gets 404, but a batch that uses it completes."""
    batch = start(sdk, lines(2))
    assert sdk.files.delete(batch.input_file_id).deleted
    for again in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
        with pytest.raises(NotFoundError, match="No such File object"):
            again(batch.input_file_id)
    assert len(read(sdk, end(sdk, batch).output_file_id)) == 2


@pytest.mark.parametrize(
    ("name", "purpose", "message"),
    [
        ("in.txt", "batch", "Must be .jsonl"),
        ("in.jsonl", "batch_output", "is not one of"),
        ("in.jsonl", None, "Missing required parameter: 'purpose'"),
        (None, "batch", "Missing required parameter: 'file'"),
    ],
)
def test_invalid_uploads_are_refused(
    sandbox: Sandbox, name: str | None, purpose: str | None, message: str
) -> None:
    """An invalid upload gets 400, and no file is stored."""
    parts = {"file": name and (name, b"{}"), "purpose": purpose and (None, purpose)}
    answer = httpx2.post(
        f"{sandbox.base_url}/files",
        files={key: value for key, value in parts.items() if value},
        trust_env=False,
    )
    assert (answer.status_code, sandbox.files) == (400, {})
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"--x--\r\n"),
        ("multipart/form-data; boundary=x", b"no form"),
        ("multipart/form-data; boundary=x", b""),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nabc',
        ),
    ],
)
def test_a_body_that_is_not_a_form_is_refused(sandbox: Sandbox, kind: str, body: bytes) -> None:
    """A body that is not a form, has no boundary, or is incomplete gets 400."""
    answer = httpx2.post(
        f"{sandbox.base_url}/files", content=body, headers={"content-type": kind}, trust_env=False
    )
    assert (answer.status_code, sandbox.files) == (400, {})
