"""Saves the images and files that a job made, as `--artifacts-dir` requests.

Images are in the response itself. Files of code interpreter containers are only cited there, and
are downloaded.
"""

from __future__ import annotations

import binascii
import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from oaibg.api.payload import is_response_id
from oaibg.base.file_names import folded, numbered, safe_name
from oaibg.base.files import new_file, settle
from oaibg.base.json_text import objects, string
from oaibg.contract.errors import CallFailed, OaibgError, UsageError
from oaibg.engine import report
from oaibg.engine.patience import with_retries
from oaibg.engine.persist import in_thread
from oaibg.engine.written import Written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedRandom

    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.engine.run_options import Output

EXPIRY_ADVICE = (
    "Files of code interpreter containers expire 20 minutes after the container's last use. "
    "Run `next` soon, so that they can be saved."
)

_EXPIRED = (
    "Containers expire 20 minutes after their last use. The file is lost; only a new job can "
    "create it again."
)

_EXTENSIONS = {b"\x89PNG\r\n\x1a\n": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif"}
"""The extension of an image, by its first bytes."""


class _Image(NamedTuple):
    """An image in the response: base64, or a data URL with base64."""

    source: str | None
    """The ID of the output item."""
    data: str

    @property
    def name(self) -> str:
        return safe_name(self.source, "image")


class _File(NamedTuple):
    """A container's file that the response cites."""

    source: str | None
    container_id: str
    file_id: str
    filename: str | None

    @property
    def name(self) -> str:
        return safe_name(self.filename, self.file_id)


class _UnusableError(Exception):
    """The response has an image or a citation that can't be used."""


class _Saved(NamedTuple):
    path: str
    bytes: int
    sha256: str


def check_artifacts(job: Job, output: Output) -> None:
    """Raise `UsageError` for a batch: only its results have images and files."""
    if output.artifacts_dir is not None and job.is_batch:
        raise UsageError(
            "--artifacts-dir for a batch needs --results-file.",
            hint="Run `oaibg monitor BATCH_ID --results-file PATH --artifacts-dir DIR`: it fetches "
            "the results of the batch, and saves their images and files.",
        )


async def save_artifacts(output: object, job: Job, context: Context) -> Written:
    """Save the images and files in a response's `output`, if requested."""
    directory, written = context.output.artifacts_dir, Written.ALL
    if directory is None:
        return written
    with suppress(OSError):  # if it is needed, `create` tries again
        os.mkdir(directory)  # noqa: PTH102
    folder = _Folder(directory, context.folder_of(job))
    for artifact in _artifacts(output):
        try:
            if isinstance(artifact, _Image):
                done = await in_thread(_save_image, artifact, folder)
            else:
                done = await _save_file(artifact, folder, context)
        except OSError as error:
            written = Written.RETRY
            await context.emit(report.not_written(job, folder.path_of(artifact.name), error))
        except (_UnusableError, CallFailed, OaibgError) as error:
            written = max(written, Written.LOST if _is_lost(error) else Written.RETRY)
            await context.emit(report.not_saved(job, artifact.name, _reason(error)))
        else:
            job.note_file(done.path)
            await context.emit(report.wrote_artifact(job, *done, artifact.source))
    return written


class _Folder:
    """The folder of a job's artifacts; it is created with the first of them.

    Two artifacts of the job never share a name, even if they are equal.
    """

    def __init__(self, directory: str, name: str) -> None:
        self._directory = directory
        self._path = os.path.join(directory, name) if name else directory  # noqa: PTH118
        self._taken: set[str] = set()

    def path_of(self, name: str) -> str:
        """Return the path of a file in the folder."""
        return os.path.join(self._path, name)  # noqa: PTH118

    def create(self) -> str:
        """Return the path of the folder, which exists then; raises `OSError`."""
        for path in dict.fromkeys((self._directory, self._path)):
            with suppress(FileExistsError):
                os.mkdir(path)  # noqa: PTH102
        is_link = stat.S_ISLNK(os.lstat(self._path).st_mode)
        if is_link and self._path != self._directory:  # it may lead elsewhere
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self._path)
        return self._path

    def keep(self, file: BufferedRandom, name: str) -> _Saved:
        """Give a complete file its name, or the next free one with a number; raises `OSError`."""
        import hashlib

        size = file.tell()
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        free = (one for one in numbered(name) if folded(one) not in self._taken)
        path = settle(file, map(self.path_of, free))
        self._taken.add(folded(os.path.basename(path)))  # noqa: PTH119
        return _Saved(path, size, sha256)


def _artifacts(output: object) -> Iterator[_Image | _File]:
    """Yield the images and the cited files, each file once."""
    cited_before: set[tuple[str, str]] = set()
    for item in objects(output):
        source = string(item.get("id"))
        if item.get("type") == "image_generation_call" and item.get("result"):
            yield _Image(source, str(item["result"]))
        parts = [part for part in objects(item.get("content")) if part.get("type") == "output_text"]
        for cited in (one for part in parts for one in objects(part.get("annotations"))):
            ids = string(cited.get("container_id")) or "", string(cited.get("file_id")) or ""
            if cited.get("type") == "container_file_citation" and ids not in cited_before:
                cited_before.add(ids)
                yield _File(source, *ids, string(cited.get("filename")))


def _save_image(image: _Image, folder: _Folder) -> _Saved:
    """Decode and save an image. Raises `_UnusableError` and `OSError`."""
    data = image.data
    if data.startswith("data:"):
        data = data.partition(",")[2]
    try:
        # Neither this nor the removal of line ends, if there are none, copies the text.
        content = binascii.a2b_base64("".join(data.split()), strict_mode=True)
    except ValueError as error:
        raise _UnusableError("The image is not valid base64.") from error
    with new_file(folder.create()) as file:
        file.write(content)
        return folder.keep(file, image.name + _extension(content))


async def _save_file(cited: _File, folder: _Folder, context: Context) -> _Saved:
    """Download and save a file.

    Raises `_UnusableError`, `CallFailed`, `OaibgError` and `OSError`.
    """
    container_id, file_id, name = cited.container_id, cited.file_id, cited.name
    if not (is_response_id(container_id) and is_response_id(file_id)):
        raise _UnusableError("The response cites it with an invalid container ID or file ID.")
    may_be_html = name.lower().endswith((".html", ".htm"))
    api = await context.connect()
    with new_file(await in_thread(folder.create)) as file:

        async def download(timeout: float) -> None:
            file.seek(0)
            file.truncate()
            await api.download_artifact(
                container_id, file_id, file, timeout, may_be_html=may_be_html
            )

        await with_retries(download, context.clock, deadline=context.deadline)
        return await in_thread(folder.keep, file, name)


def _is_lost(error: _UnusableError | CallFailed | OaibgError) -> bool:
    """Whether only a new job can create the image or file again."""
    is_gone = isinstance(error, CallFailed) and error.http_status in (404, 410)
    return is_gone or isinstance(error, _UnusableError)


def _reason(error: _UnusableError | CallFailed | OaibgError) -> str:
    if isinstance(error, CallFailed) and _is_lost(error):
        return f"{error.message.rstrip('.')}. {_EXPIRED}"
    return str(error)


def _extension(image: bytes) -> str:
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return ".webp"
    known = (extension for start, extension in _EXTENSIONS.items() if image.startswith(start))
    return next(known, ".bin")
