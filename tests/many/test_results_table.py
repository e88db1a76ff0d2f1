"""Results tables: their rows, when they are written, and which files they replace."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from forkserver import IoFault
from harness import wait_until
from oaibg.many.results.result_row import ResultRow, safe
from oaibg.sandbox import Fault
from places import GUIDE
from runs import (
    ENDLESS,
    FAST,
    HOT,
    SLOW,
    BatchFiles,
    Files,
    age,
    batch_of,
    finish,
    line,
    of,
    refused,
    rerun,
)
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

OURS = [
    *("custom_id", "status", "output_text", "response_id", "model"),
    *("input_tokens", "output_tokens", "cost_usd", "error"),
]


def rows(path: Path) -> list[list[str]]:
    """Read a table with Python's csv."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True))


def table(path: Path) -> list[dict[str, str]]:
    """Read a table; each row is a dictionary."""
    header, *others = rows(path)
    return [dict(zip(header, row, strict=True)) for row in others]


def statuses(path: Path) -> dict[str, str]:
    """Return the statuses in a table by custom_id, in its order."""
    return {row["custom_id"]: row["status"] for row in table(path)}


def results_of(files: Files) -> dict[str, dict[str, Any]]:
    """Return the results beside a table by custom_id."""
    path = files.results.with_name(f"{files.results.name}.jsonl")
    lines = [json.loads(raw) for raw in path.read_bytes().splitlines()]
    return {one["custom_id"]: one for one in lines}


@pytest.fixture
def tabled(files: Files) -> Files:
    """The files of a run in background mode whose results file is a table."""
    files.results = files.folder / "results.csv"
    return files


@pytest.fixture(params=["background", "batch"])
def both(request: pytest.FixtureRequest) -> Files:
    """The files of a run whose results file is a table, in either mode."""
    name = {"background": "files", "batch": "batch"}[request.param]
    files: Files = request.getfixturevalue(name)
    files.results = files.folder / "results.csv"
    return files


def test_a_table_in_and_out(many: Callable[..., Result], both: Files) -> None:
    """The results are rows in the order of the jobs, after the other columns of the jobs file."""
    both.jobs = both.folder / "jobs.csv"
    both.jobs.write_text(
        "id,prompt,custom_id,Status\n"
        '7,"say ""hi"", b",x,new\n'
        '8,"two\nlines",,"a\n""b"""\n'
        "9,é 漢 \U0001f600,z,-5\n",
        newline="",
    )
    result = many(*both.argv())
    header, *others = rows(both.results)
    assert header == ["id", "input_Status", *OURS]
    inputs = ['say "hi", b', "two\nlines", "é 漢 \U0001f600"]
    columns = list(zip(*others, strict=True))
    assert columns[0] == ("7", "8", "9")
    assert columns[1] == ("new", 'a\n"b"', "-5")
    assert columns[2] == ("x", "2", "z")
    assert set(columns[3]) == {"completed"}
    for text, given in zip(columns[4], inputs, strict=True):
        assert text.endswith(f'You said: "{given}"')
    bodies = [results_of(both)[name]["response"]["body"] for name in columns[2]]
    assert list(columns[5]) == [body["id"] for body in bodies]
    assert set(columns[6]) == {"gpt-5.2"}
    for at, key in ((7, "input_tokens"), (8, "output_tokens")):
        assert list(columns[at]) == [str(body["usage"][key]) for body in bodies]
    assert sum(map(float, columns[9])) == pytest.approx(result.last["cost_usd"])
    assert (result.code, set(columns[10])) == (0, {""})
    assert both.results.read_bytes().startswith(b"\xef\xbb\xbfid,")
    assert both.results.read_bytes().endswith(b",\r\n")


OUTCOMES = {
    "failed": ("failed", "The model failed to generate a response\\."),
    "incomplete": ("incomplete", "max_output_tokens"),
    "function_call": ("needs_action", r"waiting for the result of get_weather \(call_\w+\)"),
    "approval": ("needs_action", r"waiting for approval of delete_file \(mcpr_\w+\)"),
    "refusal": ("needs_action", "the model refused: .+"),
    "commentary": ("completed", ""),
}


def test_how_jobs_ended(many: Callable[..., Result], both: Files) -> None:
    """Each row has the status that the run counts, and says what is wrong in words."""
    lines = [line(name, metadata={"sandbox_outcome": name}) for name in OUTCOMES]
    form = {"format": {"type": "json_schema", "name": "n", "schema": {}}}
    lines.append(line("empty", text=form, metadata={"sandbox_empty": "1"}))
    both.write(*lines, line("hot", **HOT))
    result = many(*both.argv())
    counts = {"failed": 1, "incomplete": 1, "needs_action": 4, "completed": 1, "refused": 1}
    assert (result.code, result.last["counts"]) == (1, counts)
    *some, empty, hot = table(both.results)
    for row, (name, (status, error)) in zip(some, OUTCOMES.items(), strict=True):
        assert (row["custom_id"], row["status"]) == (name, status)
        assert re.fullmatch(error, row["error"])
        assert row["response_id"].startswith("resp_")
    assert (empty["status"], empty["error"]) == ("needs_action", "the answer has no text")
    assert (hot["status"], hot["output_text"], hot["response_id"]) == ("refused", "", "")
    assert "temperature" in hot["error"]


TEXTS = [
    *("=1+1", "+1+1", "-x", "@SUM(A1)", "\tx", "\rx", "'=x", "''-x", "-5%", "+49 12"),
    *("-5", "+3.5", "-1e-3", ".5", "'plain", "a=b", 'quo"te', "a\nb\r\nc,d\te;f", " =x", "\u2028"),
]


@pytest.mark.parametrize("name", ["results.csv", "results.tsv", "RESULTS.CSV"])
def test_texts_that_look_like_formulas(
    many: Callable[..., Result], files: Files, name: str
) -> None:
    """A formula gets a `'`, which the guide's pattern removes; every other text is unchanged."""
    files.results = files.folder / name
    files.write(*(line(f"{n}", metadata={"sandbox_text": text}) for n, text in enumerate(TEXTS)))
    assert many(*files.argv()).code == 0
    written = [row["output_text"] for row in table(files.results)]
    assert written == [f"'{text}" for text in TEXTS[:10]] + TEXTS[10:]
    (pattern,) = re.findall(r'replace\(r"(.+?)"', (GUIDE / "many-jobs.md").read_text())
    assert [re.sub(pattern, "", text) for text in written] == TEXTS


def test_cells_of_the_input_are_safe_too(many: Callable[..., Result], tabled: Files) -> None:
    """Formulas in the header, the columns and the custom_ids of the jobs file get a `'`, too."""
    tabled.jobs = tabled.folder / "jobs.csv"
    tabled.jobs.write_text("prompt,=a,custom_id\nx,=1+1,@b\n")
    assert many(*tabled.argv()).code == 0
    header, row = rows(tabled.results)
    assert (header[0], row[0], row[1]) == ("'=a", "'=1+1", "'@b")


def test_texts_that_no_file_can_have() -> None:
    """Lone surrogates and NUL become U+FFFD; a pair of surrogates becomes its character."""
    assert safe("a\ud800b\0") == "a\ufffdb\ufffd"
    assert safe("\ud83d\ude00") == "\U0001f600"
    assert safe("=\udfff") == "'=\ufffd"


def test_columns_that_have_our_names(many: Callable[..., Result], tabled: Files) -> None:
    """Columns of the input with a taken name begin with `input_`; no name occurs twice."""
    tabled.jobs = tabled.folder / "jobs.csv"
    tabled.jobs.write_text("STATUS,input_status,prompt,a,a,Error,\n1,2,x,3,4,5,6\n")
    assert many(*tabled.argv()).code == 0
    header, row = rows(tabled.results)
    theirs = ["input_STATUS", "input_input_status", "a", "input_a", "input_Error", ""]
    assert (header, row[:6]) == ([*theirs, *OURS], ["1", "2", "3", "4", "5", "6"])


def test_jobs_that_have_not_ended(
    many: Callable[..., Result], sandbox: Sandbox, tabled: Files, instant_sleep: None
) -> None:
    """At the wait limit, the table also has the jobs without a result; a rerun replaces it."""
    tabled.add(1)
    tabled.add(2, first=1, **ENDLESS)
    tabled.add(1, first=3)
    options = ("--max-in-flight", "2", "--max-wait-seconds", "600", "--poll-seconds", "5")
    result = many(*tabled.argv(*options))
    assert result.code == 3
    running, queued = result.last["counts"], statuses(tabled.results)
    assert list(queued) == ["job 0", "job 1", "job 2", "job 3"]
    assert (queued["job 0"], queued["job 3"]) == ("completed", "not_submitted")
    assert running == {"completed": 1, queued["job 1"]: 2, "not_submitted": 1}
    row = table(tabled.results)[1]
    assert row["response_id"] in sandbox.jobs
    assert (row["output_text"], row["error"]) == ("", "")
    finish(sandbox)
    assert many(*tabled.argv()).code == 0
    assert set(statuses(tabled.results).values()) == {"completed"}


def test_jobs_that_could_not_be_submitted(
    many: Callable[..., Result], tabled: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If nothing can be submitted, the rows say why, or that the job was not submitted."""
    tabled.add(3)
    monkeypatch.delenv("OPENAI_API_KEY")
    result = many(*tabled.argv("--max-in-flight", "1"))
    assert (result.code, result.last["counts"]) == (8, {"not_submitted": 3})
    first, *others = table(tabled.results)
    assert (first["status"], first["error"]) == ("not_submitted", "OPENAI_API_KEY is not set.")
    assert [(row["status"], row["error"]) for row in others] == [("not_submitted", "")] * 2


def test_the_last_line_of_a_job_counts(many: Callable[..., Result], tabled: Files) -> None:
    """If the results beside the table have two lines of a job, the row is that of the last one."""
    tabled.add(2)
    many(*tabled.argv())
    path = tabled.results.with_name("results.csv.jsonl")
    first = path.read_text().splitlines()[0]
    path.write_text(path.read_text() + first.replace('"completed"', '"incomplete"') + "\n")
    name = json.loads(first)["custom_id"]
    many(*tabled.argv())
    assert statuses(tabled.results) == {"job 0": "completed", "job 1": "completed"} | {
        name: "incomplete"
    }


def test_a_rerun_writes_a_lost_table(
    many: Callable[..., Result], sandbox: Sandbox, both: Files
) -> None:
    """A rerun of a finished run writes the table again, without a request."""
    both.write(line("a"), line("b"))
    many(*both.argv())
    content = both.results.read_bytes()
    both.results.unlink()
    requests = len(sandbox.requests)
    result = many(*both.argv())
    assert (result.code, result.events, len(sandbox.requests)) == (0, ["summary"], requests)
    assert both.results.read_bytes() == content


@pytest.mark.parametrize("content", [b"mine\n", ",".join(OURS).encode()])
def test_a_foreign_table(
    run: Callable[..., Result], sandbox: Sandbox, both: Files, content: bytes
) -> None:
    """A table without its results beside it is a usage error before a request, and stays."""
    both.write(line("a"))
    both.results.write_bytes(content)
    refused(run(*both.argv()), sandbox, "results.csv.jsonl does not", "rename this file")
    assert both.results.read_bytes() == content
    both.results.write_bytes(b"")
    assert run(*both.argv()).code == 0
    assert statuses(both.results) == {"a": "completed"}


@pytest.mark.parametrize(
    "content",
    [
        b"name,city\nAnn,Rome\n",
        b"custom_id,status\na,done\n",
        ",".join([*OURS, "my notes"]).encode() + b"\n",
        "\t".join(OURS).encode() + b"\n",
        b"{\\rtf1}",
        b"\0\0",
        b"PK\x03\x04",
        b'"never closed',
    ],
)
@pytest.mark.parametrize("beside", [b"", None])
def test_a_table_of_the_users(
    many: Callable[..., Result],
    run: Callable[..., Result],
    sandbox: Sandbox,
    both: Files,
    content: bytes,
    beside: bytes | None,
) -> None:
    """A file without the columns of a results table is a usage error, even beside results."""
    both.write(line("a"))
    lines = both.results.with_name("results.csv.jsonl")
    if beside is None:
        many(*both.argv())
    else:
        lines.write_bytes(beside)
    there, posts = lines.read_bytes(), len(sandbox.posts)
    both.results.write_bytes(content)
    result = run(*both.argv())
    assert (result.code, result.last["code"], len(sandbox.posts)) == (2, "usage", posts)
    assert "not a results table" in result.last["message"]
    assert (both.results.read_bytes(), lines.read_bytes()) == (content, there)


def test_a_table_that_a_spreadsheet_saved(many: Callable[..., Result], both: Files) -> None:
    """A table of ours is replaced by a rerun, also without its byte order mark or with quotes."""
    both.write(line("a"))
    many(*both.argv())
    table = both.results.read_bytes()
    header, rest = table.decode("utf-8-sig").split("\n", 1)
    quoted = ",".join(f'"{name}"' for name in header.strip().split(","))
    for changed in (f"{header}\n{rest}", f"{quoted}\r\n{rest}", f"{header}\n"):
        both.results.write_text(changed)
        many(*both.argv())
        assert both.results.read_bytes() == table


def test_a_table_of_another_run(
    run: Callable[..., Result], sandbox: Sandbox, tabled: Files
) -> None:
    """A table with the results of another run is a usage error, and stays."""
    tabled.add(1)
    assert run(*tabled.argv()).code == 0
    content = tabled.results.read_bytes()
    posts = len(sandbox.posts)
    result = run(*tabled.argv("--job-key", "other"))
    assert (result.code, result.last["code"], len(sandbox.posts)) == (2, "usage", posts)
    assert "results.csv.jsonl: line 1 is not a result of this run" in result.last["message"]
    assert tabled.results.read_bytes() == content


def test_tables_that_are_no_files(
    run: Callable[..., Result], sandbox: Sandbox, tabled: Files
) -> None:
    """A pipe, and the jobs file itself, are refused as a table."""
    tabled.add(1)
    pipe = tabled.folder / "pipe.csv"
    os.mkfifo(pipe)
    argv = ("submit", "--jobs-file", str(tabled.jobs), "--results-file")
    refused(run(*argv, str(pipe)), sandbox, "must be a regular file")
    jobs = tabled.folder / "jobs.csv"
    jobs.write_text("prompt\nx\n")
    link = tabled.folder / "link.csv"
    link.symlink_to(jobs)
    refused(run(*argv[:2], str(jobs), argv[3], str(link)), sandbox, "can't name the same file")
    assert jobs.read_text() == "prompt\nx\n"


def test_a_monitored_batch(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """`monitor batch_… --results-file` writes a table of the batch's results."""
    batch.results = batch.folder / "results.csv"
    batch.write(line("a", **SLOW), line("b"))
    detached = checked(run(*batch.argv("--detach")))
    assert detached.code == 0
    assert statuses(batch.results) == {"a": "validating", "b": "validating"}
    other = batch.folder / "other.tsv"
    argv = ("monitor", batch_of(sandbox), "--results-file", str(other))
    options = ("--max-wait-seconds", "0.1", "--poll-seconds", "0.05")
    waited = checked(run(*argv, *options))
    assert (waited.code, rows(other)) == (3, [OURS])
    age(sandbox)
    assert checked(run(*argv)).code == 0
    assert statuses(other) == {"a": "completed", "b": "completed"}
    assert run(*batch.argv()).code == 0
    assert table(batch.results) == sorted(table(other), key=lambda row: row["custom_id"])


def test_an_expired_batch(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """The jobs of an expired batch have rows, with or without a result."""
    batch.results = batch.folder / "results.csv"
    sandbox.batch_window = 0.2
    batch.write(line("stuck", metadata={"sandbox_outcome": "stuck"}), line("done"))
    assert checked(run(*batch.argv())).code == 4
    stuck, done = table(batch.results)
    assert (stuck["status"], done["status"]) == ("expired", "completed")
    assert "expire" in stuck["error"]


def test_missing_results(run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles) -> None:
    """The jobs that a completed batch has no result for are `missing`."""
    batch.results = batch.folder / "results.csv"
    sandbox.script(Fault(on="file_content", kind="raw", body="", times=2))
    assert checked(run(*batch.argv())).last["counts"] == {"missing": 2}
    assert statuses(batch.results) == {"a": "missing", "b": "missing"}


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal(
    command: Command, sandbox: Sandbox, tabled: Files, number: signal.Signals
) -> None:
    """After a signal, the table has all jobs, as the run counts them."""
    tabled.add(4, **ENDLESS)
    process = command.start(*tabled.argv("--max-in-flight", "2"))
    wait_until(lambda: len(sandbox.posts) == 2)
    process.send_signal(number)
    result = checked(command.end(process))
    assert result.code == 128 + number
    found = list(statuses(tabled.results).values())
    assert {status: found.count(status) for status in found} == result.last["counts"]
    assert found[2:] == ["not_submitted"] * 2


@pytest.mark.process
@pytest.mark.slow
def test_a_signal_during_the_write_of_a_large_table(
    command: Command, sandbox: Sandbox, batch: BatchFiles
) -> None:
    """A signal hardly waits for the table: the earlier one stays, or the new one is whole."""
    assert command.run(*batch.argv()).code == 0
    table, count = batch.folder / "r.csv", 30_000
    response = {"id": "resp_1", "status": "completed", "output": []}
    end = json.dumps({"status_code": 200, "request_id": "r", "body": response})
    with table.with_name("r.csv.jsonl").open("w") as file:
        for number in range(count):
            start = f'{{"id": "i{number}", "custom_id": "c{number}", "response": '
            file.write(f'{start}{end}, "error": null}}\n')
    earlier = f"{','.join(ResultRow._fields)}\n"
    table.write_text(earlier)
    argv = ("monitor", batch_of(sandbox), "--results-file", str(table), *FAST)
    process = command.start(*argv)
    wait_until(lambda: any(path.name.endswith(".tmp") for path in batch.folder.iterdir()), 60)
    process.send_signal(signal.SIGTERM)
    result = command.end(process)
    assert result.code == 143
    if table.read_text() != earlier:  # a fast machine
        assert len(table.read_text().splitlines()) > count
        return
    (warning,) = of(result, "warning")
    assert "a signal ended the write" in warning["message"]
    again = command.run(*rerun(result.last["next"]))
    assert again.code in (0, 10)
    assert len(statuses(table)) == count + 2
    assert not [path for path in batch.folder.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.process
def test_a_kill(command: Command, sandbox: Sandbox, tabled: Files) -> None:
    """After `kill -9` the old table is whole, and the same command completes it."""
    tabled.add(1)
    assert command.run(*tabled.argv()).code == 0
    before = tabled.results.read_bytes()
    tabled.add(1, first=1)
    tabled.add(1, first=2, **ENDLESS)
    process = command.start(*tabled.argv())
    wait_until(lambda: len(results_of(tabled)) == 2)
    process.kill()
    command.end(process)
    assert tabled.results.read_bytes() == before
    finish(sandbox)
    assert command.run(*tabled.argv()).code == 0
    assert list(statuses(tabled.results)) == ["job 0", "job 1", "job 2"]
    assert len(sandbox.posts) == 3


@pytest.mark.process
@pytest.mark.parametrize("mode", ["short", "kill"])
def test_a_table_is_always_whole(faulty: Command, files: Files, mode: str) -> None:
    """If any step of the write fails, or the process is killed before it, the old table stays."""
    folder = files.folder / "out"
    folder.mkdir()
    files.results = folder / "results.csv"
    files.add(3)
    assert faulty.run(*files.argv()).code == 0
    content = files.results.read_bytes()
    codes: list[int | None] = []
    while not codes or codes[-1] != 0:
        fault = IoFault(mode=mode, below=str(folder), at=len(codes) + 1, count=99, error=28)
        result = faulty.run(*files.argv(), fault=fault)
        codes.append(result.code)
        assert files.results.read_bytes() == content
        if result.code == 9:
            assert [one["code"] for one in of(result, "warning")] == ["write_failed"]
            assert result.last["next"] is not None
        assert len(codes) < 99
    assert codes.count({"short": 9, "kill": -9}[mode]) >= 3


@pytest.mark.process
@pytest.mark.parametrize(("outcome", "code"), [("completed", 9), ("failed", 4)])
def test_a_table_that_cannot_be_written(
    command: Command, sandbox: Sandbox, tabled: Files, outcome: str, code: int
) -> None:
    """A failed write is a warning, and exit 9 instead of 0; `next` writes the table."""
    tabled.add(1, **ENDLESS, sandbox_outcome=outcome)
    process = command.start(*tabled.argv())
    wait_until(lambda: len(sandbox.jobs) == 1)
    tabled.results.mkdir()
    finish(sandbox)
    result = checked(command.end(process))
    (warning,) = of(result, "warning")
    assert warning["code"] == "write_failed"
    assert str(tabled.results) in warning["message"]
    assert (result.code, result.last["counts"]) == (code, {outcome: 1})
    assert results_of(tabled).keys() == {"job 0"}
    tabled.results.rmdir()
    again = checked(command.run(*rerun(result.last["next"])))
    assert (again.code, again.last["next"]) == (code % 9, None)
    assert statuses(tabled.results) == {"job 0": outcome}
    assert len(sandbox.posts) == 1
    assert not [path for path in tabled.folder.iterdir() if path.name.endswith(".tmp")]
