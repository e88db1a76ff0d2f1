"""Job keys: who may submit, and which job a key has."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from harness import BASE_URL, FakeClient, FakeClock, fake_context, names, submit
from oaibg.contract.events import Error
from oaibg.contract.events import Warning as Warning_
from oaibg.sandbox import Fault
from oaibg.state.database import FILE
from oaibg.state.store import Intent, Store
from scripted import DONE, RUNNING, submission

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

FAST = ("--poll-seconds", "0.05")


def test_job_key_reattaches(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The same key and request continue with the same job, running or ended, with one POST."""
    argv = ("submit", "--prompt", "x", "--job-key", "k", "--metadata", "sandbox_seconds=0.5")
    first = run(*argv, "--detach")
    second = run(*argv, *FAST)
    third = run(*argv)
    assert first.id == second.id == third.id
    assert len(sandbox.posts) == 1
    assert (second.lines[1]["reattached"], second.lines[1]["event"]) == (True, "submitted")
    assert third.events == ["submit_start", "submitted", "warning", "final"]
    assert (third.lines[2]["code"], third.code) == ("job_key_ended", 0)
    assert "already completed" in third.lines[2]["message"]


def test_reattached_without_an_api_key(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a reattached job can't be polled without an API key, the error has its ID and `next`."""
    argv = ("submit", "--prompt", "x", "--job-key", "k")
    identifier = run(*argv, "--detach").id
    monkeypatch.delenv("OPENAI_API_KEY")
    result = run(*argv)
    assert (result.code, result.id, result.last["outcome"]) == (8, identifier, "created")
    assert result.last["next"][-2:] == ["monitor", identifier]


def test_resubmit_that_creates_nothing_leaves_the_unknown_outcome(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A --resubmit-unknown that creates nothing leaves the outcome unknown."""
    sandbox.script(Fault(on="create", kind="reset_after"))
    argv = ("submit", "--prompt", "x", "--job-key", "k")
    assert run(*argv).code == 6
    with monkeypatch.context() as without_key:
        without_key.delenv("OPENAI_API_KEY")
        assert run(*argv, "--resubmit-unknown").code == 8
    assert run(*argv).code == 6
    sandbox.script(Fault(on="create", kind="status", status=400))
    assert run(*argv, "--resubmit-unknown").code == 1
    assert run(*argv).code == 6
    assert len(sandbox.posts) == 2
    assert run(*argv, "--resubmit-unknown", *FAST).code == 0
    assert run(*argv).code == 0
    assert len(sandbox.posts) == 3


def test_spelling_of_the_base_url(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Different spellings of one base URL share their job keys."""
    argv = ("submit", "--prompt", "x", "--job-key", "k", "--detach")
    url = sandbox.base_url.replace("127.0.0.1", "localhost")
    for spelling in (url, url.replace("localhost", "LocalHost"), f"{url}/"):
        monkeypatch.setenv("OPENAI_BASE_URL", spelling)
        monkeypatch.setenv("NO_PROXY", "localhost")
        assert run(*argv).code == 0
    assert len(sandbox.posts) == 1


def test_second_process_waits_for_the_first(tmp_path: Path) -> None:
    """A process that waited for minutes while another one submitted the key still polls."""
    store = Store(str(tmp_path))
    lock = store.lock(BASE_URL, "k")
    assert lock is not None
    client = FakeClient(FakeClock(pace=100), retrieves=[RUNNING, DONE])
    other, release = client.clock.sleep, client.clock.time + 120

    async def sleep(seconds: float) -> None:
        await other(seconds)
        if client.clock.time >= release and store.by_key(BASE_URL, "k") is None:
            intent = Intent(base_url=BASE_URL, request_sha256="0" * 64, job_key="k")
            store.submitted(store.intent(intent), "resp_1", "queued")

    client.clock.sleep = sleep  # type: ignore[method-assign]
    events = submit(submission("k"), fake_context(client, store))
    store.unlock(lock)
    store.close()
    assert names(events) == ["warning", "submitted", "poll", "poll", "final"]


def test_key_whose_holder_does_not_end(tmp_path: Path) -> None:
    """A submit whose key another process holds for minutes warns once, and ends with exit 7."""
    store = Store(str(tmp_path))
    lock = store.lock(BASE_URL, "k")
    assert lock is not None
    client = FakeClient(FakeClock(pace=10))
    events = submit(submission("k"), fake_context(client, store))
    store.unlock(lock)
    store.close()
    assert names(events) == ["warning", "error"]
    warning, error = events
    assert isinstance(warning, Warning_)
    assert isinstance(error, Error)
    assert (warning.code, error.code, error.exit_code) == ("job_key_busy", "job_key_busy", 7)
    assert "may be suspended" in warning.message
    assert (error.outcome, client.calls) == ("not_created", [])
    assert 150 <= client.clock.time - 1000 < 160


@pytest.mark.parametrize("value", [None, ""])
def test_submitted_row_without_an_id(
    run: Callable[..., Result], sandbox: Sandbox, state: Path, value: str | None
) -> None:
    """A job that the state has as submitted, but without an ID, has an unknown outcome."""
    argv = ("submit", "--prompt", "x", "--job-key", "k", "--detach")
    run(*argv)
    database = sqlite3.connect(state / FILE, isolation_level=None)
    database.execute("UPDATE jobs SET response_id = ?", (value,))
    database.close()
    for command in (argv, ("show", "--job-key", "k"), (*argv, "--retry-failed")):
        result = run(*command)
        assert (result.code, result.last["code"]) == (6, "outcome_unknown")
    assert len(sandbox.posts) == 1
    assert run(*argv, "--resubmit-unknown").code == 0
    assert run(*argv).last["event"] == "detached"
    assert len(sandbox.posts) == 2
