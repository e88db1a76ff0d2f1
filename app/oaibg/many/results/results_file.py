"""A results file: JSON Lines in the Batch API's output format, each line synced to disk.

The file is an export: missing lines are written again from the state.
"""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, Any

from oaibg.api.payload import WITH_OUTPUT
from oaibg.base.json_text import json_line
from oaibg.contract.errors import UsageError
from oaibg.engine.persist import in_thread, to_end
from oaibg.engine.recap import NEEDS_ACTION, Recap
from oaibg.engine.totals import Totals
from oaibg.many.results.cut_off import is_cut_off
from oaibg.many.results.line_id import is_id_of_job, is_id_of_request
from oaibg.many.results.locked_file import LockedFile
from oaibg.many.results.replaced import ReplacedLines
from oaibg.many.results.result_line import SUCCESSFUL, Ending, ResultLine, not_run, read_line
from oaibg.state.rows import NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    from oaibg.api.payload import Payload
    from oaibg.contract.errors import NotFound, OaibgError
    from oaibg.contract.events import Unsuccessful
    from oaibg.state.rows import Row


class _ForeignLineError(Exception):
    """A line, by its number, is not a result of the run; `is_result` if it is one of another."""

    def __init__(self, number: int, *, is_result: bool) -> None:
        super().__init__(str(number))
        self.is_result = is_result


class ResultsFile(LockedFile):
    """The results of a run; the last line of each custom_id counts.

    Reads the file, and changes nothing before `begin`. A last line that was cut off (by kill -9 or
    a full disk) does not count. `known` maps the custom_ids that the file may contain to the `id`
    of their line, or to None if the API sets the `id`. A file with other lines belongs to another
    run. `known` is None if the custom_ids are not known.
    `replaced` has the marks of the unsuccessful lines that don't count, as in `ReplacedLines`.
    `window_of` returns the completion window of a custom_id.

    Raises:
        UsageError: the file can't be used, or is not a results file of this run.
        Unavailable: another process is writing to the file.
    """

    def __init__(
        self,
        path: str,
        known: Mapping[str, str | None] | None = None,
        replaced: Mapping[str, str] | None = None,
        window_of: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._known, self.window_of = known, window_of
        self._replaced = ReplacedLines(replaced or {})
        self.statuses: dict[str, str] = {}
        """The status of each job that has a line, by custom_id."""
        self.totals = Totals()
        """The usage and the cost of the lines that the file had when it was opened, and of replaced
        jobs whose lines were removed from it."""
        self.unpriced: str | None = None
        """One of these jobs, by custom_id, that has output but no known cost."""
        self.unsuccessful: dict[str, Unsuccessful] = {}
        """The jobs of these lines that did not succeed, by custom_id."""
        self._failed_ids: set[str | None] = set()
        """The response IDs in these lines."""
        self.origins: dict[str, tuple[object, str | None]] = {}
        """The `id` and the response ID of these lines, by custom_id, if the API sets the `id`."""
        self.changed: set[str] = set()
        """The custom_ids whose line is the result of another request than the run's."""
        self._lock = asyncio.Lock()
        self._gathering: dict[str, ResultLine] = {}
        self._without_response: dict[str, bytes] = {}
        """Lines of this process that only the file has: the state keeps responses alone."""
        super().__init__(path)

    @property
    def marks(self) -> Mapping[str, str]:
        """The marks of the last lines of jobs that did not succeed, by custom_id."""
        return self._replaced.seen

    @property
    def missing(self) -> set[str] | None:
        """The custom_ids without a line; None if the custom_ids are not known."""
        return None if self._known is None else self._known.keys() - self.statuses.keys()

    def reopened(self) -> ResultsFile:
        """Release the file, and open or create the one at its path; raises as the class."""
        self.release()
        file = ResultsFile(self.path, self._known, self._replaced.marks, self.window_of)
        try:
            file.begin()
        except BaseException:
            file.close()
            raise
        return file

    def former_lines(self, custom_ids: Container[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the lines of some jobs that are available, but not in the file at the path."""
        if self._is_changed or os.fstat(self._file).st_size != self._size:
            known = self._without_response.items()
            yield from ((name, raw) for name, raw in known if name in custom_ids)
            return
        for line, _ in self.lines():
            if line.custom_id in custom_ids:
                yield line.custom_id, line.raw

    async def append(self, raws: Iterable[bytes]) -> None:
        """Append lines as they are, also several of one job; raises like `add`."""
        async with self._lock:
            await in_thread(self._append, b"".join(raws))

    def is_ours(self, line: ResultLine) -> bool:
        """Return whether a line belongs to this run."""
        known, custom_id = self._known, line.custom_id
        return known is None or (custom_id in known and is_id_of_job(line.id, known[custom_id]))

    def count_replaced(self, rows: Iterable[Row]) -> None:
        """Count what replaced jobs have cost whose lines the file no longer has."""
        for row in rows:
            recap = Recap.of_row(row)
            if recap is not None and row.response_id not in self._failed_ids:
                self._pay(str(row.custom_id), recap, row.completion_window)

    def forget(self, custom_ids: Iterable[str]) -> None:
        """Note that the lines of some jobs no longer count, because they are submitted again."""
        for custom_id in custom_ids:
            self._replaced.end_here(custom_id)
            self._drop(custom_id)

    def _drop(self, custom_id: str) -> None:
        self.statuses.pop(custom_id, None)
        self.unsuccessful.pop(custom_id, None)
        self.origins.pop(custom_id, None)
        self.changed.discard(custom_id)

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
                await to_end(self._append_new(new))

    async def _append_new(self, new: list[ResultLine]) -> None:
        await asyncio.to_thread(self._append, b"".join(line.raw for line in new))
        self.statuses |= {line.custom_id: line.status for line in new}
        self._without_response |= {
            line.custom_id: line.raw for line in new if line.response_id is None
        }

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
        response_id = None if ending.payload is None else ending.payload.id
        raw = json_line(line)
        await self.add([ResultLine(id_, custom_id, recap.status, raw, recap, response_id)])

    def _id(self, custom_id: str) -> str | None:
        """Return the `id` of a job's lines; None if it is not known."""
        return None if self._known is None else self._known[custom_id]

    def _read(self) -> int:
        """Read the statuses from the file; return the size of its complete lines in bytes."""
        size = 0
        try:
            for line, end in self.lines():
                self._note(line)
                size = end
        except _ForeignLineError as foreign:
            why = (
                f"line {foreign} is not a result of this run. It belongs to another jobs file or "
                "job key, or its job was changed or removed"
                if foreign.is_result
                else f"this is not a results file, because line {foreign} is not a result"
            )
            raise UsageError(
                f"{self.path}: {why}. The file is unchanged.",
                hint="Use another --results-file, or rename this file.",
            ) from foreign
        return size

    def lines(self) -> Iterator[tuple[ResultLine, int]]:
        """Yield the lines up to one that was cut off, and where each ends; check whose they are."""
        end = 0
        os.lseek(self._file, 0, os.SEEK_SET)
        with open(self._file, "rb", closefd=False) as file:
            for number, raw in enumerate(file, 1):
                line = read_line(raw)
                ours = line is not None and self.is_ours(line)
                if not raw.endswith(b"\n") and (ours or is_cut_off(raw, is_first=end == 0)):
                    break
                if line is None or not ours:
                    raise _ForeignLineError(number, is_result=line is not None)
                end += len(raw)
                yield line, end

    def _mend(self) -> None:
        """Remove a line that was cut off after it was written; keep what is not a result."""
        self._is_changed, size = True, 0
        try:
            for _, size in self.lines():  # noqa: B007 - the last one counts
                pass
        except _ForeignLineError as foreign:
            raise FileExistsError(errno.EEXIST, "something else was written to it") from foreign
        os.ftruncate(self._file, size)
        self._size = size

    def _note(self, line: ResultLine) -> None:
        """Note what a line of the file has; the last line of a custom_id counts."""
        custom_id = line.custom_id
        self._pay(custom_id, line.recap, self.window_of(custom_id))
        if line.status not in SUCCESSFUL:
            self._failed_ids.add(line.response_id)
            if self._replaced.end_with(line):
                self._drop(custom_id)
                return
        self.statuses[custom_id] = line.status
        if self._id(custom_id) is None:
            self.origins[custom_id] = line.id, line.response_id
        self.unsuccessful.pop(custom_id, None)
        self.changed.discard(custom_id)
        if not is_id_of_request(line.id, self._id(custom_id)):
            self.changed.add(custom_id)
        if (unsuccessful := line.unsuccessful) is not None:
            self.unsuccessful[custom_id] = unsuccessful

    def _pay(self, custom_id: str, recap: Recap, completion_window: str | None) -> None:
        """Add what a job has cost."""
        cost = recap.cost_usd(completion_window)
        self.totals.add(recap.usage, cost)
        if cost is None and recap.status in (*WITH_OUTPUT, NEEDS_ACTION):
            self.unpriced = custom_id
