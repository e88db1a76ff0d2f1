"""A jobs file's run through the Batch API: requests, waiting and signals, over real HTTP."""

from __future__ import annotations

import json
import re
import signal
import time
from typing import TYPE_CHECKING

import pytest
from openai import OpenAI
from openai.types.responses import Response

from harness import Result, await_line, wait_until
from oaibg.sandbox import Fault
from runs import (
    MIXED,
    PROMPT,
    SLOW,
    WINDOW,
    BatchFiles,
    Files,
    age,
    batch_of,
    line,
    of,
    per_job,
    refused,
    rerun,
    start_batch,
)
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command
    from oaibg.sandbox import Sandbox


def test_a_whole_run(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """A run reports every step, writes each result, and ends with exit 0."""
    result = checked(run(*batch.argv("--events", "all")))
    batch_id = batch_of(sandbox)
    assert (result.code, result.err) == (0, "")
    steps = [event for event in result.events if event != "poll"]
    assert steps == ["submit_start", "submitted", "final", "final", "final", "summary"]
    assert result.events[2] == "poll"
    start, submitted = result.lines[:2]
    assert start["response_id"] is None
    assert (start["model"], start["job_key"]) == ("gpt-5.2", str(batch.jobs))
    assert submitted["response_id"] == batch_id
    assert (submitted["status"], submitted["reattached"]) == ("validating", False)
    *each, whole = of(result, "final")
    assert {one["custom_id"] for one in each} == {"a", "b"}
    for one in each:
        assert (one["response_id"], one["status"], one["ok"]) == (batch_id, "completed", True)
        assert one["usage"]["output_tokens"] > 0
        assert one["output_text_bytes"] > 0
    assert (whole["custom_id"], whole["exit_code"], whole["status"]) == (None, None, "completed")
    assert whole["response_id"] == batch_id
    counts = {"completed": 2}
    assert (result.last["counts"], result.last["next"]) == (counts, None)
    assert set(batch.by_id()) == {"a", "b"}
    assert (len(sandbox.file_posts), len(sandbox.batch_posts)) == (1, 1)
    polls = [one["status"] for one in of(result, "poll")]
    assert polls[-1] == "completed"
    assert of(result, "poll")[-1]["next_poll_seconds"] is None


def test_the_requests(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """The upload has complete bodies without background mode and streaming."""
    batch.write(
        line("a", background=True, text={"verbosity": "low"}),
        line("b", model="gpt-5.2", metadata={"own": "1"}),
    )
    options = ("--instructions", "Be brief.", "--metadata", "team=x", "--reasoning-effort", "high")
    assert run(*batch.argv(*options, "--max-output-tokens", "99")).code == 0
    (post,) = sandbox.file_posts
    content = sandbox.files[str(post.response_id)].content
    assert post.body == {"purpose": "batch", "filename": "jobs.jsonl", "bytes": len(content)}
    first, second = (json.loads(raw) for raw in content.splitlines())
    assert first == line(
        "a",
        model="gpt-5.2",
        text={"format": {"type": "text"}, "verbosity": "low"},
        reasoning={"effort": "high"},
        instructions="Be brief.",
        max_output_tokens=99,
        metadata={"team": "x"},
    )
    assert second["body"]["metadata"] == {"team": "x", "own": "1"}
    for one in (first, second):
        assert list(one) == ["custom_id", "method", "url", "body"]
        assert not {"background", "background_options", "stream", "store"} & one["body"].keys()
    (create,) = sandbox.batch_posts
    mark = create.body["metadata"].pop("oaibg")
    assert re.fullmatch("[0-9a-f]{64}", mark)
    assert create.body == {
        "input_file_id": post.response_id,
        "endpoint": "/v1/responses",
        "completion_window": "24h",
        "metadata": {},
    }


def test_both_modes_give_the_same_results(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, tmp_path: Path
) -> None:
    """A batch and background mode give the same jobs, format, statuses, texts and exit code."""
    batch.write(*MIXED)
    as_batch = checked(run(*batch.argv()))
    other = Files(tmp_path)
    other.results = tmp_path / "others.jsonl"
    background = checked(run(*other.argv("--job-key", "k")))
    one, two = batch.by_id(), other.by_id()
    assert one.keys() == two.keys() == {job["custom_id"] for job in MIXED}
    for key, mine in one.items():
        (first, second) = (mine["response"], two[key]["response"])
        assert first["status_code"] == second["status_code"]
        if first["status_code"] == 200:
            assert first["body"].keys() == second["body"].keys()
            same = ("status", "model", "error", "incomplete_details", "usage", "metadata")
            assert [first["body"][name] for name in same] == [second["body"][n] for n in same]
            assert first["body"]["background"] is False
            texts = [Response(**each["body"]).output_text for each in (first, second)]
            assert texts[0] == texts[1]
        else:
            codes = [each["body"]["error"]["code"] for each in (first, second)]
            assert codes[0] == codes[1]
    assert (as_batch.code, as_batch.last["counts"]) == (background.code, background.last["counts"])
    assert per_job(as_batch).keys() == one.keys()


def test_show_prints_the_batch_object(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """`show` prints the batch object as the SDK parses it strictly."""
    assert run(*batch.argv()).code == 0
    shown = run("show", batch_of(sandbox)).last["response"]
    with OpenAI(base_url=sandbox.base_url, api_key="k", _strict_response_validation=True) as client:
        assert client.batches.retrieve(batch_of(sandbox)).to_dict() == shown


def test_show_output_text(run: Callable[..., Result], batch: BatchFiles) -> None:
    """`--show-output-text` emits the text of each job with its custom_id."""
    result = checked(run(*batch.argv("--show-output-text")))
    assert {one["custom_id"] for one in of(result, "output_text")} == {"a", "b"}
    assert "output_text_missing" not in result.events


def test_output_text_missing(run: Callable[..., Result], batch: BatchFiles) -> None:
    """As in background mode, `output_text_missing` stands for the text of a job that has none."""
    batch.write(line("a", metadata={"sandbox_empty": "true"}), line("b"))
    result = checked(run(*batch.argv("--show-output-text")))
    (missing,) = of(result, "output_text_missing")
    assert (missing["custom_id"], missing["reason"]) == ("a", "empty")
    assert [one["custom_id"] for one in of(result, "output_text")] == ["b"]


def test_human_mode(run: Callable[..., Result], batch: BatchFiles) -> None:
    """`--human` changes only what is printed."""
    result = run(*batch.argv("--human"))
    assert (result.code, set(batch.by_id())) == (0, {"a", "b"})
    assert "Traceback" not in result.err


def test_a_dry_run_sends_nothing(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> None:
    """A dry run prints each request, without `background`, and sends nothing."""
    result = run(*batch.argv("--dry-run"))
    assert [one["custom_id"] for one in of(result, "dry_run")] == ["a", "b"]
    assert all("background" not in one["body"] for one in of(result, "dry_run"))
    assert (result.code, sandbox.requests, batch.results.exists()) == (0, [], False)


@pytest.mark.parametrize(
    "argv",
    [
        ("submit", "--prompt", "x", *WINDOW),
        ("submit", "--jobs-file", "JOBS", *WINDOW),
        ("monitor", "resp_1", "--results-file", "OUT"),
        ("monitor", "batch_1", "batch_2", "--results-file", "OUT"),
        ("monitor", "--job-key", "k", "--results-file", "OUT"),
        ("monitor", "-", "--results-file", "OUT"),
        ("monitor", "batch_1", "--results-file", "OUT", "--output-text-file", "TEXT"),
        ("monitor", "batch_1", "--results-file", "GONE"),
        ("monitor", "batch_1", "--results-file", "JOBS"),
    ],
)
def test_options_that_do_not_fit(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, argv: tuple[str, ...]
) -> None:
    """Options that don't fit are usage errors, and nothing is sent or written."""
    folder = batch.folder
    paths = {
        "JOBS": batch.jobs,
        "OUT": batch.results,
        "TEXT": folder / "t",
        "GONE": folder / "no" / "r",
    }
    before = batch.jobs.read_bytes()
    refused(run(*(str(paths.get(word, word)) for word in argv)), sandbox)
    assert batch.jobs.read_bytes() == before
    assert not batch.results.exists()


def test_detach(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """With `--detach` the run ends after the submit; `next` resumes the batch."""
    batch.write(line("a", **SLOW), line("b"))
    left = checked(run(*batch.argv("--detach")))
    assert left.events == ["submit_start", "submitted", "detached", "summary"]
    assert (left.code, left.last["counts"]) == (0, {"validating": 2})
    assert left.last["next"] == ["oaibg", *batch.argv()]
    age(sandbox)
    result = checked(run(*rerun(left.last["next"])))
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    assert of(result, "submitted")[0]["reattached"]
    assert (len(sandbox.file_posts), len(sandbox.batch_posts)) == (1, 1)
    again = checked(run(*batch.argv()))
    assert (again.events, again.last["counts"]) == (["summary"], {"completed": 2})


def test_the_wait_limit(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, instant_sleep: None
) -> None:
    """At the wait limit the run ends with exit 3 and `next`; the batch keeps running."""
    batch.write(line("a", **SLOW), line("b"))
    argv = batch.argv("--max-wait-seconds", "1")
    result = checked(run(*argv))
    assert result.events[-2:] == ["timeout", "summary"]
    assert (result.code, result.last["counts"]) == (3, {"in_progress": 2})
    assert result.last["next"] == ["oaibg", *argv]
    again = checked(run(*argv))
    assert (again.code, again.last["next"]) == (3, ["oaibg", *argv])
    assert len(sandbox.batch_posts) == 1


@pytest.mark.process
def test_a_signal_ends_the_wait(command: Command, sandbox: Sandbox, batch: BatchFiles) -> None:
    """SIGINT ends the run promptly with exit 130 and `next`; the batch keeps running."""
    batch.write(line("a", **SLOW), line("b"))
    process = command.start(*batch.argv("--events", "all"))
    await_line(process, "poll")
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    out = command.end(process).out
    assert time.monotonic() - sent < PROMPT
    last = json.loads(out.splitlines()[-1])
    assert (last["event"], last["exit_code"]) == ("summary", 130)
    assert process.returncode == 130
    assert [json.loads(one)["event"] for one in out.splitlines()][-2:] == ["interrupted", "summary"]
    assert last["counts"] == {"in_progress": 2}
    age(sandbox)
    assert command.run(*rerun(last["next"])).last["counts"] == {"completed": 2}
    assert len(sandbox.batch_posts) == 1


@pytest.mark.process
def test_a_signal_can_cancel(command: Command, sandbox: Sandbox, batch: BatchFiles) -> None:
    """With `--cancel-on-interrupt` a signal cancels the batch; a rerun fetches its results."""
    batch.write(line("a", **SLOW), line("b"))
    process, batch_id = start_batch(command, batch, "--cancel-on-interrupt")
    wait_until(lambda: sandbox.batches[batch_id].status(time.time()) == "in_progress")
    time.sleep(0.1)  # the other job ends
    process.send_signal(signal.SIGTERM)
    lines = [json.loads(one) for one in command.end(process).out.splitlines()]
    (interrupted,) = [one for one in lines if one["event"] == "interrupted"]
    assert (interrupted["job_cancelled"], interrupted["status"]) == (True, "cancelled")
    result = command.run(*batch.argv())
    assert (result.code, result.last["counts"]) == (4, {"completed": 1, "cancelled": 1})


@pytest.mark.process
@pytest.mark.parametrize("on", ["file_create", "batch_create"])
def test_a_signal_before_the_batch_exists(
    command: Command, sandbox: Sandbox, batch: BatchFiles, on: str
) -> None:
    """A signal stops an upload at once, but waits for the reply to a create that was sent."""
    late = {"kind": "hang_before"} if on == "file_create" else {"kind": "delay", "seconds": 0.8}
    sandbox.script(Fault(on=on, **late))
    process = command.start(*batch.argv())
    wait_until(lambda: sandbox.file_posts if on == "file_create" else sandbox.batches)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    result = command.end(process)
    assert (result.code, result.events[-2:]) == (130, ["interrupted", "summary"])
    created = on == "batch_create"
    assert of(result, "interrupted")[0]["outcome"] == ("created" if created else "not_created")
    assert time.monotonic() - sent < PROMPT
    assert rerun(result.last["next"]) == [*batch.argv()]
    assert command.run(*batch.argv()).code == 0
    assert len(sandbox.batches) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("on", "code"), [("file_create", 7), ("file_content", 3)])
def test_the_wait_limit_bounds_transfers(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, on: str, code: int
) -> None:
    """A server that hangs in an upload or a download does not delay the end of the run."""
    if on == "file_content":
        assert run(*batch.argv("--detach")).code == 0
    sandbox.script(Fault(on=on, kind="hang_before"))
    began = time.monotonic()
    result = checked(run(*batch.argv("--max-wait-seconds", "0.5")))
    assert time.monotonic() - began < 10
    assert (result.code, result.last["next"] is not None) == (code, True)
    assert checked(run(*batch.argv())).code == 0
    assert len(sandbox.batches) == 1
