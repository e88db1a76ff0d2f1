"""A results file: JSON Lines in the Batch API's output format, each line synced to disk.

The file is an export: missing lines are written again from the state.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import stat
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from oaibg.api.payload import WITH_OUTPUT
from oaibg.base.files import sync_folder
from oaibg.base.json_text import json_line
from oaibg.base.secrets import masked_bytes
from oaibg.contract.errors import Unavailable, UsageError
from oaibg.engine.hints import BUSY_HINT
from oaibg.engine.persist import in_thread
from oaibg.engine.recap import NEEDS_ACTION
from oaibg.engine.totals import Totals
from oaibg.many.results.line_id import is_id_of_job, is_id_of_request
from oaibg.many.results.result_line import SUCCESSFUL, Ending, ResultLine, not_run, read_line
from oaibg.state.rows import NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from oaibg.api.payload import Payload
    from oaibg.contract.errors import NotFound, OaibgError
    from oaibg.contract.events import Unsuccessful


class ResultsFile:
    """The results of a run; the last line of each custom_id counts.

    Removes a last line that was cut off (by kill -9 or a full disk). `known` maps the custom_ids
    that the file may contain to the `id` of their line, or to None if the API sets the `id`. A file
    with other lines belongs to another run. `known` is None if the custom_ids are not known.
    `replaced` is the number of unsuccessful lines that don't count, by custom_id: their jobs were
    submitted again.
    `window_of` returns the completion window of a custom_id.

    Raises:
        UsageError: the file can't be used, or is not a results file of this run.
        Unavailable: another process is writing to the file.
    """

    def __init__(
        self,
        path: str,
        known: Mapping[str, str | None] | None = None,
        replaced: Mapping[str, int] | None = None,
        window_of: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self.path = path
        self._known, self._replaced, self.window_of = known, replaced or {}, window_of
        self.statuses: dict[str, str] = {}
        """The status of each job that has a line, by custom_id."""
        self.totals = Totals()
        """The usage and the cost of the lines that the file had when it was opened."""
        self.unpriced: str | None = None
        """One of these lines, by custom_id, whose job has output but no known cost."""
        self.unsuccessful: dict[str, Unsuccessful] = {}
        """The jobs of these lines that did not succeed, by custom_id."""
        self.failures: Counter[str] = Counter()
        """The number of lines of jobs that did not succeed, by custom_id."""
        self.changed: set[str] = set()
        """The custom_ids whose line is the result of another request than the run's."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o666)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._size = self._read()
                os.ftruncate(self._descriptor, self._size)
            except BaseException:
                os.close(self._descriptor)
                raise
        except BlockingIOError as error:
            raise Unavailable(
                f"Another process is writing to {path}.",
                code="job_key_busy",
                hint=BUSY_HINT,
                outcome="not_created",
            ) from error
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}.") from error
        sync_folder(os.path.dirname(path))  # noqa: PTH120
        self._torn = False
        """Whether the file may end with part of a line that could not be removed."""
        self._lock = asyncio.Lock()
        self._gathering: dict[str, ResultLine] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def missing(self) -> set[str] | None:
        """The custom_ids without a line; None if the custom_ids are not known."""
        return None if self._known is None else self._known.keys() - self.statuses.keys()

    def is_ours(self, line: ResultLine) -> bool:
        """Return whether a line belongs to this run."""
        known, custom_id = self._known, line.custom_id
        return known is None or (custom_id in known and is_id_of_job(line.id, known[custom_id]))

    def forget(self, custom_ids: Iterable[str]) -> None:
        """Note that the lines of some jobs no longer count, because they are submitted again."""
        for custom_id in custom_ids:
            self.statuses.pop(custom_id, None)
            self.unsuccessful.pop(custom_id, None)

    async def add(self, lines: Iterable[ResultLine]) -> None:
        """Append lines, and return once they are on disk; skip custom_ids that have a line.

        Lines that arrive during a write are written together after it.

        Raises:
            OSError: none of the lines was written, not even in part.
        """
        gathered = self._gathering
        gathered |= {line.custom_id: line for line in lines}
        async with self._lock:
            if gathered is self._gathering:
                self._gathering = {}
            new = [line for line in gathered.values() if line.custom_id not in self.statuses]
            if new:
                await in_thread(self._append, masked_bytes(b"".join(line.raw for line in new)))
                self.statuses |= {line.custom_id: line.status for line in new}

    async def add_payload(self, custom_id: str, payload: Payload) -> None:
        """Append the response of a job that ended; raises like `add`."""
        response = {"status_code": 200, "request_id": payload.request_id, "body": payload.data}
        await self._add_end(custom_id, Ending(payload), response)

    async def add_refusal(self, custom_id: str, refusal: OaibgError) -> None:
        """Append the error of a request that the API refused; raises like `add`."""
        error = {"message": refusal.message, "type": None, "param": None, "code": refusal.code}
        response = {
            "status_code": refusal.http_status,
            "request_id": refusal.request_id,
            "body": {"error": error},
        }
        await self._add_end(custom_id, Ending(None, refusal), response)

    async def add_gone(self, custom_id: str, gone: NotFound) -> None:
        """Append the error of a job that the API no longer has; raises like `add`."""
        await self.add([not_run(self._id(custom_id), custom_id, NOT_FOUND, gone.message)])

    async def _add_end(self, custom_id: str, ending: Ending, response: dict[str, Any]) -> None:
        id_ = self._id(custom_id)
        line = {"id": id_, "custom_id": custom_id, "response": response, "error": None}
        recap = ending.recap
        await self.add([ResultLine(id_, custom_id, recap.status, json_line(line), recap)])

    def _id(self, custom_id: str) -> str | None:
        """Return the `id` of a job's lines; None if it is not known."""
        return None if self._known is None else self._known[custom_id]

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
        """Read the statuses from the file; return the size of its complete lines in bytes."""
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise UsageError(f"{self.path}: the results file must be a regular file.")
        size = 0
        with open(self._descriptor, "rb", closefd=False) as file:
            for number, raw in enumerate(file, 1):
                line = read_line(raw)
                ours = line is not None and self.is_ours(line)
                if not raw.endswith(b"\n") and (ours or _is_cut_off(raw)):
                    break
                if line is None or not ours:
                    raise UsageError(
                        f"{self.path}: line {number} is not a result of this run. It belongs to "
                        "another jobs file or job key, or its job was changed or removed. The file "
                        "is unchanged.",
                        hint="Use another --results-file, or rename this file.",
                    )
                size += len(raw)
                self._note(line)
        return size

    def _note(self, line: ResultLine) -> None:
        """Note what a line of the file has; the last line of a custom_id counts."""
        custom_id, recap = line.custom_id, line.recap
        cost = recap.cost_usd(self.window_of(custom_id))
        self.totals.add(recap.usage, cost)
        if cost is None and line.status in (*WITH_OUTPUT, NEEDS_ACTION):
            self.unpriced = custom_id
        if line.status not in SUCCESSFUL:
            self.failures[custom_id] += 1
            if self.failures[custom_id] <= self._replaced.get(custom_id, 0):
                return
        self.statuses[custom_id] = line.status
        self.unsuccessful.pop(custom_id, None)
        self.changed.discard(custom_id)
        if not is_id_of_request(line.id, self._id(custom_id)):
            self.changed.add(custom_id)
        if (unsuccessful := line.unsuccessful) is not None:
            self.unsuccessful[custom_id] = unsuccessful


def _is_cut_off(raw: bytes) -> bool:
    """Return whether a last line without a line end can be the start of a result."""
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return raw.startswith(b"{") or not raw.strip(b"\0")
    return False
