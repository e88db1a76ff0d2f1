"""`oaibg submit --jobs-file` in background mode, whole runs over real HTTP."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from forkserver import IoFault
from harness import Result, parsed, wait_until
from ledger import audit, count, tally
from oaibg.contract.errors import OaibgError
from oaibg.request.body import Settings, canonical_json
from oaibg.request.jobs_file import JobsFile
from oaibg.sandbox import Fault
from oaibg.state.database import FILE
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command
    from oaibg.sandbox import LoggedRequest, Sandbox

FAST = ("--poll-seconds", "0.03")
LONG: dict[str, Any] = {"sandbox_seconds": "600"}
FOR_EVER = 1 << 30


def line(custom_id: object, **more: Any) -> dict[str, Any]:
    """A line of a jobs file; `body` keys may be given, or a whole `body`."""
    body = {"input": f"input of {custom_id}"} | more
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/responses", "body": body}


class Work:
    """A jobs file and its results file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "jobs.jsonl"
        self.results = folder / "results.jsonl"

    def write(self, *lines: dict[str, Any]) -> None:
        """Write the jobs file."""
        self.path.write_text("".join(json.dumps(one) + "\n" for one in lines))

    def jobs(self, number: int, first: int = 0, **metadata: Any) -> None:
        """Append jobs to the file, named `job 0` and so on."""
        with self.path.open("a") as file:
            for one in range(first, first + number):
                file.write(json.dumps(line(f"job {one}", metadata=metadata)) + "\n")

    def argv(self, *options: str) -> tuple[str, ...]:
        """The command."""
        files = ("--jobs-file", str(self.path), "--results-file", str(self.results))
        return ("submit", *files, *FAST, *options)

    def read(self) -> dict[str, dict[str, Any]]:
        """The results by their custom_ids; each has one, with exactly the documented keys."""
        text = self.results.read_bytes()
        assert text.endswith(b"\n") or not text
        found = [json.loads(one) for one in text.splitlines()]
        for one in found:
            assert list(one) == ["id", "custom_id", "response", "error"]
            assert list(one["response"]) == ["status_code", "request_id", "body"]
            assert one["error"] is None
            assert one["id"].startswith("batch_req_")
        by_name = {one["custom_id"]: one for one in found}
        assert len(by_name) == len(found) == len({one["id"] for one in found})
        return by_name

    def check(self, sandbox: Sandbox, number: int) -> None:
        """Each job was POSTed once, and its result is what the server has."""
        bodies = [post.raw_body for post in sandbox.posts]
        assert len(bodies) == len(set(bodies)) == number
        results = self.read()
        assert len(results) == number
        asked = {json.loads(one)["custom_id"]: json.loads(one)["body"]["input"]
                 for one in self.path.read_text().splitlines()}  # fmt: skip
        for name, one in results.items():
            body = one["response"]["body"]
            job = sandbox.jobs[body["id"]]
            assert job.request["input"] == asked[name]
            assert body == sandbox._state.show(job, job.status(time.time()))


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """A jobs file that is still empty."""
    folder = tmp_path / "work"
    folder.mkdir()
    return Work(folder)


@pytest.fixture
def many(run: Callable[..., Result]) -> Callable[..., Result]:
    """Run a command over several jobs in this process; all of its lines are checked."""
    return lambda *argv: checked(run(*argv))


def finals(result: Result) -> dict[str, str]:
    """What each job ended as, by its custom_id."""
    return {one["custom_id"]: one["status"] for one in result.lines if one["event"] == "final"}


def test_a_whole_run(many: Callable[..., Result], sandbox: Sandbox, work: Work) -> None:
    """Each job is submitted, followed and written; the summary counts them."""
    work.jobs(5, sandbox_seconds="0.1")
    result = many(*work.argv())
    assert (result.code, result.last["counts"], result.last["next"]) == (0, {"completed": 5}, None)
    assert finals(result) == {f"job {one}": "completed" for one in range(5)}
    work.check(sandbox, 5)
    for name, one in work.read().items():
        assert one["response"]["status_code"] == 200
        assert one["response"]["request_id"].startswith("req_")
        told = [each["event"] for each in result.lines if each["custom_id"] == name]
        assert told[:2] == ["submit_start", "submitted"]
        assert told[-1] == "final"
    starts = [one for one in result.lines if one["event"] == "submit_start"]
    assert {one["job_key"] for one in starts} == {str(work.path)}


def test_every_way_to_end(many: Callable[..., Result], sandbox: Sandbox, work: Work) -> None:
    """Failed, incomplete, cancelled and refused jobs have a line each, and abort no other."""
    outcomes = ("completed", "failed", "incomplete", "cancelled", "expired")
    work.write(
        *(line(one, metadata={"sandbox_outcome": one}) for one in outcomes),
        line("bad", temperature="hot", metadata={"sandbox_outcome": "nonsense"}),
    )
    result = many(*work.argv())
    assert result.last["counts"] == dict.fromkeys([*outcomes, "refused"], 1)
    assert (result.code, result.last["next"]) == (1, None)
    results = work.read()
    assert {one: results[one]["response"]["body"]["status"] for one in outcomes} == {
        one: one for one in outcomes
    }
    refused = results["bad"]["response"]
    assert (refused["status_code"], list(refused["body"])) == (400, ["error"])
    assert list(refused["body"]["error"]) == ["message", "type", "param", "code"]
    assert refused["request_id"].startswith("req_")
    (error,) = [one for one in result.lines if one["event"] == "error"]
    assert (error["custom_id"], error["outcome"], error["exit_code"]) == (
        "bad",
        "not_created",
        None,
    )
    rerun = many(*work.argv())
    assert (rerun.code, rerun.last["counts"]) == (1, result.last["counts"])
    assert (len(sandbox.posts), rerun.events) == (6, ["summary"])


# What is no jobs file


def as_bytes(*lines: object) -> bytes:
    """Lines as they stand in a file."""
    return b"".join(
        one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in lines
    )


GOOD = line("good")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (as_bytes(GOOD, b"{nonsense\n"), "line 2: column 2: not JSON"),
        (as_bytes(GOOD, b'{"a": NaN}\n'), "line 2: NaN is not JSON"),
        (as_bytes(b"\n\n", [1]), "line 3: expected an object, found an array"),
        (as_bytes({key: GOOD[key] for key in GOOD if key != "custom_id"}), "line 1: no custom_id"),
        (as_bytes({key: GOOD[key] for key in GOOD if key != "method"}), "line 1: no method"),
        (as_bytes({key: GOOD[key] for key in GOOD if key != "url"}), "line 1: no url"),
        (as_bytes({key: GOOD[key] for key in GOOD if key != "body"}), "line 1: no body"),
        (as_bytes(GOOD | {"extra": 1}), "line 1: unknown key 'extra'"),
        (as_bytes(GOOD | {"method": "GET"}), "line 1: method must be"),
        (as_bytes(GOOD | {"url": "/v1/chat/completions"}), "line 1: url must be"),
        (as_bytes(GOOD | {"body": "x"}), "line 1: body: expected an object"),
        (as_bytes(GOOD, b'{"custom_id":"a","custom_id":"b"}\n'), "line 2: the key 'custom_id'"),
        (as_bytes(line(1)), "line 1: custom_id must be"),
        (as_bytes(line("")), "line 1: custom_id must be"),
        (as_bytes(line("x" * 513)), "line 1: custom_id must be"),
        (as_bytes(line("a\nb")), "line 1: custom_id must be"),
        (as_bytes(line("\udc80")), "line 1: custom_id must be"),
        (as_bytes(GOOD, b"\n", line("x"), GOOD), "line 4: the custom_id 'good' stands in line 1"),
        (as_bytes(line("a", input="")), "line 1: body: no input"),
        (as_bytes(line("a", input=[])), "line 1: body: no input"),
        (as_bytes(line("a", input=None)), "line 1: body: no input"),
        (as_bytes(GOOD | {"body": {}}), "line 1: body: no input"),
        (as_bytes(line("a", background=False)), "line 1: body: `background`"),
        (as_bytes(line("a", stream=True)), "line 1: body: `stream`"),
        (as_bytes(line("a", stream=False)), "line 1: body: `stream`"),
        (as_bytes(line("a", user="\udc80")), "line 1: The request can't be sent"),
        (as_bytes(GOOD, b"\xff\xfe\n"), "line 2: byte 0: not UTF-8"),
        (json.dumps(GOOD).encode("utf-16"), "not UTF-8"),
        (b"", "no jobs in it"),
        (b"\n \r\n\n", "no jobs in it"),
        (b"\xef\xbb\xbf\n", "no jobs in it"),
        (as_bytes(GOOD)[:-20], "line 1: column"),
    ],
)  # fmt: skip
def test_a_bad_jobs_file(
    run: Callable[..., Result], sandbox: Sandbox, work: Work, content: bytes, told: str
) -> None:
    """A usage error with the line's number before anything is sent or written."""
    work.path.write_bytes(content)
    for options in ((), ("--dry-run",)):
        result = run(*work.argv(*options))
        assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
        assert result.last["message"].startswith(f"{work.path}: ")
        assert told in result.last["message"]
        assert result.last["outcome"] == "not_created"
    assert not sandbox.requests
    assert not work.results.exists()


def test_bad_lines_are_told_together(run: Callable[..., Result], work: Work) -> None:
    """Each by its number, up to five."""
    bad = [{"custom_id": f"b{one}"} for one in range(9)]
    work.write(line("a"), *bad[:3], line("b"), bad[3])
    message = run(*work.argv()).last["message"]
    assert [f"line {one}: no method" in message for one in (2, 3, 4, 6)] == [True] * 4
    work.write(*bad)
    message = run(*work.argv()).last["message"]
    assert message.count("line ") == 5
    assert message.endswith("; and 4 more.")


def test_what_is_no_file(run: Callable[..., Result], sandbox: Sandbox, work: Work) -> None:
    """stdin, a folder, a pipe, and what is not there: usage errors, at once."""
    pipe = work.folder / "pipe"
    os.mkfifo(pipe)
    for path in ("-", "", str(work.folder), str(pipe), str(work.folder / "none"), "a\0b"):
        result = run("submit", "--jobs-file", path, "--results-file", str(work.results))
        assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
    assert not sandbox.requests


@pytest.mark.parametrize(
    "options",
    [
        ("--prompt", "x"),
        ("--input-json-file", "x"),
        ("--system-prompt", "x"),
        ("--output-json-file", "x"),
        ("--output-text-file", "x"),
        ("--detach",),
        ("--max-in-flight", "0"),
        ("--results-file", "/no/such/folder/f"),
        ("--results-file", "-"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_fit(
    run: Callable[..., Result], sandbox: Sandbox, work: Work, options: tuple[str, ...]
) -> None:
    """Exit 2, nothing sent."""
    work.jobs(1)
    result = run(*work.argv(*options))
    assert (result.code, result.events, len(sandbox.requests)) == (2, ["error"], 0)


def test_a_results_file_is_needed(run: Callable[..., Result], work: Work) -> None:
    """But not for a dry run; and either of its options goes with a jobs file alone."""
    work.jobs(1)
    assert run("submit", "--jobs-file", str(work.path)).code == 2
    assert run("submit", "--jobs-file", str(work.path), "--dry-run").code == 0
    assert run("submit", "--prompt", "x", "--results-file", str(work.results)).code == 2
    assert run("submit", "--prompt", "x", "--max-in-flight", "2").code == 2


def test_line_ends_and_marks(many: Callable[..., Result], sandbox: Sandbox, work: Work) -> None:
    """A BOM, CRLF, blank lines, and a last line without an end are all fine."""
    content = as_bytes(line("a"), b"\n", line("\u00e9 \u4e2d"), b" \t\n")
    content = b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n") + as_bytes(line("c"))[:-1]
    work.path.write_bytes(content)
    assert many(*work.argv()).code == 0
    assert set(work.read()) == {"a", "\u00e9 \u4e2d", "c"}


# Requests


def test_settings_fill_what_bodies_lack(
    many: Callable[..., Result], work: Work, sandbox: Sandbox
) -> None:
    """Also inside of text, reasoning and metadata; nulls stay, and the body file comes last."""
    schema = {"type": "object", "properties": {"a": {"default": None, "enum": [None, 1]}}}
    form = {"type": "json_schema", "name": "n", "schema": schema}
    work.write(
        line("plain"),
        line("own", model="m", text={"verbosity": "high"}, reasoning={"summary": "auto"}),
        line("null", reasoning=None, text=None, metadata=None, instructions=None, model=None),
        line("schema", text={"format": form}, metadata={"a": "own"}, tools=[]),
        line("forced", top_p=0.5, background=True, max_output_tokens=7),
    )
    patch = work.folder / "patch.json"
    patch.write_text('{"top_p": 0.1, "reasoning": {"effort": "xhigh"}, "max_output_tokens": null}')
    result = many(
        *("submit", "--jobs-file", str(work.path), "--dry-run", "--body-json-file", str(patch)),
        *("--metadata", "a=b", "--metadata", "c=d", "--verbosity", "low", "--model", "general"),
        *("--instructions", "Be brief.", "--max-output-tokens", "9"),
    )
    bodies = {one["custom_id"]: one["body"] for one in result.lines[:-1]}
    usual = {
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "reasoning": {"effort": "xhigh"},
        "metadata": {"a": "b", "c": "d"},
        "model": "general",
        "instructions": "Be brief.",
        "background": True,
        "top_p": 0.1,
    }
    texts = {name: {"input": f"input of {name}"} for name in bodies}
    assert bodies == {
        "plain": usual | texts["plain"],
        "own": usual | texts["own"] | {
            "model": "m",
            "text": {"format": {"type": "text"}, "verbosity": "high"},
            "reasoning": {"effort": "xhigh", "summary": "auto"},
        },
        "null": usual | texts["null"] | {
            "text": None, "metadata": None, "instructions": None, "model": None,
        },
        "schema": usual | texts["schema"] | {
            "text": {"format": form, "verbosity": "low"},
            "metadata": {"a": "own", "c": "d"},
            "tools": [],
        },
        "forced": usual | texts["forced"],
    }  # fmt: skip
    assert not sandbox.requests


def test_a_dry_run_is_what_is_sent(
    many: Callable[..., Result], sandbox: Sandbox, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line a job, no file, no request, no key; the bodies on the wire are those to the letter."""
    work.write(
        line("a", text={"verbosity": "low"}, input=[{"role": "user", "content": "\u00e9\u2028"}]),
        line("b", temperature=1.0, metadata={"x": "y"}),
        line("c", reasoning={"effort": "low"}, model="other"),
    )
    options = ("--metadata", "k=v", "--completion-window", "2h", "--verbosity", "omit")
    key = os.environ["OPENAI_API_KEY"]
    monkeypatch.delenv("OPENAI_API_KEY")
    dry = many(*work.argv(*options, "--dry-run"))
    assert (dry.code, dry.events) == (0, ["dry_run"] * 3 + ["summary"])
    assert [one["custom_id"] for one in dry.lines] == ["a", "b", "c", None]
    assert {one["exit_code"] for one in dry.lines[:-1]} == {None}
    assert {one["url"] for one in dry.lines[:-1]} == {f"{sandbox.base_url}/responses"}
    assert dry.last["counts"] == {"valid": 3}
    assert not sandbox.requests
    assert not work.results.exists()
    monkeypatch.setenv("OPENAI_API_KEY", key)
    result = many(*work.argv(*options))
    sent = Counter(canonical_json(post.body) for post in sandbox.posts)
    assert sent == Counter(canonical_json(one["body"]) for one in dry.lines[:-1])
    starts = {one["custom_id"]: one["request_sha256"] for one in result.lines
              if one["event"] == "submit_start"}  # fmt: skip
    assert starts == {one["custom_id"]: one["request_sha256"] for one in dry.lines[:-1]}


def test_a_file_that_is_changed_while_it_is_in_use(work: Work) -> None:
    """A line that is not what was validated is not sent; what replaced the file is not read."""
    work.write(line("a"), line("b"), line("c"))
    settings = Settings(model="m", reasoning_effort="low", verbosity="low")
    file = JobsFile(str(work.path), settings)
    good = [file.request(one) for one in file.lines]
    other = work.folder / "other"
    other.write_text("something else")
    other.replace(work.path)
    assert [file.request(one) for one in file.lines] == good
    file.close()
    work.write(line("a"), line("b"), line("c"))
    file = JobsFile(str(work.path), settings)
    text = work.path.read_text()
    with work.path.open("r+") as writer:  # the same file, and the same length
        writer.write(text.replace("input of b", "input of B").replace('"c"', '"d"'))
    assert file.request(file.lines[0]) == good[0]
    for changed in file.lines[1:]:
        with pytest.raises(OaibgError) as caught:
            file.request(changed)
        assert (caught.value.code, caught.value.outcome) == ("jobs_file_changed", "not_created")
        assert f"line {changed.number} was changed" in caught.value.message
    file.close()


def most_alive(posts: list[LoggedRequest], seconds: float) -> int:
    """How many jobs were alive at a time at most, where each takes so long."""
    return max(sum(0 <= post.at - other.at < seconds for other in posts) for post in posts)


@pytest.mark.parametrize("bound", [1, 3])
def test_max_in_flight(
    many: Callable[..., Result], sandbox: Sandbox, work: Work, bound: int
) -> None:
    """Never more than so many jobs are alive at the API, by its own log."""
    work.jobs(4 * bound, sandbox_seconds="0.15")
    result = many(*work.argv("--max-in-flight", str(bound)))
    assert result.last["counts"] == {"completed": 4 * bound}
    assert most_alive(sandbox.posts, 0.15) == bound


@pytest.mark.slow
def test_fifty_in_flight(many: Callable[..., Result], sandbox: Sandbox, work: Work) -> None:
    """Where nothing else is said."""
    work.jobs(60, **LONG)
    many(*work.argv("--max-wait-seconds", "1.5"))
    assert len(sandbox.posts) == 50


# The same command again


@pytest.mark.slow
def test_finished_jobs_are_skipped_and_running_ones_followed(
    many: Callable[..., Result], sandbox: Sandbox, work: Work
) -> None:
    """Nothing is submitted twice, whatever became of it."""
    work.jobs(3, sandbox_seconds="0.01")
    work.jobs(1, first=3, sandbox_outcome="failed")
    work.jobs(3, first=4, sandbox_seconds="600")
    first = many(*work.argv("--max-wait-seconds", "4"))
    assert (first.code, len(work.read())) == (3, 4)
    assert first.last["counts"] == {"completed": 3, "failed": 1, "queued": 3}
    for job in sandbox.jobs.values():
        job.seconds = 0.01
    again = many(*work.argv())
    submitted = [one for one in again.lines if one["event"] == "submitted"]
    assert {one["reattached"] for one in submitted} == {True}
    assert {one["custom_id"] for one in submitted} == {"job 4", "job 5", "job 6"}
    assert (again.code, again.last["counts"]) == (4, {"completed": 6, "failed": 1})
    work.check(sandbox, 7)
    asked = len(sandbox.requests)
    assert many(*work.argv()).events == ["summary"]
    assert len(sandbox.requests) == asked


@pytest.mark.parametrize("loss", ["deleted", "empty", "cut", "one", "first"])
@pytest.mark.parametrize("days", ["30", "0"])
def test_a_results_file_that_lost_something(
    many: Callable[..., Result],
    sandbox: Sandbox,
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
    loss: str,
    days: str,
) -> None:
    """The same command writes it again from the state, without a POST (and from the API)."""
    monkeypatch.setenv("OAIBG_KEEP_DAYS", days)
    work.jobs(4, sandbox_seconds="0.01")
    many(*work.argv())
    before = {name: one["response"]["body"] for name, one in work.read().items()}
    raw = work.results.read_bytes()
    lines = raw.splitlines(keepends=True)
    if loss == "deleted":
        work.results.unlink()
    else:
        kept = {
            "empty": b"",
            "cut": raw[:-40],
            "one": b"".join(lines[:2] + lines[3:]),
            "first": lines[0][:1],
        }
        work.results.write_bytes(kept[loss])
    asked = len(sandbox.requests)
    result = many(*work.argv())
    assert (result.code, result.last["counts"]) == (0, {"completed": 4})
    assert {name: one["response"]["body"] for name, one in work.read().items()} == before
    assert len(sandbox.posts) == 4
    if days != "0":
        assert len(sandbox.requests) == asked


@pytest.mark.parametrize(
    "content",
    [
        b"my notes\n",
        b"my notes",
        b"x",
        b"\n",
        b"[]",
        b'{"a": 1}',
        b'{"a": 1}\n',
        as_bytes(GOOD),
        as_bytes(GOOD)[:-1],
        as_bytes({"custom_id": "other", "response": None, "error": {"code": "x"}}),
        as_bytes({"custom_id": "other", "response": None, "error": {"code": "x"}})[:-1],
    ],
)
def test_a_foreign_results_file(
    run: Callable[..., Result], sandbox: Sandbox, work: Work, content: bytes
) -> None:
    """A usage error, and not a byte of it is changed."""
    work.jobs(2)
    work.results.write_bytes(content)
    result = run(*work.argv())
    assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
    assert work.results.read_bytes() == content
    assert not sandbox.requests


def test_a_jobs_file_that_is_named_for_both(
    run: Callable[..., Result], sandbox: Sandbox, work: Work
) -> None:
    """It stays as it is, also where it has one line without an end."""
    content = as_bytes(GOOD)[:-1]
    work.path.write_bytes(content)
    result = run("submit", "--jobs-file", str(work.path), "--results-file", str(work.path))
    assert (result.code, work.path.read_bytes()) == (2, content)
    assert not sandbox.requests


def test_what_is_no_results_file(run: Callable[..., Result], sandbox: Sandbox, work: Work) -> None:
    """A pipe or a device can't be appended to and read again."""
    work.jobs(1)
    pipe = work.folder / "pipe"
    os.mkfifo(pipe)
    for path in (str(pipe), "/dev/null", "/dev/full"):
        result = run("submit", "--jobs-file", str(work.path), "--results-file", path)
        assert (result.code, result.last["code"]) == (2, "usage")
    assert not sandbox.requests


@pytest.mark.parametrize("way", ["body", "option"])
def test_a_changed_body(
    many: Callable[..., Result], run: Callable[..., Result], sandbox: Sandbox, work: Work, way: str
) -> None:
    """Under the same custom_id: a usage error with the line's number, nothing sent or written."""
    work.write(line("a"), line("b"))
    many(*work.argv())
    content = work.results.read_bytes()
    asked = len(sandbox.requests)
    if way == "body":
        work.write(line("a"), line("b", input="changed"), line("c"))
        result = run(*work.argv())
        assert "'b' (line 2)" in result.last["message"]
        assert "'a'" not in result.last["message"]
    else:
        result = run(*work.argv("--verbosity", "high"))
        assert "'a' (line 1), 'b' (line 2)" in result.last["message"]
    assert (result.code, result.last["code"]) == (2, "job_key_reused")
    assert (len(sandbox.requests), work.results.read_bytes()) == (asked, content)


def test_appended_and_moved_lines(
    many: Callable[..., Result], sandbox: Sandbox, work: Work
) -> None:
    """New lines are submitted; the order doesn't matter."""
    work.write(line("a"), line("b"))
    many(*work.argv())
    work.write(line("c"), line("b"), line("a"), line("d"))
    result = many(*work.argv())
    assert finals(result) == {"c": "completed", "d": "completed"}
    assert result.last["counts"] == {"completed": 4}
    work.check(sandbox, 4)


def test_job_keys_separate_runs(
    many: Callable[..., Result], run: Callable[..., Result], sandbox: Sandbox, work: Work
) -> None:
    """Another key is another run of the same file; the same one goes on from another place."""
    work.jobs(2)
    many(*work.argv())
    other = Work(work.folder)
    other.results = work.folder / "other.jsonl"
    for _ in range(2):
        assert many(*other.argv("--job-key", "second")).code == 0
    assert len(sandbox.posts) == 4
    ids = [{one["id"] for one in each.read().values()} for each in (work, other)]
    assert not ids[0] & ids[1]
    other.path = work.path.rename(work.folder / "moved.jsonl")
    other.results.unlink()
    assert many(*other.argv("--job-key", "second")).code == 0
    assert (len(other.read()), len(sandbox.posts)) == (2, 4)
    listed = run("show", "--list").lines[:-1]
    assert Counter((one["job_key"], one["custom_id"]) for one in listed) == {
        (key, f"job {one}"): 1 for key in ("second", str(work.path)) for one in range(2)
    }


def test_results_of_another_run_are_not_taken_for_ones_own(
    many: Callable[..., Result],
    run: Callable[..., Result],
    sandbox: Sandbox,
    work: Work,
    state: Path,
) -> None:
    """Neither under another key or name, nor after the requests have changed: 2, all as it was."""
    work.jobs(2)
    many(*work.argv())
    before = work.results.read_bytes()
    renamed = Work(work.folder)
    renamed.path = work.folder / "renamed.jsonl"
    renamed.path.write_bytes(work.path.read_bytes())
    for argv in (work.argv("--job-key", "fresh"), renamed.argv()):
        result = run(*argv)
        assert (result.code, result.last["code"]) == (2, "usage")
        assert "results-file" in result.last["hint"]
    state.rename(state.with_name("away"))
    assert run(*work.argv("--verbosity", "low")).code == 2, "another request, and no state"
    assert many(*work.argv()).last["counts"] == {"completed": 2}, "the same, and no state"
    assert work.results.read_bytes() == before
    assert len(sandbox.posts) == 2


def test_a_wrong_address_is_no_result(
    many: Callable[..., Result], work: Work, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """A page that is not found says nothing of the requests: nothing is written, nothing more sent.

    With the right address the same command, as another run, does it all.
    """
    work.jobs(20)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{sandbox.base_url}/wrong")
    sandbox.script(Fault(on="any", kind="status", status=404, body="not here", times=0))
    result = many(*work.argv("--max-in-flight", "2"))
    assert (result.code, work.results.read_bytes()) == (1, b"")
    assert result.last["counts"]["not_submitted"] >= 15
    assert result.last["next"] is not None
    sandbox.clear()
    monkeypatch.setenv("OPENAI_BASE_URL", sandbox.base_url)
    assert many(*work.argv()).last["counts"] == {"completed": 20}


def test_a_linked_file_is_the_same_run(
    many: Callable[..., Result], sandbox: Sandbox, work: Work
) -> None:
    """Whatever path it is reached by."""
    work.jobs(2)
    many(*work.argv())
    link = Work(work.folder)
    link.path = work.folder / "link.jsonl"
    link.path.symlink_to(work.path)
    assert many(*link.argv()).last["counts"] == {"completed": 2}
    assert len(sandbox.posts) == 2


@pytest.mark.parametrize("odd", ["", '"id": null, ', f'"id": {"9" * 5000}, '])
def test_a_result_without_its_id_is_refused(
    run: Callable[..., Result], sandbox: Sandbox, work: Work, odd: str
) -> None:
    """It can be anybody's: a usage error, and all is as it was."""
    work.jobs(1)
    custom_id = json.loads(work.path.read_text())["custom_id"]
    error = '{"code": "batch_expired", "message": "m"}'
    line = f'{{{odd}"custom_id": "{custom_id}", "response": null, "error": {error}}}\n'
    work.results.write_text(line)
    result = run(*work.argv())
    assert (result.code, result.last["code"]) == (2, "usage")
    assert work.results.read_text() == line
    assert not sandbox.posts


def test_a_runs_key_is_no_jobs_key(
    many: Callable[..., Result], run: Callable[..., Result], work: Work
) -> None:
    """It is said that it names many jobs, and where they are."""
    work.jobs(2)
    many(*work.argv("--job-key", "k"))
    for command in ("show", "monitor", "cancel"):
        result = run(command, "--job-key", "k")
        assert result.code == 2
        assert "2 jobs" in result.last["message"]


@pytest.mark.process
def test_replies_on_their_way_when_stdout_is_closed(
    command: Command, sandbox: Sandbox, work: Work
) -> None:
    """They are waited for, so that no paid id is thrown away: nothing is unknown afterwards."""
    work.jobs(30)
    sandbox.script(Fault(on="create", kind="delay", seconds=1.5, times=20))
    reader, writer = os.pipe()
    process = command.start(*work.argv("--max-in-flight", "20"), stdout=writer)
    os.close(writer)
    wait_until(lambda: len(sandbox.posts) >= 20)
    os.close(reader)
    assert command.end(process).code == 141
    result = command.run(*work.argv())
    assert (result.code, result.last["counts"]) == (0, {"completed": 30})
    work.check(sandbox, 30)


@pytest.mark.process
def test_a_results_file_has_one_writer(command: Command, sandbox: Sandbox, work: Work) -> None:
    """Another run that names it has to wait, and is told so."""
    work.jobs(3, sandbox_seconds="2")
    process = command.start(*work.argv())
    wait_until(lambda: len(sandbox.posts) == 3)
    result = command.run(*work.argv("--job-key", "other"))
    assert (result.code, result.last["code"]) == (7, "job_key_busy")
    assert command.end(process).code == 0
    work.check(sandbox, 3)


@pytest.mark.process
def test_two_processes_at_once(command: Command, sandbox: Sandbox, work: Work) -> None:
    """One runs, the other ends as 7 with the same command as `next`."""
    work.jobs(10, sandbox_seconds="0.5")
    processes = [command.start(*work.argv()) for _ in range(3)]
    results = sorted((command.end(one) for one in processes), key=lambda one: one.code)
    assert [one.code for one in results] == [0, 7, 7]
    for one in results[1:]:
        assert (one.last["code"], one.last["outcome"]) == ("job_key_busy", "not_created")
        assert one.last["next"][-len(work.argv()) :] == list(work.argv())
    work.check(sandbox, 10)


@pytest.mark.slow
def test_next_is_the_same_command_anywhere(
    many: Callable[..., Result], sandbox: Sandbox, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With absolute paths: from another folder it goes on, and in the end there is none."""
    work.jobs(3, sandbox_seconds="1.2")
    (work.folder / "patch.json").write_text('{"user": "u"}')
    (work.folder / "tools.json").write_text('[{"type": "web_search"}]')
    monkeypatch.chdir(work.folder)
    result = many(
        *("submit", "--jobs-file=jobs.jsonl", "--results-file", "../work/results.jsonl", *FAST),
        *("--body-json-file", "patch.json", "--tools-json-file", "tools.json"),
        *("--max-wait-seconds", "0.6", "--max-in-flight", "2"),
    )
    assert (result.code, len(sandbox.posts)) == (3, 2)
    elsewhere = work.folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    runs = 0
    while result.code == 3:
        command = result.last["next"]
        assert str(work.path) in command
        assert "--max-in-flight" in command
        result = many(*command[command.index("submit") :])
        runs += 1
        assert runs < 20
    assert (result.code, result.last["next"]) == (0, None)
    work.check(sandbox, 3)
    assert {post.body["user"] for post in sandbox.posts} == {"u"}


def test_next_names_the_file_and_the_key_as_they_were_given(
    many: Callable[..., Result], sandbox: Sandbox, work: Work
) -> None:
    """A link stays a link, and a key may be a hyphen; only a path of - can't be read again."""
    work.jobs(1, sandbox_seconds="600")
    link = work.folder / "link.jsonl"
    link.symlink_to(work.path)
    files = ("--jobs-file", str(link), "--results-file", str(work.results))
    result = many("submit", *files, *FAST, "--job-key", "-", "--max-wait-seconds", "1")
    assert result.code == 3
    command = result.last["next"]
    assert command[command.index("submit") :] == [
        *("submit", *files, *FAST, "--job-key", "-", "--max-wait-seconds", "1")
    ]


def test_a_folder_above_a_link(
    many: Callable[..., Result], work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`link/..` is the folder above what the link leads to, as everywhere else."""
    (work.folder / "a" / "b").mkdir(parents=True)
    (work.folder / "link").symlink_to(work.folder / "a" / "b")
    work.jobs(1)
    inner = Work(work.folder / "a")
    inner.jobs(1, first=7)
    monkeypatch.chdir(work.folder)
    result = many("submit", "--dry-run", "--jobs-file", "link/../jobs.jsonl")
    assert [line["custom_id"] for line in result.lines if line["event"] == "dry_run"] == ["job 7"]


# The wait, and signals


@pytest.mark.slow
def test_the_deadline(many: Callable[..., Result], sandbox: Sandbox, work: Work) -> None:
    """3, exact to a second; what was not sent is counted, and the next run goes on with all."""
    work.jobs(12, sandbox_seconds="1.8")
    result = many(*work.argv("--max-in-flight", "5", "--max-wait-seconds", "1"))
    assert result.code == 3
    assert result.last["elapsed_seconds"] == pytest.approx(1, abs=0.6)
    counts = result.last["counts"]
    assert (sum(counts.values()), counts["not_submitted"]) == (12, 7)
    assert len(sandbox.posts) == 5
    assert many(*work.argv("--poll-seconds", "0.1")).last["counts"] == {"completed": 12}
    work.check(sandbox, 12)


@pytest.mark.slow
def test_the_deadline_of_a_run_that_goes_on(
    many: Callable[..., Result], sandbox: Sandbox, work: Work
) -> None:
    """Running jobs beyond `--max-in-flight` are not looked at one by one after the deadline."""
    work.jobs(20, **LONG)
    many(*work.argv("--max-wait-seconds", "1"))
    assert len(sandbox.posts) == 20
    sandbox.script(Fault(on="retrieve", kind="hang_before", times=0))
    result = many(*work.argv("--max-wait-seconds", "0.8", "--max-in-flight", "2"))
    assert result.code == 3
    assert result.last["elapsed_seconds"] < 2.8
    assert sum(result.last["counts"].values()) == 20
    assert "not_submitted" not in result.last["counts"]


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle(
    command: Command, sandbox: Sandbox, state: Path, work: Work, number: signal.Signals
) -> None:
    """Within a second, each job counted once, the ids in the state, and the rerun goes on."""
    work.jobs(20, sandbox_seconds="0.3")
    process = command.start(*work.argv("--max-in-flight", "6", "--poll-seconds", "0.2"))
    wait_until(lambda: len(sandbox.posts) >= 12)
    sent = time.monotonic()
    process.send_signal(number)
    result = checked(command.end(process))
    assert time.monotonic() - sent < 2.5, "replies to creates are awaited"
    assert (result.code, result.last["event"]) == (128 + number, "summary")
    assert sum(result.last["counts"].values()) == 20
    assert result.last["counts"].get("not_submitted", 0) >= 20 - len(sandbox.posts)
    audit(sandbox, state)
    again = result.last["next"]
    result = checked(command.run(*again[again.index("submit") :]))
    assert (result.code, result.last["counts"]) == (0, {"completed": 20})
    work.check(sandbox, 20)
    audit(sandbox, state)
    tally(sandbox)


@pytest.mark.process
def test_cancel_on_interrupt(command: Command, sandbox: Sandbox, work: Work) -> None:
    """The jobs that run are cancelled; nothing more is submitted."""
    work.jobs(12, **LONG)
    argv = work.argv("--max-in-flight", "8", "--cancel-on-interrupt", "--poll-seconds", "0.2")
    process = command.start(*argv)
    wait_until(lambda: len({one.path for one in sandbox.requests if one.method == "GET"}) == 8)
    process.send_signal(signal.SIGINT)
    result = checked(command.end(process))
    assert (result.code, result.last["counts"]) == (130, {"cancelled": 8, "not_submitted": 4})
    assert len(sandbox.jobs) == 8


# Creates that fail


def failing(many: Callable[..., Result], sandbox: Sandbox, work: Work, fault: Fault) -> Result:
    """A run of forty jobs, two at a time, whose sixth create is struck."""
    work.jobs(40, sandbox_seconds="0.05")
    sandbox.script(fault)
    return many(*work.argv("--max-in-flight", "2"))


def test_spent_quota_stops_the_run(
    many: Callable[..., Result], sandbox: Sandbox, work: Work
) -> None:
    """No further POST, 1; what runs is followed, and the same command goes on later."""
    body = {"error": {"message": "spent", "type": "t", "code": "insufficient_quota"}}
    fault = Fault(on="create", kind="status", status=429, body=body, skip=5, times=0)
    result = failing(many, sandbox, work, fault)
    assert (result.code, len(sandbox.posts)) in ((1, 6), (1, 7))
    assert result.last["counts"] == {"completed": 5, "refused": len(sandbox.posts) - 5,
                                     "not_submitted": 40 - len(sandbox.posts)}  # fmt: skip
    assert result.last["next"] is not None
    assert len(work.read()) == 5
    sandbox._state.faults.clear()
    assert many(*work.argv()).last["counts"] == {"completed": 40}


def test_a_refused_key_stops_the_run(
    many: Callable[..., Result], sandbox: Sandbox, work: Work
) -> None:
    """No further POST, 8."""
    result = failing(
        many, sandbox, work, Fault(on="create", kind="status", status=401, skip=5, times=0)
    )
    assert (result.code, len(sandbox.posts)) in ((8, 6), (8, 7))
    assert result.last["counts"] == {"completed": 5, "not_submitted": 35}
    assert len(work.read()) == 5


def test_no_key(
    many: Callable[..., Result], sandbox: Sandbox, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8, nothing sent, and no more than one job at a time finds that out."""
    work.jobs(200)
    monkeypatch.delenv("OPENAI_API_KEY")
    result = many(*work.argv("--max-in-flight", "5"))
    assert (result.code, result.last["counts"]) == (8, {"not_submitted": 200})
    assert result.events.count("error") <= 5
    assert not sandbox.requests


@pytest.mark.slow
def test_429s_on_creates(many: Callable[..., Result], sandbox: Sandbox, work: Work) -> None:
    """All creates wait, none is sent twice, and each job ends."""
    work.jobs(20, sandbox_seconds="0.05")
    sandbox.script(
        Fault(
            on="create", kind="status", status=429, headers={"retry-after": "1"}, skip=10, times=3
        )
    )
    result = many(*work.argv("--max-in-flight", "4"))
    assert (result.code, result.last["counts"]) == (0, {"completed": 20})
    struck = [post for post in sandbox.posts if post.fault]
    assert len(struck) == 3
    busy = struck[0].at
    assert sum(busy + 0.15 < post.at < busy + 0.8 for post in sandbox.posts) == 0
    made = [post.raw_body for post in sandbox.posts if not post.fault]
    assert len(made) == len(set(made)) == 20
    assert result.events.count("submit_error") == 3


def test_lost_replies(
    many: Callable[..., Result], sandbox: Sandbox, work: Work, state: Path
) -> None:
    """6 for these jobs alone; the same command sends nothing, and `--resubmit-unknown` decides."""
    work.jobs(8, sandbox_seconds="0.05")
    sandbox.script(Fault(on="create", kind="reset_after", skip=1, times=2))
    sandbox.script(Fault(on="create", kind="status", status=502))
    first = many(*work.argv("--max-in-flight", "2"))
    assert (first.code, first.last["counts"]) == (6, {"completed": 5, "outcome_unknown": 3})
    assert first.last["next"] is None
    errors = [one for one in first.lines if one["event"] == "error"]
    assert {(one["outcome"], one["code"]) for one in errors} == {("unknown", "outcome_unknown")}
    again = many(*work.argv())
    assert (again.code, again.last) == (
        6,
        again.last | {"counts": first.last["counts"], "next": None},
    )
    assert len(sandbox.posts) == 8
    audit(sandbox, state)
    decided = many(*work.argv("--resubmit-unknown"))
    assert (decided.code, decided.last["counts"]) == (0, {"completed": 8})
    assert (len(sandbox.posts), len(work.read())) == (11, 8)
    assert many(*work.argv("--resubmit-unknown")).events == ["summary"]
    assert len(sandbox.posts) == 11


def test_a_result_that_is_gone(
    many: Callable[..., Result], sandbox: Sandbox, work: Work, instant_sleep: None
) -> None:
    """5, and no `next` that would never come to an end."""
    work.jobs(2, **LONG)
    many(*work.argv("--poll-seconds", "1", "--max-wait-seconds", "3"))
    (gone, other) = sandbox.jobs
    sandbox.forget(gone)
    sandbox.jobs[other].seconds = 0
    result = many(*work.argv("--poll-seconds", "5"))
    assert (result.code, result.last["counts"]) == (5, {"completed": 1, "not_found": 1})
    assert result.last["next"] is None
    assert len(sandbox.posts) == 2


# The state


def test_a_state_that_cannot_be_used(
    run: Callable[..., Result], sandbox: Sandbox, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 before any POST: a run that can't be taken up again is not begun."""
    work.jobs(2)
    monkeypatch.setenv("OAIBG_STATE_DIR", str(work.path))
    result = run(*work.argv())
    assert (result.code, result.last["code"]) == (2, "state_unwritable")
    assert result.last["outcome"] == "not_created"
    assert not sandbox.requests


def test_a_newer_state(
    run: Callable[..., Result], sandbox: Sandbox, work: Work, state: Path
) -> None:
    """Likewise."""
    work.jobs(2)
    run("show", "--list")
    database = sqlite3.connect(state / FILE)
    database.execute("PRAGMA user_version = 99")
    database.close()
    assert run(*work.argv()).code == 2
    assert not sandbox.requests


def test_a_corrupt_state(
    many: Callable[..., Result], sandbox: Sandbox, work: Work, state: Path
) -> None:
    """Lines without a result may have been submitted: unknown, until the user decides."""
    work.jobs(2, sandbox_seconds="0.01")
    many(*work.argv())
    work.jobs(2, first=2, sandbox_seconds="0.01")
    (state / FILE).write_bytes(b"garbage" * 1000)
    for _ in range(2):
        result = many(*work.argv())
        assert (result.code, result.last["next"]) == (6, None)
        assert result.last["counts"] == {"completed": 2, "outcome_unknown": 2}
        assert len(sandbox.posts) == 2
    result = many(*work.argv("--resubmit-unknown"))
    assert (result.code, result.last["counts"]) == (0, {"completed": 4})
    work.check(sandbox, 4)


# Files and pipes that fail


@pytest.fixture
def faulty(command: Command) -> Command:
    """The command, where processes can be given an I/O fault."""
    if not command.forks.injects:
        pytest.skip("needs Linux and a C compiler")
    return command


@pytest.mark.process
def test_the_disk_has_a_result_before_it_is_told(faulty: Command, work: Work) -> None:
    """A power cut loses no result that was told: each is synced before the `final`."""
    work.jobs(3, sandbox_seconds="0.02")
    log = work.folder / "log"
    fault = IoFault(mode="count", below=str(work.results), log=str(log))
    assert faulty.run(*work.argv("--max-in-flight", "1"), fault=fault).code == 0
    steps = log.read_text().splitlines()
    written = [number for number, step in enumerate(steps) if step == f"write {work.results}"]
    assert len(written) == 3
    for number in written:
        assert steps[number + 1] == f"sync {work.results}"


@pytest.mark.process
@pytest.mark.parametrize(
    ("mode", "error", "times"),
    [("fail", 28, FOR_EVER), ("fail", 5, 1), ("short", 28, 3)],
)
def test_a_results_file_that_fails(
    faulty: Command, sandbox: Sandbox, work: Work, mode: str, error: int, times: int
) -> None:
    """`write_failed`, 9, whole lines alone in the file, and the same command mends it."""
    folder = work.folder / "out"
    folder.mkdir()
    work.results = folder / "results.jsonl"
    work.jobs(2, sandbox_seconds="0.02")
    for at in range(2, 99):
        log = work.folder / "log"
        log.unlink(missing_ok=True)
        fault = IoFault(mode=mode, below=str(folder), at=at, count=times, error=error, log=str(log))
        result = faulty.run(*work.argv("--max-in-flight", "1"), fault=fault)
        if result.code == 2:
            assert not sandbox.posts, "it can't be opened"
            continue
        checked(result)
        steps = len(log.read_text().splitlines())
        if steps < at:
            break
        count("io_faults", min(steps - at + 1, times))
        warned = [one["code"] for one in result.lines if one["event"] == "warning"]
        assert result.last["counts"] == {"completed": 2}
        assert (result.code, bool(result.last["next"])) == ((9, True) if warned else (0, False))
        assert set(warned) <= {"write_failed"}
        lost = {one["custom_id"] for one in result.lines if one["event"] == "warning"}
        whole = work.results.read_bytes().split(b"\n")[:-1]
        assert {json.loads(one)["custom_id"] for one in whole} >= {"job 0", "job 1"} - lost
        if result.code:
            command = result.last["next"]
            mended = checked(faulty.run(*command[command.index("submit") :]))
            assert (mended.code, mended.last["counts"]) == (0, {"completed": 2})
        work.check(sandbox, 2)
        tally(sandbox)
        sandbox.clear()
        work.results.unlink()
        (work.folder.parent / "state" / FILE).unlink()
    assert at > 5


@pytest.mark.process
@pytest.mark.parametrize("at", [1, 2, 5, 11])
@pytest.mark.parametrize(("error", "code"), [(32, 141), (28, 9)])
def test_stdout_that_goes_away(
    faulty: Command, sandbox: Sandbox, state: Path, work: Work, at: int, error: int, code: int
) -> None:
    """A quiet end (`| head -1`), what was submitted is in the state, the same command goes on."""
    work.jobs(6, sandbox_seconds="0.05")
    fault = IoFault(mode="fail", below="-", at=at, count=FOR_EVER, error=error)
    process = faulty.start(*work.argv("--max-in-flight", "2"), fault=fault)
    out, err = process.communicate()
    assert (process.returncode, err, len((out or b"").splitlines())) == (code, b"", at - 1)
    if out:
        parsed(out)
    count("io_faults")
    result = checked(faulty.run(*work.argv()))
    counts = result.last["counts"]
    unknown = counts.pop("outcome_unknown", 0)
    assert result.code == (6 if unknown else 0)
    assert counts == {"completed": 6 - unknown}
    audit(sandbox, state)
    tally(sandbox)


# Kills


def wait_for_posts(sandbox: Sandbox, number: int) -> None:
    """Wait until the server has had so many creates."""
    wait_until(lambda: len(sandbox.posts) >= number)


@pytest.mark.process
def test_kill_9_again_and_again(
    command: Command, sandbox: Sandbox, state: Path, work: Work
) -> None:
    """500 jobs, killed at random moments, the same command again until it is done.

    No body is POSTed twice, each job has one result, and those whose create was in flight at a
    kill are told as of unknown outcome, until that is decided.
    """
    number = 500
    work.jobs(number, sandbox_seconds="0.02")
    argv = work.argv("--max-in-flight", "40", "--poll-seconds", "0.1")
    log = work.folder / "lines"
    kills = 0
    for part in range(1, 6):
        with log.open("wb") as out:
            process = command.start(*argv, stdout=out)
        aim = len(sandbox.posts) + random.randrange(30, 90)
        wait_for_posts(sandbox, aim)
        time.sleep(random.random() * 0.05)
        process.kill()
        kills += process.wait(30) == -9
        assert part == kills
        for told in log.read_bytes().split(b"\n")[:-1]:
            json.loads(told)
    count("kills", kills)
    with log.open("wb") as out:
        process = command.start(*argv, stdout=out)
    code = process.wait(60)
    result = checked(Result(code, log.read_bytes(), ""))
    unknown = result.last["counts"].get("outcome_unknown", 0)
    assert result.code == (6 if unknown else 0)
    assert result.last["counts"].get("completed") == number - unknown
    assert unknown <= kills * 40
    assert len(work.read()) == number - unknown
    audit(sandbox, state)
    posted = Counter(post.raw_body for post in sandbox.posts)
    assert set(posted.values()) == {1}
    sure = number - unknown
    assert sure <= len(posted) <= number
    # Some of the unknown ones were killed before the request was out: now they are sent at last.
    done = checked(command.run(*argv, "--resubmit-unknown", "--events", "changes"))
    assert (done.code, done.last["counts"]) == (0, {"completed": number})
    twice = Counter(post.raw_body for post in sandbox.posts)
    assert len(twice) == number
    assert len(sandbox.posts) == len(posted) + unknown
    for name, one in work.read().items():
        job = sandbox.jobs[one["response"]["body"]["id"]]
        assert job.request["input"] == f"input of {name}"
        assert one["response"]["body"] == sandbox._state.show(job, job.status(time.time()))
    audit(sandbox, state, decided=len(posted) - sure)
    tally(sandbox)
