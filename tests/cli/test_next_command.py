"""`next`: it works however the program was started, and whatever bytes the paths have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness import Command

PROGRAM = Path(sys.executable).parent / "oaibg"


@pytest.mark.process
@pytest.mark.parametrize("name", ["oaibg", "bg"])
def test_program_with_another_name(command: Command, tmp_path: Path, name: str) -> None:
    """`next` runs if the program was started by a symbolic link, from any directory."""
    started = tmp_path / name
    started.symlink_to(PROGRAM)
    environment = command.environment | {"PATH": "/usr/bin:/bin"}

    def end_of(*argv: str, cwd: str = "/") -> dict[str, Any]:
        done = subprocess.run(argv, check=False, env=environment, capture_output=True, cwd=cwd)
        last: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert last["exit_code"] == done.returncode == 0
        return last

    argv = ("submit", "--prompt", "x", "--detach", "--poll-seconds", "0.05")
    first = end_of(f"./{name}", *argv, cwd=str(tmp_path))
    assert end_of(*first["next"])["response_id"] == first["response_id"]


def in_utf8(line: dict[str, Any]) -> list[str]:
    """Return `next` as a JSON reader has it that accepts no lone surrogates."""
    return [word.encode(errors="replace").decode() for word in line["next"]]


@pytest.mark.process
@pytest.mark.parametrize("place", ["name", "directory"])
def test_output_path_that_is_not_utf8(command: Command, tmp_path: Path, place: str) -> None:
    """`next` writes to the same file, although its path has bytes that JSON can't represent."""
    path = os.fsencode(tmp_path) + b"/a 'b' %s $x \xff\xfe\\.md"
    if place == "directory":
        Path(os.fsdecode(path)).mkdir()
        path += b"/o.md"
    given = os.fsdecode(path) if place == "name" else "o.md"
    cwd = os.path.dirname(os.fsdecode(path))  # noqa: PTH120
    argv = ("submit", "--prompt", "x", "--detach", "--output-text-file", given)
    detached = command.run(*argv, cwd=cwd)
    assert detached.code == 0
    done = subprocess.run(
        in_utf8(detached.last), check=False, env=command.environment, capture_output=True, cwd="/"
    )
    last = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, last["response_id"], last["ok"]) == (0, detached.id, True)
    assert Path(os.fsdecode(path)).stat().st_size == last["output_text_bytes"]
