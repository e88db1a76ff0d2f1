"""Shell completion of the keys and IDs in the local state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runs import FAST, line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from runs import Files


@pytest.fixture
def complete(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], list[str]]:
    """Return what bash would offer for an incomplete command line."""
    from oaibg.cli.main import main

    def complete_it(words: str) -> list[str]:
        with monkeypatch.context() as patch:
            patch.setenv("_OAIBG_COMPLETE", "complete_bash")
            patch.setenv("COMP_WORDS", words)
            patch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
            capfd.readouterr()
            main([])
            return capfd.readouterr().out.split()

    return complete_it


def test_names_in_the_state(
    run: Callable[..., Result], files: Files, complete: Callable[[str], list[str]]
) -> None:
    """Keys and IDs are offered, newest first; the jobs of a run only by the run's key."""
    one = run("submit", "--prompt", "x", "--job-key", "rivers-1", *FAST).id
    files.write(line("a"))
    run(*files.argv("--job-key", "rivers-2"))
    two = run("submit", "--prompt", "y", *FAST).id
    for command in ("show", "monitor", "cancel", "submit --continue"):
        assert complete(f"oaibg {command} ") == [two, "rivers-2", "rivers-1", one]
        assert complete(f"oaibg {command} riv") == ["rivers-2", "rivers-1"]
    for command in ("show", "monitor", "cancel", "submit"):
        assert complete(f"oaibg {command} --job-key ") == ["rivers-2", "rivers-1"]


def test_no_state(complete: Callable[[str], list[str]], state: Path) -> None:
    """Without a local state, nothing is offered, and nothing is created."""
    assert complete("oaibg show ") == []
    assert not state.exists()
    state.mkdir()
    assert complete("oaibg show ") == []
    assert not [*state.iterdir()]


def test_a_state_that_is_damaged(complete: Callable[[str], list[str]], state: Path) -> None:
    """A damaged state offers nothing, and no error is printed."""
    state.mkdir()
    (state / "state.sqlite3").write_bytes(b"not a database" * 1000)
    assert complete("oaibg show ") == []
    assert [path.name for path in state.iterdir()] == ["state.sqlite3"]
