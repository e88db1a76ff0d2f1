"""New files that must not replace any other."""

from __future__ import annotations

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from oaibg.base.file_names import numbered
from oaibg.base.files import new_file, save, settle

if TYPE_CHECKING:
    from pathlib import Path


def settled(folder: Path, content: bytes) -> str:
    """Save a file as `a.csv`, or under the next free name."""
    with new_file(str(folder)) as file:
        file.write(content)
        return settle(file, (str(folder / name) for name in numbered("a.csv")))


def test_writers_never_replace_each_other(tmp_path: Path) -> None:
    """Writers that want the same name at once each get one; equal contents share one."""
    contents = [b"%d" % (number % 8) * 100_000 for number in range(32)]
    with ThreadPoolExecutor(16) as pool:
        paths = list(pool.map(lambda content: settled(tmp_path, content), contents))
    assert len(set(paths)) == 8
    for path, content in zip(paths, contents, strict=True):
        assert (tmp_path / path).read_bytes() == content
    (tmp_path / "usual").touch()
    assert len(list(tmp_path.iterdir())) == 9
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    """If no path is free, or the writer fails, no temporary file stays."""
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(FileExistsError), new_file(str(tmp_path)) as file:
        settle(file, (str(tmp_path / name) for name in islice(numbered("a.csv"), 1)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("full", [fcntl.F_GETFD, 0x7777], ids=["supported", "not supported"])
def test_full_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: int) -> None:
    """On macOS, a file is written to the disk itself, or synced as usual if that is impossible."""
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", full, raising=False)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    save(str(tmp_path / "a"), b"x")
    assert (tmp_path / "a").read_bytes() == b"x"
    assert bool(synced) == (full == 0x7777)
