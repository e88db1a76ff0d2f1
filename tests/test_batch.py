"""A jobs file through the Batch API: one upload, one batch, each result once, over real HTTP."""

from __future__ import annotations

import errno
import json
import re
import signal
import tempfile
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from openai import OpenAI
from openai.types.responses import Response

from forkserver import IoFault
from harness import FakeClient, FakeClock, await_line, collect, fake_tools, names, wait_until
from ledger import audit, count, rows_of, tally
from oaibg.batches import submit_batch
from oaibg.job import Job, Wait
from oaibg.jobsfile import JobsFile
from oaibg.request import Settings
from oaibg.runs import Plan
from oaibg.sandbox import Fault, Personality
from oaibg.schema import event_schema
from oaibg.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    with OpenAI(
        base_url=sandbox.base_url, api_key="k", _strict_response_validation=True
    ) as client:
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


def test_it_goes_in_pieces(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """Hundreds of jobs, and results of megabytes."""
    big = {"metadata": {"sandbox_bytes": "5000000"}}
    files.write(*(line(f"r{number}") for number in range(300)), line("big", **big))
    result = checked(run(*files.submit()))
    assert (result.code, result.last["counts"]) == (0, {"completed": 301})
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


def test_too_many_jobs(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """50,000 and one."""
    body = '"method":"POST","url":"/v1/responses","body":{"input":"x"}}\n'
    files.jobs.write_text("".join(f'{{"custom_id":"{n}",{body}' for n in range(50_001)))
    refused(run(*files.submit()), sandbox, "50,001", "50,000", "Split")
    assert not files.results.exists()


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
    run(*ways[0], "--max-wait-seconds", "0.3")
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


def test_the_wait_budget(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """3 with `next`, which has the same budget; the batch goes on."""
    files.write(line("a", **SLOW), line("b"))
    argv = files.submit("--max-wait-seconds", "0.3")
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


@pytest.mark.parametrize("on", ["file_create", "batch_create", "file_content"])
def test_the_wait_budget_bounds_all_calls(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, on: str
) -> None:
    """A server that hangs does not hold a run up: an upload, a create, a download."""
    sandbox.script(Fault(on=on, kind="hang_before"))
    began = time.monotonic()
    result = checked(run(*files.submit("--max-wait-seconds", "0.6")))
    # A create's reply is waited for until 5 s after the deadline.
    assert time.monotonic() - began < (7 if on == "batch_create" else 2.5)
    code = {"file_create": 7, "batch_create": 6, "file_content": 3}[on]
    assert result.code == code
    if code != 6:
        assert result.last["next"] is not None
        assert checked(run(*files.submit())).code == 0
        assert len(sandbox.batches) == 1
