"""`--artifacts-dir` in whole runs over real HTTP, of one job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from oaibg.sandbox import Fault
from outputs import PICTURE, PNG
from runs import FAST

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox


def citing(*names: str) -> dict[str, Any]:
    """A message that cites files of a container."""
    annotations = [
        {
            "type": "container_file_citation",
            "container_id": "cntr_1",
            "file_id": f"cfile_{number}",
            "filename": name,
            "start_index": 0,
            "end_index": 1,
        }
        for number, name in enumerate(names)
    ]
    part = {"type": "output_text", "text": "The answer.", "annotations": annotations}
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}


def completed(*output: object, response_id: str = "resp_1") -> Fault:
    """A fault that ends every job with some output."""
    body = {"id": response_id, "status": "completed", "output": list(output)}
    return Fault(on="retrieve", kind="raw", body=json.dumps(body), times=0)


def content(body: str = "a,b\n", **more: Any) -> Fault:
    """The reply to a request for the content of a container's file."""
    more = {"headers": {"content-type": "application/octet-stream"}} | more
    return Fault(on="container_content", kind="raw", body=body, **more)


def saved(folder: Path) -> dict[str, bytes]:
    """Return all files below a directory by their relative paths."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_submit(run: Callable[..., Result], sandbox: Sandbox, folder: Path) -> None:
    """A submit saves the images and the files before `final`; the directory may be relative."""
    sandbox.script(completed(PICTURE, citing("chart.csv")), content())
    result = run("submit", "--prompt", "x", "--artifacts-dir", "out", *FAST)
    assert (result.code, result.err) == (0, "")
    assert result.events[2:] == ["poll", "wrote_artifact", "wrote_artifact", "final"]
    assert saved(folder / "out") == {"ig_1.png": PNG, "chart.csv": b"a,b\n"}
    first, second = result.lines[3:5]
    assert first["path"] == str(folder / "out" / "ig_1.png")
    assert (first["bytes"], first["source"], second["source"]) == (len(PNG), "ig_1", "msg_1")
    assert sandbox.requests[-1].path == "/v1/containers/cntr_1/files/cfile_0/content"


@pytest.mark.parametrize("watch", [(), ("--stream",)])
def test_image_of_the_sandbox(
    run: Callable[..., Result], tmp_path: Path, watch: tuple[str, ...]
) -> None:
    """The image of a real job is saved, whether the job is polled or streamed."""
    metadata = ("--metadata", "sandbox_outcome=image")
    result = run(
        "submit", "--prompt", "x", *metadata, "--artifacts-dir", str(tmp_path), *watch, *FAST
    )
    (wrote,) = (line for line in result.lines if line["event"] == "wrote_artifact")
    assert wrote["path"] == str(tmp_path / f"{wrote['source']}.png")
    assert saved(tmp_path)[f"{wrote['source']}.png"].startswith(b"\x89PNG")


def test_file_of_the_sandbox(run: Callable[..., Result], tmp_path: Path) -> None:
    """The file that a real job wrote in its container is saved, unless the container expired."""
    out = ("--artifacts-dir", str(tmp_path / "out"))
    metadata = ("--metadata", "sandbox_outcome=file")
    result = run("submit", "--prompt", "x", *metadata, *out, *FAST)
    assert (result.code, result.events[-2:]) == (0, ["wrote_artifact", "final"])
    assert list(saved(tmp_path / "out")) == ["chart.csv"]

    expired = ("--metadata", "sandbox_container=expired")
    result = run("submit", "--prompt", "x", *metadata, *expired, *out, *FAST)
    assert (result.code, result.events[-2:]) == (9, ["warning", "final"])
    assert "Containers expire 20 minutes" in result.lines[-2]["message"]


def test_detach(run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path) -> None:
    """With `--detach` a warning says that files expire, and `next` saves them."""
    out = tmp_path / "out"
    (tmp_path / "tools").write_text('[{"type": "code_interpreter", "container": {"type": "auto"}}]')
    tools = ("--tools-json-file", str(tmp_path / "tools"))
    result = run("submit", "--prompt", "x", "--detach", *tools, "--artifacts-dir", f"{out}/")
    warning, detached = result.lines[-2:]
    assert (warning["event"], warning["code"]) == ("warning", "artifacts_expire")
    assert "20 minutes" in warning["message"]
    following = detached["next"]
    assert following[-4:] == ["monitor", "--artifacts-dir", str(out), result.id]
    sandbox.script(completed(PICTURE), content())
    assert run(*following[following.index("monitor") :]).code == 0
    assert saved(out) == {"ig_1.png": PNG}
    assert run("submit", "--prompt", "x", "--detach", *tools).events.count("warning") == 0


@pytest.mark.parametrize("tools", ["[]", '[{"type": "image_generation"}, {"type": "web_search"}]'])
def test_detach_without_the_code_interpreter(
    run: Callable[..., Result], tmp_path: Path, tools: str
) -> None:
    """Without the code interpreter there are no files that expire, and no warning."""
    (tmp_path / "tools").write_text(tools)
    options = ("--tools-json-file", str(tmp_path / "tools"), "--artifacts-dir", str(tmp_path / "a"))
    result = run("submit", "--prompt", "x", "--detach", *options)
    assert (result.code, result.events) == (0, ["submit_start", "submitted", "detached"])


def test_show_of_the_local_copy(
    run: Callable[..., Result],
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`show` saves the artifacts of a local copy, again and again, and emits no response."""
    sandbox.script(completed(PICTURE, citing("chart.csv")))
    assert run("submit", "--prompt", "x", *FAST).code == 0
    sandbox.clear()
    sandbox.script(content(times=0))
    for _ in range(2):
        result = run("show", "--artifacts-dir", str(tmp_path / "out"))
        assert result.events == ["wrote_artifact", "wrote_artifact", "response"]
        assert (result.code, result.last["source"], result.last["response"]) == (0, "local", None)
        assert saved(tmp_path / "out") == {"ig_1.png": PNG, "chart.csv": b"a,b\n"}
    monkeypatch.delenv("OPENAI_API_KEY")
    result = run("show", "--artifacts-dir", str(tmp_path / "other"))
    assert result.events == ["wrote_artifact", "warning", "response"]
    assert (result.code, list(saved(tmp_path / "other"))) == (9, ["ig_1.png"])


@pytest.mark.row(
    "An image or a file of the job is lost: its container has expired, or it can't be read"
)
@pytest.mark.parametrize("status", [404, 410])
def test_expired_container(
    run: Callable[..., Result],
    started: Callable[..., str],
    sandbox: Sandbox,
    tmp_path: Path,
    status: int,
) -> None:
    """A file that is gone is a warning, the others are saved, and exit 9 has no `next`."""
    response_id = started()
    sandbox.script(completed(PICTURE, citing("a.csv", "b.csv", "c.csv")))
    gone = Fault(on="container_content", kind="status", status=status)
    sandbox.script(content("A"), gone, content("C"))
    result = run("monitor", response_id, "--artifacts-dir", str(tmp_path / "out"))
    wrote = "wrote_artifact"
    assert result.events == ["poll", wrote, wrote, "warning", wrote, "final"]
    warning = result.lines[3]
    assert warning["code"] == "write_failed"
    assert warning["message"].startswith(f"Could not save b.csv: HTTP {status}")
    advice = "The file is lost; only a new job can create it again."
    assert f"Containers expire 20 minutes after their last use. {advice}" in warning["message"]
    assert (result.code, result.last["ok"], result.last["next"]) == (9, True, None)
    assert saved(tmp_path / "out") == {"ig_1.png": PNG, "a.csv": b"A", "c.csv": b"C"}


@pytest.mark.row("An image or a file of the job can't be saved")
def test_refused_download(
    run: Callable[..., Result], started: Callable[..., str], sandbox: Sandbox, tmp_path: Path
) -> None:
    """A file that can't be downloaded now is a warning, and `next` of exit 9 tries it again."""
    response_id = started()
    sandbox.script(completed(PICTURE, citing("a.csv", "b.csv", "c.csv")))
    refused = Fault(on="container_content", kind="status", status=403)
    sandbox.script(content("A"), refused, content("C"))
    result = run("monitor", response_id, "--artifacts-dir", str(tmp_path / "out"))
    assert (result.code, result.last["ok"]) == (9, True)
    assert sorted(saved(tmp_path / "out")) == ["a.csv", "c.csv", "ig_1.png"]

    sandbox.clear()
    sandbox.script(content("A"), content("B"), content("C"))
    again = run(*result.last["next"][result.last["next"].index("show") :])
    assert (again.code, again.events[-1]) == (0, "response")
    files = {"ig_1.png": PNG, "a.csv": b"A", "b.csv": b"B", "c.csv": b"C"}
    assert saved(tmp_path / "out") == files


@pytest.mark.usefixtures("instant_sleep")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(on="container_content", kind="status", status=500, times=2),
        Fault(on="container_content", kind="status", status=404, body="gateway", times=2),
        Fault(on="container_content", kind="reset_before", times=2),
        Fault(on="container_content", kind="truncate", times=2),
        Fault(on="container_content", kind="html", times=2),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_downloads_are_retried(
    run: Callable[..., Result],
    started: Callable[..., str],
    sandbox: Sandbox,
    tmp_path: Path,
    fault: Fault,
) -> None:
    """A download that fails in passing is repeated, and leaves no part of a file behind."""
    response_id = started()
    sandbox.script(completed(citing("page.csv")))
    assert run("monitor", response_id).code == 0
    sandbox.clear()
    sandbox.script(fault, content("whole"))
    assert run("show", response_id, "--artifacts-dir", str(tmp_path / "out")).code == 0
    assert saved(tmp_path / "out") == {"page.csv": b"whole"}


def test_a_page_that_the_job_made(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """An HTML file is saved if its name says that it is one."""
    sandbox.script(completed(citing("plot.html")))
    sandbox.script(content("<html>", headers={"content-type": "text/html"}))
    result = run("submit", "--prompt", "x", "--artifacts-dir", str(tmp_path / "out"), *FAST)
    assert (result.code, saved(tmp_path / "out")) == (0, {"plot.html": b"<html>"})


@pytest.mark.parametrize("command", ["submit --prompt x", "monitor resp_1", "show resp_1"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("file", "is not a directory."),
        ("link", "is not a directory."),
        ("/dev/null", "is not a directory."),
        ("no/such", "does not exist; create it, and run the command again."),
        ("file/below", "does not exist; create it, and run the command again."),
        ("", "give the path of a directory."),
        ("-", "give the path of a directory."),
    ],
)
def test_unusable_directories(
    run: Callable[..., Result], sandbox: Sandbox, folder: Path, command: str, path: str, words: str
) -> None:
    """A path that can't be a directory is a usage error, and nothing is sent."""
    (folder / "file").touch()
    (folder / "link").symlink_to("missing")
    result = run(*command.split(), "--artifacts-dir", path)
    assert (result.code, result.last["code"], sandbox.requests) == (2, "usage", [])
    assert words in result.last["message"]


def test_directory_that_is_also_a_file(run: Callable[..., Result], folder: Path) -> None:
    """The directory and an output file can't have the same path."""
    for option in ("--output-json-file", "--output-text-file"):
        result = run("submit", "--prompt", "x", "--artifacts-dir", "a/", option, str(folder / "a"))
        assert result.code == 2
        assert result.last["message"] == f"{option} and --artifacts-dir can't name the same file."
    assert run("show", "--list", "--artifacts-dir", "a").code == 2


@pytest.mark.parametrize(
    "command", ["monitor batch_1", "monitor resp_1 batch_2", "show batch_1", "monitor -- batch_1"]
)
def test_batch_without_a_results_file(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, command: str
) -> None:
    """A batch itself has no images and files: `monitor` needs a results file to save them."""
    verb, *ids = command.split()
    result = run(verb, "--artifacts-dir", str(tmp_path / "out"), *ids)
    assert (result.code, result.last["code"], sandbox.requests) == (2, "usage", [])
    assert result.last["message"] == "--artifacts-dir for a batch needs --results-file."
    assert not (tmp_path / "out").exists()


def test_directory_without_permission(
    unprivileged: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """A directory without write permission is one warning per artifact, and exit 9."""
    sandbox.script(completed(PICTURE, PICTURE | {"id": "ig_2"}))
    (tmp_path / "closed").mkdir(mode=0o555)
    options = ("--artifacts-dir", str(tmp_path / "closed"))
    result = unprivileged("monitor", "resp_1", *options)
    messages = [line["message"] for line in result.lines if line.get("code") == "write_failed"]
    assert messages == [
        f"Could not write {tmp_path}/closed/{name}: Permission denied." for name in ("ig_1", "ig_2")
    ]
    assert result.code == 9


def test_human(run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path) -> None:
    """Human mode prints a line per file on stderr."""
    sandbox.script(completed(PICTURE))
    result = run("monitor", "resp_1", "--human", "--artifacts-dir", str(tmp_path))
    assert result.code == 0
    assert f"Wrote {tmp_path}/ig_1.png (14 bytes)" in " ".join(result.err.split())


def test_job_without_artifacts(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """The directory is created even if the job made nothing."""
    sandbox.script(completed(citing()))
    result = run("monitor", "resp_1", "--artifacts-dir", str(tmp_path / "out"))
    assert result.events == ["poll", "final"]
    assert list((tmp_path / "out").iterdir()) == []


def test_raw_text(run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path) -> None:
    """With `--output-text` only the text is on stdout, and the files are saved as well."""
    sandbox.script(completed(PICTURE, citing()))
    result = run("show", "resp_1", "--output-text", "--artifacts-dir", str(tmp_path / "out"))
    assert (result.code, result.out) == (0, b"The answer.")
    assert saved(tmp_path / "out") == {"ig_1.png": PNG}
