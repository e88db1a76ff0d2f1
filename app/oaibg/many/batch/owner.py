"""Whose results a results file has: those of one batch, or of a run, whose retries are batches.

The results of two batches can have the same custom_ids. The local state knows the owner of a file
by the file's first line, so that the file can be moved. For a file that it does not know, the lines
are compared with those of the batch.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from oaibg.contract.errors import CallFailed, UsageError
from oaibg.many.batch.files import Downloads, files_of
from oaibg.many.results.line_id import digest
from oaibg.many.results.result_line import read_line
from oaibg.state.database import StateError

if TYPE_CHECKING:
    from oaibg.api.payload import Payload
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.many.results.results_file import ResultsFile


def owner_of_run(run_key: str, context: Context) -> str:
    """Return the owner of the results of a run over a jobs file."""
    return digest(context.base_url, run_key)


def owner_of_batch(batch_id: str, context: Context) -> str:
    """Return the owner of a batch's results: its run, if the local state knows it."""
    with suppress(StateError):
        row = context.store.by_id(context.base_url, batch_id)
        if row is not None and row.job_key is not None:
            return owner_of_run(row.job_key.partition("\n")[0], context)
    return digest(context.base_url, "", batch_id)


class Owner:
    """The owner of a batch's results, which checks that a results file has no others.

    Raises `UsageError` if the local state knows that the file has another owner's results.
    """

    def __init__(self, owner: str, results: ResultsFile, context: Context) -> None:
        self._owner, self._results, self._context = owner, results, context
        first, noted = results.first_line(), None
        if first is not None:
            with suppress(StateError):
                noted = context.store.owner_of(digest(first))
        if noted not in (None, owner):
            raise self._refusal()
        self.is_refused = False
        """Whether the file turned out to have the results of another batch."""
        self.is_sure = first is None or noted is not None
        """Whether the file had no lines, or only those of this owner."""

    async def compare(self, batch: Payload, job: Job, context: Context) -> bool:
        """Compare the lines of the results file with those of a batch, before any is added.

        Returns whether all could be compared. Raises `UsageError` if another batch's are there.
        """
        downloads, files, compared = Downloads(job, context), files_of(batch), 0
        for file_id in files:
            with suppress(OSError, CallFailed), tempfile.TemporaryFile() as content:
                if await downloads.download(file_id, content):
                    self._check(str(batch.id), content)
                    compared += 1
        return compared == len(files) > 0

    def _check(self, batch_id: str, content: IO[bytes]) -> None:
        """Raise `UsageError` if the lines of one job come from two batches."""
        content.seek(0)
        for line in filter(None, map(read_line, content)):
            there = self._results.origins.get(line.custom_id)
            if there is None or there[0] == missing_id(batch_id, line.custom_id):
                continue
            ids = [(line.response_id, there[1]), (line.id, there[0])]
            known = [(one, other) for one, other in ids if one is not None and other is not None]
            if known and known[0][0] != known[0][1]:
                self.is_refused = True
                raise self._refusal()
        content.seek(0)

    def note(self) -> None:
        """Note in the local state that the file has the results of this owner."""
        first = self._results.first_line()
        if first is not None:
            with suppress(StateError):  # the next command compares the lines
                self._context.store.note_owner(digest(first), self._owner)

    def _refusal(self) -> UsageError:
        return UsageError(
            f"{self._results.path}: this file has the results of another batch. It is unchanged.",
            hint="Use another --results-file, or rename this file.",
        )


def missing_id(batch_id: str, custom_id: str) -> str:
    """Return the `id` of the line of a job for which a batch has no result."""
    return f"batch_req_{digest(batch_id, custom_id)[:32]}"
