"""Finding the job that a command names."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from oaibg.sandbox import Fault
from oaibg.state.store import Intent, Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

FAST = ("--poll-seconds", "0.05")
LONG = ("--metadata", "sandbox_seconds=600")


def test_monitor_by_job_key(run: Callable[..., Result], started: Callable[..., str]) -> None:
    """A job key finds its job; an unknown key ends with exit 5."""
    identifier = started("--job-key", "k 1")
    assert run("monitor", "--job-key", "k 1", *FAST).id == identifier
    unknown = run("monitor", "--job-key", "other")
    assert (unknown.code, unknown.events) == (5, ["error"])


def test_show_without_any_job(run: Callable[..., Result]) -> None:
    """`show` ends with exit 5 if the local state has no job."""
    result = run("show")
    assert (result.code, result.last["code"]) == (5, "not_found")


def test_id_of_another_base_url(
    run: Callable[..., Result],
    started: Callable[..., str],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An ID from another base URL causes a warning; without an ID, only the current one counts."""
    identifier = started(*LONG)
    monkeypatch.setenv("OPENAI_BASE_URL", sandbox.base_url.replace("127.0.0.1", "localhost"))
    result = run("show", identifier)
    assert (result.code, result.events) == (3, ["warning", "response"])
    assert result.lines[0]["code"] == "other_base_url"
    assert sandbox.base_url in result.lines[0]["message"]
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert run("show").code == 5


def test_show_during_a_submit(run: Callable[..., Result], state: Path, sandbox: Sandbox) -> None:
    """If another process is submitting the newest job, `show` waits for its ID."""
    run("submit", "--prompt", "x", "--detach", *LONG)
    store = Store(str(state))
    lock = store.lock(sandbox.base_url, "k")
    assert lock is not None
    intent = Intent(base_url=sandbox.base_url, request_sha256="h", job_key="k")
    number = store.intent(intent)
    store.sending(number)

    def finish() -> None:
        other = Store(str(state))
        other.submitted(number, "resp_2", "queued")
        other.close()

    timer = threading.Timer(0.5, finish)
    timer.start()
    sandbox.script(Fault(on="retrieve", kind="raw", body='{"status":"queued"}'))
    result = run("show")
    timer.join()
    store.unlock(lock)
    store.close()
    assert (result.code, result.id) == (3, "resp_2")


@pytest.mark.parametrize("command", ["show", "monitor", "cancel"])
@pytest.mark.parametrize("target", [("--job-key", "k"), ("k",)])
def test_an_unknown_outcome(
    run: Callable[..., Result], sandbox: Sandbox, command: str, target: tuple[str, ...]
) -> None:
    """A job whose submit's outcome is unknown has that outcome in every command's error."""
    sandbox.script(Fault(on="create", kind="reset_after"))
    assert run("submit", "--prompt", "x", "--job-key", "k").last["outcome"] == "unknown"
    result = run(command, *target)
    assert (result.code, result.last["outcome"], result.last["next"]) == (6, "unknown", None)


def test_monitor_of_the_newest_job(run: Callable[..., Result], started: Callable[..., str]) -> None:
    """`monitor` without an ID follows the newest submit, also if it has ended."""
    started(*LONG)
    newest = started()
    followed = run("monitor", *FAST)
    assert (followed.code, followed.id) == (0, newest)
    again = run("monitor")
    assert (again.code, again.id) == (0, newest)


def test_monitor_without_any_job(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """`monitor` ends with exit 5, as `show` does, if the local state has no job."""
    result, shown = run("monitor"), run("show")
    assert (result.code, result.last["code"]) == (5, "not_found")
    assert (result.last["message"], result.last["hint"]) == (
        shown.last["message"],
        shown.last["hint"],
    )
    assert not sandbox.requests


@pytest.mark.parametrize("key", [(), ("--job-key", "k")])
def test_monitor_if_the_newest_outcome_is_unknown(
    run: Callable[..., Result], started: Callable[..., str], sandbox: Sandbox, key: tuple[str, ...]
) -> None:
    """`monitor` doesn't follow an older job if the outcome of the newest submit is unknown."""
    started()
    sandbox.script(Fault(on="create", kind="reset_after"))
    assert run("submit", "--prompt", "x", *key).last["outcome"] == "unknown"
    result = run("monitor", *FAST)
    assert (result.code, result.last["outcome"], result.last["next"]) == (6, "unknown", None)


def test_monitor_without_a_state(run: Callable[..., Result], state: Path) -> None:
    """`monitor` without an ID needs the local state."""
    state.write_text("a file, not a directory")
    result = run("monitor")
    assert (result.code, result.last["code"]) == (2, "state_unwritable")


def test_an_outcome_of_no_submit(run: Callable[..., Result]) -> None:
    """Other errors of commands that submit nothing have no outcome."""
    assert run("monitor", "--job-key", "other").last["outcome"] is None
