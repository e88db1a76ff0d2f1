"""A results file: JSON Lines in the Batch API's output format, appended durably as they come.

A line is `{"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}`, with
one of the last two null (https://platform.openai.com/docs/guides/batch). The file is an export:
what it lacks is written again from the state.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from oaibg.api.payload import Payload
from oaibg.base.files import sync_folder
from oaibg.base.json_text import json_line
from oaibg.contract.errors import ExitCode, Unavailable, UsageError
from oaibg.engine.persist import in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oaibg.contract.errors import OaibgError

REFUSED = "refused"
"""What a job counts as that the API refused to create."""


class ResultsFile:
    """The results of a run; each custom_id has one line.

    Args:
        path: absolute. A last line that was cut off (by kill -9, or a full disk) is removed.
        known: the custom_ids that may be there, and the `id` that the line of each has, or None
            where the API gives them: a file with others is another run's. None where it can't be
            known.

    Raises:
        UsageError: it can't be used, or is no results file of this run.
    """

    def __init__(self, path: str, known: Mapping[str, str | None] | None = None) -> None:
        self.path = path
        self._known = known
        self.statuses: dict[str, str] = {}
        """What the jobs that are there ended as; `REFUSED` for those that the API refused."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}.") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._size = self._read()
            os.ftruncate(self._descriptor, self._size)
        except BlockingIOError as error:
            self.close()
            raise Unavailable(
                f"Another process is writing to {path} right now.",
                code="job_key_busy",
                outcome="not_created",
            ) from error
        except OSError as error:
            self.close()
            raise UsageError(f"{path}: {error.strerror}.") from error
        except BaseException:
            self.close()
            raise
        sync_folder(os.path.dirname(path))  # noqa: PTH120
        self._torn = False
        """Whether a part of a line may stand at the file's end, and could not be removed."""
        self._lock = asyncio.Lock()
        self._gathering: dict[str, tuple[str, bytes]] = {}

    async def add(self, lines: dict[str, tuple[str, bytes]]) -> None:
        """Append lines, and return when they are on the disk; but those that are there already.

        Lines that come while others are being written go out together.

        Args:
            lines: by their custom_ids: what the job ended as, and the line.

        Raises:
            OSError: they are not there, nor a part of them.
        """
        gathered = self._gathering
        gathered |= lines
        async with self._lock:
            if gathered is self._gathering:
                self._gathering = {}
            new = {key: gathered[key] for key in gathered if key not in self.statuses}
            if new:
                await in_thread(self._append, b"".join(line for _, line in new.values()))
                self.statuses |= {key: status for key, (status, _) in new.items()}

    async def add_payload(self, custom_id: str, payload: Payload) -> None:
        """Append the response of a job that has ended; raises as `add`."""
        response = {"status_code": 200, "request_id": payload.request_id, "body": payload.data}
        await self.add({custom_id: (str(payload.status), self._line(custom_id, response))})

    async def add_refusal(self, custom_id: str, refusal: OaibgError) -> None:
        """Append that the API refused a request; raises as `add`."""
        error = {"message": refusal.message, "type": None, "param": None, "code": refusal.code}
        response = {
            "status_code": refusal.http_status,
            "request_id": refusal.request_id,
            "body": {"error": error},
        }
        await self.add({custom_id: (REFUSED, self._line(custom_id, response))})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _line(self, custom_id: str, response: dict[str, Any]) -> bytes:
        line = {
            "id": self._known and self._known[custom_id],
            "custom_id": custom_id,
            "response": response,
            "error": None,
        }
        return json_line(line)

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            if self._torn:
                os.ftruncate(self._descriptor, self._size)
            self._torn = True
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._torn = False
        self._size += len(data)

    def _read(self) -> int:
        """Note what is there; gives the bytes of its whole lines."""
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise UsageError(f"{self.path}: a results file must be a regular file.")
        size = number = 0
        with open(self._descriptor, "rb", closefd=False) as file:
            for raw in file:
                number += 1
                line = read_line(raw)
                ours = line is not None and self._is_ours(line)
                if not raw.endswith(b"\n") and (ours or _is_cut_off(raw)):
                    break
                if line is None or not ours:
                    raise UsageError(
                        f"{self.path}: line {number} is no result of this run: it is of another "
                        "file or --job-key, or of a line that was changed or removed. Nothing is "
                        "overwritten.",
                        hint="Name another --results-file, or move this one away.",
                    )
                size += len(raw)
                self.statuses[line.custom_id] = line.status
        return size

    def _is_ours(self, line: ResultLine) -> bool:
        if self._known is None:
            return True
        return line.custom_id in self._known and self._known[line.custom_id] in (None, line.id)


def line_id(scope: str, custom_id: str, sha256: str) -> str:
    """The `id` of a result's line: the same for the same request in the same run, and no other.

    Args:
        scope: the run, in which custom_ids are unique.
        custom_id: the job's name.
        sha256: the request's hash.
    """
    name = f"{scope}\n{custom_id}\n{sha256}".encode(errors="replace")
    return f"batch_req_{hashlib.sha256(name).hexdigest()[:32]}"


def _is_cut_off(raw: bytes) -> bool:
    """Whether a last line without an end can be the beginning of a result."""
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return raw.startswith(b"{") or not raw.strip(b"\0")
    return False


class ResultLine(NamedTuple):
    """What is read of a line."""

    id: object
    custom_id: str
    status: str
    """What its job ended as."""


def read_line(raw: bytes) -> ResultLine | None:
    """What a line tells; None where it is no result."""
    try:
        line = Payload(raw).data
        custom_id, response, error = line["custom_id"], line["response"], line["error"]
        if not isinstance(custom_id, str):
            return None
        if response is None:
            status = str(error["code"]).removeprefix("batch_")
        else:
            status = response["body"].get("status") if response["status_code"] < 300 else REFUSED
        return ResultLine(line.get("id"), custom_id, str(status))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def code_of(status: str) -> ExitCode:
    """The exit code of a job whose result is there."""
    if status == REFUSED:
        return ExitCode.ERROR
    return ExitCode.OK if status == "completed" else ExitCode.UNSUCCESSFUL
