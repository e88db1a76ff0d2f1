"""The store: intents, response IDs, job keys and results, which outlive the process.

A submit has three steps, and each is durable before the next begins: `intent` (nothing was sent) →
`sending` (the request is being sent) → `submitted` (the ID is known). A row that is still at
`sending` after its process ended means that the outcome is unknown. Rows at `followed` were
submitted elsewhere. Request bodies are never stored. A result is a file with the API's own bytes.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oaibg.base.files import TEMPORARY, save
from oaibg.state import database
from oaibg.state.database import IdTakenError, StateBusyError, StateError, transaction, translated
from oaibg.state.rows import ID_TAKEN, Intent, Row, line_key, lock_key
from oaibg.state.runs import STATUS, Runs, keys_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Intent", "Row", "Store", "line_key", "lock_key", "open_store"]

DAY = 86400.0

_BY_ID = "base_url = ? AND response_id = ?"


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


class Store(Runs):
    """The state in a folder, or in memory if `folder` is None.

    The folder is created with mode 0700. Results are kept for `keep_days`; 0 keeps none. Every
    method commits before it returns, and raises `StateError` like `open_database`.
    """

    def __init__(
        self, folder: str | None, *, keep_days: float = 30, now: Callable[[], float] = time.time
    ) -> None:
        self._folder = Path(folder) if folder is not None else None
        self._results = self._folder / "results" if self._folder and keep_days else None
        self._keep_seconds = keep_days * DAY
        self._pruned = False
        self._now = now
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

    def intent(self, intent: Intent) -> int:
        """Insert a job before it is submitted, and return its row's number.

        This replaces a row with the same job key that is still at `intent`, because its request was
        never sent. Callers with a job key hold its lock.
        """
        with transaction(self._db):
            if intent.job_key is not None:
                self._db.execute(
                    "DELETE FROM jobs WHERE base_url = ? AND job_key = ? AND step = 'intent'"
                    " AND NOT superseded",
                    (intent.base_url, intent.job_key),
                )
            return self._insert(step="intent", **intent.values())

    def sending(self, number: int, *, over: Row | None = None) -> None:
        """Note that the request is being sent: from now on the job may exist.

        The job takes over the job key of `over`, a job with an unknown outcome, if given.
        """
        with transaction(self._db):
            if over is not None:
                self._db.execute("UPDATE jobs SET superseded = 1 WHERE id = ?", (over.id,))
            key = over.job_key if over is not None else None
            self._note(number, "step = 'sending', job_key = coalesce(job_key, ?)", key)

    def unsent(self, number: int, *, over: Row | None = None) -> None:
        """Return to the step `intent`: the API created nothing, and a retry follows."""
        with transaction(self._db):
            self._update("step = 'intent'", "id = ?", number)
            self._give_key_back(number, over)

    def not_created(self, number: int, *, over: Row | None = None) -> None:
        """Remove a job that the API certainly did not create."""
        with transaction(self._db):
            self._db.execute("DELETE FROM jobs WHERE id = ?", (number,))
            self._give_key_back(number, over)

    def retry(self, intents: list[Intent]) -> None:
        """Insert new jobs with the keys of old ones, which are superseded, in one transaction."""
        old = "UPDATE jobs SET superseded = 1 WHERE base_url = ? AND job_key = ? AND NOT superseded"
        with transaction(self._db):
            for intent in intents:
                self._db.execute(old, (intent.base_url, intent.job_key))
                self._insert(step="intent", **intent.values())

    def retry_batch(self, intent: Intent, run_key: str, jobs: str) -> None:
        """As `retry`, for a run's batch; `jobs` is as for `note_batch_jobs`."""
        with transaction(self._db):
            self.retry([intent])
            self.note_batch_jobs(intent.base_url, run_key, jobs)

    def submitted(self, number: int, response_id: str, status: str | None) -> None:
        """Note the ID that the API returned; raises `IdTakenError` if another job has it."""
        with transaction(self._db):
            if self._db.execute(ID_TAKEN, (number, response_id)).fetchone():
                raise IdTakenError("id_taken", "The ID belongs to another job.")
            changes = "step = 'submitted', response_id = ?, status = ?"
            self._note(number, changes, response_id, status)

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
            if not self._update(changes, _BY_ID, status, model, *job.values()):
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

    def note_recap(self, base_url: str, response_id: str, recap: str) -> None:
        """Note what lists show of a job that has ended."""
        self._update("recap = ?", _BY_ID, recap, base_url, response_id)

    def note_result(self, base_url: str, response_id: str) -> None:
        """Note a job's result before it is saved; a file without a row is never removed."""
        if self._results is not None:
            if not self._pruned:
                self._pruned = True
                self._prune(self._results)
            name = _result_name(base_url, response_id)
            self._update("result = ?", _BY_ID, name, base_url, response_id)

    def save_result(self, base_url: str, response_id: str, raw: bytes) -> None:
        """Save a result as the API sent it. Any thread may call this."""
        if self._results is not None:
            with translated():
                self._results.mkdir(mode=0o700, exist_ok=True)
                path = self._results / f"{_result_name(base_url, response_id)}.json"
                save(str(path), raw, private=True)

    def result(self, row: Row) -> bytes | None:
        """Return a job's stored result; None if there is none or it has expired."""
        expired = row.updated_at < self._now() - self._keep_seconds
        if self._results is not None and row.result is not None and not expired:
            with suppress(OSError):
                return (self._results / f"{row.result}.json").read_bytes()
        return None

    def by_key(self, base_url: str, job_key: str) -> Row | None:
        """Return the job with a job key."""
        return self._first("base_url = ? AND job_key = ? AND NOT superseded", base_url, job_key)

    def of_run(self, base_url: str, run_key: str) -> dict[str, Row]:
        """Return the jobs of a jobs file's run by `custom_id`."""
        where = "base_url = ? AND job_key BETWEEN ? AND ? AND NOT superseded"
        rows = self._rows(where, base_url, *keys_of(run_key))
        return {row.custom_id or "": row for row in rows}

    def by_id(self, base_url: str, response_id: str) -> Row | None:
        """Return the job with a response ID at this base URL."""
        return self._first(_BY_ID, base_url, response_id)

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

        `before` is the `id` of a row: only older rows are returned.
        """
        where, values = ["step <> 'intent'"], list[object]()
        if job_key is None:
            where.append("(job_key IS NULL OR NOT instr(job_key, char(10)))")
        else:
            where.append("(job_key = ? OR job_key BETWEEN ? AND ?)")
            values += [job_key, *keys_of(job_key)]
        if status is not None:
            where.append(f"{STATUS} = ?")
            values.append(status)
        if before is not None:
            where.append("id < ?")
            values.append(before)
        return self._rows(" AND ".join(where), *values, limit=limit)

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

    def _insert(self, **values: Any) -> int:
        values["created_at"] = values["updated_at"] = self._now()
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        sql = f"INSERT INTO jobs ({names}) VALUES ({marks})"  # noqa: S608
        return self._db.execute(sql, tuple(values.values())).lastrowid or 0

    def _update(self, changes: str, where: str, *values: object) -> int:
        """Change rows and return their number; the values are those of `changes`, then `where`."""
        sql = f"UPDATE jobs SET updated_at = ?, {changes} WHERE {where}"  # noqa: S608
        with transaction(self._db):
            return self._db.execute(sql, (self._now(), *values)).rowcount

    def _note(self, number: int, changes: str, *values: str | None) -> None:
        """Change a job's row; raises `StateError` if the row no longer exists."""
        if not self._update(changes, "id = ?", *values, number):
            raise StateError("state_unwritable", "The job is no longer in the local state.")

    def _give_key_back(self, number: int, over: Row | None) -> None:
        """Restore the job key of `over`, which `sending` moved to this job."""
        if over is not None:
            self._db.execute("UPDATE jobs SET job_key = NULL WHERE id = ?", (number,))
            self._db.execute("UPDATE jobs SET superseded = 0 WHERE id = ?", (over.id,))

    def _first(self, where: str, *values: str) -> Row | None:
        return next(iter(self._rows(where, *values, limit=1)), None)

    def _rows(self, where: str, *values: object, limit: int = -1) -> list[Row]:
        names = ", ".join(Row.fields)
        sql = f"SELECT {names} FROM jobs WHERE {where} ORDER BY id DESC LIMIT ?"  # noqa: S608
        with translated():
            # Fetch all rows at once: an open cursor blocks all writers.
            found = self._db.execute(sql, (*values, limit)).fetchall()
        return [Row(**dict(zip(Row.fields, row, strict=True))) for row in found]

    def _prune(self, folder: Path) -> None:
        """Remove expired results, and incomplete files of killed processes."""
        where, values = "result IS NOT NULL AND updated_at < ?", (self._now() - self._keep_seconds,)
        with translated():
            found = self._db.execute(f"SELECT result FROM jobs WHERE {where}", values).fetchall()  # noqa: S608
        for path in folder.glob(TEMPORARY):
            with suppress(OSError):
                if path.stat().st_mtime < self._now() - 3600:
                    path.unlink()
        for (name,) in found:
            with suppress(OSError):  # the new result can be saved anyway
                (folder / f"{name}.json").unlink()
        if found:
            with transaction(self._db):
                self._db.execute(f"UPDATE jobs SET result = NULL WHERE {where}", values)  # noqa: S608


def _result_name(base_url: str, response_id: str) -> str:
    return hashlib.sha256(f"{base_url}\n{response_id}".encode(errors="replace")).hexdigest()
