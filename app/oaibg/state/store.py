"""The store: intents, response IDs, job keys and results, which outlive the process.

Rows at the step `followed` were submitted elsewhere; `oaibg.state.submits` has the other steps.
Request bodies are never stored.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oaibg.base.secrets import masked
from oaibg.state import database
from oaibg.state.database import StateBusyError, StateError, reading, transaction, translated
from oaibg.state.known_names import names_in
from oaibg.state.results import StoredResults
from oaibg.state.rows import (
    BY_ID,
    REPLACED,
    UNSUCCESSFUL,
    Intent,
    Row,
    keys_of,
    line_key,
    lock_key,
    time_of,
)
from oaibg.state.runs import STATUS, Runs
from oaibg.state.submits import Submits

if TYPE_CHECKING:
    from collections.abc import Callable

    from oaibg.state.known_names import Ids

__all__ = ["Intent", "Row", "Store", "line_key", "lock_key", "open_store"]

DAY = 86400.0


def open_store(
    folder: str, *, keep_days: float = 30, now: Callable[[], float] = time.time
) -> tuple[Store, StateError | None]:
    """Open the store in a folder; returns the store and its problem, or None.

    A corrupt file is renamed and a new one is created. If the folder can't be used, the store is
    in memory, so that the run can continue. Callers that need a durable store (for a job key) must
    check the problem.
    """
    problem: StateError | None = None
    began = time.monotonic()
    while True:
        try:
            return Store(folder, keep_days=keep_days, now=now), problem
        except StateBusyError as busy:
            if time.monotonic() >= began + busy.patience:
                return Store(None, now=now), busy
        except StateError as error:
            if error.code != "state_corrupt" or problem is not None:
                return Store(None, now=now), error
            problem = error
        time.sleep(0.02)


class Store(Submits, StoredResults, Runs):
    """The state in a folder, or in memory if `folder` is None.

    The folder is created with mode 0700. Results are kept for `keep_days`; 0 keeps none. Every
    method commits before it returns, and raises `StateError` like `open_database`.
    """

    def __init__(
        self, folder: str | None, *, keep_days: float = 30, now: Callable[[], float] = time.time
    ) -> None:
        self._folder = Path(folder) if folder is not None else None
        self._now = now
        self.keep_results(self._folder, keep_days * DAY)
        with translated():
            self._db = database.open_database(self._folder)

    @property
    def is_durable(self) -> bool:
        """Whether the state outlives this process."""
        return self._folder is not None

    @property
    def place(self) -> str:
        """Where the state is, for messages."""
        return "memory" if self._folder is None else str(self._folder)

    def retry_batch(self, intent: Intent, over: Row, run_key: str, jobs: str) -> None:
        """As `retry`, for a run's batch; `jobs` is as for `note_batch_jobs`."""
        with transaction(self._db):
            self.retry([(intent, over)])
            self.note_batch_jobs(intent.base_url, run_key, jobs)

    def note_status(
        self,
        base_url: str,
        response_id: str,
        status: str | None,
        model: str | None,
        window: str | None = None,
    ) -> None:
        """Note the status of a job that was just retrieved; a new job is added, with `window`."""
        job = {"base_url": base_url, "response_id": response_id}
        with transaction(self._db):
            changes = "status = ?, model = coalesce(?, model)"
            if not self._update(changes, BY_ID, status, model, *job.values()):
                more = {"model": model, "completion_window": window}
                self._insert(step="followed", status=status, **more, **job)

    def together(self, writes: list[Callable[[], Any]]) -> list[Any]:
        """Run writes in one transaction; return the result or the `StateError` of each."""
        outcomes: list[Any] = []
        with transaction(self._db):
            for write in writes:
                self._db.execute("SAVEPOINT one")
                try:
                    outcomes.append(write())
                except StateError as error:
                    self._db.execute("ROLLBACK TO one")
                    outcomes.append(error)
                self._db.execute("RELEASE one")
        return outcomes

    def note_end(
        self,
        base_url: str,
        response_id: str,
        status: str | None,
        model: str | None,
        window: str | None,
        recap: str,
    ) -> None:
        """As `note_status` for a job that has ended; `recap` is what lists show of it."""
        with transaction(self._db):
            self.note_status(base_url, response_id, status, model, window)
            self._update("recap = ?", BY_ID, masked(recap), base_url, response_id)
            self.note_result(base_url, response_id)

    def by_key(self, base_url: str, job_key: str) -> Row | None:
        """Return the job with a job key."""
        return self._first("base_url = ? AND job_key = ? AND NOT superseded", base_url, job_key)

    def of_run(self, base_url: str, run_key: str) -> dict[str, Row]:
        """Return the jobs of a jobs file's run by `custom_id`."""
        where = "base_url = ? AND job_key BETWEEN ? AND ? AND NOT superseded"
        rows = self._rows(where, base_url, *keys_of(run_key))
        return {row.custom_id or "": row for row in rows}

    def replaced_in_run(self, base_url: str, run_key: str) -> list[Row]:
        """Return the jobs of a jobs file's run that were submitted again."""
        where = "base_url = ? AND job_key BETWEEN ? AND ? AND superseded"
        return self._rows(where, base_url, *keys_of(run_key))

    def by_id(self, base_url: str, response_id: str) -> Row | None:
        """Return the job with a response ID at this base URL."""
        return self._first(BY_ID, base_url, response_id)

    def unsuccessful_before(self, base_url: str, response_id: str) -> int:
        """Return how many earlier jobs with the job key of this one ended without success."""
        sql = (
            "SELECT count(*) FROM jobs AS own JOIN jobs AS old USING (base_url, job_key)"  # noqa: S608
            " WHERE base_url = ? AND own.response_id = ? AND old.id < own.id"
            f" AND old.status IN ({', '.join('?' * len(UNSUCCESSFUL))})"
        )
        with reading():
            return int(self._db.execute(sql, (base_url, response_id, *UNSUCCESSFUL)).fetchone()[0])

    def at_other_base_url(self, base_url: str, response_id: str) -> Row | None:
        """Return the job with a response ID at a different base URL."""
        return self._first("base_url <> ? AND response_id = ?", base_url, response_id)

    def newest(self, base_url: str) -> Row | None:
        """Return the newest submit to a base URL, with any outcome."""
        return self._first("base_url = ? AND step IN ('sending', 'submitted')", base_url)

    def jobs(
        self,
        *,
        job_key: str | None = None,
        status: str | None = None,
        before: int | None = None,
        limit: int = -1,
    ) -> list[Row]:
        """Return jobs that were sent, newest first: those of a key or run, or those of no run.

        A job that a later attempt replaced is not returned for its `status`. `before` is the `id`
        of a row: only older rows are returned.
        """
        where, values = ["step <> 'intent'"], list[object]()
        if job_key is None:
            where.append("(job_key IS NULL OR NOT instr(job_key, char(10)))")
        else:
            where.append("(job_key = ? OR job_key BETWEEN ? AND ?)")
            values += [job_key, *keys_of(job_key)]
        if status is not None:
            where.append(f"{STATUS} = ? AND NOT {REPLACED}")
            values.append(status)
        if before is not None:
            where.append("id < ?")
            values.append(before)
        return self._rows(" AND ".join(where), *values, limit=limit)

    def names(self, base_url: str, ids: Ids = "all") -> list[str]:
        """Return the keys, then the IDs, of the newest jobs and runs, newest first."""
        with reading():
            return names_in(self._db, base_url, ids)

    def with_label(self, base_url: str, label: str) -> str | None:
        """Return the key or ID of the newest job or run with a label."""
        sql = (
            "SELECT coalesce(job_key, response_id) AS name, created_at FROM jobs"
            " WHERE base_url = ? AND label = ? UNION SELECT run_key, created_at FROM runs"
            " WHERE base_url = ? AND label = ? ORDER BY created_at DESC"
        )
        with reading():
            found = self._db.execute(sql, (base_url, label) * 2).fetchall()
        return next((name for name, _ in found if name), None)

    def lock(self, base_url: str, job_key: str) -> int | None:
        """Lock a job key; returns None if another process holds the lock.

        The lock ends with `unlock` or with the process. Its file is never removed: a removed and
        recreated file would be a second lock.
        """
        if self._folder is None:
            raise StateError("state_unwritable", "A job key needs a writable local state.")
        with translated(), suppress(BlockingIOError):
            return database.lock_name(self._folder, f"{base_url}\n{job_key}")
        return None

    def unlock(self, lock: int) -> None:
        """Release a job key's lock."""
        os.close(lock)

    def set_aside(self) -> str | None:
        """Return the name of a renamed corrupt file that still exists; its keys are lost."""
        found = self._folder.glob(f"{database.FILE}.corrupt-*") if self._folder is not None else ()
        return min((path.name for path in found), default=None)

    def close(self) -> None:
        """Close the file; the store can't be used afterwards."""
        self._db.close()

    def _first(self, where: str, *values: str) -> Row | None:
        return next(iter(self._rows(where, *values, limit=1)), None)

    def _rows(self, where: str, *values: object, limit: int = -1) -> list[Row]:
        names = ", ".join(Row.fields)
        sql = f"SELECT {names} FROM jobs WHERE {where} ORDER BY id DESC LIMIT ?"  # noqa: S608
        with reading():
            # Fetch all rows at once: an open cursor blocks all writers.
            found = self._db.execute(sql, (*values, limit)).fetchall()
        return [_row(dict(zip(Row.fields, row, strict=True))) for row in found]


def _row(values: dict[str, Any]) -> Row:
    """Return a row; an empty ID counts as none."""
    values["response_id"] = values["response_id"] or None
    values["created_at"] = time_of(values["created_at"])
    values["updated_at"] = time_of(values["updated_at"])
    return Row(**values)
