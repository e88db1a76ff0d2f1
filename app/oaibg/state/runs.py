"""The runs in the state, a row each, and sums over the rows of their jobs.

A run that an older version started has no row; what its jobs' rows say stands in for it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from oaibg.base.record import Record
from oaibg.state.database import reading, transaction
from oaibg.state.key_owners import check_run_key
from oaibg.state.rows import CANCELLED, UNSENT, keys_of, time_of

if TYPE_CHECKING:
    import sqlite3


def _recap(path: str) -> str:
    """Return the SQL of a value in a job's recap; null if the recap is damaged."""
    return f"CASE WHEN json_valid(recap) THEN json_extract(recap, '$.{path}') END"


STATUS = (
    "CASE WHEN response_id IS NULL THEN 'outcome_unknown' WHEN status = 'completed'"
    f" THEN coalesce({_recap('status')}, status) ELSE coalesce(status, 'unknown') END"
)
"""The status under which lists count a job, in SQL."""

_RUN_KEY = "substr(job_key, 1, instr(job_key, char(10)) - 1)"
_COST = (
    f"CASE WHEN count({_recap('cost')}) = count({_recap('usage')}) THEN sum({_recap('cost')}) END"
)
_USAGE = (
    "input_tokens",
    "input_tokens_details.cached_tokens",
    "input_tokens_details.cache_write_tokens",
    "output_tokens",
    "output_tokens_details.reasoning_tokens",
    "total_tokens",
)


class RunRow(Record):
    """A run over a jobs file. Times are Unix seconds; the paths are null for an older run."""

    base_url: str
    run_key: str
    jobs_file: str | None
    results_file: str | None
    total: int
    """The number of jobs; those of an older run that were submitted."""
    is_batch: int
    rerun: str | None
    """The argv that resumes the run, as JSON; null if it would contain a prompt, `CANCELLED` after
    a cancel."""
    created_at: float
    updated_at: float
    label: str | None = None
    """The user's name for the run, for people."""

    @property
    def known_as(self) -> str:
        """The name of the run, for people: its key, or its label if the key is only a path."""
        return self.label if self.label and self.run_key == self.jobs_file else self.run_key

    @property
    def argv(self) -> list[str] | None:
        """The argv that resumes the run."""
        return None if self.is_cancelled or not self.rerun else json.loads(self.rerun)

    @property
    def is_cancelled(self) -> bool:
        """Whether the run was cancelled, and not started again."""
        return self.rerun == CANCELLED


class RunPart(Record):
    """The jobs of a run that have one status, model, service tier and completion window.

    Jobs that were submitted again have been paid, too.
    """

    status: str
    model: str | None
    service_tier: str | None
    completion_window: str | None
    jobs: int
    """The number of these jobs that were not submitted again."""
    attempts: int
    """The number of all these jobs."""
    updated_at: float
    response_id: str | None
    """The ID of a batch; of other runs, the ID of any of these jobs."""
    cost_usd: float | None
    """The stored cost in US dollars; None unless each job with a usage has one."""
    usage: dict[str, Any] | None
    """The sums of the API's counts."""


_OLDER = (
    f"SELECT base_url, {_RUN_KEY} AS run_key, NULL AS jobs_file, NULL AS results_file,"  # noqa: S608
    " count(*) AS total, max(custom_id IS NULL) AS is_batch, NULL AS rerun,"
    " min(created_at) AS created_at, max(updated_at) AS updated_at, NULL AS label FROM jobs"
    " WHERE job_key IS NOT NULL AND NOT superseded AND instr(job_key, char(10)) {more}"
    " GROUP BY 1, 2"
)
_FIELDS = ", ".join(RunRow.fields)


class Runs:
    """The part of the store that has the runs."""

    _db: sqlite3.Connection

    def note_batch_jobs(self, base_url: str, run_key: str, jobs: str) -> None:
        """Note which jobs the batch of a run has, as JSON."""
        with transaction(self._db):
            sql = "INSERT OR REPLACE INTO batches VALUES (?, ?, ?)"
            self._db.execute(sql, (base_url, run_key, jobs))

    def batch_jobs(self, base_url: str, run_key: str) -> str | None:
        """Return which jobs the batch of a run has; None if it was not noted."""
        sql = "SELECT jobs FROM batches WHERE base_url = ? AND run_key = ?"
        with reading():
            found = self._db.execute(sql, (base_url, run_key)).fetchone()
        return None if found is None else str(found[0])

    def note_owner(self, first_line: str, owner: str) -> None:
        """Note whose results the file with this first line has."""
        with transaction(self._db):
            self._db.execute(
                "INSERT OR REPLACE INTO results_files VALUES (?, ?)", (first_line, owner)
            )

    def owner_of(self, first_line: str) -> str | None:
        """Return whose results the file with this first line has; None if it was not noted."""
        sql = "SELECT owner FROM results_files WHERE first_line = ?"
        with reading():
            found = self._db.execute(sql, (first_line,)).fetchone()
        return None if found is None else str(found[0])

    def note_run(self, run: RunRow) -> None:
        """Note a run; if it is known, the time and the label of its first start stay.

        A job with this key whose request was never sent loses the key. Raises `KeyReusedError` if
        a job has the key.
        """
        values = run.values()
        marks = ", ".join("?" * len(values))
        changes = ", ".join(
            f"{name} = excluded.{name}"
            for name in values
            if name not in ("base_url", "run_key", "created_at", "label")
        )
        sql = (
            f"INSERT INTO runs ({', '.join(values)}) VALUES ({marks})"  # noqa: S608
            f" ON CONFLICT (base_url, run_key) DO UPDATE SET {changes}"
        )
        with transaction(self._db):
            check_run_key(self._db, run.base_url, run.run_key)
            self._db.execute(UNSENT, (run.base_url, run.run_key))
            self._db.execute(sql, tuple(values.values()))

    def check_run_key(self, base_url: str, run_key: str) -> None:
        """Raise `KeyReusedError` if a job has this key, and no run."""
        with reading():
            check_run_key(self._db, base_url, run_key)

    def run(self, base_url: str, run_key: str, *paths: str) -> RunRow | None:
        """Return the run with a key, or else the newest one whose files have one of these paths."""
        more = "AND base_url = ? AND job_key BETWEEN ? AND ?"
        by_key = (
            f"SELECT {_FIELDS} FROM runs WHERE base_url = ? AND run_key = ?"  # noqa: S608
            f" UNION ALL {_OLDER.format(more=more)} ORDER BY jobs_file DESC LIMIT 1"
        )
        marks = ", ".join("?" * len(paths))
        by_path = (
            f"SELECT {_FIELDS} FROM runs WHERE base_url = ?"  # noqa: S608
            f" AND (jobs_file IN ({marks}) OR results_file IN ({marks}))"
            " ORDER BY updated_at DESC LIMIT 1"
        )
        found = self._runs(by_key, base_url, run_key, base_url, *keys_of(run_key))
        found = found or self._runs(by_path, base_url, *paths, *paths)
        return found[0] if found else None

    def cancel_run(self, base_url: str, run_key: str) -> None:
        """Note that a run is cancelled, so that no process submits further jobs of it."""
        sql = "UPDATE runs SET rerun = ? WHERE base_url = ? AND run_key = ?"
        with transaction(self._db):
            self._db.execute(sql, (CANCELLED, base_url, run_key))

    def runs(self) -> list[RunRow]:
        """Return all runs, newest first."""
        more = f"AND (base_url, {_RUN_KEY}) NOT IN (SELECT base_url, run_key FROM runs)"  # noqa: S608
        older = _OLDER.format(more=more)
        return self._runs(
            f"SELECT {_FIELDS} FROM runs UNION ALL {older} ORDER BY created_at DESC"  # noqa: S608
        )

    def run_parts(self, run: RunRow) -> list[RunPart]:
        """Return the jobs of a run by status and by what their price depends on."""
        sums = ", ".join(f"sum({_recap(f'usage.{path}')})" for path in _USAGE)
        sql = (
            f"SELECT {STATUS}, {_recap('model')}, {_recap('service_tier')},"  # noqa: S608
            " completion_window,"
            f" sum(NOT superseded), count(*), max(updated_at), max(response_id), {_COST}, {sums}"
            " FROM jobs WHERE base_url = ? AND job_key BETWEEN ? AND ? AND step <> 'intent'"
            " GROUP BY 1, 2, 3, 4"
        )
        with reading():
            found = self._db.execute(sql, (run.base_url, *keys_of(run.run_key))).fetchall()
        names = RunPart.fields[:-1]
        return [
            _part(dict(zip(names, values, strict=False)), usage=_usage(values[len(names) :]))
            for values in found
        ]

    def _runs(self, sql: str, *values: str) -> list[RunRow]:
        with reading():
            found = self._db.execute(sql, values).fetchall()
        return [_run(dict(zip(RunRow.fields, row, strict=True))) for row in found]


def _run(values: dict[str, Any]) -> RunRow:
    times = {name: time_of(values[name]) for name in ("created_at", "updated_at")}
    return RunRow(**{**values, **times})


def _part(values: dict[str, Any], usage: dict[str, Any] | None) -> RunPart:
    return RunPart(**{**values, "updated_at": time_of(values["updated_at"])}, usage=usage)


def _usage(sums: tuple[int | None, ...]) -> dict[str, Any] | None:
    usage: dict[str, Any] = {}
    for path, value in zip(_USAGE, sums, strict=True):
        if value is not None:
            name, _, part = path.partition(".")
            if part:
                usage.setdefault(name, {})[part] = value
            else:
                usage[name] = value
    return usage or None
