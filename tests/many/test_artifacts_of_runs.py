"""`--artifacts-dir` in runs over several jobs: each job has a folder of its own."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from harness import wait_until
from oaibg.sandbox import Fault
from outputs import PICTURE
from runs import FAST, WINDOW, BatchFiles, Files, age, batch_of, line, new_jobs, of, rerun
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

BROKEN = PICTURE | {"id": "ig_2", "result": "?"}

FORBIDDEN = Fault(on="container_content", kind="status", status=403)
"""A download that is not retried at once, but that a rerun may repeat."""


def completed(*output: dict[str, Any], **more: Any) -> Fault:
    """A fault that ends every job with some output."""
    body = {"id": "resp_1", "status": "completed", "output": list(output)}
    return Fault(on="retrieve", kind="raw", body=json.dumps(body), **more)


def saved(folder: Path) -> list[str]:
    """Return the relative paths of all files below a directory."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_jobs_file(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, tmp_path: Path
) -> None:
    """Each job has a folder with its custom_id, or with a safe name that no other job has."""
    names = ["a", "Q1", "q1", "../x", "x", "b/x", "ü 1"]
    files.write(*(line(name) for name in names))
    sandbox.script(completed(PICTURE, times=0))
    out = tmp_path / "out"
    result = many(*files.argv("--artifacts-dir", str(out)))
    assert (result.code, result.last["counts"]) == (0, {"completed": 7})
    wrote = {one["custom_id"]: one["path"] for one in of(result, "wrote_artifact")}
    assert sorted(wrote) == sorted(names)
    assert sorted(wrote.values()) == [str(out / path) for path in saved(out)]
    folders = {path.name.casefold() for path in out.iterdir()}
    assert len(folders) == 7
    assert {"a", "q1", "x", "ü 1"} < folders


def test_job_of_a_file_whose_artifact_fails(
    many: Callable[..., Result],
    run: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    tmp_path: Path,
) -> None:
    """The `next` of a job whose file failed saves it into the job's folder; `counts` has it."""
    out = tmp_path / "out"
    files.write(*MADE[:2])
    sandbox.script(FORBIDDEN)
    result = many(*files.argv("--artifacts-dir", str(out)))
    assert (result.code, result.last["counts"]) == (9, {"completed": 2})
    (warning,) = of(result, "warning")
    (final,) = (one for one in of(result, "final") if one["next"] is not None)
    assert warning["custom_id"] == final["custom_id"] == "table"
    argv = final["next"][final["next"].index("show") :]
    assert argv[1:3] == ["--artifacts-dir", f"{out}/table"]
    assert run(*argv).events == ["wrote_artifact", "response"]
    assert saved(out)[1] == "table/chart.csv"


def test_wait_limit_of_a_jobs_file(
    many: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`next` of a run repeats the option with an absolute path, and saves what ends later."""
    monkeypatch.chdir(tmp_path)
    files.write(line("a", metadata={"sandbox_seconds": "600"}))
    result = many(*files.argv("--artifacts-dir", "out", "--max-wait-seconds", "0.2"))
    assert result.code == 3
    argv = rerun(result.last["next"])
    assert argv[argv.index("--artifacts-dir") + 1] == str(tmp_path / "out")
    sandbox.script(completed(PICTURE, times=0))
    assert many(*argv).code == 0
    assert saved(tmp_path / "out") == ["a/ig_1.png"]


def test_several_ids(many: Callable[..., Result], sandbox: Sandbox, tmp_path: Path) -> None:
    """With several IDs, each response has a folder with its ID."""
    ids = new_jobs(sandbox, 3)
    sandbox.script(completed(PICTURE, times=0))
    result = many("monitor", *ids, *FAST, "--artifacts-dir", str(tmp_path / "out"))
    assert result.code == 0
    assert saved(tmp_path / "out") == sorted(f"{one}/ig_1.png" for one in ids)


def test_several_ids_of_which_one_fails(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """With several IDs, `next` of the run follows the jobs whose files may be saved after all."""
    ids = new_jobs(sandbox, 2)
    cited = {"type": "container_file_citation", "container_id": "cntr_1", "file_id": "cfile_1"}
    part = {"type": "output_text", "text": "x", "annotations": [cited]}
    message = {"type": "message", "role": "assistant", "content": [part]}
    sandbox.script(completed(message, times=0, response_id=ids[1]), completed(PICTURE, times=0))
    sandbox.script(FORBIDDEN, Fault(on="container_content", kind="raw", body="a,b"))
    result = checked(run("monitor", *ids, *FAST, "--artifacts-dir", str(tmp_path / "out")))
    assert (result.code, result.last["counts"]) == (9, {"completed": 2})
    again = run(*rerun(result.last["next"]))
    assert (again.code, again.last["event"], again.last["response_id"]) == (0, "final", ids[1])
    assert saved(tmp_path / "out") == sorted([f"{ids[0]}/ig_1.png", f"{ids[1]}/cfile_1"])


def batch_results(**outputs: list[dict[str, Any]]) -> Fault:
    """The output file of a batch whose jobs completed with these outputs."""
    lines = [
        {
            "id": f"batch_req_{custom_id}",
            "custom_id": custom_id,
            "response": {
                "status_code": 200,
                "request_id": "req_1",
                "body": {"id": f"resp_{custom_id}", "status": "completed", "output": output},
            },
            "error": None,
        }
        for custom_id, output in outputs.items()
    ]
    body = "".join(f"{json.dumps(one)}\n" for one in lines)
    return Fault(on="file_content", kind="raw", body=body)


def test_batch(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, tmp_path: Path
) -> None:
    """The artifacts of a batch's results are saved as the results arrive, before each `final`."""
    out = tmp_path / "out"
    sandbox.script(batch_results(a=[PICTURE], b=[]))
    result = checked(run(*batch.argv("--artifacts-dir", str(out))))
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    (wrote,) = of(result, "wrote_artifact")
    assert (wrote["custom_id"], wrote["path"]) == ("a", str(out / "a" / "ig_1.png"))
    assert wrote["response_id"] == batch_of(sandbox)
    ends = ["wrote_artifact", "final", "final", "final", "summary"]  # the last final is the batch's
    assert result.events[-5:] == ends


def test_batch_whose_artifact_fails(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, tmp_path: Path
) -> None:
    """A result's failed artifact is a warning with the job's name; each job is counted once."""
    out = tmp_path / "out"
    started = checked(run(*batch.argv("--detach", "--artifacts-dir", str(out))))
    assert of(started, "warning") == []  # of a batch, containers expire before the results arrive
    age(sandbox)
    sandbox.script(batch_results(a=[BROKEN, PICTURE], b=[PICTURE]))
    options = ("--results-file", str(batch.results), "--artifacts-dir", str(out))
    result = checked(run("monitor", batch_of(sandbox), *options))
    assert (result.code, result.last["counts"]) == (9, {"completed": 2})
    assert [one["custom_id"] for one in of(result, "warning")] == ["a"]
    assert [one["next"] for one in of(result, "final")] == [None, None, None]
    assert (result.last["next"], batch.results.read_text().count("\n")) == (None, 2)
    assert saved(out) == ["a/ig_1.png", "b/ig_1.png"]


MADE = [
    line("picture", metadata={"sandbox_outcome": "image"}),
    line("table", metadata={"sandbox_outcome": "file"}),
    line("late", metadata={"sandbox_outcome": "file", "sandbox_container": "expired"}),
    line("text"),
]
"""Jobs that make an image or a file, or none."""


def test_real_jobs_of_a_file(many: Callable[..., Result], files: Files, tmp_path: Path) -> None:
    """Images and files of real jobs are saved; one expired container costs only its own file."""
    files.write(*MADE)
    result = many(*files.argv("--artifacts-dir", str(tmp_path / "out")))
    check_made(result, tmp_path / "out")


def test_real_jobs_of_a_batch(
    run: Callable[..., Result], batch: BatchFiles, tmp_path: Path
) -> None:
    """A batch saves the same as a run in background mode."""
    batch.write(*MADE)
    result = checked(run(*batch.argv("--artifacts-dir", str(tmp_path / "out"))))
    check_made(result, tmp_path / "out")


@pytest.mark.parametrize("window", [(), WINDOW], ids=["background", "batch"])
def test_jobs_that_had_results(
    many: Callable[..., Result],
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    tmp_path: Path,
    window: tuple[str, ...],
) -> None:
    """A rerun with the option saves what finished jobs made; a second one does nothing more."""
    batch.write(MADE[0], line("bad", metadata={"sandbox_outcome": "failed"}), *MADE[1:2], MADE[3])
    argv = Files.argv(batch, *window)
    assert many(*argv).last["counts"] == {"completed": 3, "failed": 1}
    posts, out = len(sandbox.posts), tmp_path / "out"
    result = many(*argv, "--artifacts-dir", str(out))
    assert (result.code, result.last["counts"]) == (4, {"completed": 3, "failed": 1})
    wrote = {one["custom_id"]: one["path"] for one in of(result, "wrote_artifact")}
    assert sorted(wrote) == ["picture", "table"]
    assert sorted(wrote.values()) == [str(out / path) for path in saved(out)]
    requests = len(sandbox.requests)
    again = many(*argv, "--artifacts-dir", str(out))
    assert (again.code, of(again, "wrote_artifact")) == (4, [])
    assert (len(sandbox.posts), len(sandbox.requests)) == (posts, requests)
    if window:
        found = ("monitor", batch_of(sandbox), "--results-file", str(batch.results), *FAST)
        result = many(*found, "--artifacts-dir", str(tmp_path / "other"))
        assert saved(tmp_path / "other") == saved(out)


@pytest.mark.parametrize("window", [(), WINDOW], ids=["background", "batch"])
def test_a_finished_job_whose_file_fails(
    many: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    tmp_path: Path,
    window: tuple[str, ...],
) -> None:
    """A file of a finished job that can't be saved is exit 9, and `next` saves it."""
    batch.write(MADE[1])
    argv = Files.argv(batch, *window)
    many(*argv)
    sandbox.script(FORBIDDEN)
    result = many(*argv, "--artifacts-dir", str(tmp_path / "out"))
    assert (result.code, len(of(result, "warning"))) == (9, 1)
    assert saved(tmp_path / "out") == []
    assert many(*rerun(result.last["next"])).code == 0
    assert saved(tmp_path / "out") == ["table/chart.csv"]


def test_a_finished_job_whose_file_is_lost(
    many: Callable[..., Result], files: Files, tmp_path: Path
) -> None:
    """A file of a finished job whose container has expired is exit 9 without `next`, once."""
    files.write(MADE[2])
    many(*files.argv())
    argv = files.argv("--artifacts-dir", str(tmp_path / "out"))
    result = many(*argv)
    assert (result.code, result.last["next"], len(of(result, "warning"))) == (9, None, 1)
    assert many(*argv).code == 0


@pytest.mark.process
def test_a_signal_while_finished_jobs_are_saved(
    command: Command, sandbox: Sandbox, files: Files, tmp_path: Path
) -> None:
    """A signal meanwhile ends the run with its summary, and the rerun saves the rest."""
    files.write(MADE[1], MADE[0])
    command.run(*files.argv())
    sandbox.script(Fault(on="container_content", kind="delay", seconds=30))
    argv = files.argv("--artifacts-dir", str(tmp_path / "out"))
    before = len(sandbox.requests)
    process = command.start(*argv)
    wait_until(lambda: len(sandbox.requests) > before)
    process.send_signal(signal.SIGTERM)
    result = command.end(process)
    assert (result.code, result.last["event"]) == (143, "summary")
    assert result.last["counts"] == {"completed": 2}


def check_made(result: Result, out: Path) -> None:
    """Check what a run over `MADE` has saved and reported."""
    picture, table = saved(out)
    assert (picture[:8], picture[-4:], table) == ("picture/", ".png", "table/chart.csv")
    assert sorted(one["custom_id"] for one in of(result, "wrote_artifact")) == ["picture", "table"]
    (warning,) = of(result, "warning")
    assert (warning["custom_id"], warning["code"]) == ("late", "write_failed")
    assert result.last["counts"] == {"completed": 4}
    assert result.code == 9


@pytest.fixture(params=[(), WINDOW], ids=["background", "batch"])
def argv(request: pytest.FixtureRequest, files: Files, tmp_path: Path) -> tuple[str, ...]:
    """The command of a run over `MADE`, in background mode or as a batch."""
    files.write(*MADE)
    return files.argv("--artifacts-dir", str(tmp_path / "out"), *request.param)


@pytest.mark.usefixtures("instant_sleep")
@pytest.mark.parametrize(
    "failing",
    [
        FORBIDDEN,
        Fault(on="container_content", kind="status", status=500, times=0),
        Fault(on="container_content", kind="status", status=401, times=0),
        Fault(on="container_content", kind="reset_before", times=0),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_rerun_saves_what_failed(
    many: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    tmp_path: Path,
    argv: tuple[str, ...],
    failing: Fault,
) -> None:
    """A job whose file may be saved later gets no result yet: `next` delivers it again."""
    files.write(*MADE[:2], MADE[3])
    sandbox.script(failing)
    first = many(*argv)
    assert (first.code, first.last["counts"]) == (9, {"completed": 3})
    assert sorted(files.by_id()) == ["picture", "text"]

    again = many(*rerun(first.last["next"]))  # fails in the same way, and is counted as before
    if failing.times == 0:
        assert (again.code, again.last["counts"]) == (9, {"completed": 3})
        assert again.last["next"] == first.last["next"]
        sandbox._state.faults.clear()
        again = many(*argv)
    assert (again.code, again.last["counts"], again.last["next"]) == (0, {"completed": 3}, None)
    assert [one["custom_id"] for one in of(again, "wrote_artifact")] == ["table"]
    assert saved(tmp_path / "out")[1:] == ["table/chart.csv"]
    assert sorted(files.by_id()) == ["picture", "table", "text"]
    assert len(sandbox.posts + sandbox.batch_posts) == (1 if WINDOW[0] in argv else 3)


def test_lost_and_failed_files(
    many: Callable[..., Result], sandbox: Sandbox, files: Files, argv: tuple[str, ...]
) -> None:
    """A job whose file is lost gets its result, and `next` is null once nothing else is left."""
    sandbox.script(FORBIDDEN, FORBIDDEN)
    first = many(*argv)
    assert (first.code, first.last["counts"]) == (9, {"completed": 4})
    assert sorted(files.by_id()) == ["picture", "text"]

    last = many(*rerun(first.last["next"]))
    assert (last.code, last.last["counts"], last.last["next"]) == (9, {"completed": 4}, None)
    (warning,) = (one for one in of(last, "warning") if one["custom_id"] == "late")
    assert warning["message"].endswith("The file is lost; only a new job can create it again.")
    assert sorted(files.by_id()) == ["late", "picture", "table", "text"]

    settled = many(*argv)
    assert (settled.code, settled.events) == (0, ["summary"])


def test_directory_that_can_be_used_later(
    many: Callable[..., Result], files: Files, tmp_path: Path, argv: tuple[str, ...]
) -> None:
    """A job's folder that can't be written is like a failed download: `next` saves into it."""
    files.write(*MADE[:2])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "picture").symlink_to(tmp_path)
    first = many(*argv)
    assert (first.code, first.last["counts"], [*files.by_id()]) == (9, {"completed": 2}, ["table"])
    (tmp_path / "out" / "picture").unlink()
    last = many(*rerun(first.last["next"]))
    assert (last.code, last.last["counts"]) == (0, {"completed": 2})
    assert len(saved(tmp_path / "out")) == len(files.by_id()) == 2


def test_signal_after_a_failed_file(
    command: Command, sandbox: Sandbox, files: Files, argv: tuple[str, ...]
) -> None:
    """After a signal, too, each job is counted once, whether its result is in the file or not."""
    files.write(MADE[1], line("other", metadata={"sandbox_outcome": "file"}), MADE[3])
    sandbox.script(FORBIDDEN, Fault(on="container_content", kind="hang_before"))
    process = command.start(*argv)
    wait_until(lambda: sum("/containers/" in one.path for one in sandbox.requests) == 2)
    process.send_signal(signal.SIGINT)
    result = command.end(process)
    assert (result.code, sum(result.last["counts"].values())) == (130, 3)
    again = command.run(*rerun(result.last["next"]))
    assert (again.code, again.last["counts"]) == (0, {"completed": 3})


def test_kill_during_a_download(
    command: Command, sandbox: Sandbox, files: Files, tmp_path: Path, argv: tuple[str, ...]
) -> None:
    """After `kill -9` during a download, the same command saves the file without a new job."""
    files.write(MADE[1])
    sandbox.script(Fault(on="container_content", kind="hang_before"))
    process = command.start(*argv)
    wait_until(lambda: any("/containers/" in request.path for request in sandbox.requests))
    process.kill()
    process.wait(60)
    again = command.run(*argv)
    assert (again.code, again.last["counts"]) == (0, {"completed": 1})
    assert "table/chart.csv" in saved(tmp_path / "out")
    assert len(sandbox.posts + sandbox.batch_posts) == 1


def test_failed_file_without_a_local_copy(
    many: Callable[..., Result],
    run: Callable[..., Result],
    sandbox: Sandbox,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the local state keeps no results, the answer is more important: the file gets it."""
    monkeypatch.setenv("OAIBG_KEEP_DAYS", "0")
    files.write(MADE[1])
    sandbox.script(FORBIDDEN)
    result = many(*files.argv("--artifacts-dir", str(tmp_path / "out")))
    assert (result.code, [*files.by_id()]) == (9, ["table"])
    (final,) = of(result, "final")
    assert run(*final["next"][final["next"].index("show") :]).code == 0
    assert saved(tmp_path / "out") == ["table/chart.csv"]


@pytest.mark.parametrize("target", [(), ("--job-key", "k")])
def test_batch_that_is_found(
    run: Callable[..., Result], batch: BatchFiles, tmp_path: Path, target: tuple[str, ...]
) -> None:
    """`show` saves no artifacts of a batch either if it is the newest job, or found by its key."""
    assert run(*batch.argv("--detach", "--job-key", "k")).code == 0
    result = run("show", *target, "--artifacts-dir", str(tmp_path / "out"))
    assert (result.code, result.last["code"]) == (2, "usage")
    words = f"{result.last['message']} {result.last['hint']}"
    assert "--results-file" in words or str(batch.results) in words


@pytest.mark.parametrize("mode", [(), WINDOW], ids=["background", "batch"])
def test_signal_during_a_download(
    command: Command, sandbox: Sandbox, files: Files, tmp_path: Path, mode: tuple[str, ...]
) -> None:
    """A signal while a file is downloaded leaves no part of it, and `next` saves the file."""
    files.write(line("table", metadata={"sandbox_outcome": "file"}))
    sandbox.script(Fault(on="container_content", kind="hang_before"))
    out = tmp_path / "out"
    process = command.start(*files.argv("--artifacts-dir", str(out), *mode))
    wait_until(lambda: any("/containers/" in request.path for request in sandbox.requests))
    process.send_signal(signal.SIGINT)
    result = command.end(process)
    assert (result.code, saved(out)) == (130, [])
    again = command.run(*rerun(result.last["next"]))
    assert (again.code, again.last["counts"]) == (0, {"completed": 1})
    assert saved(out) == ["table/chart.csv"]
