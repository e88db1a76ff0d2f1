"""The files of a batch: which there are, and what happens if one can't be downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from oaibg.sandbox import Fault
from runs import HOT, BatchFiles, age, batch_of, line, of, rerun
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox


def ended(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> tuple[str, str]:
    """Let a batch with a good job and a refused one end; return the IDs of its two files."""
    batch.write(line("good"), line("hot", **HOT))
    assert run(*batch.argv("--detach")).code == 0
    age(sandbox, 1)
    one = sandbox.batches[batch_of(sandbox)]
    return one.output_file_id, one.error_file_id


def downloads(sandbox: Sandbox) -> list[str]:
    """Return the ID of each file in the order of the requests for its content."""
    return [one.path.split("/")[-2] for one in sandbox.requests if one.path.endswith("/content")]


@pytest.mark.parametrize(
    "blank", ["", "  ", "null", "none", "None", " NULL ", None, 0, False, [], {"id": "file-1"}]
)
@pytest.mark.parametrize("which", ["output_file_id", "error_file_id"])
def test_a_file_id_that_is_none(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, which: str, blank: object
) -> None:
    """A file ID that is blank, "null" or not a string means that there is no such file."""
    output, error = ended(run, sandbox, batch)
    shown: dict[str, Any] = run("show", batch_of(sandbox)).last["response"]
    sandbox.script(Fault(on="batch_retrieve", kind="raw", body=shown | {which: blank}, times=0))
    result = checked(run("monitor", batch_of(sandbox), "--results-file", str(batch.results)))
    there = error if which == "output_file_id" else output
    assert downloads(sandbox) == [there]
    counts = {"missing": 1} | ({"refused": 1} if there == error else {"completed": 1})
    assert (result.code, result.last["counts"]) == (1, counts)
    assert not of(result, "warning")


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "File expired.", "type": "invalid_request_error"}},
        '{\n  "detail": "File expired."\n}\n',
        '[{"error": {"message": "File expired."}}]',
        {"success": False, "message": "File expired."},
    ],
)
def test_an_error_in_place_of_a_file(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    instant_sleep: None,
    body: object,
) -> None:
    """A download that is answered with an error fails in its words; the other file is fetched."""
    ended(run, sandbox, batch)
    sandbox.script(Fault(on="file_content", kind="status", status=200, body=body, times=7))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (1, {"missing": 1, "refused": 1})
    (warning,) = of(result, "warning")
    assert (warning["code"], "File expired." in warning["message"]) == ("file_unavailable", True)
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (1, {"completed": 1, "refused": 1})


def test_a_file_with_one_line_of_an_error(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """A file with one result, which has an error, is a file of results."""
    batch.write(line("a"))
    body = '{"custom_id": "a", "error": {"message": "It broke."}}'
    sandbox.script(Fault(on="file_content", kind="raw", body=body))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (4, {"failed": 1})


@pytest.mark.parametrize("command", ["submit", "monitor"])
def test_a_batch_that_is_gone(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    instant_sleep: None,
    command: str,
) -> None:
    """The hint for a batch that is gone names what a new attempt needs, and that works."""
    assert run(*batch.argv("--detach")).code == 0
    batch_id = batch_of(sandbox)
    sandbox.batches.clear()
    monitor = ("monitor", batch_id, "--results-file", str(batch.results))
    result = run(*(batch.argv() if command == "submit" else monitor))
    (error,) = of(result, "error")
    assert (result.code, error["code"]) == (5, "not_found")
    assert "--retry-failed" in error["hint"]
    retried = checked(run(*batch.argv("--retry-failed")))
    assert (retried.code, retried.last["counts"]) == (0, {"completed": 2})
    assert batch_of(sandbox) != batch_id


def test_one_id_for_both_files(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """A server may put all results into one file, which is downloaded once."""
    output, _ = ended(run, sandbox, batch)
    shown: dict[str, Any] = run("show", batch_of(sandbox)).last["response"]
    body = shown | {"error_file_id": output}
    sandbox.script(Fault(on="batch_retrieve", kind="raw", body=body, times=0))
    result = checked(run("monitor", batch_of(sandbox), "--results-file", str(batch.results)))
    assert downloads(sandbox) == [output]
    assert (result.last["counts"], of(result, "warning")) == ({"completed": 1, "missing": 1}, [])


@pytest.mark.parametrize("gone", [0, 1], ids=["output", "error"])
def test_a_file_that_the_api_deleted(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    instant_sleep: None,
    gone: int,
) -> None:
    """A deleted file does not stop the other one; its jobs get a line that says so."""
    files = ended(run, sandbox, batch)
    del sandbox.files[files[gone]]
    lost = ["good", "hot"][gone]
    counts = {"missing": 1, ["refused", "completed"][gone]: 1}
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"], result.last["next"]) == (1, counts, None)
    (warning,) = of(result, "warning")
    assert (warning["code"], warning["response_id"]) == ("file_unavailable", batch_of(sandbox))
    kind = ["output", "error"][gone]
    assert f"{kind} file {files[gone]} could not be downloaded" in warning["message"]
    assert "No such File object" in warning["message"]
    assert batch.by_id()[lost]["error"]["code"] == "missing"
    assert lost in [one["custom_id"] for one in result.last["unsuccessful"]]
    again = checked(run(*batch.argv()))
    assert (again.code, again.events, again.last["counts"]) == (1, ["summary"], counts)
    assert len(sandbox.batch_posts) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 501])
def test_a_refused_file_can_be_fetched_later(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    instant_sleep: None,
    status: int,
) -> None:
    """A refusal that does not say that the file is gone leaves `next`, which fetches the rest."""
    output, _ = ended(run, sandbox, batch)
    sandbox.script(
        Fault(
            on="file_content",
            kind="status",
            status=status,
            body={"detail": "not for you"},
            response_id=output,
            times=0,
        )
    )
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (1, {"refused": 1, "missing": 1})
    (warning,) = of(result, "warning")
    assert f"{output} could not be downloaded: HTTP {status}: not for you" in warning["message"]
    assert 4 <= downloads(sandbox).count(output) <= 7
    sandbox._state.faults.clear()
    again = checked(run(*rerun(result.last["next"])))
    assert (again.code, again.last["counts"]) == (1, {"completed": 1, "refused": 1})
    assert set(batch.by_id()) == {"good", "hot"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_a_file_that_is_refused_once(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    instant_sleep: None,
    status: int,
) -> None:
    """One refusal of a file is a `poll_error`; the next request brings the file."""
    ended(run, sandbox, batch)
    sandbox.script(Fault(on="file_content", kind="status", status=status))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (1, {"completed": 1, "refused": 1})
    assert len(of(result, "poll_error")) == 1


def test_an_expired_batch_without_its_output_file(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, instant_sleep: None
) -> None:
    """Results in a file that can't be downloaded are missing, however the batch ended."""
    sandbox.batch_window = 0.3
    batch.write(line("a"), line("stuck", metadata={"sandbox_outcome": "stuck"}))
    assert run(*batch.argv("--detach")).code == 0
    age(sandbox, 1)
    assert run("show", batch_of(sandbox)).last["status"] == "expired"
    del sandbox.files[sandbox.batches[batch_of(sandbox)].output_file_id]
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (1, {"expired": 1, "missing": 1})


def test_an_output_file_behind_a_broken_server(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, instant_sleep: None
) -> None:
    """If one file fails for a minute, the other is delivered before the run ends with exit 7."""
    output, error = ended(run, sandbox, batch)
    sandbox.script(Fault(on="file_content", kind="status", response_id=output, times=0))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["next"]) == (7, ["oaibg", *batch.argv()])
    assert downloads(sandbox)[-1] == error
    assert list(batch.by_id()) == ["hot"]


def test_the_wait_limit_leaves_time_for_each_file(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, instant_sleep: None
) -> None:
    """If one file is refused until the wait limit, the other is delivered all the same."""
    output, error = ended(run, sandbox, batch)
    sandbox.script(Fault(on="file_content", kind="status", status=404, response_id=output, times=0))
    argv = batch.argv("--max-wait-seconds", "6")
    result = checked(run(*argv))
    assert (len(of(result, "timeout")), result.last["next"]) == (1, ["oaibg", *argv])
    assert downloads(sandbox)[-1] == error
    assert list(batch.by_id()) == ["hot"]


def test_monitor_counts_what_the_results_file_has(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, instant_sleep: None
) -> None:
    """Results that a monitor has written before are not missing when the API deletes the files."""
    ended(run, sandbox, batch)
    argv = ("monitor", batch_of(sandbox), "--results-file", str(batch.results))
    before = checked(run(*argv))
    sandbox.files.clear()
    after = checked(run(*argv))
    assert (after.code, after.last["counts"]) == (before.code, before.last["counts"])
    assert [one["code"] for one in of(after, "warning")] == ["file_unavailable"] * 2


def test_each_file_has_its_own_minute(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, instant_sleep: None
) -> None:
    """A file that was refused takes no time from the next one, whose failures pass."""
    output, error = ended(run, sandbox, batch)
    del sandbox.files[output]
    sandbox.script(Fault(on="file_content", kind="status", response_id=error, times=4))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (1, {"missing": 1, "refused": 1})
