"""The local state: what it stores, and what happens if it can't be used."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from harness import (
    BASE_URL,
    FakeClient,
    FakeClock,
    fake_context,
    keep,
    monitor,
    names,
    response,
    submit,
    with_text,
)
from oaibg.base.files import TEMPORARY
from oaibg.engine.claim import Submission
from oaibg.request.body import Request
from oaibg.state.database import (
    FILE,
    KeyReusedError,
    KeyTakenError,
    RunCancelledError,
    StateBusyError,
    StateError,
)
from oaibg.state.runs import RunRow
from oaibg.state.store import DAY, Intent, Store, line_key, open_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from harness import Result
    from oaibg.api.payload import Payload

URL = "http://api.test/v1"


def intent(**more: Any) -> Intent:
    """Return an intent with a hash."""
    return Intent(base_url=URL, request_sha256="h", **more)


def run_row(key: str) -> RunRow:
    """Return a run of two jobs."""
    run: dict[str, Any] = dict.fromkeys(RunRow.fields, 0)
    return RunRow(**run | {"base_url": URL, "run_key": key, "rerun": None, "total": 2})


def test_steps_of_a_job(state: Path) -> None:
    """Each step of a submit is visible to other processes at once."""
    store, other = Store(str(state)), Store(str(state))
    number = store.intent(intent(job_key="k", model="m"))
    assert other.jobs() == []
    assert other.newest(URL) is None
    store.sending(number)
    assert [(row.step, row.response_id) for row in other.jobs()] == [("sending", None)]
    store.submitted(number, "resp_1", "queued")
    row = other.by_key(URL, "k")
    assert row is not None
    assert (row.step, row.response_id, row.status, row.model) == (
        "submitted",
        "resp_1",
        "queued",
        "m",
    )
    assert other.by_id(URL, "resp_1") == row == other.newest(URL)
    assert other.by_key("http://elsewhere/v1", "k") is None
    assert other.at_other_base_url("http://elsewhere/v1", "resp_1") == row
    store.close()
    other.close()


def test_job_of_a_cancelled_run(state: Path) -> None:
    """Once a run is cancelled, no request of its jobs is sent; other runs continue."""
    store, other = Store(str(state)), Store(str(state))
    numbers = {}
    for key in ("k", "k2"):
        store.note_run(run_row(key))
        job_key = line_key(key, "a")
        numbers[key] = store.intent(intent(job_key=job_key, custom_id="a"))
    other.cancel_run(URL, "k")
    with pytest.raises(RunCancelledError):
        store.sending(numbers["k"])
    store.sending(numbers["k2"])
    steps = {key: store.of_run(URL, key)["a"].step for key in numbers}
    assert steps == {"k": "intent", "k2": "sending"}
    store.close()
    other.close()


def run_at(state: Path, time: float, name: str, keep_days: float = 2) -> list[bytes]:
    """Save one result in a run with this clock; return all results that there are then."""
    store = Store(str(state), keep_days=keep_days, now=lambda: time)
    store.note_status(URL, name, "completed", "m")
    keep(store, URL, name, name.encode())
    rows = [store.by_id(URL, row.response_id or "") for row in store.jobs()]
    found = [store.result(row) for row in rows if row is not None]
    store.close()
    assert len([one for one in found if one]) == len(list((state / "results").iterdir()))
    return [one for one in found if one]


def test_results_expire(state: Path) -> None:
    """Results and their files are removed after `keep_days`, in which several runs were made."""
    for number in range(5):
        run_at(state, number * DAY / 2, f"r{number}")
    assert run_at(state, 2 * DAY + 1, "r5") == [b"r5", b"r4", b"r3", b"r2", b"r1"]
    assert run_at(state, 30 * DAY, "r6", keep_days=0.1) == [b"r6", b"r5", b"r4"]


def test_no_results(state: Path) -> None:
    """With `keep_days` 0, no results are stored, and none are removed."""
    run_at(state, 0, "r0")
    none = Store(str(state), keep_days=0, now=lambda: 9 * DAY)
    none.note_status(URL, "r1", "completed", "m")
    keep(none, URL, "r1", b"1")
    none.close()
    assert [path.read_bytes() for path in (state / "results").iterdir()] == [b"r0"]


@pytest.mark.parametrize("wrong", [365 * DAY, -20_000 * DAY, 1e12, 0.0])
@pytest.mark.parametrize("runs", [1, 3, 20])
def test_results_and_a_wrong_clock(state: Path, wrong: float, runs: int) -> None:
    """Runs with a wrong clock remove no results, and make none that expire early."""
    now = 20_000 * DAY
    assert run_at(state, now, "before", keep_days=30) == [b"before"]
    for number in range(runs):
        run_at(state, now + wrong + number, f"wrong{number}", keep_days=30)
    for day in range(20):
        results = run_at(state, now + day * DAY, f"r{day}", keep_days=30)
        assert {b"before", b"wrong0", b"r0"} <= {*results}


def test_a_key_has_one_lock(state: Path) -> None:
    """A job key has one lock, which can be taken again after its release."""
    store = Store(str(state))
    lock = store.lock(URL, "k")
    assert lock is not None
    assert store.lock(URL, "k") is None
    assert store.lock(URL, "other") is not None
    store.unlock(lock)
    again = store.lock(URL, "k")
    assert again is not None
    store.unlock(again)
    store.close()


def test_who_may_send(state: Path) -> None:
    """Of two processes with an intent of the same key, only one can begin to send."""
    one, other = Store(str(state)), Store(str(state))
    first = one.intent(intent(job_key="k"))
    second = other.intent(intent(job_key="k"))
    assert first != second
    with pytest.raises(KeyTakenError):
        one.sending(first)
    one.not_created(first)
    other.sending(second)
    with pytest.raises(KeyTakenError):
        one.intent(intent(job_key="k"))
    other.submitted(second, "resp_1", "queued")
    with pytest.raises(KeyTakenError):
        one.intent(intent(job_key="k"))
    assert [(row.id, row.step) for row in one.jobs()] == [(second, "submitted")]
    one.close()
    other.close()


def test_a_key_names_a_job_or_a_run(state: Path) -> None:
    """Of two processes that use a key for a job and for a run, only the first one submits."""
    one, other = Store(str(state)), Store(str(state))
    number = one.intent(intent(job_key="k"))
    other.note_run(run_row("k"))  # nothing was sent for the job
    with pytest.raises(KeyTakenError):
        one.sending(number)
    with pytest.raises(KeyReusedError, match="a run of 2 jobs; `oaibg show --job-key k` shows it"):
        one.intent(intent(job_key="k"))
    other.note_run(run_row("k"))  # the same run again

    one.sending(one.intent(intent(job_key="a b")))
    with pytest.raises(KeyReusedError, match="a single job; `oaibg show --job-key 'a b'` shows it"):
        other.note_run(run_row("a b"))
    assert other.run(URL, "a b") is None
    one.close()
    other.close()


def test_who_may_replace_a_job(state: Path) -> None:
    """Of two processes that replace the same job of a key, only one can begin to send."""
    one, other = Store(str(state)), Store(str(state))
    one.sending(one.intent(intent(job_key="k")))
    old = one.by_key(URL, "k")
    first, second = one.intent(intent()), other.intent(intent())
    one.sending(first, over=old)
    with pytest.raises(KeyTakenError):
        other.sending(second, over=old)
    other.not_created(second, over=old)
    row = other.by_key(URL, "k")
    assert row is not None
    assert (row.id, row.step) == (first, "sending")
    one.not_created(first, over=old)
    assert other.by_key(URL, "k") == old
    one.close()
    other.close()


def test_numbers_of_rows_are_not_reused(state: Path) -> None:
    """The number of a removed row is never given to another row."""
    store = Store(str(state))
    number = store.intent(intent())
    store.not_created(number)
    assert store.intent(intent()) > number
    store.close()


VERSION_0_4 = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
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
CREATE INDEX jobs_by_result ON jobs (updated_at) WHERE result IS NOT NULL;
PRAGMA user_version = 1;
INSERT INTO jobs VALUES (7, 'http://api.test/v1', 'submitted', 'k', NULL, 'h', 'm', '24h',
    'resp_1', 'completed', 'r', 1700000000.5, 1700000001.5, 0);
INSERT INTO jobs VALUES (9, 'http://api.test/v1', 'sending', 'u', NULL, 'h', 'm', NULL, NULL, NULL,
    NULL, 1700000002.5, 1700000003.5, 0);
"""
"""A state as version 0.4 wrote it."""


def test_state_of_version_0_4(state: Path) -> None:
    """A state of version 0.4 keeps its jobs, keys and numbers; several processes may open it."""
    state.mkdir()
    database = sqlite3.connect(state / FILE, isolation_level=None)
    database.executescript(VERSION_0_4)
    names = [one[1] for one in database.execute("PRAGMA table_info(jobs)")]
    before = database.execute("SELECT * FROM jobs ORDER BY id").fetchall()
    (state / "results").mkdir()
    (state / "results" / "r.json").write_bytes(b"{}")
    stores = [Store(str(state)) for _ in range(2)]
    after = database.execute(f"SELECT {', '.join(names)} FROM jobs ORDER BY id").fetchall()
    assert after == before
    indexes = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    assert {name for (name,) in database.execute(indexes)} == {
        *("jobs_by_key", "jobs_by_response", "jobs_by_age"),
    }
    database.close()
    row = stores[0].by_key(URL, "k")
    assert row is not None
    assert (row.response_id, stores[0].result(row)) == ("resp_1", b"{}")
    with pytest.raises(KeyTakenError):
        stores[1].intent(intent(job_key="u"))
    number = stores[1].intent(intent())
    stores[1].not_created(number)
    assert stores[0].intent(intent()) == number + 1 == 11
    for store in stores:
        store.close()


def test_busy_is_its_own_error(state: Path) -> None:
    """While another process writes, a write raises `StateBusyError`; later it succeeds."""
    store = Store(str(state))
    other = sqlite3.connect(state / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateBusyError):
        store.intent(intent())
    other.execute("ROLLBACK")
    other.close()
    store.intent(intent())
    store.close()


@pytest.mark.parametrize("page", [0, 1, 2])
def test_damage_in_the_middle_is_found(run: Callable[..., Result], state: Path, page: int) -> None:
    """A damaged state file is renamed and reported, wherever the damage is."""
    run("submit", "--prompt", "x", "--job-key", "k", "--poll-seconds", "0.05")
    with (state / FILE).open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xaa" * 4096)
    result = run("show", "--list")
    assert (result.lines[0]["event"], result.lines[0]["code"]) == ("warning", "state_corrupt")
    assert len(list(state.glob(f"{FILE}.corrupt-*"))) == 1
    assert run("show", "--list").events == ["warning", "summary"]


@pytest.mark.parametrize("command", ["show", "monitor", "cancel"])
def test_a_key_in_a_damaged_state(run: Callable[..., Result], state: Path, command: str) -> None:
    """A key can't be found after its state was damaged: the error says so."""
    run("submit", "--prompt", "x", "--job-key", "k", "--poll-seconds", "0.05")
    (state / FILE).write_bytes(b"\xaa" * 4096)
    result = run(command, "--job-key", "k")
    assert (result.code, result.last["code"]) == (2, "state_corrupt")


@pytest.mark.slow
def test_state_that_is_locked_for_a_while(run: Callable[..., Result], state: Path) -> None:
    """A submit waits for another process that has locked the state."""
    run("submit", "--prompt", "x", "--detach")
    other = sqlite3.connect(state / FILE, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(2.5, lambda: other.execute("ROLLBACK"))
    timer.start()
    result = run("submit", "--prompt", "y", "--detach")
    timer.join()
    other.close()
    assert result.events == ["submit_start", "submitted", "detached"]
    assert run("show").id == result.id


def test_id_whose_row_could_not_be_written_at_first(state: Path) -> None:
    """An ID that can't be stored at first is stored later, so that its job key finds it."""
    store = Store(str(state))
    other = sqlite3.connect(state / FILE, isolation_level=None)

    class Locking(FakeClient):
        async def create(
            self, body: dict[str, Any], on_sending: Callable[[], Awaitable[None]], *, timeout: float
        ) -> Payload:
            payload = await super().create(body, on_sending, timeout=timeout)
            other.execute("BEGIN IMMEDIATE")
            return payload

        async def retrieve(
            self,
            response_id: str,
            timeout: float,
            include: Sequence[str] = (),
            *,
            is_batch: bool = False,
        ) -> Payload:
            assert not is_batch
            if other.in_transaction:
                other.execute("ROLLBACK")
            return await super().retrieve(response_id, timeout, include)

    client = Locking(FakeClock(pace=30), creates=[response("queued")], retrieves=[with_text("ok")])
    request = Request(body={"background": True}, sha256="0" * 64)
    submission = Submission(request=request, model="m", job_key="k")
    events = submit(submission, fake_context(client, store))
    assert names(events) == ["warning", "submitted", "poll", "final"]
    row = store.by_key(BASE_URL, "k")
    assert row is not None
    assert (row.step, row.response_id, row.status) == ("submitted", "resp_1", "completed")
    assert len(list(store.jobs())) == 1
    store.close()
    other.close()


def test_incomplete_results_are_removed(state: Path) -> None:
    """An incomplete result is removed after an hour; another process may write a newer one."""
    store = Store(str(state))
    results = state / "results"
    results.mkdir()
    for name, age in (("old", 7200), ("young", 60)):
        path = results / TEMPORARY.replace("*", name)
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    store.note_status(URL, "resp_1", "completed", "m")
    keep(store, URL, "resp_1", b"{}")
    assert {path.suffix for path in results.iterdir()} == {".tmp", ".json"}
    assert [path.name for path in results.glob(TEMPORARY)] == [TEMPORARY.replace("*", "young")]
    store.close()


def test_row_that_no_longer_exists(state: Path) -> None:
    """Updates of a row that no longer exists raise `StateError`."""
    store = Store(str(state))
    number = store.intent(intent(job_key="k"))
    store.not_created(number)
    with pytest.raises(StateError, match="no longer in the local state"):
        store.sending(number)
    with pytest.raises(StateError, match="no longer in the local state"):
        store.submitted(number, "resp_1", "queued")
    store.close()


def test_state_that_breaks_under_a_monitor(state: Path) -> None:
    """A state that breaks during a monitor causes a warning, and the monitor continues."""
    store = Store(str(state))
    (state / FILE).write_bytes(b"garbage" * 5000)
    client = FakeClient(FakeClock(), retrieves=[response("queued"), with_text("ok")])
    events = monitor(fake_context(client, store))
    assert names(events) == ["warning", "poll", "poll", "final"]
    assert getattr(events[-1], "exit_code", None) == 0
    store.close()


def test_result_that_cannot_be_removed(state: Path) -> None:
    """An expired result that can't be removed doesn't prevent saving a new one."""
    run_at(state, 0, "r0", keep_days=1)
    (old,) = (state / "results").iterdir()
    old.unlink()
    old.mkdir()
    store = Store(str(state), keep_days=0.1, now=lambda: 2 * DAY)
    for number in range(5):
        store.keep_results(state, 0.1)
        store.note_status(URL, f"{number}", "completed", "m")
        keep(store, URL, f"{number}", b"2")
    row = store.by_id(URL, "4")
    assert row is not None
    assert store.result(row) == b"2"
    store.close()


def test_intent_that_could_not_be_written_at_first(state: Path) -> None:
    """If an intent can't be written at first, the ID is still stored later."""
    store = Store(str(state))
    other = sqlite3.connect(state / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    class Unlocking(FakeClient):
        async def create(
            self, body: dict[str, Any], on_sending: Callable[[], Awaitable[None]], *, timeout: float
        ) -> Payload:
            if other.in_transaction:
                other.execute("ROLLBACK")
            return await super().create(body, on_sending, timeout=timeout)

    client = Unlocking(FakeClock(pace=30), creates=[response("queued")])
    request = Request(body={"background": True}, sha256="0" * 64)
    submission = Submission(request=request, model="m", detach=True)
    events = submit(submission, fake_context(client, store))
    assert names(events) == ["warning", "submitted", "detached"]
    row = store.newest(BASE_URL)
    assert row is not None
    assert (row.step, row.response_id) == ("submitted", "resp_1")
    store.close()
    other.close()


def test_threads_that_read_at_once(state: Path) -> None:
    """Each thread gets the rows that it asked for, while others read and write."""
    store = Store(str(state))
    numbers = {f"resp_{number}": store.intent(intent()) for number in range(4)}
    for response_id, number in numbers.items():
        store.submitted(number, response_id, "queued")
    wrong: list[object] = []

    def work(response_id: str) -> None:
        for turn in range(1500):
            try:
                row = store.by_id(URL, response_id)
                if row is None or row.response_id != response_id:
                    wrong.append(row)
                if turn % 300 == 0:
                    store.note_status(URL, response_id, "in_progress", None)
            except Exception as error:  # noqa: BLE001 - the assertion shows it
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(one,)) for one in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert wrong == []


def test_store_in_memory() -> None:
    """If the folder can't be used, a run has a store in memory, without locks."""
    store, problem = open_store("/proc/no/such")
    assert problem is not None
    assert problem.code == "state_unwritable"
    store.sending(store.intent(intent()))
    assert [row.step for row in store.jobs()] == ["sending"]
    with pytest.raises(StateError):
        store.lock(URL, "k")
    store.close()
