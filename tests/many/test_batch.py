"""A jobs file through the Batch API: one upload, one batch, each result once, over real HTTP."""

from __future__ import annotations

import errno
import io
import json
import re
import signal
import tempfile
import time
from collections import Counter
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from openai import OpenAI
from openai.types.responses import Response

import oaibg.api.client  # noqa: F401 - its import would be most of some waits
from forkserver import IoFault
from harness import await_line, wait_until
from ledger import count, rows_of, tally
from oaibg.contract.schema import event_schema
from oaibg.sandbox import Fault, Personality
from oaibg.sandbox.batch.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness import Command, Result, Running
    from oaibg.sandbox import Sandbox

# A jobs file is open as long as the process that reads it, which here is that of the tests.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

STUCK = {"metadata": {"sandbox_outcome": "stuck"}}
LONG = 600
SLOW = {"metadata": {"sandbox_seconds": str(LONG)}}
"""Of a line: its batch ends where a test moves its create into the past."""
HOT = {"temperature": 9}
"""Of a line: the API refuses it."""


class Files:
    """A jobs file, a results file, and the command over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs, self.results = folder / "jobs.jsonl", folder / "results.jsonl"

    def write(self, *lines: dict[str, Any] | str) -> None:
        """Write the jobs file."""
        texts = [one if isinstance(one, str) else json.dumps(one) for one in lines]
        self.jobs.write_text("".join(f"{text}\n" for text in texts))

    def submit(self, *more: str) -> tuple[str, ...]:
        """The argv."""
        files = ("--jobs-file", str(self.jobs), "--results-file", str(self.results))
        return ("submit", *files, "--completion-window", "24h", "--poll-seconds", "0.02", *more)

    def by_id(self) -> dict[str, dict[str, Any]]:
        """The results, each checked, by their custom_ids; each is there once."""
        lines = [json.loads(raw) for raw in self.results.read_bytes().split(b"\n")[:-1]]
        for line in lines:
            check_result(line)
        found = {line["custom_id"]: line for line in lines}
        assert len(found) == len(lines)
        return found


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Two jobs; nothing has run."""
    files = Files(tmp_path)
    files.write(line("a"), line("b"))
    return files


@pytest.fixture(autouse=True)
def _counted(sandbox: Sandbox) -> Iterator[None]:
    """Count the requests."""
    yield
    tally(sandbox)


def line(custom_id: str, **body: Any) -> dict[str, Any]:
    """A line of a jobs file."""
    body = {"input": f"Say {custom_id}.", **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/responses", "body": body}


def check_result(line: dict[str, Any]) -> None:
    """Check a result key by key, and the response as strictly as the SDK can."""
    assert list(line) == ["id", "custom_id", "response", "error"]
    assert isinstance(line["id"], str)
    assert isinstance(line["custom_id"], str)
    response, error = line["response"], line["error"]
    assert (response is None) != (error is None)
    if error is not None:
        assert list(error) == ["code", "message"]
        assert all(isinstance(value, str) for value in error.values())
        return
    assert list(response) == ["status_code", "request_id", "body"]
    assert type(response["status_code"]) is int
    assert isinstance(response["request_id"], str)
    assert isinstance(response["body"], dict)
    if response["status_code"] == 200:
        parsed = Response.model_validate(response["body"], strict=True)
        assert parsed.status in ("completed", "failed", "incomplete", "cancelled")
    else:
        assert list(response["body"]) == ["error"]
        assert list(response["body"]["error"]) == ["message", "type", "param", "code"]


@cache
def schema() -> jsonschema.Draft202012Validator:
    """What each line on stdout is."""
    return jsonschema.Draft202012Validator(event_schema())


def checked(result: Result) -> Result:
    """The same; its lines are those of a run over several jobs, by the schema."""
    for event in result.lines:
        schema().validate(event)
        assert "custom_id" in event
        assert (event.get("exit_code") is None) == (event["event"] != "summary")
    return result


def of(result: Result, event: str) -> list[dict[str, Any]]:
    """The lines of an event."""
    return [line for line in result.lines if line["event"] == event]


def per_line(result: Result) -> dict[str, tuple[str, str | None]]:
    """What was told of each job of the file: the event, and its status or code."""
    told = [one for one in result.lines if one["custom_id"] is not None]
    assert len({one["custom_id"] for one in told}) == len(told)
    return {
        one["custom_id"]: (one["event"], one["status"] if "status" in one else one["code"])
        for one in told
    }


def batch_of(sandbox: Sandbox) -> str:
    """The id of the only batch."""
    (batch_id,) = sandbox.batches
    return batch_id


def age(sandbox: Sandbox, seconds: float = LONG + 1) -> None:
    """Let all batches be that old."""
    for batch in sandbox.batches.values():
        batch.created = time.time() - seconds


def begun(command: Command, files: Files, *more: str) -> tuple[Running, str]:
    """A run that polls a batch that is slow, and the batch's id."""
    process = command.start(*files.submit(*more))
    submitted, _ = await_line(process, "submitted")
    return process, str(submitted["response_id"])


def rest(argv: list[str]) -> list[str]:
    """A command without the program's name."""
    return argv[argv.index("submit") if "submit" in argv else argv.index("monitor") :]


def killed(process: Running) -> None:
    """Kill a run."""
    process.kill()
    assert process.wait(10) == -9
    process.communicate(timeout=10)
    count("kills")


# --- the whole way -------------------------------------------------------------------------


def test_whole_run(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """A run tells every step, writes each result, and ends with 0."""
    result = checked(run(*files.submit("--events", "all")))
    batch_id = batch_of(sandbox)
    assert (result.code, result.err) == (0, "")
    steps = [event for event in result.events if event != "poll"]
    assert steps == ["submit_start", "submitted", "final", "final", "final", "summary"]
    assert result.events[2] == "poll"
    start, submitted = result.lines[:2]
    assert start["response_id"] is None
    assert (start["model"], start["job_key"]) == ("gpt-5.2", str(files.jobs))
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
    assert set(files.by_id()) == {"a", "b"}
    assert (len(sandbox.file_posts), len(sandbox.batch_posts)) == (1, 1)
    polls = [one["status"] for one in of(result, "poll")]
    assert polls[-1] == "completed"
    assert of(result, "poll")[-1]["next_poll_seconds"] is None


def test_what_is_sent(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """The bodies are filled, for no background mode and no stream; the create is exact."""
    files.write(
        line("a", background=True, text={"verbosity": "low"}),
        line("b", model="gpt-5.2", metadata={"own": "1"}),
    )
    options = ("--instructions", "Be brief.", "--metadata", "team=x", "--reasoning-effort", "high")
    assert run(*files.submit(*options, "--max-output-tokens", "99")).code == 0
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


MIXED = [
    line("plain"),
    line("own", model="gpt-5.2", reasoning={"effort": "low"}),
    line("incomplete", metadata={"sandbox_outcome": "incomplete"}),
    line("failed", metadata={"sandbox_outcome": "failed"}),
    line("hot", **HOT),
    line("unknown", previous_response_id="resp_none"),
    line("ü 漢", metadata={"sandbox_text": "\u2028\u2029\x85 \\n \U0001f600 \u202e"}),
]


def test_both_ways_give_the_same(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, tmp_path: Path
) -> None:
    """In background mode and as a batch: the same jobs, format, statuses, texts and code."""
    files.write(*MIXED)
    batch = checked(run(*files.submit()))
    other = Files(tmp_path)
    other.results = tmp_path / "others.jsonl"
    argv = [word for word in other.submit("--job-key", "k") if word not in WINDOW]
    background = checked(run(*argv))
    one, two = files.by_id(), other.by_id()
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
    assert (batch.code, batch.last["counts"]) == (background.code, background.last["counts"])
    assert per_line(batch).keys() == one.keys()


WINDOW = ("--completion-window", "24h")


def test_the_batch_parses_strictly(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """What is shown of it is the API's object, as the SDK's own type has it."""
    assert run(*files.submit()).code == 0
    shown = run("show", batch_of(sandbox)).last["response"]
    with OpenAI(base_url=sandbox.base_url, api_key="k", _strict_response_validation=True) as client:
        assert client.batches.retrieve(batch_of(sandbox)).to_dict() == shown


def test_results_are_the_bytes_of_the_server(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """Odd line ends inside of texts, odd spacing, big and small numbers: byte for byte."""
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
    result = checked(run(*files.submit()))
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    assert files.results.read_bytes() == f"{raw}\n".encode()


def test_the_texts_can_be_shown(run: Callable[..., Result], files: Files) -> None:
    """`--show-output-text` tells each job's text, under its name."""
    result = checked(run(*files.submit("--show-output-text")))
    assert {one["custom_id"] for one in of(result, "output_text")} == {"a", "b"}
    assert "output_text_missing" not in result.events


def test_people_can_read_it(run: Callable[..., Result], files: Files) -> None:
    """`--human` changes nothing but the words."""
    result = run(*files.submit("--human"))
    assert (result.code, set(files.by_id())) == (0, {"a", "b"})
    assert "Traceback" not in result.err


@pytest.mark.slow
def test_it_goes_in_pieces(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """Hundreds of jobs, and results of megabytes, of which a part came before it all did."""
    big = {"metadata": {"sandbox_bytes": "5000000"}}
    files.write(*(line(f"r{number}") for number in range(300)), line("big", **big))
    sandbox.script(Fault(on="file_content", kind="truncate"))
    result = checked(run(*files.submit()))
    assert (result.code, result.last["counts"]) == (0, {"completed": 301})
    assert result.events.count("warning") == 0
    assert len(files.by_id()) == 301


def test_a_dry_run_sends_nothing(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """It tells each request, without `background`."""
    result = run(*files.submit("--dry-run"))
    assert [one["custom_id"] for one in of(result, "dry_run")] == ["a", "b"]
    assert all("background" not in one["body"] for one in of(result, "dry_run"))
    assert (result.code, sandbox.requests, files.results.exists()) == (0, [], False)


# --- what is refused before anything is sent -----------------------------------------------


def refused(result: Result, sandbox: Sandbox, *words: str) -> None:
    """Check that it was a usage error, and that nothing was sent."""
    assert (result.code, result.last["event"]) == (2, "error")
    assert result.last["outcome"] in ("not_created", None)
    assert not sandbox.requests
    for word in words:
        assert word in f"{result.last['message']} {result.last['hint']}"


@pytest.mark.slow
def test_too_many_jobs(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """50,000 and one."""
    body = '"method":"POST","url":"/v1/responses","body":{"input":"x"}}\n'
    files.jobs.write_text("".join(f'{{"custom_id":"{n}",{body}' for n in range(50_001)))
    refused(run(*files.submit()), sandbox, "50,001", "50,000", "Split")
    assert not files.results.exists()


@pytest.mark.slow
def test_too_many_bytes(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """What counts is what would be uploaded: with the settings filled in."""
    files.write(*(line(str(number)) for number in range(1000)))
    instructions = files.folder / "body.json"
    instructions.write_text(json.dumps({"instructions": "x" * 200_000}))
    result = run(*files.submit("--body-json-file", str(instructions)))
    refused(result, sandbox, "a batch may have 200,000,000", "Split")


def test_two_models(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """A batch has one; the lines are named."""
    files.write(line("a"), "", line("b", model="gpt-5.1"))
    refused(run(*files.submit()), sandbox, "line 3", "'gpt-5.1'", "line 1", "'gpt-5.2'")


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
def test_options_that_make_no_sense(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, argv: tuple[str, ...]
) -> None:
    """Usage errors; nothing is sent or written."""
    folder = files.folder
    paths = {
        "JOBS": files.jobs,
        "OUT": files.results,
        "TEXT": folder / "t",
        "GONE": folder / "no" / "r",
    }
    before = files.jobs.read_bytes()
    refused(run(*(str(paths.get(word, word)) for word in argv)), sandbox)
    assert files.jobs.read_bytes() == before
    assert not files.results.exists()


def test_a_changed_file(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """Is another run's, whether the batch goes on or has ended; nothing is sent."""
    files.write(line("a", **SLOW), line("b"))
    assert run(*files.submit("--detach")).code == 0
    original = files.jobs.read_bytes()
    sandbox.requests.clear()
    files.write(line("a", **SLOW), line("b", input="Another."))
    for _ in range(2):
        changed = run(*files.submit())
        refused(changed, sandbox, "--job-key")
        assert changed.last["code"] == "job_key_reused"
        assert "\\n" not in changed.last["message"]
        if not files.by_id():
            new = files.jobs.read_bytes()
            age(sandbox)
            files.jobs.write_bytes(original)
            assert run(*files.submit()).code == 0
            files.jobs.write_bytes(new)
            sandbox.requests.clear()


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_run_goes_on_the_way_it_was_begun(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, batch_first: bool
) -> None:
    """As a batch, or in background mode; the other is a usage error."""
    files.write(line("a", **SLOW))
    ways = [files.submit(), tuple(word for word in files.submit() if word not in WINDOW)]
    if not batch_first:
        ways.reverse()
    run(*ways[0], "--max-wait-seconds", "1")
    assert rows_of(files.folder / "state")[0][0] == "submitted"
    sandbox.requests.clear()
    refused(run(*ways[1]), sandbox, "--job-key", "as a batch" if batch_first else "background")


def test_what_is_no_results_file_is_left_alone(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """Whether its last line has an end or not."""
    for content in (b"notes\n", b"notes", b'{"a": 1}', files.jobs.read_bytes()[:-1] + b"\n", b"["):
        files.results.write_bytes(content)
        refused(run(*files.submit()), sandbox, "--results-file")
        assert files.results.read_bytes() == content


def test_the_jobs_file_is_no_results_file(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """Even where it is a single line without an end."""
    content = json.dumps(line("a")).encode()
    files.jobs.write_bytes(content)
    files.results = files.jobs
    refused(run(*files.submit()), sandbox)
    assert files.jobs.read_bytes() == content


# --- waiting -------------------------------------------------------------------------------


def test_detached_and_gone_on_with(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """`--detach` leaves the batch to run; `next` and the same command go on with it."""
    files.write(line("a", **SLOW), line("b"))
    left = checked(run(*files.submit("--detach")))
    assert left.events == ["submit_start", "submitted", "detached", "summary"]
    assert (left.code, left.last["counts"]) == (0, {"validating": 2})
    assert left.last["next"] == ["oaibg", *files.submit()]
    age(sandbox)
    result = checked(run(*rest(left.last["next"])))
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    assert of(result, "submitted")[0]["reattached"]
    assert (len(sandbox.file_posts), len(sandbox.batch_posts)) == (1, 1)
    again = checked(run(*files.submit()))
    assert (again.events, again.last["counts"]) == (["summary"], {"completed": 2})


@pytest.mark.slow
def test_the_wait_budget(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """3 with `next`, which has the same budget; the batch goes on."""
    files.write(line("a", **SLOW), line("b"))
    argv = files.submit("--max-wait-seconds", "1")
    result = checked(run(*argv))
    assert result.events[-2:] == ["timeout", "summary"]
    assert (result.code, result.last["counts"]) == (3, {"in_progress": 2})
    assert result.last["next"] == ["oaibg", *argv]
    again = checked(run(*argv))
    assert (again.code, again.last["next"]) == (3, ["oaibg", *argv])
    assert len(sandbox.batch_posts) == 1


@pytest.mark.process
def test_a_signal_ends_the_wait(command: Command, sandbox: Sandbox, files: Files) -> None:
    """130 within a second, with `next`; the batch goes on."""
    files.write(line("a", **SLOW), line("b"))
    process = command.start(*files.submit("--events", "all"))
    await_line(process, "poll")
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    out = command.end(process).out
    assert time.monotonic() - sent < 1
    last = json.loads(out.splitlines()[-1])
    assert (last["event"], last["exit_code"]) == ("summary", 130)
    assert process.returncode == 130
    assert [json.loads(one)["event"] for one in out.splitlines()][-2:] == ["interrupted", "summary"]
    assert last["counts"] == {"in_progress": 2}
    age(sandbox)
    assert command.run(*rest(last["next"])).last["counts"] == {"completed": 2}
    assert len(sandbox.batch_posts) == 1


@pytest.mark.process
def test_a_signal_can_cancel(command: Command, sandbox: Sandbox, files: Files) -> None:
    """With `--cancel-on-interrupt`; what was done comes with the next run."""
    files.write(line("a", **SLOW), line("b"))
    process, batch_id = begun(command, files, "--cancel-on-interrupt")
    wait_until(lambda: sandbox.batches[batch_id].status(time.time()) == "in_progress")
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    told = [json.loads(one) for one in command.end(process).out.splitlines()]
    (interrupted,) = [one for one in told if one["event"] == "interrupted"]
    assert (interrupted["job_cancelled"], interrupted["status"]) == (True, "cancelled")
    result = command.run(*files.submit())
    assert (result.code, result.last["counts"]) == (4, {"completed": 1, "cancelled": 1})


@pytest.mark.process
@pytest.mark.parametrize("on", ["file_create", "batch_create"])
def test_a_signal_before_there_is_a_batch(
    command: Command, sandbox: Sandbox, files: Files, on: str
) -> None:
    """During the upload at once; while the create is answered, that is waited for."""
    late = {"kind": "hang_before"} if on == "file_create" else {"kind": "delay", "seconds": 0.8}
    sandbox.script(Fault(on=on, **late))
    process = command.start(*files.submit())
    wait_until(lambda: sandbox.file_posts if on == "file_create" else sandbox.batches)
    time.sleep(0.1)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    result = command.end(process)
    assert (result.code, result.events[-2:]) == (130, ["interrupted", "summary"])
    created = on == "batch_create"
    assert of(result, "interrupted")[0]["outcome"] == ("created" if created else "not_created")
    assert (time.monotonic() - sent < 0.7) != created
    assert rest(result.last["next"]) == [*files.submit()]
    assert command.run(*files.submit()).code == 0
    assert len(sandbox.batches) == 1


@pytest.mark.slow
@pytest.mark.parametrize("on", ["file_create", "batch_create", "file_content"])
def test_the_wait_budget_bounds_all_calls(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, on: str
) -> None:
    """A server that hangs does not hold a run up: an upload, a create, a download."""
    if on == "file_content":
        assert run(*files.submit("--detach")).code == 0
    sandbox.script(Fault(on=on, kind="hang_before"))
    began = time.monotonic()
    result = checked(run(*files.submit("--max-wait-seconds", "1")))
    # A create's reply is waited for until 5 s after the deadline.
    assert time.monotonic() - began < (8 if on == "batch_create" else 3)
    code = {"file_create": 7, "batch_create": 6, "file_content": 3}[on]
    assert result.code == code
    if code != 6:
        assert result.last["next"] is not None
        assert checked(run(*files.submit())).code == 0
        assert len(sandbox.batches) == 1


# --- how a batch ends ----------------------------------------------------------------------


def test_a_batch_that_does_not_validate(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """4 with the API's words; nothing was run, and nothing is sent again."""
    assert run(*files.submit("--detach")).code == 0
    error = {"code": "mismatched_model", "message": "No.", "line": 2, "param": "body.model"}
    sandbox.batches[batch_of(sandbox)].plan = Plan(errors=[error])
    for _ in range(2):
        result = checked(run(*files.submit()))
        assert (result.code, result.last["counts"]) == (4, {"failed": 2})
        (final,) = of(result, "final")
        assert final["error"]["code"] == "mismatched_model"
        assert (final["custom_id"], final["status"], final["ok"]) == (None, "failed", False)
        assert result.last["next"] is None
    assert (files.by_id(), len(sandbox.batch_posts)) == ({}, 1)
    shown = run("monitor", batch_of(sandbox), "--results-file", str(files.folder / "m"))
    assert (shown.code, shown.last["counts"]) == (4, {"failed": 1})


def test_lines_that_end_otherwise(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """Each is told as in background mode; the worst decides: a refused one is 1."""
    files.write(*MIXED)
    result = checked(run(*files.submit()))
    assert result.code == 1
    counts = {"completed": 3, "incomplete": 1, "failed": 1, "refused": 2}
    assert result.last["counts"] == counts
    told = per_line(result)
    assert told["hot"] == ("error", "decimal_out_of_range")
    assert told["unknown"] == ("error", "previous_response_not_found")
    assert told["incomplete"] == ("final", "incomplete")
    assert told["failed"] == ("final", "failed")
    (hot,) = [one for one in of(result, "error") if one["custom_id"] == "hot"]
    assert (hot["http_status"], hot["outcome"], hot["retryable"]) == (400, "not_created", False)
    assert (hot["response_id"], hot["exit_code"]) == (batch_of(sandbox), None)
    assert not of(result, "final")[-1]["ok"]
    again = checked(run(*files.submit()))
    assert (again.code, again.last["counts"], again.events) == (1, counts, ["summary"])


def test_a_job_without_success_is_4(run: Callable[..., Result], files: Files) -> None:
    """An incomplete response is none that completed."""
    files.write(line("a"), line("b", metadata={"sandbox_outcome": "incomplete"}))
    result = checked(run(*files.submit()))
    assert (result.code, result.last["counts"]) == (4, {"completed": 1, "incomplete": 1})


@pytest.mark.parametrize("errors", ["envelope", "number", "text", "detail", "plain"])
def test_refusals_of_other_shapes(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, errors: str
) -> None:
    """Servers word them as they like."""
    sandbox.become(Personality(errors=errors))
    files.write(line("a"), line("hot", **HOT))
    result = checked(run(*files.submit()))
    assert (result.code, result.last["counts"]) == (1, {"completed": 1, "refused": 1})
    assert per_line(result)["hot"][0] == "error"
    assert checked(run(*files.submit())).last["counts"] == result.last["counts"]


def test_an_expired_batch_keeps_what_was_done(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """4; what was not done is a result, too."""
    sandbox.batch_window = 0.3
    files.write(line("a"), line("stuck", **STUCK))
    result = checked(run(*files.submit()))
    assert (result.code, result.last["counts"]) == (4, {"completed": 1, "expired": 1})
    assert files.by_id()["stuck"]["error"]["code"] == "batch_expired"
    (stuck,) = [one for one in of(result, "final") if one["custom_id"] == "stuck"]
    assert (stuck["status"], stuck["error"]["code"], stuck["usage"]) == (
        "expired",
        "batch_expired",
        None,
    )
    again = checked(run(*files.submit()))
    assert (again.code, again.last["counts"], again.last["next"]) == (
        4,
        {"completed": 1, "expired": 1},
        None,
    )
    assert len(sandbox.batch_posts) == 1


def test_what_the_files_lack_is_told(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """A completed batch without a job's result: 1, with `next`, which has it in the end."""
    sandbox.script(Fault(on="file_content", kind="raw", body=""))
    result = checked(run(*files.submit()))
    assert (result.code, result.last["counts"]) == (1, {"missing": 2})
    assert rest(result.last["next"]) == [*files.submit()]
    again = checked(run(*files.submit()))
    assert (again.code, again.last["counts"]) == (0, {"completed": 2})
    assert len(sandbox.batch_posts) == 1


def test_strange_lines_are_left_out(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """Garbage, other people's results, a result twice: a warning, and each job once."""
    assert run(*files.submit("--detach")).code == 0
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
    result = checked(run(*files.submit()))
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    (warning,) = of(result, "warning")
    assert (warning["code"], warning["message"][:3]) == ("strange_results", "11 ")
    told = [one["custom_id"] for one in of(result, "final")]
    assert Counter(told) == {"a": 1, "b": 1, None: 1}
    kept = [json.loads(raw) for raw in files.results.read_bytes().splitlines()]
    assert kept == [good["a"], good["b"]]


# --- the results file ----------------------------------------------------------------------


def test_a_lost_results_file_is_fetched_again(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """By the same command, also where a part of it is left; nothing is sent but reads."""
    files.write(*MIXED)
    run(*files.submit())
    whole = files.results.read_bytes()
    some = b"".join(whole.splitlines(keepends=True)[:3])
    for left in (None, b"", some, whole[:-20], some + b'{"id": "x'):
        if left is None:
            files.results.unlink()
        else:
            files.results.write_bytes(left)
        result = checked(run(*files.submit()))
        assert (result.code, result.last["next"]) == (1, None)
        assert sum(result.last["counts"].values()) == len(MIXED)
        assert not of(result, "warning"), "what is there already is not strange"
        assert sorted(files.results.read_bytes().splitlines()) == sorted(whole.splitlines())
    assert len(sandbox.batch_posts) == len(sandbox.file_posts) == 1


def test_files_that_the_api_let_go_of(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """5, which names the file; what is there stays, and is counted once."""
    files.write(line("a"), line("hot", **HOT))
    assert run(*files.submit("--detach")).code == 0
    age(sandbox, 1)
    gone = sandbox.batches[batch_of(sandbox)].error_file_id
    assert gone in sandbox.files
    del sandbox.files[gone]
    for _ in range(2):
        result = checked(run(*files.submit()))
        assert (result.code, result.last["counts"]) == (5, {"completed": 1, "not_found": 1})
        assert gone in of(result, "error")[-1]["message"]
        assert list(files.by_id()) == ["a"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(on="file_content", kind="status", status=500, times=3),
        Fault(on="file_content", kind="status", status=503, times=2),
        Fault(on="file_content", kind="status", status=429, headers={"retry-after": "2"}),
        Fault(on="file_content", kind="status", status=404, body="gateway", times=2),
        Fault(on="file_content", kind="reset_before", times=3),
        Fault(on="file_content", kind="reset_after", times=3),
        Fault(on="file_content", kind="truncate", times=3),
        Fault(on="file_content", kind="truncate", after=0, times=3),
        Fault(on="file_content", kind="html", times=3),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.after}",
)
def test_downloads_are_patient(
    run: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    instant_sleep: None,
    fault: Fault,
) -> None:
    """Each failure is told, nothing is written by half, and the result is whole."""
    sandbox.script(fault)
    result = checked(run(*files.submit()))
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    assert [one["consecutive"] for one in of(result, "poll_error")] == [*range(1, fault.times + 1)]
    assert set(files.by_id()) == {"a", "b"}


@pytest.mark.parametrize("kind", ["status", "truncate", "html"])
def test_downloads_are_not_patient_for_ever(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, instant_sleep: None, kind: str
) -> None:
    """A minute, then 7 with the same command as `next`; nothing is written by half."""
    sandbox.script(Fault(on="file_content", kind=kind, times=0))
    result = checked(run(*files.submit()))
    assert (result.code, result.last["next"]) == (7, ["oaibg", *files.submit()])
    assert of(result, "error")[0]["outcome"] == "created"
    assert len(of(result, "poll_error")) in (5, 6)
    assert files.results.read_bytes() == b""
    sandbox._state.faults.clear()
    assert checked(run(*files.submit())).code == 0
    assert len(sandbox.batch_posts) == 1


def test_a_refused_key_ends_a_download(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """8; the same command goes on with a good one."""
    sandbox.script(Fault(on="file_content", kind="status", status=401))
    assert checked(run(*files.submit())).code == 8
    assert checked(run(*files.submit())).code == 0


@pytest.mark.process
@pytest.mark.parametrize("mode", ["fail", "short"])
def test_a_full_disk_under_the_results(
    command: Command, sandbox: Sandbox, files: Files, mode: str
) -> None:
    """9 where it would be 0, with `next`; the same command mends it."""
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    files.results.touch()
    below = str(files.results)
    fault = IoFault(mode=mode, below=below, at=3, count=2, error=errno.ENOSPC)
    result = checked(command.run(*files.submit(), fault=fault))
    assert (result.code, result.last["counts"]) == (9, {"completed": 2})
    assert [one["code"] for one in of(result, "warning")] == ["write_failed"]
    assert (rest(result.last["next"]), files.by_id()) == ([*files.submit()], {})
    count("io_faults")
    again = checked(command.run(*files.submit()))
    assert (again.code, set(files.by_id())) == (0, {"a", "b"})
    assert len(sandbox.batch_posts) == 1


# --- creates -------------------------------------------------------------------------------

LOST = [
    Fault(on="batch_create", kind="reset_after"),
    Fault(on="batch_create", kind="truncate"),
    Fault(on="batch_create", kind="html"),
    Fault(on="batch_create", kind="raw", body="{}"),
    Fault(on="batch_create", kind="raw", body='{"id": "../x", "status": "validating"}'),
]
NEVER = [
    Fault(on="batch_create", kind="reset_before"),
    Fault(on="batch_create", kind="status", status=500),
    Fault(on="batch_create", kind="status", status=502),
    Fault(on="batch_create", kind="status", status=504),
]


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: f"{fault.kind}-{fault.body}")
def test_a_batch_whose_answer_was_lost_is_found(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, fault: Fault
) -> None:
    """By its mark, among others; the run goes on with it, and there is one batch."""
    sandbox.script(fault)
    result = checked(run(*files.submit("--detach")))
    assert result.code == 0
    (submitted,) = of(result, "submitted")
    assert (submitted["response_id"], submitted["reattached"]) == (batch_of(sandbox), True)
    assert rows_of(files.folder / "state") == [("submitted", batch_of(sandbox))]
    assert checked(run(*files.submit())).last["counts"] == {"completed": 2}
    assert len(sandbox.batch_posts) == 1


def test_it_is_found_among_hundreds(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """The list has pages, and batches with no metadata or odd ones; the mark decides."""
    sandbox.script(LOST[0])
    other = Files(files.folder)
    other.jobs = files.folder / "other.jsonl"
    other.write(line("a"), line("c"))
    assert run(*files.submit("--detach", "--max-wait-seconds", "9")).code == 0
    wanted = batch_of(sandbox)
    state = files.folder / "state" / "state.sqlite3"
    state.rename(state.with_suffix(".away"))
    batch = sandbox.batches[wanted]
    odd: list[Any] = [None, {}, {"oaibg": "another"}, {"oaibg": 5}, "x", []]
    for number in range(250):
        request = {**batch.request, "metadata": odd[number % len(odd)]}
        twin = replace(batch, id=f"batch_{number}", request=request)
        sandbox.batches[twin.id] = twin
    sandbox.script(Fault(on="batch_create", kind="reset_before"))
    result = checked(run(*files.submit("--detach")))
    assert of(result, "submitted")[0]["response_id"] == wanted
    assert len([one for one in sandbox.requests if one.path == "/v1/batches"]) == 2 + 1 + 3
    # Another run's is not taken for it.
    sandbox.script(Fault(on="batch_create", kind="reset_before"))
    assert run(*other.submit("--max-wait-seconds", "2")).code == 6


@pytest.mark.parametrize("fault", NEVER, ids=lambda fault: f"{fault.kind}-{fault.status}")
def test_a_batch_that_is_not_found(
    run: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    instant_sleep: None,
    fault: Fault,
) -> None:
    """6; it is looked for again, and not sent again, but by decision."""
    sandbox.script(fault)
    result = checked(run(*files.submit()))
    assert (result.code, result.last["counts"]) == (6, {"outcome_unknown": 2})
    (error,) = of(result, "error")
    assert (error["outcome"], error["next"], result.last["next"]) == ("unknown", None, None)
    assert "--resubmit-unknown" in error["hint"]
    looks = sum(one.method == "GET" for one in sandbox.requests)
    again = checked(run(*files.submit()))
    assert (again.code, of(again, "error")[0]["outcome"]) == (6, "unknown")
    assert sum(one.method == "GET" for one in sandbox.requests) > looks
    assert len(sandbox.batch_posts) == 1
    assert run("show", "--job-key", str(files.jobs)).code == 6
    decided = checked(run(*files.submit("--resubmit-unknown")))
    assert (decided.code, len(sandbox.batch_posts), len(sandbox.batches)) == (0, 2, 1)
    assert run(*files.submit("--resubmit-unknown")).code == 0
    assert len(sandbox.batch_posts) == 2


def test_a_decision_whose_answer_is_lost(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """The batch is found as the first one would have been."""
    sandbox.script(NEVER[1])
    assert run(*files.submit("--max-wait-seconds", "2")).code == 6
    sandbox.script(LOST[0])
    assert checked(run(*files.submit("--resubmit-unknown"))).code == 0
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
    files: Files,
    instant_sleep: None,
    fault: Fault,
) -> None:
    """6, nothing is sent again; once it answers, the batch is found."""
    sandbox.script(LOST[0], fault)
    for _ in range(2):
        result = checked(run(*files.submit()))
        if fault.times == 3 and result.code == 0:
            break
        assert (result.code, of(result, "error")[-1]["outcome"]) == (6, "unknown")
    sandbox._state.faults.clear()
    found = checked(run(*files.submit("--resubmit-unknown")))
    assert (found.code, found.last["counts"]) == (0, {"completed": 2})
    assert (len(sandbox.batch_posts), len(sandbox.batches)) == (1, 1)


def test_a_decision_takes_a_list_that_answers(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, instant_sleep: None
) -> None:
    """Nobody pays twice because the list was down: 7 then, the outcome still unknown."""
    sandbox.script(LOST[0], Fault(on="batch_list", kind="status", status=500, times=0))
    assert run(*files.submit()).code == 6
    result = checked(run(*files.submit("--resubmit-unknown")))
    assert (result.code, of(result, "error")[-1]["outcome"]) == (7, "unknown")
    assert len(sandbox.batch_posts) == 1


@pytest.mark.parametrize("on", ["file_create", "batch_create"])
@pytest.mark.parametrize(
    ("status", "code"), [(400, 1), (401, 8), (403, 8), (404, 1), (405, 1), (413, 1)]
)
def test_a_refusal(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, on: str, status: int, code: int
) -> None:
    """Ends it at once, with the API's words; nothing was created, and the run is free."""
    sandbox.script(Fault(on=on, kind="status", status=status, times=1))
    result = checked(run(*files.submit()))
    counted = "refused" if code == 1 else "not_submitted"
    assert (result.code, result.last["counts"]) == (code, {counted: 2})
    error = of(result, "error")[0]
    assert (error["http_status"], error["outcome"]) == (status, "not_created")
    assert rows_of(files.folder / "state") == []
    hinted = "--completion-window" in str(error["hint"])
    assert hinted == (status in (404, 405))
    assert (len(sandbox.file_posts), len(sandbox.batch_posts)) == (1, int(on == "batch_create"))
    assert checked(run(*files.submit())).code == 0
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
    files: Files,
    instant_sleep: None,
    on: str,
    fault: dict[str, Any],
) -> None:
    """Is asked again, as it says; one upload is kept, and one batch made."""
    sandbox.script(Fault(on=on, kind="status", **fault))
    result = checked(run(*files.submit()))
    times = fault.get("times", 1)
    assert result.events[1 : times + 2] == ["submit_error"] * times + ["submitted"]
    assert result.lines[1]["error"]["http_status"] == fault["status"]
    assert result.code == 0
    assert len([post for post in sandbox.file_posts if post.status == 200]) == 1
    assert len(sandbox.batches) == 1


def test_a_spent_quota(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """1 at once, and what to do."""
    body = {"error": {"message": "You exceeded it.", "code": "insufficient_quota"}}
    sandbox.script(Fault(on="batch_create", kind="status", status=429, body=body))
    result = checked(run(*files.submit()))
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
def test_an_upload_is_harmless(
    run: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    instant_sleep: None,
    fault: Fault,
) -> None:
    """Whatever becomes of it, it is made again; one batch."""
    sandbox.script(fault)
    result = checked(run(*files.submit()))
    assert (result.code, result.events.count("submit_error")) == (0, 3)
    assert (len(sandbox.file_posts), len(sandbox.batch_posts)) == (4, 1)


def test_an_upload_that_never_works(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, instant_sleep: None
) -> None:
    """7 after a minute, `not_created`, with the same command as `next`."""
    sandbox.script(Fault(on="file_create", kind="status", status=500, times=0))
    result = checked(run(*files.submit()))
    assert (result.code, result.last["next"]) == (7, ["oaibg", *files.submit()])
    assert of(result, "error")[0]["outcome"] == "not_created"
    assert rows_of(files.folder / "state") == []


def test_a_server_without_batches(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """1, and how to do without; that way is free."""
    sandbox.become(Personality(batches=False))
    result = checked(run(*files.submit()))
    (error,) = of(result, "error")
    assert (result.code, error["http_status"], error["outcome"]) == (1, 404, "not_created")
    assert "Invalid URL" in error["message"]
    assert "background mode" in error["hint"]
    assert run(*(word for word in files.submit() if word not in WINDOW)).code == 0


# --- restarts ------------------------------------------------------------------------------


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
def test_killed_at_a_call(
    command: Command, sandbox: Sandbox, files: Files, on: str, kind: str
) -> None:
    """Kill -9 while it is under way: the same command makes one batch of it, each result once."""
    sandbox.script(Fault(on=on, kind=kind))
    process = command.start(*files.submit())
    wait_until(lambda: any(one.fault for one in sandbox.requests))
    if on == "batch_create" and kind == "hang_after":
        wait_until(lambda: sandbox.batches)
    killed(process)
    again = checked(command.run(*files.submit()))
    if (on, kind) == ("batch_create", "hang_before"):
        assert (again.code, sandbox.batches) == (6, {})
        again = checked(command.run(*files.submit("--resubmit-unknown")))
    assert (again.code, again.last["counts"]) == (0, {"completed": 2})
    assert set(files.by_id()) == {"a", "b"}
    assert len(sandbox.batches) == 1
    assert of(again, "submitted")[0]["reattached"] == (
        on in ("batch_retrieve", "file_content") or (on == "batch_create" and kind == "hang_after")
    )


@pytest.mark.process
def test_killed_at_every_step(
    command: Command, sandbox: Sandbox, files: Files, tmp_path: Path
) -> None:
    """Kill -9 before steps that leave a trace, then the same command: one batch, each result once.

    Or an unknown outcome, where the create was not found, and then none. Every nineteenth step,
    from another one each time.
    """
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    content = files.jobs.read_bytes()
    at = int(time.time()) % 19 + 1
    seen: Counter[str] = Counter()
    while True:
        sandbox.clear()
        folder = tmp_path / f"run{at}"
        folder.mkdir()
        one = Files(folder)
        one.jobs.write_bytes(content)
        command.environment["OAIBG_STATE_DIR"] = str(folder / "state")
        process = command.start(*one.submit(), fault=IoFault(mode="kill", below=str(folder), at=at))
        process.communicate(timeout=30)
        if process.returncode == 0:
            break
        assert process.returncode == -9
        count("kills")
        step = next(iter(rows_of(folder / "state")), ("nothing", None))[0]
        seen[step] += 1
        again = checked(command.run(*one.submit()))
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
def test_killed_while_the_results_are_written(
    command: Command, sandbox: Sandbox, files: Files
) -> None:
    """A line that was cut off is written anew; each is there once."""
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    files.write(*MIXED)
    files.results.touch()
    process = command.start(
        *files.submit(), fault=IoFault(mode="kill", below=str(files.results), at=3)
    )
    process.communicate(timeout=30)
    assert process.returncode == -9
    count("kills")
    whole = files.results.read_bytes()
    for cut in (len(whole) // 2, len(whole) - 1):
        files.results.write_bytes(whole[:cut])
        assert checked(command.run(*files.submit())).code == 1
        assert files.by_id().keys() == {one["custom_id"] for one in MIXED}
    assert len(sandbox.batches) == 1


def test_a_lost_state(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """Results that nobody can vouch for are refused; without them there is another batch."""
    assert run(*files.submit()).code == 0
    state = files.folder / "state"
    state.rename(files.folder / "away")
    sandbox.requests.clear()
    before = files.results.read_bytes()
    assert run(*files.submit()).code == 2
    assert not sandbox.requests
    assert files.results.read_bytes() == before
    files.results.unlink()
    assert checked(run(*files.submit())).code == 0
    assert len(sandbox.batches) == 2


def test_a_damaged_state(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """The batch that it has lost is looked for, and found; one that isn't there is not sent."""
    files.write(line("a", **SLOW), line("b"))
    assert run(*files.submit("--detach")).code == 0
    state = files.folder / "state" / "state.sqlite3"
    state.write_bytes(b"damaged" * 1000)
    age(sandbox)
    result = checked(run(*files.submit()))
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    assert of(result, "submitted")[0]["reattached"]
    assert len(sandbox.batch_posts) == 1
    other = run(*files.submit("--job-key", "another", "--max-wait-seconds", "2"))
    assert (other.code, len(sandbox.batch_posts)) == (2, 1), "the results are another run's"
    files.results.unlink()
    lost = checked(run(*files.submit("--job-key", "another", "--max-wait-seconds", "2")))
    assert (lost.code, len(sandbox.batch_posts)) == (6, 1)


def test_a_job_key_names_a_run(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """Another key is another batch of the same file; the key stands for the id elsewhere."""
    files.write(line("a", **SLOW))
    assert run(*files.submit("--detach", "--job-key", "one")).code == 0
    assert run(*files.submit("--detach", "--job-key", "one")).code == 0
    other = Files(files.folder)
    other.results = files.folder / "other.jsonl"
    assert run(*other.submit("--detach", "--job-key", "two")).code == 0
    first, second = sandbox.batches
    marks = {post.body["metadata"]["oaibg"] for post in sandbox.batch_posts}
    assert len(marks) == len(sandbox.batch_posts) == 2
    for key, batch_id in (("one", first), ("two", second)):
        shown = run("show", "--job-key", key)
        assert (shown.code, shown.id) == (3, batch_id)
    assert run("show").id == second
    listed = {one["response_id"]: one["job_key"] for one in run("show", "--list").lines[:-1]}
    assert listed == {first: "one", second: "two"}
    cancelled = run("cancel", "--job-key", "one")
    assert (cancelled.code, cancelled.id) == (0, first)
    monitored = run("monitor", "--job-key", "one", "--poll-seconds", "0.02")
    assert (monitored.code, monitored.last["status"]) == (4, "cancelled")


@pytest.mark.process
def test_two_at_once(command: Command, sandbox: Sandbox, files: Files) -> None:
    """The second one is told so, and sends nothing; one batch."""
    files.write(line("a", **SLOW))
    process, _ = begun(command, files)
    second = checked_error(command.run(*files.submit()))
    assert (second.code, second.last["code"]) == (7, "job_key_busy")
    assert second.last["next"] is not None
    age(sandbox)
    assert command.end(process).code == 0
    assert (len(sandbox.file_posts), len(sandbox.batch_posts)) == (1, 1)


@pytest.mark.process
def test_racers(command: Command, sandbox: Sandbox, files: Files) -> None:
    """Several start at the same moment: one batch."""
    racers = [command.start(*files.submit()) for _ in range(5)]
    results = [command.end(racer) for racer in racers]
    assert {result.code for result in results} <= {0, 7}
    assert 0 in {result.code for result in results}
    assert (len(sandbox.batch_posts), set(files.by_id())) == (1, {"a", "b"})


def checked_error(result: Result) -> Result:
    """The same; it ended before the run began."""
    schema().validate(result.last)
    assert result.last["event"] == "error"
    return result


# --- monitor, cancel and show of a batch ---------------------------------------------------


def submitted(run: Callable[..., Result], files: Files, sandbox: Sandbox, **body: Any) -> str:
    """The id of a batch that was submitted, and left alone."""
    files.write(line("a", **(body or SLOW)), line("b"))
    assert run(*files.submit("--detach")).code == 0
    return batch_of(sandbox)


def test_a_monitor_fetches_results(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """`monitor batch_… --results-file` gives what the submit would have; again, and nothing new."""
    files.write(*MIXED)
    assert run(*files.submit("--detach")).code == 0
    options = ("--poll-seconds", "0.02", "--results-file", str(files.results))
    argv = ("monitor", batch_of(sandbox), *options)
    result = checked(run(*argv))
    counts = {"completed": 3, "incomplete": 1, "failed": 1, "refused": 2}
    assert (result.code, result.last["counts"], result.last["next"]) == (1, counts, None)
    assert files.by_id().keys() == per_line(result).keys() == {one["custom_id"] for one in MIXED}
    before = files.results.read_bytes()
    again = checked(run(*argv))
    assert (again.code, again.last["counts"], per_line(again)) == (1, counts, {})
    assert (files.results.read_bytes(), of(again, "warning")) == (before, [])
    # The run itself finds them there.
    assert run(*files.submit()).events == ["summary"]


def test_a_monitor_that_waits(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """3 with the same command as `next`."""
    batch_id = submitted(run, files, sandbox)
    argv = ("monitor", batch_id, "--results-file", str(files.results), "--max-wait-seconds", "0.2")
    result = checked(run(*argv))
    assert (result.code, result.last["next"]) == (3, ["oaibg", *argv])
    age(sandbox)
    done = checked(run(*argv))
    assert (done.code, done.last["counts"]) == (0, {"completed": 2})


def test_a_monitor_of_what_ended_badly(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """4; each job is counted once, and what was done is there."""
    sandbox.batch_window = 0.2
    batch_id = submitted(run, files, sandbox, **STUCK)
    out = str(files.results)
    result = checked(run("monitor", batch_id, "--poll-seconds", "0.02", "--results-file", out))
    assert (result.code, result.last["counts"]) == (4, {"completed": 1, "expired": 1})


def test_a_monitor_misses_what_is_missing(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """The batch says how many jobs it had: 1 with `next`."""
    batch_id = submitted(run, files, sandbox)
    age(sandbox)
    sandbox.script(Fault(on="file_content", kind="raw", body=""))
    result = checked(run("monitor", batch_id, "--results-file", str(files.results)))
    assert (result.code, result.last["counts"]) == (1, {"missing": 2})
    assert checked(run(*rest(result.last["next"]))).code == 0


def test_a_monitor_without_a_results_file(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """Follows the batch to its end, and tells how it was by its code."""
    good = submitted(run, files, sandbox)
    age(sandbox)
    result = run("monitor", good)
    assert (result.code, result.events, result.last["ok"]) == (0, ["poll", "final"], True)
    files.jobs = files.folder / "other.jsonl"
    files.results = files.folder / "other"
    files.write(line("c"), line("hot", **HOT))
    run(*files.submit())
    bad = list(sandbox.batches)[1]
    result = run("monitor", bad)
    assert (result.code, result.last["status"], result.last["ok"]) == (4, "completed", False)


def test_batches_and_responses_together(
    run: Callable[..., Result], sandbox: Sandbox, files: Files
) -> None:
    """Each id is asked for where it belongs; the summary is over both."""
    batch_id = submitted(run, files, sandbox)
    age(sandbox)
    response_id = run("submit", "--prompt", "x", "--detach").id
    result = run("monitor", batch_id, response_id, "--poll-seconds", "0.02")
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    finals = {one["response_id"] for one in of(result, "final")}
    assert finals == {batch_id, response_id}
    both = run("cancel", batch_id, response_id)
    assert (both.code, both.last["counts"]) == (4, {"completed": 2})
    unknown = run("monitor", "batch_none", batch_id, "--max-wait-seconds", "0.3")
    assert unknown.code == 3


def test_a_batch_is_cancelled(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """0 once it is; what was done comes with the run, which is 4."""
    batch_id = submitted(run, files, sandbox)
    age(sandbox, 1)
    result = run("cancel", batch_id)
    assert (result.code, result.last["status"], result.last["cancelled"]) == (0, "cancelled", True)
    assert run("cancel", batch_id).code == 0, "the API's 409 does not matter"
    run_ = checked(run(*files.submit()))
    assert (run_.code, run_.last["counts"]) == (4, {"completed": 1, "cancelled": 1})
    assert files.by_id()["a"]["error"]["code"] == "batch_cancelled"


def test_a_cancel_that_takes_long(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, instant_sleep: None
) -> None:
    """3 with `next`, a monitor."""
    batch_id = submitted(run, files, sandbox)
    batch = sandbox.batches[batch_id]
    batch.seconds = LONG
    batch.cancelled_after = 1e6
    batch.created = time.time() - 1e6
    result = run("cancel", batch_id)
    assert (result.code, result.last["status"]) == (3, "cancelling")
    assert rest(result.last["next"]) == ["monitor", batch_id]
    assert run("monitor", batch_id, "--max-wait-seconds", "0.2").last["status"] == "cancelling"


@pytest.mark.parametrize("kind", ["completed", "expired"])
def test_a_cancel_that_comes_too_late(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, kind: str
) -> None:
    """4 with the true status: the API answers 409."""
    sandbox.batch_window = 86400 if kind == "completed" else 10
    batch_id = submitted(run, files, sandbox)
    age(sandbox)
    result = run("cancel", batch_id)
    assert (result.code, result.last["status"], result.last["cancelled"]) == (4, kind, False)
    posts = [one for one in sandbox.requests if one.path.endswith("/cancel")]
    assert [one.status for one in posts] == [409]


def test_a_batch_is_shown(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """Its code tells its state; after the API has let go of it, the local copy answers."""
    batch_id = submitted(run, files, sandbox)
    running = run("show", batch_id)
    assert (running.code, running.last["response"]["object"]) == (3, "batch")
    assert rest(running.last["next"]) == ["monitor", batch_id]
    assert running.last["response"]["request_counts"]["total"] in (0, 2)
    age(sandbox)
    ended = run("show", batch_id)
    assert (ended.code, ended.last["status"], ended.last["source"]) == (0, "completed", "api")
    sandbox.batches.clear()
    kept = run("show", batch_id)
    assert (kept.code, kept.last["source"]) == (0, "local")
    assert kept.last["response"] == ended.last["response"]
    assert run("show", "batch_none").code == 5


# --- what is left behind -------------------------------------------------------------------


@pytest.mark.process
def test_nothing_secret_is_left(command: Command, sandbox: Sandbox, files: Files) -> None:
    """No key and no prompt in the state, in a line, or in a temporary file."""
    temporary = files.folder / "tmp"
    temporary.mkdir()
    command.environment["TMPDIR"] = str(temporary)
    secret = "PROMPT-that-is-nobodys-business"
    files.write(
        *(line(key, input=secret, metadata={"sandbox_text": "fine"}) for key in "ab"),
        line("hot", input=secret, **HOT),
    )
    result = checked(command.run(*files.submit("--instructions", f"{secret}!"), fresh=True))
    assert result.code == 1
    state = files.folder / "state"
    held = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    for word in (secret, "sk-test", "PROMPT"):
        assert word.encode() not in held
        assert word not in result.out.decode() + result.err
    assert list(temporary.iterdir()) == []


def test_no_room_for_temporary_files(
    run: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the upload: 2, nothing sent; for the download: 9, mended by the same command."""

    class Full(io.BytesIO):
        def write(self, _data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", Full)
        before = checked(run(*files.submit()))
        assert (before.code, of(before, "error")[0]["outcome"]) == (2, "not_created")
        assert "TMPDIR" in of(before, "error")[0]["hint"]
        assert not sandbox.requests
    assert run(*files.submit("--detach")).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", Full)
        after = checked(run(*files.submit()))
        assert (after.code, after.last["counts"]) == (9, {"missing": 2})
        assert [one["code"] for one in of(after, "warning")] == ["write_failed", "no_room"]
        assert after.last["next"] is not None
    assert checked(run(*files.submit())).code == 0
    assert len(sandbox.batches) == 1
