"""The steps of a submit in the store, and which process may send the request of a job key.

A submit has three steps, and each is durable before the next begins: `intent` (nothing was sent) →
`sending` (the request is being sent) → `submitted` (the ID is known). A row that is still at
`sending` after its process ended means that the outcome is unknown.

The transaction that changes a row from `intent` to `sending` decides which process sends: it fails
if another process has begun to submit the key since. File locks only spare others that attempt.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from oaibg.state.database import (
    IdTakenError,
    KeyTakenError,
    RunCancelledError,
    StateError,
    transaction,
)
from oaibg.state.key_owners import check_job_key
from oaibg.state.rows import ID_TAKEN, OF_CANCELLED_RUN, UNSENT
from oaibg.state.senders import this_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from oaibg.state.rows import Intent, Row

_LOST = "state_unwritable", "The job is no longer in the local state."


class Submits:
    """The part of the store that has the steps of a submit, and changes rows."""

    _db: sqlite3.Connection
    _now: Callable[[], float]

    def intent(self, intent: Intent) -> int:
        """Insert a job before it is submitted, and return its row's number.

        This replaces a row with the same job key that is still at `intent`, because its request was
        never sent.

        Raises:
            KeyTakenError: the key has a job.
            KeyReusedError: the key has a run.
        """
        with transaction(self._db):
            if intent.job_key is not None:
                check_job_key(self._db, intent.base_url, intent.job_key)
                self._db.execute(UNSENT, (intent.base_url, intent.job_key))
            return self._insert_intent(intent, sender=this_process())

    def sending(self, number: int, *, over: Row | None = None) -> None:
        """Note that the request is being sent: from now on the job may exist.

        The job takes over the job key of `over`, a job with an unknown outcome, if given. If this
        raises, nothing was changed.

        Raises:
            KeyTakenError: another process has replaced the intent or `over`.
            RunCancelledError: the job belongs to a run that was cancelled.
        """
        with transaction(self._db):
            if over is not None:
                self._supersede(over)
            key = over.job_key if over is not None else None
            changes = "step = 'sending', job_key = coalesce(job_key, ?)"
            if not self._update(changes, "id = ? AND step = 'intent'", key, number):
                raise KeyTakenError(*_LOST)
            if self._db.execute(OF_CANCELLED_RUN, (number,)).fetchone():
                raise RunCancelledError("run_cancelled", "The run was cancelled.")

    def unsent(self, number: int, *, over: Row | None = None) -> None:
        """Return to the step `intent`: the API created nothing, and a retry follows.

        If the row was at `sending`, `over` gets back the job key that it lost then.
        """
        with transaction(self._db):
            sent = self._update("step = 'intent'", "id = ? AND step = 'sending'", number)
            if sent and over is not None:
                self._db.execute("UPDATE jobs SET job_key = NULL WHERE id = ?", (number,))
                self._db.execute("UPDATE jobs SET superseded = 0 WHERE id = ?", (over.id,))

    def not_created(self, number: int, *, over: Row | None = None) -> None:
        """Remove a job that the API certainly did not create; `over` is as for `unsent`."""
        with transaction(self._db):
            self.unsent(number, over=over)
            self._db.execute("DELETE FROM jobs WHERE id = ?", (number,))

    def retry(self, intents: list[tuple[Intent, Row | None]]) -> None:
        """Insert new jobs with the keys of old ones, which are superseded, in one transaction.

        Raises `KeyTakenError` if another process has begun the same retry.
        """
        with transaction(self._db):
            for intent, old in intents:
                if old is not None:
                    self._supersede(old)
                self._insert_intent(intent)

    def submitted(self, number: int, response_id: str, status: str | None) -> None:
        """Note the ID that the API returned.

        Raises `IdTakenError` if another job has it, and `StateError` if the row no longer exists.
        """
        with transaction(self._db):
            if self._db.execute(ID_TAKEN, (number, response_id)).fetchone():
                raise IdTakenError("id_taken", "The ID belongs to another job.")
            changes = "step = 'submitted', response_id = ?, status = ?"
            if not self._update(changes, "id = ?", response_id, status, number):
                raise StateError(*_LOST)

    def _supersede(self, row: Row) -> None:
        sql = "UPDATE jobs SET superseded = 1 WHERE id = ? AND step = ? AND NOT superseded"
        if not self._db.execute(sql, (row.id, row.step)).rowcount:
            raise _taken()

    def _insert_intent(self, intent: Intent, **more: str) -> int:
        try:
            return self._insert(step="intent", **intent.values(), **more)
        except sqlite3.IntegrityError as error:
            raise _taken() from error

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


def _taken() -> KeyTakenError:
    message = "Another process has begun to submit this job key."
    return KeyTakenError("job_key_busy", message)
