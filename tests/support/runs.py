"""Runs over many jobs: jobs files and results files, and fixtures that run and check them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from openai.types.responses import Response

import oaibg.api.client  # noqa: F401 - importing it later would take most of some waits
from harness import Result, await_line
from ledger import tally
from oaibg.sandbox.job.job import new_job
from schemas import checked

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness import Command, Running
    from oaibg.sandbox import Sandbox

FAST = ("--poll-seconds", "0.05")
WINDOW = ("--completion-window", "24h")
"""The option that makes a run a batch."""

ENDLESS: dict[str, Any] = {"sandbox_seconds": "600"}
"""Metadata of a job that does not end within a test."""
SLOW = {"metadata": ENDLESS}
"""Keys of a body whose batch does not end until `age` makes it older."""
STUCK = {"metadata": {"sandbox_outcome": "stuck"}}
HOT = {"temperature": 9}
"""Keys of a body that the API refuses."""

PROMPT = 4.0
"""Maximum seconds from a signal to the end of a process on a busy machine.

A process that waited for a reply that does not come would take 5 s or more."""


class Files:
    """A jobs file and its results file, for a run in background mode."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs, self.results = folder / "jobs.jsonl", folder / "results.jsonl"

    def write(self, *lines: dict[str, Any] | str) -> None:
        """Write the jobs file."""
        texts = [one if isinstance(one, str) else json.dumps(one) for one in lines]
        self.jobs.write_text("".join(f"{text}\n" for text in texts))

    def add(self, number: int, first: int = 0, **metadata: Any) -> None:
        """Append jobs to the jobs file, with the custom_ids `job 0`, `job 1` and so on."""
        with self.jobs.open("a") as file:
            for one in range(first, first + number):
                file.write(json.dumps(line(f"job {one}", metadata=metadata)) + "\n")

    def argv(self, *options: str) -> tuple[str, ...]:
        """Return the arguments of the command that runs the jobs, with the events of each job."""
        files = ("--jobs-file", str(self.jobs), "--results-file", str(self.results))
        events = () if "--events" in options else ("--events", "changes")
        return ("submit", *files, *FAST, *events, *options)

    def by_id(self) -> dict[str, dict[str, Any]]:
        """Check the format of each result, and return them by custom_id."""
        text = self.results.read_bytes()
        assert text.endswith(b"\n") or not text
        lines = [json.loads(raw) for raw in text.split(b"\n")[:-1]]
        for one in lines:
            check_result(one)
        found = {one["custom_id"]: one for one in lines}
        assert len(found) == len(lines) == len({one["id"] for one in lines})
        return found

    def read(self) -> dict[str, dict[str, Any]]:
        """Check the results of a run in background mode, and return them by custom_id."""
        found = self.by_id()
        assert all(one["id"].startswith("batch_req_") for one in found.values())
        assert all(one["error"] is None for one in found.values())
        return found

    def check(self, sandbox: Sandbox, number: int) -> None:
        """Check that each job was submitted once, and that its result is the server's."""
        bodies = [post.raw_body for post in sandbox.posts]
        assert len(bodies) == len(set(bodies)) == number
        results = self.read()
        assert len(results) == number
        lines = [json.loads(text) for text in self.jobs.read_text().splitlines()]
        inputs = {one["custom_id"]: one["body"]["input"] for one in lines}
        for custom_id, one in results.items():
            body = one["response"]["body"]
            job = sandbox.jobs[body["id"]]
            assert job.request["input"] == inputs[custom_id]
            assert body == sandbox._state.show(job, job.status(time.time()))


class BatchFiles(Files):
    """A jobs file and its results file, for a run as a batch."""

    def argv(self, *options: str) -> tuple[str, ...]:
        """Return the arguments of the command that runs the jobs."""
        return super().argv(*WINDOW, *options)

    def by_id(self) -> dict[str, dict[str, Any]]:
        """Check each result, with the request ID that the API sets, and return them."""
        found = super().by_id()
        responses = [one["response"] for one in found.values() if one["response"] is not None]
        assert all(isinstance(one["request_id"], str) for one in responses)
        return found


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """The files of a run in background mode; the jobs file does not exist yet."""
    folder = tmp_path / "work"
    folder.mkdir()
    return Files(folder)


@pytest.fixture
def batch(tmp_path: Path, sandbox: Sandbox, request: pytest.FixtureRequest) -> Iterator[BatchFiles]:
    """The files of a batch with the jobs a and b; the requests are counted at the end."""
    # A run does not close its jobs file: its process ends. Here it is the process of the tests.
    unclosed = "ignore::pytest.PytestUnraisableExceptionWarning"
    request.node.add_marker(pytest.mark.filterwarnings(unclosed))
    files = BatchFiles(tmp_path)
    files.write(line("a"), line("b"))
    yield files
    tally(sandbox)


@pytest.fixture
def many(run: Callable[..., Result]) -> Callable[..., Result]:
    """Run a command over many jobs in this process, and check its lines."""
    return lambda *argv: checked(run(*argv))


@pytest.fixture
def faulty(command: Command) -> Command:
    """The command, on systems where its processes can be given an I/O fault."""
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    return command


@pytest.fixture
def start(command: Command, tmp_path: Path) -> Callable[..., Callable[..., Result]]:
    """Start a process that writes its lines to a file; nothing would read a pipe meanwhile."""

    def start_it(*argv: str) -> Callable[..., Result]:
        path = tmp_path / "lines"
        with path.open("wb") as out:
            process = command.start(*argv, stdout=out)

        def end(number: signal.Signals | None = None) -> Result:
            if number is not None:
                process.send_signal(number)
            code = process.wait(60)
            _, err = process.communicate()
            return Result(code, path.read_bytes(), (err or b"").decode())

        return end

    return start_it


def line(custom_id: object, **body: Any) -> dict[str, Any]:
    """Return a line of a jobs file; its body has an input, and the keys that are given."""
    body = {"input": f"input of {custom_id}"} | body
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/responses", "body": body}


MIXED = [
    line("plain"),
    line("own", model="gpt-5.2", reasoning={"effort": "low"}),
    line("incomplete", metadata={"sandbox_outcome": "incomplete"}),
    line("failed", metadata={"sandbox_outcome": "failed"}),
    line("hot", **HOT),
    line("unknown", previous_response_id="resp_none"),
    line("ü 漢", metadata={"sandbox_text": "\u2028\u2029\x85 \\n \U0001f600 \u202e"}),
]
"""Jobs that end in different ways."""


def as_bytes(*lines: object) -> bytes:
    """Return the lines of a jobs file; bytes are taken as they are."""
    return b"".join(
        one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in lines
    )


def check_result(line: dict[str, Any]) -> None:
    """Check a result key by key, and its response as strictly as the SDK can."""
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
    assert isinstance(response["request_id"], str | None)
    assert isinstance(response["body"], dict)
    if response["status_code"] == 200:
        if response["body"]["status"] != "expired":  # the SDK's type lacks this status
            parsed = Response.model_validate(response["body"], strict=True)
            assert parsed.status in ("completed", "failed", "incomplete", "cancelled")
    else:
        assert list(response["body"]) == ["error"]
        assert list(response["body"]["error"]) == ["message", "type", "param", "code"]


def lines_of(files: Files) -> dict[str, list[dict[str, Any]]]:
    """Check the format of each result, and return the lines of each job by custom_id."""
    found: dict[str, list[dict[str, Any]]] = {}
    for raw in files.results.read_text().splitlines():
        one = json.loads(raw)
        check_result(one)
        found.setdefault(one["custom_id"], []).append(one)
    return found


def of(result: Result, event: str) -> list[dict[str, Any]]:
    """Return the lines of an event."""
    return [line for line in result.lines if line["event"] == event]


def finals(result: Result) -> dict[str, str]:
    """Return the status in each job's `final`, by custom_id."""
    return {line["custom_id"]: line["status"] for line in of(result, "final")}


def per_job(result: Result) -> dict[str, tuple[str, str | None]]:
    """Return the one line of each job by custom_id: its event, and its status or code."""
    lines = [line for line in result.lines if line["custom_id"] is not None]
    assert len({line["custom_id"] for line in lines}) == len(lines)
    return {
        line["custom_id"]: (line["event"], line["status"] if "status" in line else line["code"])
        for line in lines
    }


def rerun(argv: list[str]) -> list[str]:
    """Return the command in `next` without the program's name."""
    return argv[argv.index("submit") if "submit" in argv else argv.index("monitor") :]


def refused(result: Result, sandbox: Sandbox, *words: str) -> None:
    """Check that a run ended with a usage error, with these words, and sent nothing."""
    assert (result.code, result.last["event"]) == (2, "error")
    assert result.last["outcome"] in ("not_created", None)
    assert not sandbox.requests
    for word in words:
        assert word in f"{result.last['message']} {result.last['hint']}"


def new_jobs(sandbox: Sandbox, number: int, seconds: float = 600, outcome: str = "") -> list[str]:
    """Add jobs to the sandbox as if someone had submitted them; return their IDs."""
    metadata = {"sandbox_outcome": outcome} if outcome else {}
    body = {"model": "m", "input": "x", "background": True, "metadata": metadata}
    jobs = [new_job(body, time.time(), seconds, sandbox._state.personality) for _ in range(number)]
    sandbox.jobs.update({job.id: job for job in jobs})
    return [job.id for job in jobs]


def finish(sandbox: Sandbox) -> None:
    """End all jobs that are running at the sandbox."""
    for job in sandbox.jobs.values():
        if job.ended > time.time():
            job.seconds = 0.01


def age(sandbox: Sandbox, seconds: float = 601) -> None:
    """Set the age of all batches."""
    for batch in sandbox.batches.values():
        batch.created = time.time() - seconds


def batch_of(sandbox: Sandbox) -> str:
    """Return the ID of the only batch."""
    (batch_id,) = sandbox.batches
    return batch_id


def start_batch(command: Command, batch: BatchFiles, *options: str) -> tuple[Running, str]:
    """Start a run; return its process and the ID of the batch that it has submitted."""
    process = command.start(*batch.argv(*options))
    submitted, _ = await_line(process, "submitted")
    return process, str(submitted["response_id"])
