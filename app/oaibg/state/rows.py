"""The tables, the rows of jobs, and the form of the job keys in a jobs file."""

from __future__ import annotations

from oaibg.base.record import Record

NOT_FOUND = "not_found"
"""The status of a job that the API no longer has, and that has no local copy."""

BATCH_WINDOW = "24h"
"""The completion window of batches and of their jobs, which have prices of their own."""

UNSUCCESSFUL = frozenset({"failed", "incomplete", "cancelled", "expired", NOT_FOUND})
"""The last statuses of jobs that did not succeed."""

BY_ID = "base_url = ? AND response_id = ?"
"""Selects the row of a job."""

REPLACED = "(superseded AND coalesce(substr(job_key, -1), '') <> char(10))"
"""Selects what `Row.is_replaced` describes."""

SCHEMA = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    base_url TEXT NOT NULL,
    step TEXT NOT NULL CHECK (step IN ('intent', 'sending', 'submitted', 'followed')),
    job_key TEXT,
    custom_id TEXT,
    request_sha256 TEXT,
    model TEXT,
    completion_window TEXT,
    response_id TEXT,
    status TEXT,
    result TEXT,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    superseded INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX jobs_by_key ON jobs (base_url, job_key)
    WHERE job_key IS NOT NULL AND NOT superseded;
CREATE INDEX jobs_by_response ON jobs (response_id);
"""


ADDED = {
    "jobs": {
        "include": "TEXT",
        "label": "TEXT",
        "recap": "TEXT",
        "replaced": "TEXT",
        "sender": "TEXT",
        "kept_at": "REAL",
    },
    "runs": {"label": "TEXT"},
}
"""The columns that later versions added to tables, and their types. Older versions ignore them."""

ADDED_TABLES = """
CREATE TABLE IF NOT EXISTS batches (
    base_url TEXT NOT NULL,
    run_key TEXT NOT NULL,
    jobs TEXT NOT NULL,
    PRIMARY KEY (base_url, run_key)
);
CREATE TABLE IF NOT EXISTS results_files (
    first_line TEXT PRIMARY KEY,
    owner TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS runs (
    base_url TEXT NOT NULL,
    run_key TEXT NOT NULL,
    jobs_file TEXT NOT NULL,
    results_file TEXT NOT NULL,
    total INTEGER NOT NULL,
    is_batch INTEGER NOT NULL,
    rerun TEXT,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (base_url, run_key)
);
CREATE TABLE IF NOT EXISTS age (
    seconds REAL NOT NULL,
    seen_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS jobs_by_age ON jobs (kept_at) WHERE result IS NOT NULL
"""
"""The tables that later versions added: the jobs of a run's batch as JSON, whose results a results
file has, by hashes, the runs, and the age of the state, as `oaibg.state.results` explains."""


_LAST_TIME = 253_402_300_799.0
"""The end of the year 9999."""


def time_of(value: object) -> float:
    """Return a stored Unix time; an impossible one becomes 0, so that lists still work."""
    if isinstance(value, int | float) and 0 <= value <= _LAST_TIME:
        return float(value)
    return 0.0


ID_TAKEN = """
SELECT other.id FROM jobs AS own JOIN jobs AS other USING (base_url)
WHERE own.id = ? AND other.response_id = ? AND other.id <> own.id AND other.step = 'submitted'
"""
"""Finds another submitted job of the same base URL that has an ID."""


UNSENT = (
    "DELETE FROM jobs WHERE base_url = ? AND job_key = ? AND step = 'intent' AND NOT superseded"
)
"""Deletes the job of a key whose request was never sent."""

CANCELLED = "[]"
"""Stands for the argv of a run that was cancelled: there is nothing to resume."""

OF_CANCELLED_RUN = f"""
SELECT 1 FROM jobs JOIN runs USING (base_url)
WHERE jobs.id = ? AND custom_id IS NOT NULL AND rerun = '{CANCELLED}'
AND run_key = substr(job_key, 1, instr(job_key, char(10)) - 1)
"""  # noqa: S608
"""Finds out whether a job belongs to a run that was cancelled."""


class Intent(Record):
    """The part of a row that is written before a job is submitted."""

    base_url: str
    request_sha256: str | None
    job_key: str | None = None
    custom_id: str | None = None
    model: str | None = None
    completion_window: str | None = None
    label: str | None = None
    """The user's name for the job, for people."""
    include: str | None = None
    """The values of the request's `include`, a line each."""
    replaced: str | None = None
    """For a retry in a jobs file: the mark of the last line in the results file that the retry
    replaces."""


class Row(Intent):
    """A job in the state. Times are Unix seconds."""

    id: int
    step: str
    response_id: str | None
    status: str | None
    result: str | None
    created_at: float
    updated_at: float
    superseded: int
    recap: str | None
    """What lists show of a job that has ended, as JSON."""
    sender: str | None
    """The process that submits or submitted the job, as `oaibg.state.senders` names it."""

    @property
    def is_unknown(self) -> bool:
        """Whether the request may have been sent, and the job's ID is not known."""
        return self.step != "intent" and not self.response_id

    @property
    def is_batch(self) -> bool | None:
        """Whether it is a batch; None if only the form of its ID shows that."""
        if self.step == "followed":
            return True if self.completion_window == BATCH_WINDOW else None
        return self.job_key is not None and self.job_key.endswith("\n")

    @property
    def is_replaced(self) -> bool:
        """Whether a later attempt counts in its place; an earlier batch still has answers."""
        return bool(self.superseded) and not self.is_batch

    @property
    def known_as(self) -> str | None:
        """The job's key or label, for people; in a run over a jobs file, its custom_id."""
        key, _, custom_id = (self.job_key or "").partition("\n")
        return custom_id or key or self.label

    @property
    def alias(self) -> str | None:
        """The user's key that stands for this job; None if it has none, or a later one has it."""
        is_own = not self.superseded and "\n" not in (self.job_key or "")
        return self.job_key if is_own else None

    @property
    def run_key(self) -> str | None:
        """The key of the job's run over a jobs file; None if it belongs to none."""
        key, of_run, _ = (self.job_key or "").partition("\n")
        return key if of_run else None

    @property
    def included(self) -> tuple[str, ...]:
        """The values of the request's `include`, which every retrieve sends again."""
        return tuple(self.include.split("\n")) if self.include else ()


def line_key(run_key: str, custom_id: str) -> str:
    """Return the job key of a line in a jobs file; a user's own key has no line end."""
    return f"{run_key}\n{custom_id}"


def keys_of(run_key: str) -> tuple[str, str]:
    """Return the first and the last job key that a line of a run may have."""
    return line_key(run_key, ""), line_key(run_key, "\U0010ffff")


def user_key(job_key: str) -> str:
    """Return the key as the user gave it: of a job, or of the run that the job belongs to."""
    return job_key.partition("\n")[0]


def lock_key(job_key: str) -> str:
    """Return the key to lock before a submit: all lines of a jobs file share one lock."""
    run_key, of_run, _ = job_key.partition("\n")
    return line_key(run_key, "") if of_run else job_key
