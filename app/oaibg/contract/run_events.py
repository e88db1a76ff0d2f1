"""The events of runs over several jobs, and of lists."""

from __future__ import annotations

from typing import Any

from oaibg.base.record import Record
from oaibg.contract.event import Event


class Unsuccessful(Record):
    """A job in a run that did not succeed, and why."""

    custom_id: str | None
    response_id: str | None
    status: str
    code: str | None
    message: str | None


class ListedJob(Event, name="job", by="`show --list`"):
    """A job in the local state, submitted to any base URL.

    Its status is `outcome_unknown` if the reply to its request was lost. `replaced` is true for an
    attempt that a later one has replaced; the `summary` adds up what it cost, but doesn't count it.
    """

    custom_id: str | None
    job_key: str | None
    label: str | None
    model: str | None
    status: str | None
    replaced: bool = False
    usage: dict[str, Any] | None
    cost_usd: float | None
    job_seconds: float | None
    created_at: str
    updated_at: str
    base_url: str


class Run(Event, name="run", by="`show --list`, `show` of a run's key"):
    """A run over a jobs file, started in any shell. `counts` has the number of jobs per status.

    `show --list` counts only submitted jobs, and the jobs of a batch under the batch's status.
    `is_active` says whether a process is running the run; it is null in `show --list`.
    `is_cancelled` is true after a `cancel` of the run, until it is submitted again. `per_minute`
    and `eta_seconds` are those of `run_progress`. They are also null in `show --list`, for a batch,
    if no process is running the run, and if it was cancelled. `usage` and `cost_usd` are sums of
    the known values. `rerun` is the submit command as an argv array; it is null if it would contain
    instructions, and after a cancel.
    """

    job_key: str
    label: str | None = None
    jobs_file: str | None
    results_file: str | None
    rerun: list[str] | None = None
    total: int
    counts: dict[str, int]
    is_active: bool | None = None
    is_cancelled: bool = False
    per_minute: float | None = None
    eta_seconds: float | None = None
    usage: dict[str, Any] | None
    cost_usd: float | None
    created_at: str
    updated_at: str
    base_url: str


class RunProgress(Event, name="run_progress", by="`--events summary`, `monitor` of a run"):
    """Progress of a run over several jobs, emitted at its start, and with `summary` every minute.

    `done` is the number of jobs that have ended, in this process or before. `in_flight` is the
    number of jobs that are submitted and have not ended; `counts` groups them by last known
    status. `per_minute` is how many jobs ended per minute, over the last five minutes or since the
    run was started or resumed. `per_minute` and `eta_seconds` are null until as many jobs have
    ended as are running, and while the number of running jobs grows. `usage` and `cost_usd` are
    sums of the known values. `total` is null until a batch's number of jobs is known.
    """

    total: int | None
    done: int
    counts: dict[str, int]
    in_flight: int
    per_minute: float | None
    eta_seconds: float | None
    usage: dict[str, Any] | None
    cost_usd: float | None


class Summary(Event, name="summary", by="several jobs, `show --list`"):
    """The end of a run over several jobs. `counts` has the number of jobs per status.

    `usage` and `cost_usd` are sums of the known values. `unsuccessful` has at most 20 of the jobs
    that did not succeed, of as many statuses and codes as possible.
    """

    unsuccessful: list[Unsuccessful] = []  # noqa: RUF012 - records are frozen
    counts: dict[str, int]
    elapsed_seconds: float
    usage: dict[str, Any] | None = None
    cost_usd: float | None = None
    results_file: str | None = None
    job_key: str | None = None
    hint: str | None = None
    exit_code: int
    next: list[str] | None
