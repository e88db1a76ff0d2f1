"""Output files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

FAST = ("--poll-seconds", "0.05")


def test_response_is_stored_byte_for_byte(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """A response keeps unknown keys and spellings in the file, in `show` and in the local state."""
    started = run("submit", "--prompt", "x", "--detach")
    odd = (
        f'{{ "id":"{started.id}","status" : "completed", "model":null, "zzz": [1.0, 1e3],'
        '"output":[{"type":"hologram","data":"\\ud83d\\ude00"}], "usage": null }'
    )
    sandbox.script(Fault(on="retrieve", kind="raw", body=odd, times=1))
    out, shown = tmp_path / "o.json", tmp_path / "s.json"
    assert run("monitor", started.id, "--output-json-file", str(out)).code == 0
    assert out.read_text() == odd
    sandbox.forget(started.id)
    result = run("show")
    assert result.last["source"] == "local"
    assert result.last["response"] == json.loads(odd)
    assert run("show", "--output-json-file", str(shown)).last["response"] is None
    assert shown.read_text() == odd


def test_unusual_output_files(run: Callable[..., Result], tmp_path: Path) -> None:
    """Output files may be the null device or have long names, but not be one file twice."""
    null = ("--output-json-file", "/dev/null", "--output-text-file", "/dev/null")
    assert run("submit", "--prompt", "x", *null, *FAST).code == 0
    (tmp_path / "a").touch()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    same = ("--output-json-file", str(tmp_path / "a"), "--output-text-file", str(tmp_path / "b"))
    assert run("submit", "--prompt", "x", *same).code == 2
    long = tmp_path / ("\u6f22" * 84)
    assert run("submit", "--prompt", "x", "--output-text-file", str(long), *FAST).code == 0
    assert long.exists()
