"""`--artifacts-dir` in runs over several jobs: each job has a folder of its own."""

from __future__ import annotations

import base64
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from harness import wait_until
from oaibg.sandbox import Fault
from runs import FAST, WINDOW, BatchFiles, Files, age, batch_of, line, new_jobs, of, rerun
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
IMAGE = {
    "type": "image_generation_call",
    "id": "ig_1",
    "status": "completed",
    "result": base64.b64encode(PNG).decode(),
}
BROKEN = IMAGE | {"id": "ig_2", "result": "?"}


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
    sandbox.script(completed(IMAGE, times=0))
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
    """A job's failed artifact makes the run's exit 9; its `next` saves into the same folder."""
    out = tmp_path / "out"
    files.write(line("a"), line("b"))
    sandbox.script(completed(IMAGE, BROKEN), completed(IMAGE, times=0))
    result = many(*files.argv("--artifacts-dir", str(out)))
    assert (result.code, result.last["counts"]) == (9, {"completed": 2})
    assert saved(out) == ["a/ig_1.png", "b/ig_1.png"]
    (warning,) = of(result, "warning")
    (final,) = (one for one in of(result, "final") if one["next"] is not None)
    assert warning["custom_id"] == final["custom_id"]
    argv = final["next"][final["next"].index("show") :]
    assert argv[1:3] == ["--artifacts-dir", f"{out}/{final['custom_id']}"]
    assert run(*argv).events == ["wrote_artifact", "warning", "response"]
    assert saved(out) == ["a/ig_1.png", "b/ig_1.png"]


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
    sandbox.script(completed(IMAGE, times=0))
    assert many(*argv).code == 0
    assert saved(tmp_path / "out") == ["a/ig_1.png"]


def test_several_ids(many: Callable[..., Result], sandbox: Sandbox, tmp_path: Path) -> None:
    """With several IDs, each response has a folder with its ID."""
    ids = new_jobs(sandbox, 3)
    sandbox.script(completed(IMAGE, times=0))
    result = many("monitor", *ids, *FAST, "--artifacts-dir", str(tmp_path / "out"))
    assert result.code == 0
    assert saved(tmp_path / "out") == sorted(f"{one}/ig_1.png" for one in ids)


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
    sandbox.script(batch_results(a=[IMAGE], b=[]))
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
    assert [one["code"] for one in of(started, "warning")] == ["artifacts_expire"]
    age(sandbox)
    sandbox.script(batch_results(a=[BROKEN, IMAGE], b=[IMAGE]))
    options = ("--results-file", str(batch.results), "--artifacts-dir", str(out))
    result = checked(run("monitor", batch_of(sandbox), *options))
    assert (result.code, result.last["counts"]) == (9, {"completed": 2})
    assert [one["custom_id"] for one in of(result, "warning")] == ["a"]
    assert [one["next"] for one in of(result, "final")] == [None, None, None]
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


def check_made(result: Result, out: Path) -> None:
    """Check what a run over `MADE` has saved and reported."""
    picture, table = saved(out)
    assert (picture[:8], picture[-4:], table) == ("picture/", ".png", "table/chart.csv")
    assert sorted(one["custom_id"] for one in of(result, "wrote_artifact")) == ["picture", "table"]
    (warning,) = of(result, "warning")
    assert (warning["custom_id"], warning["code"]) == ("late", "write_failed")
    assert result.last["counts"] == {"completed": 4}
    assert result.code == 9


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
