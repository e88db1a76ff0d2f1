"""A batch's run that was killed, or has lost its state: one batch, and each result once."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from forkserver import IoFault
from harness import Result, wait_until
from ledger import count, rows_of
from oaibg.sandbox import Fault
from runs import HOT, MIXED, SLOW, BatchFiles, age, line, of
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command
    from oaibg.sandbox import Sandbox


@pytest.mark.process
@pytest.mark.parametrize(
    ("on", "kind"),
    [
        ("file_create", "hang_before"),
        ("file_create", "hang_after"),
        ("batch_create", "hang_before"),
        ("batch_create", "hang_after"),
        ("batch_retrieve", "hang_before"),
        ("file_content", "hang_after"),
    ],
)
def test_killed_during_a_call(
    command: Command, sandbox: Sandbox, batch: BatchFiles, on: str, kind: str
) -> None:
    """After a kill during any call, the same command ends with one batch and each result once."""
    sandbox.script(Fault(on=on, kind=kind))
    process = command.start(*batch.argv())
    wait_until(lambda: any(one.fault for one in sandbox.requests))
    if on == "batch_create" and kind == "hang_after":
        wait_until(lambda: sandbox.batches)
    process.kill()
    assert process.wait(60) == -9
    process.communicate(timeout=60)
    count("kills")
    again = checked(command.run(*batch.argv()))
    if (on, kind) == ("batch_create", "hang_before"):
        assert (again.code, sandbox.batches) == (6, {})
        again = checked(command.run(*batch.argv("--resubmit-unknown")))
    assert (again.code, again.last["counts"]) == (0, {"completed": 2})
    assert set(batch.by_id()) == {"a", "b"}
    assert len(sandbox.batches) == 1
    assert of(again, "submitted")[0]["reattached"] == (
        on in ("batch_retrieve", "file_content") or (on == "batch_create" and kind == "hang_after")
    )


@pytest.mark.process
def test_killed_at_every_step(
    faulty: Command, sandbox: Sandbox, batch: BatchFiles, tmp_path: Path
) -> None:
    """After a kill before any write, the same command ends with one batch and whole results."""
    # Every nineteenth write, starting at another one each time.
    content = batch.jobs.read_bytes()
    at = int(time.time()) % 19 + 1
    seen: Counter[str] = Counter()
    while True:
        sandbox.clear()
        folder = tmp_path / f"run{at}"
        folder.mkdir()
        one = BatchFiles(folder)
        one.jobs.write_bytes(content)
        faulty.environment["OAIBG_STATE_DIR"] = str(folder / "state")
        process = faulty.start(*one.argv(), fault=IoFault(mode="kill", below=str(folder), at=at))
        process.communicate(timeout=60)
        if process.returncode == 0:
            break
        assert process.returncode == -9
        count("kills")
        step = next(iter(rows_of(folder / "state")), ("nothing", None))[0]
        seen[step] += 1
        again = checked(faulty.run(*one.argv()))
        posts = len(sandbox.batch_posts)
        if again.code == 6:
            assert (step, sandbox.batches) == ("sending", {})
        else:
            assert (again.code, again.last["counts"]) == (0, {"completed": 2})
            assert set(one.by_id()) == {"a", "b"}
            assert (posts, len(sandbox.batches)) == (1, 1)
        assert not list(folder.glob(".oaibg*"))
        at += 19
    assert at > 60
    assert {"intent", "submitted"} <= seen.keys()


@pytest.mark.process
def test_killed_while_results_are_written(
    faulty: Command, sandbox: Sandbox, batch: BatchFiles
) -> None:
    """A result that was cut off is written again, and each result is in the file once."""
    batch.write(*MIXED)
    batch.results.touch()
    process = faulty.start(
        *batch.argv(), fault=IoFault(mode="kill", below=str(batch.results), at=3)
    )
    process.communicate(timeout=60)
    assert process.returncode == -9
    count("kills")
    whole = batch.results.read_bytes()
    for cut in (len(whole) // 2, len(whole) - 1):
        batch.results.write_bytes(whole[:cut])
        assert checked(faulty.run(*batch.argv())).code == 1
        assert batch.by_id().keys() == {one["custom_id"] for one in MIXED}
    assert len(sandbox.batches) == 1


def test_a_lost_state(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """Without the state, a run refuses existing results; without results, it starts anew."""
    assert run(*batch.argv()).code == 0
    state = batch.folder / "state"
    state.rename(batch.folder / "away")
    sandbox.requests.clear()
    before = batch.results.read_bytes()
    assert run(*batch.argv()).code == 2
    assert not sandbox.requests
    assert batch.results.read_bytes() == before
    batch.results.unlink()
    assert checked(run(*batch.argv())).code == 0
    assert len(sandbox.batches) == 2


def test_a_damaged_state(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """The run finds the batch that a damaged state has lost, and creates none otherwise."""
    batch.write(line("a", **SLOW), line("b"))
    assert run(*batch.argv("--detach")).code == 0
    state = batch.folder / "state" / "state.sqlite3"
    state.write_bytes(b"damaged" * 1000)
    age(sandbox)
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    assert of(result, "submitted")[0]["reattached"]
    assert len(sandbox.batch_posts) == 1
    other = run(*batch.argv("--job-key", "another", "--max-wait-seconds", "2"))
    assert (other.code, len(sandbox.batch_posts)) == (2, 1), "the results are another run's"
    batch.results.unlink()
    lost = checked(run(*batch.argv("--job-key", "another", "--max-wait-seconds", "2")))
    assert (lost.code, len(sandbox.batch_posts)) == (6, 1)


@pytest.mark.process
def test_no_secrets_on_disk(command: Command, sandbox: Sandbox, batch: BatchFiles) -> None:
    """The state, the output and temporary files contain no key and no prompt."""
    temporary = batch.folder / "tmp"
    temporary.mkdir()
    command.environment["TMPDIR"] = str(temporary)
    secret = "PROMPT-that-is-nobodys-business"
    batch.write(
        *(line(key, input=secret, metadata={"sandbox_text": "fine"}) for key in "ab"),
        line("hot", input=secret, **HOT),
    )
    result = checked(command.run(*batch.argv("--instructions", f"{secret}!"), fresh=True))
    assert result.code == 1
    state = batch.folder / "state"
    stored = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    for word in (secret, "sk-test", "PROMPT"):
        assert word.encode() not in stored
        assert word not in result.out.decode() + result.err
    assert list(temporary.iterdir()) == []
