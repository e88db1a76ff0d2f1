"""How a batch ends, and how its results get into the results file."""

from __future__ import annotations

import errno
import io
import json
import tempfile
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from forkserver import IoFault
from ledger import count
from oaibg.sandbox import Fault, Personality
from oaibg.sandbox.batch.plan import Plan
from runs import HOT, MIXED, STUCK, BatchFiles, age, batch_of, line, of, per_job, rerun
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Command, Result
    from oaibg.sandbox import Sandbox


def test_results_are_the_bytes_of_the_server(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """Results are written byte for byte, with odd spacing and numbers, but with line feeds only."""
    bodies = {
        "a": '{"status":"completed","n":1e999,"t":"\u2028\x7f\x85é\\ud800"}',
        "b": '{ "status":"completed","n":%s,"more":[NaN]}' % ("9" * 5000),
    }
    raw = "\r\n".join(
        f'{{"id": "x","custom_id" : "{key}","response":{{"status_code":200,"request_id":"r",'
        f'"body":{body}}},"error":null }}'
        for key, body in bodies.items()
    )
    sandbox.script(Fault(on="file_content", kind="raw", body=raw))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    assert batch.results.read_bytes() == f"{raw}\n".replace("\r\n", "\n").encode()


@pytest.mark.slow
def test_results_of_megabytes(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """Hundreds of jobs and results of megabytes arrive, even if the first download is cut off."""
    big = {"metadata": {"sandbox_bytes": "5000000"}}
    batch.write(*(line(f"r{number}") for number in range(300)), line("big", **big))
    sandbox.script(Fault(on="file_content", kind="truncate"))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (0, {"completed": 301})
    assert result.events.count("warning") == 0
    assert len(batch.by_id()) == 301


def test_a_batch_that_does_not_validate(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """A batch that fails validation ends with exit 4; each job's line has the API's error."""
    assert run(*batch.argv("--detach")).code == 0
    error = {"code": "mismatched_model", "message": "No.", "line": 2, "param": "body.model"}
    sandbox.batches[batch_of(sandbox)].plan = Plan(errors=[error])
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"], result.last["next"]) == (4, {"failed": 2}, None)
    (final,) = of(result, "final")
    assert final["error"]["code"] == "mismatched_model"
    assert (final["custom_id"], final["status"], final["ok"]) == (None, "failed", False)
    errors = {name: one["error"] for name, one in batch.by_id().items()}
    assert errors == {key: {"code": "mismatched_model", "message": "No."} for key in "ab"}
    again = checked(run(*batch.argv()))
    assert (again.code, again.events) == (4, ["summary"])
    assert again.last["counts"] == result.last["counts"]
    assert again.last["unsuccessful"] == result.last["unsuccessful"]
    assert len(sandbox.batch_posts) == 1
    shown = run("monitor", batch_of(sandbox), "--results-file", str(batch.folder / "m"))
    assert (shown.code, shown.last["counts"]) == (4, {"failed": 1})


def test_jobs_that_end_without_success(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """Jobs without success are reported as in background mode; a refused job gives exit 1."""
    batch.write(*MIXED)
    result = checked(run(*batch.argv()))
    assert result.code == 1
    counts = {"completed": 3, "incomplete": 1, "failed": 1, "refused": 2}
    assert result.last["counts"] == counts
    jobs = per_job(result)
    assert jobs["hot"] == ("error", "decimal_out_of_range")
    assert jobs["unknown"] == ("error", "previous_response_not_found")
    assert jobs["incomplete"] == ("final", "incomplete")
    assert jobs["failed"] == ("final", "failed")
    (hot,) = [one for one in of(result, "error") if one["custom_id"] == "hot"]
    assert (hot["http_status"], hot["outcome"], hot["retryable"]) == (400, "not_created", False)
    assert (hot["response_id"], hot["exit_code"]) == (batch_of(sandbox), None)
    assert not of(result, "final")[-1]["ok"]
    again = checked(run(*batch.argv()))
    assert (again.code, again.last["counts"], again.events) == (1, counts, ["summary"])


def test_an_incomplete_job(run: Callable[..., Result], batch: BatchFiles) -> None:
    """An incomplete response ends the run with exit 4."""
    batch.write(line("a"), line("b", metadata={"sandbox_outcome": "incomplete"}))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (4, {"completed": 1, "incomplete": 1})


@pytest.mark.parametrize("errors", ["envelope", "number", "text", "detail", "plain"])
def test_refusals_of_other_shapes(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, errors: str
) -> None:
    """A refused job is reported whatever the shape of the server's error."""
    sandbox.become(Personality(errors=errors))
    batch.write(line("a"), line("hot", **HOT))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (1, {"completed": 1, "refused": 1})
    assert per_job(result)["hot"][0] == "error"
    assert checked(run(*batch.argv())).last["counts"] == result.last["counts"]


def test_an_expired_batch(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """An expired batch ends with exit 4; finished and unfinished jobs each have a result."""
    sandbox.batch_window = 0.3
    batch.write(line("a"), line("stuck", **STUCK))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (4, {"completed": 1, "expired": 1})
    assert batch.by_id()["stuck"]["error"]["code"] == "batch_expired"
    (stuck,) = [one for one in of(result, "final") if one["custom_id"] == "stuck"]
    assert (stuck["status"], stuck["error"]["code"], stuck["usage"]) == (
        "expired",
        "batch_expired",
        None,
    )
    again = checked(run(*batch.argv()))
    assert (again.code, again.last["counts"], again.last["next"]) == (
        4,
        {"completed": 1, "expired": 1},
        None,
    )
    assert len(sandbox.batch_posts) == 1


def test_missing_results(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """Results that a completed batch's files lack are looked for once more."""
    sandbox.script(Fault(on="file_content", kind="raw", body=""))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    assert len(sandbox.batch_posts) == 1


def test_strange_lines_are_ignored(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """Invalid, foreign and duplicate lines cause one warning, and each job has one result."""
    assert run(*batch.argv("--detach")).code == 0
    age(sandbox, 1)
    good = {
        key: {
            "id": "x",
            "custom_id": key,
            "response": {"status_code": 200, "request_id": "r", "body": {"status": "completed"}},
            "error": None,
        }
        for key in ("a", "b", "foreign")
    }
    garbage = ["<html>", "{", "[1]", "null", '{"custom_id": "a"}', "\x00", '{"custom_id": 5}', ""]
    odd = {**good["a"], "response": 5}, {**good["a"], "response": {"status_code": "x", "body": 1}}
    written = [*garbage, *map(json.dumps, (*odd, good["foreign"], good["a"], good["b"], good["a"]))]
    sandbox.script(Fault(on="file_content", kind="raw", body="\n".join(written)))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    (warning,) = of(result, "warning")
    output = sandbox.batches[batch_of(sandbox)].output_file_id
    assert warning["code"] == "strange_results"
    assert f"{output} were ignored: 9 can't be read, 2 are duplicates" in warning["message"]
    ended = [one["custom_id"] for one in of(result, "final")]
    assert Counter(ended) == {"a": 1, "b": 1, None: 1}
    kept = [json.loads(raw) for raw in batch.results.read_bytes().splitlines()]
    assert kept == [good["a"], good["b"]]


def test_a_lost_results_file_is_written_again(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """The same command restores a results file that was lost in whole or in part."""
    batch.write(*MIXED)
    run(*batch.argv())
    whole = batch.results.read_bytes()
    some = b"".join(whole.splitlines(keepends=True)[:3])
    for left in (None, b"", some, whole[:-20], some + b'{"id": "x'):
        if left is None:
            batch.results.unlink()
        else:
            batch.results.write_bytes(left)
        result = checked(run(*batch.argv()))
        assert (result.code, result.last["next"]) == (1, None)
        assert sum(result.last["counts"].values()) == len(MIXED)
        assert not of(result, "warning"), "results that the file has are no reason for a warning"
        assert sorted(batch.results.read_bytes().splitlines()) == sorted(whole.splitlines())
    assert len(sandbox.batch_posts) == len(sandbox.file_posts) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(on="file_content", kind="status", status=500, times=3),
        Fault(on="file_content", kind="status", status=503, times=2),
        Fault(on="file_content", kind="status", status=429, headers={"retry-after": "2"}),
        Fault(on="file_content", kind="status", status=400, times=2),
        Fault(on="file_content", kind="status", status=401),
        Fault(on="file_content", kind="status", status=403, times=3),
        Fault(on="file_content", kind="status", status=404, times=3),
        Fault(on="file_content", kind="status", status=404, body="gateway", times=2),
        Fault(on="file_content", kind="reset_before", times=3),
        Fault(on="file_content", kind="reset_after", times=3),
        Fault(on="file_content", kind="truncate", times=3),
        Fault(on="file_content", kind="truncate", after=0, times=3),
        Fault(on="file_content", kind="html", times=3),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.after}",
)
def test_downloads_are_retried(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    instant_sleep: None,
    fault: Fault,
) -> None:
    """A failed download is reported and retried, and the results file has only whole results."""
    sandbox.script(fault)
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    assert [one["consecutive"] for one in of(result, "poll_error")] == [*range(1, fault.times + 1)]
    assert set(batch.by_id()) == {"a", "b"}


@pytest.mark.parametrize("kind", ["status", "truncate", "html"])
def test_downloads_are_retried_for_a_minute(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, instant_sleep: None, kind: str
) -> None:
    """After a minute of failures the run ends with exit 7 and `next`; nothing is written."""
    sandbox.script(Fault(on="file_content", kind=kind, times=0))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["next"]) == (7, ["oaibg", *batch.argv()])
    assert of(result, "error")[0]["outcome"] == "created"
    assert len(of(result, "poll_error")) in (5, 6)
    assert batch.results.read_bytes() == b""
    sandbox._state.faults.clear()
    assert checked(run(*batch.argv())).code == 0
    assert len(sandbox.batch_posts) == 1


def test_a_refused_key_ends_a_download(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """A key that is refused twice ends a download with exit 8; a good key continues the run."""
    sandbox.script(Fault(on="file_content", kind="status", status=401, times=2))
    assert checked(run(*batch.argv())).code == 8
    assert checked(run(*batch.argv())).code == 0


@pytest.mark.process
@pytest.mark.parametrize("mode", ["fail", "short"])
def test_a_full_disk(faulty: Command, sandbox: Sandbox, batch: BatchFiles, mode: str) -> None:
    """A full disk makes exit 0 an exit 9 with `next`; the same command then writes the results."""
    batch.results.touch()
    below = str(batch.results)
    fault = IoFault(mode=mode, below=below, at=2, count=2, error=errno.ENOSPC)
    result = checked(faulty.run(*batch.argv(), fault=fault))
    assert (result.code, result.last["counts"]) == (9, {"completed": 2})
    assert [one["code"] for one in of(result, "warning")] == ["write_failed"]
    assert (rerun(result.last["next"]), batch.by_id()) == ([*batch.argv()], {})
    count("io_faults")
    again = checked(faulty.run(*batch.argv()))
    assert (again.code, set(batch.by_id())) == (0, {"a", "b"})
    assert len(sandbox.batch_posts) == 1


def test_no_room_for_temporary_files(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without room for temporary files an upload gives exit 2, and a download exit 9."""

    class Full(io.BytesIO):
        def write(self, _data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", Full)
        before = checked(run(*batch.argv()))
        assert (before.code, of(before, "error")[0]["outcome"]) == (2, "not_created")
        assert "TMPDIR" in of(before, "error")[0]["hint"]
        assert not sandbox.requests
    assert run(*batch.argv("--detach")).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", Full)
        after = checked(run(*batch.argv()))
        assert (after.code, after.last["counts"]) == (9, {"missing": 2})
        assert [one["code"] for one in of(after, "warning")] == ["write_failed", "no_room"]
        assert after.last["next"] is not None
    assert checked(run(*batch.argv())).code == 0
    assert len(sandbox.batches) == 1
