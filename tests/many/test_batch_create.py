"""The upload and the create of a batch, and the search for a batch whose reply was lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ledger import rows_of
from oaibg.sandbox import Fault, Personality
from runs import BatchFiles, Files, batch_of, line, of
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox


LOST = [
    Fault(on="batch_create", kind="reset_after"),
    Fault(on="batch_create", kind="truncate", after=9),
    Fault(on="batch_create", kind="html"),
    Fault(on="batch_create", kind="raw", body="{}"),
    Fault(on="batch_create", kind="raw", body='{"id": "../x", "status": "validating"}'),
]
"""Faults after which a batch exists."""

NEVER = [
    Fault(on="batch_create", kind="reset_before"),
    Fault(on="batch_create", kind="status", status=500),
    Fault(on="batch_create", kind="status", status=502),
    Fault(on="batch_create", kind="status", status=504),
]
"""Faults after which no batch exists, though the run can't know that."""


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: f"{fault.kind}-{fault.body}")
def test_a_batch_whose_reply_was_lost(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, fault: Fault
) -> None:
    """If the reply to the create is lost, the run finds its batch and creates no other."""
    sandbox.script(fault)
    result = checked(run(*batch.argv("--detach")))
    assert result.code == 0
    (submitted,) = of(result, "submitted")
    assert (submitted["response_id"], submitted["reattached"]) == (batch_of(sandbox), True)
    assert rows_of(batch.folder / "state") == [("submitted", batch_of(sandbox))]
    assert checked(run(*batch.argv())).last["counts"] == {"completed": 2}
    assert len(sandbox.batch_posts) == 1


def test_a_batch_among_hundreds(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """The run finds its batch by the mark over several pages, and takes no other run's batch."""
    sandbox.script(LOST[0])
    other = BatchFiles(batch.folder)
    other.jobs = batch.folder / "other.jsonl"
    other.write(line("a"), line("c"))
    assert run(*batch.argv("--detach", "--max-wait-seconds", "9")).code == 0
    wanted = batch_of(sandbox)
    state = batch.folder / "state" / "state.sqlite3"
    state.rename(state.with_suffix(".away"))
    object_ = sandbox.batches[wanted]
    odd: list[Any] = [None, {}, {"oaibg": "another"}, {"oaibg": 5}, "x", []]
    for number in range(250):
        request = {**object_.request, "metadata": odd[number % len(odd)]}
        twin = replace(object_, id=f"batch_{number}", request=request)
        sandbox.batches[twin.id] = twin
    sandbox.script(Fault(on="batch_create", kind="reset_before"))
    result = checked(run(*batch.argv("--detach")))
    assert of(result, "submitted")[0]["response_id"] == wanted
    assert len([one for one in sandbox.requests if one.path == "/v1/batches"]) == 2 + 1 + 3
    # The batch of another run is not taken for this run's.
    sandbox.script(Fault(on="batch_create", kind="reset_before"))
    assert run(*other.argv("--max-wait-seconds", "2")).code == 6


@pytest.mark.parametrize("fault", NEVER, ids=lambda fault: f"{fault.kind}-{fault.status}")
def test_a_batch_that_is_not_found(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    instant_sleep: None,
    fault: Fault,
) -> None:
    """Exit 6 if the search finds no batch; only `--resubmit-unknown` creates another one."""
    sandbox.script(fault)
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (6, {"outcome_unknown": 2})
    (error,) = of(result, "error")
    assert (error["outcome"], error["next"], result.last["next"]) == ("unknown", None, None)
    assert "--resubmit-unknown" in error["hint"]
    reads = sum(one.method == "GET" for one in sandbox.requests)
    again = checked(run(*batch.argv()))
    assert (again.code, of(again, "error")[0]["outcome"]) == (6, "unknown")
    assert sum(one.method == "GET" for one in sandbox.requests) > reads
    assert len(sandbox.batch_posts) == 1
    assert run("show", "--job-key", str(batch.jobs)).code == 6
    decided = checked(run(*batch.argv("--resubmit-unknown")))
    assert (decided.code, len(sandbox.batch_posts), len(sandbox.batches)) == (0, 2, 1)
    assert run(*batch.argv("--resubmit-unknown")).code == 0
    assert len(sandbox.batch_posts) == 2


def test_a_resubmit_whose_reply_was_lost(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """If the reply to a resubmit is lost, the run finds the batch as well."""
    sandbox.script(NEVER[1])
    assert run(*batch.argv("--max-wait-seconds", "2")).code == 6
    sandbox.script(LOST[0])
    assert checked(run(*batch.argv("--resubmit-unknown"))).code == 0
    assert (len(sandbox.batch_posts), len(sandbox.batches)) == (2, 1)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(on="batch_list", kind="status", status=500, times=0),
        Fault(on="batch_list", kind="status", status=401, times=0),
        Fault(on="batch_list", kind="status", status=404, times=0),
        Fault(on="batch_list", kind="html", times=0),
        Fault(on="batch_list", kind="raw", body='{"data": [{}, 5, {"metadata": "x"}]}', times=3),
        Fault(on="batch_list", kind="raw", body='{"data": null}', times=0),
        Fault(on="batch_list", kind="reset_before", times=0),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{str(fault.body)[:12]}",
)
def test_a_list_that_fails(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    instant_sleep: None,
    fault: Fault,
) -> None:
    """If batches can't be listed, the run ends with exit 6; it finds its batch later."""
    sandbox.script(LOST[0], fault)
    for _ in range(2):
        result = checked(run(*batch.argv()))
        if fault.times == 3 and result.code == 0:
            break
        assert (result.code, of(result, "error")[-1]["outcome"]) == (6, "unknown")
    sandbox._state.faults.clear()
    found = checked(run(*batch.argv("--resubmit-unknown")))
    assert (found.code, found.last["counts"]) == (0, {"completed": 2})
    assert (len(sandbox.batch_posts), len(sandbox.batches)) == (1, 1)


def test_a_resubmit_needs_the_list(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, instant_sleep: None
) -> None:
    """`--resubmit-unknown` creates no batch while the list fails: exit 7, outcome unknown."""
    sandbox.script(LOST[0], Fault(on="batch_list", kind="status", status=500, times=0))
    assert run(*batch.argv()).code == 6
    result = checked(run(*batch.argv("--resubmit-unknown")))
    assert (result.code, of(result, "error")[-1]["outcome"]) == (7, "unknown")
    assert len(sandbox.batch_posts) == 1


@pytest.mark.parametrize("on", ["file_create", "batch_create"])
@pytest.mark.parametrize(
    ("status", "code"), [(400, 1), (401, 8), (403, 1), (404, 1), (405, 1), (413, 1)]
)
def test_a_refusal(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, on: str, status: int, code: int
) -> None:
    """A refused upload or create ends the run at once, and the same command can submit again."""
    sandbox.script(Fault(on=on, kind="status", status=status, times=1))
    result = checked(run(*batch.argv()))
    counted = "refused" if code == 1 else "not_submitted"
    assert (result.code, result.last["counts"]) == (code, {counted: 2})
    error = of(result, "error")[0]
    assert (error["http_status"], error["outcome"]) == (status, "not_created")
    assert rows_of(batch.folder / "state") == []
    hinted = "--completion-window" in str(error["hint"])
    assert hinted == (status in (404, 405))
    assert (len(sandbox.file_posts), len(sandbox.batch_posts)) == (1, int(on == "batch_create"))
    assert checked(run(*batch.argv())).code == 0
    assert len(sandbox.batches) == 1


@pytest.mark.parametrize("on", ["file_create", "batch_create"])
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "headers": {"retry-after": "7"}},
        {"status": 429, "times": 3},
        {"status": 503},
    ],
)
def test_a_busy_api(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    instant_sleep: None,
    on: str,
    fault: dict[str, Any],
) -> None:
    """A busy API is retried as it asks, with one upload and one batch in the end."""
    sandbox.script(Fault(on=on, kind="status", **fault))
    result = checked(run(*batch.argv()))
    times = fault.get("times", 1)
    assert result.events[1 : times + 2] == ["submit_error"] * times + ["submitted"]
    assert result.lines[1]["error"]["http_status"] == fault["status"]
    assert result.code == 0
    assert len([post for post in sandbox.file_posts if post.status == 200]) == 1
    assert len(sandbox.batches) == 1


def test_an_exhausted_quota(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """An exhausted quota ends the run at once with exit 1 and a hint."""
    body = {"error": {"message": "You exceeded it.", "code": "insufficient_quota"}}
    sandbox.script(Fault(on="batch_create", kind="status", status=429, body=body))
    result = checked(run(*batch.argv()))
    assert result.code == 1
    assert "credit" in of(result, "error")[0]["hint"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(on="file_create", kind="reset_before", times=3),
        Fault(on="file_create", kind="reset_after", times=3),
        Fault(on="file_create", kind="status", status=500, times=3),
        Fault(on="file_create", kind="truncate", times=3),
        Fault(on="file_create", kind="html", times=3),
        Fault(on="file_create", kind="raw", body="{}", times=3),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.body}",
)
def test_a_failed_upload_is_retried(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    instant_sleep: None,
    fault: Fault,
) -> None:
    """A failed upload is retried, and the run creates one batch."""
    sandbox.script(fault)
    result = checked(run(*batch.argv()))
    assert (result.code, result.events.count("submit_error")) == (0, 3)
    assert (len(sandbox.file_posts), len(sandbox.batch_posts)) == (4, 1)


def test_an_upload_that_never_works(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, instant_sleep: None
) -> None:
    """After a minute of failed uploads the run ends with exit 7, `not_created` and `next`."""
    sandbox.script(Fault(on="file_create", kind="status", status=500, times=0))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["next"]) == (7, ["oaibg", *batch.argv()])
    assert of(result, "error")[0]["outcome"] == "not_created"
    assert rows_of(batch.folder / "state") == []


def test_a_server_without_batches(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """A server without a Batch API gives exit 1 and a hint; background mode then works."""
    sandbox.become(Personality(batches=False))
    result = checked(run(*batch.argv()))
    (error,) = of(result, "error")
    assert (result.code, error["http_status"], error["outcome"]) == (1, 404, "not_created")
    assert "Invalid URL" in error["message"]
    assert "background mode" in error["hint"]
    assert run(*Files(batch.folder).argv()).code == 0
