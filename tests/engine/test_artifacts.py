"""`--artifacts-dir`: images and files that a job made are saved under names that can't do harm."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import FakeClient, FakeClock, collect, failed, fake_context, names, response
from oaibg.contract import events
from oaibg.contract.errors import CallFailed
from oaibg.engine import commands
from oaibg.engine.context import Shared
from oaibg.engine.find import Target
from oaibg.engine.job import Job
from oaibg.engine.run_options import Output, Wait

if TYPE_CHECKING:
    from harness import Step
    from oaibg.contract.events import Event

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
JPG = b"\xff\xd8\xff\xe0" + b"pixels"
GIF = b"GIF89a" + b"pixels"
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 "
GONE = failed(404, "container_expired")
RESET = CallFailed("connection_error", "reset")


def image(data: object, **more: Any) -> dict[str, Any]:
    """An output item with an image."""
    result = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    return {"type": "image_generation_call", "id": "ig_1", "status": "completed", **more} | {
        "result": result
    }


def citing(*cited: object, **more: Any) -> dict[str, Any]:
    """A message that cites files of a container: names, or whole annotations."""
    annotations = [
        {
            "type": "container_file_citation",
            "container_id": "cntr_1",
            "file_id": f"cfile_{number}",
            "filename": one,
        }
        if isinstance(one, str)
        else one
        for number, one in enumerate(cited)
    ]
    part = {"type": "output_text", "text": "See the file.", "annotations": annotations}
    return {"type": "message", "id": "msg_1", "content": [part], **more}


class Saving:
    """Monitors of a job that completed with some output, whose artifacts go into one directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = FakeClient(FakeClock())

    def run(
        self, *output: object, downloads: list[Step | bytes] | None = None, wait: Wait | None = None
    ) -> list[Event]:
        """Return the events after the poll."""
        self.client.retrieves = [response("completed", output=list(output))]
        self.client.artifacts = list(downloads or [b"a,b\n"])  # type: ignore[arg-type]
        context = fake_context(
            self.client, wait=wait, output=Output(artifacts_dir=str(self.folder))
        )
        job, target = Job("resp_1"), Target(response_id="resp_1")
        found = collect(lambda context: commands.monitor(target, job, context), context)
        assert names(found[:1]) == ["poll"]
        return found[1:]

    def content(self) -> dict[str, bytes]:
        """Return the files in the directory by their names."""
        if not self.folder.exists():
            return {}
        return {path.name: path.read_bytes() for path in self.folder.iterdir() if path.is_file()}


@pytest.fixture
def saving(tmp_path: Path) -> Saving:
    """A directory that does not exist yet."""
    return Saving(tmp_path / "artifacts")


def wrote(found: list[Event]) -> list[str]:
    """Return the names of the files that were written, checking each event against its file."""
    paths = []
    for event in found:
        if isinstance(event, events.WroteArtifact):
            data = Path(event.path).read_bytes()
            assert (event.bytes, event.sha256) == (len(data), hashlib.sha256(data).hexdigest())
            paths.append(Path(event.path).name)
    return paths


def next_of(found: list[Event]) -> list[str] | None:
    """Return the `next` of the last event, which is the job's `final`."""
    assert isinstance(found[-1], events.Final)
    return found[-1].next


def warnings(found: list[Event]) -> list[str]:
    """Return the messages of the failed writes."""
    given = [event for event in found if isinstance(event, events.Warning)]
    assert {event.code for event in given} <= {"write_failed"}
    return [event.message for event in given]


def code(found: list[Event]) -> int | None:
    """Return the exit code."""
    return events.exit_code_of(found[-1])


def test_images(saving: Saving) -> None:
    """Each image becomes a file whose extension follows from its bytes."""
    found = saving.run(
        image(PNG, id="ig_png"),
        image(JPG, id="ig_jpg"),
        image(WEBP, id="ig_webp"),
        image(GIF, id="ig_gif"),
        image(b"?", id="ig_odd"),
    )
    assert names(found) == [*["wrote_artifact"] * 5, "final"]
    assert code(found) == 0
    assert saving.content() == {
        "ig_png.png": PNG,
        "ig_jpg.jpg": JPG,
        "ig_webp.webp": WEBP,
        "ig_gif.gif": GIF,
        "ig_odd.bin": b"?",
    }
    first = found[0]
    assert isinstance(first, events.WroteArtifact)
    assert (first.source, first.path) == ("ig_png", str(saving.folder / "ig_png.png"))
    assert sorted(wrote(found)) == sorted(saving.content())


def test_unusual_images(saving: Saving) -> None:
    """Data URLs and wrapped lines are accepted; an item without an image or an ID does no harm."""
    encoded = base64.b64encode(PNG).decode()
    found = saving.run(
        image(f"data:image/webp;base64,{encoded}", id="ig_url"),
        image(f"{encoded[:8]}\r\n{encoded[8:]}\n", id="ig_lines"),
        image(None, id="ig_none"),
        image("", id="ig_empty"),
        image(PNG, id=None),
        image(PNG, id=7),
        image(PNG, id="../../ig"),
    )
    assert code(found) == 0
    assert wrote(found) == ["ig_url.png", "ig_lines.png", "image.png", "image-2.png", "ig.png"]


@pytest.mark.parametrize("data", ["not base64", "A", "QUJ", "é", {"a": 1}, "https://x.test/i.png"])
def test_invalid_image(saving: Saving, data: object) -> None:
    """An image that can't be decoded is a warning with exit 9; the other images are saved."""
    found = saving.run(image(PNG, id="a"), image(data, id="b"), image(GIF, id="c"))
    assert names(found) == ["wrote_artifact", "warning", "wrote_artifact", "final"]
    assert warnings(found) == ["Could not save b: The image is not valid base64."]
    assert (code(found), wrote(found)) == (9, ["a.png", "c.gif"])


def test_cited_files(saving: Saving) -> None:
    """Each cited file is downloaded once, from whichever messages and parts cite it."""
    twice = {
        "type": "container_file_citation",
        "container_id": "cntr_1",
        "file_id": "cfile_0",
        "filename": "again.csv",
    }
    other = twice | {"container_id": "cntr_2", "filename": "/mnt/data/plot.html"}
    url = {"type": "url_citation", "url": "https://x.test/"}
    found = saving.run(
        citing("chart.csv", twice, url, 7),
        citing(twice, other, id="msg_2", phase="commentary"),
        {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]},
        {"type": "message", "content": None},
        downloads=[b"one", b"<html>"],
    )
    assert names(found) == ["wrote_artifact", "wrote_artifact", "final"]
    assert saving.content() == {"chart.csv": b"one", "plot.html": b"<html>"}
    assert [event.source for event in found if isinstance(event, events.WroteArtifact)] == [
        "msg_1",
        "msg_2",
    ]
    assert len(saving.client.times("download_artifact")) == 2


def test_hostile_names(saving: Saving, tmp_path: Path) -> None:
    """Whatever the server calls its files, each is saved in the directory under its own name."""
    hostile = [
        *("../../etc/passwd", "a/b.csv", "CON", "x" * 300 + ".csv", "📈.csv", "a\nb.csv"),
        *(".bashrc", "", "Same.csv", "same.csv", "same.csv", "..", "/"),
    ]
    found = saving.run(citing(*hostile))
    assert code(found) == 0
    assert wrote(found) == [
        *("passwd", "b.csv", "_CON", "x" * 146 + ".csv", "📈.csv", "a_b.csv"),
        *("bashrc", "cfile_7", "Same.csv", "same-2.csv", "same-3.csv", "cfile_11", "cfile_12"),
    ]
    assert sorted(saving.content()) == sorted(wrote(found))
    assert [path.name for path in tmp_path.iterdir()] == ["artifacts"]


@pytest.mark.parametrize(
    "ids",
    [
        {"file_id": "../../secrets"},
        {"container_id": "a/b"},
        {"container_id": ""},
        {"file_id": None},
        {"file_id": "x\n"},
        {"file_id": ".."},
        {"file_id": "a?b"},
        {"container_id": {}},
        {"file_id": 7},
    ],
)
def test_unsafe_ids(saving: Saving, ids: dict[str, object]) -> None:
    """An ID that is not safe in a URL is never requested."""
    cited = {
        "type": "container_file_citation",
        "container_id": "cntr_1",
        "file_id": "cfile_1",
        "filename": "a.csv",
    }
    found = saving.run(citing(cited | ids))
    (message,) = warnings(found)
    assert "invalid container ID or file ID" in message
    assert (code(found), saving.client.times("download_artifact")) == (9, [])


def test_rerun_overwrites_nothing(saving: Saving) -> None:
    """A rerun leaves equal files as they are; a file with other content gets a neighbor."""
    output = [image(PNG), citing("chart.csv", "chart.csv")]
    first = saving.run(*output, downloads=[b"new", b"new"])
    assert wrote(first) == ["ig_1.png", "chart.csv", "chart-2.csv"]
    before = {path: path.stat().st_ino for path in saving.folder.iterdir()}
    assert wrote(saving.run(*output, downloads=[b"new", b"new"])) == wrote(first)
    assert {path: path.stat().st_ino for path in saving.folder.iterdir()} == before

    (saving.folder / "chart.csv").write_text("mine")
    (saving.folder / "ig_1.png").write_text("mine")
    assert wrote(saving.run(*output, downloads=[b"new", b"new"])) == [
        *("ig_1-2.png", "chart-2.csv", "chart-3.csv")
    ]
    assert saving.content()["chart.csv"] == saving.content()["ig_1.png"] == b"mine"


def test_names_that_are_taken(saving: Saving, tmp_path: Path) -> None:
    """Symbolic links are neither followed nor replaced, nor are directories and pipes."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"new")
    saving.folder.mkdir()
    (saving.folder / "a.csv").symlink_to(outside)
    (saving.folder / "a-2.csv").symlink_to(tmp_path / "missing")
    (saving.folder / "a-3.csv").mkdir()
    os.mkfifo(saving.folder / "a-4.csv")
    found = saving.run(citing("a.csv"), downloads=[b"new"])
    assert (code(found), wrote(found)) == (0, ["a-5.csv"])
    assert (outside.read_bytes(), (tmp_path / "missing").exists()) == (b"new", False)


def test_file_system_without_hard_links(saving: Saving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are saved without hard links, too, and nothing is overwritten."""

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    saving.folder.mkdir()
    (saving.folder / "a.csv").write_bytes(b"mine")
    found = saving.run(citing("a.csv", "a.csv"), image(PNG), downloads=[b"one", b"two"])
    assert (code(found), wrote(found)) == (0, ["a-2.csv", "a-3.csv", "ig_1.png"])
    files = {"a.csv": b"mine", "a-2.csv": b"one", "a-3.csv": b"two", "ig_1.png": PNG}
    assert saving.content() == files


def test_one_of_three_files_fails(saving: Saving) -> None:
    """A file that can't be downloaded is one warning; the others are saved, and the exit is 9."""
    refused = failed(400, "bad_container")
    found = saving.run(citing("a", "b", "c"), downloads=[b"A", refused, b"C"])
    assert names(found) == ["wrote_artifact", "warning", "wrote_artifact", "final"]
    assert warnings(found) == ["Could not save b: HTTP 400"]
    assert (code(found), saving.content()) == (9, {"a": b"A", "c": b"C"})
    assert next_of(found) == ["oaibg", "show", "--artifacts-dir", str(saving.folder), "resp_1"]


@pytest.mark.parametrize("gone", [GONE, failed(404, envelope=False), failed(410)])
def test_expired_container(saving: Saving, gone: CallFailed) -> None:
    """The warning about a file that is gone says that containers expire."""
    found = saving.run(citing("a.csv"), image(PNG), downloads=[gone])
    (message,) = warnings(found)
    assert message == (
        f"Could not save a.csv: {gone.message}. Containers expire 20 minutes after their last use. "
        "The file is lost; only a new job can create it again."
    )
    assert (code(found), wrote(found), next_of(found)) == (9, ["ig_1.png"], None)


@pytest.mark.parametrize("other", [failed(500), failed(401, "no"), RESET], ids=str)
def test_lost_and_retryable_files(saving: Saving, other: CallFailed) -> None:
    """`next` is null only if every file that failed is lost, in whichever order they failed."""
    for output in ([image("?"), citing("a")], [citing("a"), image("?")]):
        found = saving.run(*output, downloads=[other])
        assert (code(found), len(warnings(found)), next_of(found) is None) == (9, 2, False)
    found = saving.run(image("?"), citing("a"), downloads=[GONE])
    assert (code(found), len(warnings(found)), next_of(found)) == (9, 2, None)


def test_passing_failures_are_retried(saving: Saving) -> None:
    """A download is repeated after failures that may pass, and starts anew each time."""
    found = saving.run(citing("a.csv"), downloads=[RESET, failed(500), failed(429), b"whole"])
    assert (code(found), saving.content()) == (0, {"a.csv": b"whole"})


def test_partial_download_is_dropped(saving: Saving) -> None:
    """What a broken download left is not part of the file."""
    download = saving.client.download_artifact

    async def break_once(*request: Any, **more: Any) -> None:
        await download(*request, **more)
        if len(saving.client.times("download_artifact")) == 1:
            raise RESET

    saving.client.download_artifact = break_once  # type: ignore[method-assign]
    found = saving.run(citing("a.csv"), downloads=[b"longer than the rest", b"whole"])
    assert (code(found), saving.content()) == (0, {"a.csv": b"whole"})


def test_lasting_failures_are_bounded(saving: Saving) -> None:
    """Retries of a file end after about 20 s, and the next file is tried all the same."""
    found = saving.run(citing("a", "b"), downloads=[failed(503)])
    assert len(warnings(found)) == 2
    assert all("HTTP 503" in message for message in warnings(found))
    assert saving.client.clock.time - 1000 < 60


def test_wait_limit_bounds_the_downloads(saving: Saving) -> None:
    """Downloads end with the wait limit: a file after it has a second, and is not retried."""
    found = saving.run(citing("a", "b", "c"), downloads=[1000.0], wait=Wait(max_wait_seconds=12.0))
    assert len(warnings(found)) == 3
    assert saving.client.clock.time - 1000 <= 12 + 3
    assert code(found) == 9


def test_refused_key(saving: Saving) -> None:
    """A key that may not read files is a warning, and the job's end is still reported."""
    found = saving.run(citing("a"), image(PNG), downloads=[failed(401, "no")])
    assert names(found) == ["warning", "wrote_artifact", "final"]
    assert warnings(found) == ["Could not save a: The API refused the API key: HTTP 401"]


def test_unwritable_directory(saving: Saving) -> None:
    """A directory that can't be created is one warning per file, which names the path."""
    saving.folder = saving.folder / "missing" / "deeper"
    found = saving.run(image(PNG), citing("a.csv"))
    assert warnings(found) == [
        f"Could not write {saving.folder}/{name}: No such file or directory."
        for name in ("ig_1", "a.csv")
    ]
    assert code(found) == 9


def test_full_disk(saving: Saving, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up is a warning, leaves no part of a file, and the others are tried."""
    full = iter([True, False])
    fsync = os.fsync

    def fail_once(descriptor: int) -> None:
        if next(full, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    found = saving.run(image(PNG, id="a"), image(GIF, id="b"))
    assert warnings(found) == [f"Could not write {saving.folder}/a: No space left on device."]
    assert [path.name for path in saving.folder.iterdir()] == ["b.gif"]


def test_partial_output_is_saved(saving: Saving) -> None:
    """The artifacts of a job that ended without success are saved as well; the exit stays 4."""
    saving.client.retrieves = [response("incomplete", output=[image(PNG), image("?", id="x")])]
    context = fake_context(saving.client, output=Output(artifacts_dir=str(saving.folder)))
    found = collect(
        lambda context: commands.monitor(Target(response_id="resp_1"), Job("resp_1"), context),
        context,
    )
    assert (code(found), wrote(found), len(warnings(found))) == (4, ["ig_1.png"], 1)


def test_folder_of_a_job_that_is_a_link(saving: Saving, tmp_path: Path) -> None:
    """In a run over several jobs, a job's folder that is a link elsewhere is not used."""
    (tmp_path / "elsewhere").mkdir()
    saving.folder.mkdir()
    (saving.folder / "resp_1").symlink_to(tmp_path / "elsewhere")
    saving.client.retrieves = [response("completed", output=[image(PNG)])]
    context = fake_context(saving.client, output=Output(artifacts_dir=str(saving.folder))).but(
        shared=Shared(several=True)
    )
    found = collect(
        lambda context: commands.monitor(Target(response_id="resp_1"), Job("resp_1"), context),
        context,
    )
    assert warnings(found) == [f"Could not write {saving.folder}/resp_1/ig_1: Not a directory."]
    assert list((tmp_path / "elsewhere").iterdir()) == []
