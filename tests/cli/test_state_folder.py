"""Where the local state is: an absolute path that the working directory does not change."""

from __future__ import annotations

import pwd
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.row("The directory of the local state is a relative path, or unknown")

KEYED = ("submit", "--prompt", "x", "--job-key", "k", "--detach")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home directory, which HOME and the system's list of users name."""
    home = tmp_path / "home"
    home.mkdir()

    def entry(_: object) -> pwd.struct_passwd:
        return pwd.struct_passwd(("u", "x", 1, 1, "", str(home), "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwuid", entry)
    monkeypatch.setenv("HOME", str(home))
    return home


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str | None]) -> None:
    """Set environment variables; None unsets one."""
    for name, value in {"OAIBG_STATE_DIR": None, "XDG_CONFIG_HOME": None, **variables}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, ".config/oaibg"),
        ({"HOME": None}, ".config/oaibg"),
        ({"HOME": ""}, ".config/oaibg"),
        ({"HOME": "."}, ".config/oaibg"),
        ({"XDG_CONFIG_HOME": ""}, ".config/oaibg"),
        ({"XDG_CONFIG_HOME": "conf"}, ".config/oaibg"),
        ({"OAIBG_STATE_DIR": ""}, ".config/oaibg"),
        ({"OAIBG_STATE_DIR": "~/mine"}, "mine"),
        ({"OAIBG_STATE_DIR": "~"}, "."),
        ({"OAIBG_STATE_DIR": "~/mine", "HOME": ""}, "mine"),
    ],
)
def test_one_place_from_every_directory(
    run: Callable[..., Result],
    sandbox: Sandbox,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str | None],
    place: str,
) -> None:
    """A job key is the same key in every working directory, and its state is in the home."""
    if sys.platform == "darwin" and place.startswith(".config"):
        pytest.skip("macOS has another default")
    set_all(monkeypatch, variables)
    ids = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        ids.append(run(*KEYED).id)
        assert list((tmp_path / name).iterdir()) == []
    assert ids == [*sandbox.jobs] * 2
    assert (home / place / "state.sqlite3").exists()


@pytest.mark.parametrize(
    "place", ["state", "./state", "../state", "$HOME/state", '"/tmp/x"', "~nobody-here/x", "C:\\x"]
)
@pytest.mark.parametrize("command", ["submit", "show", "monitor", "cancel"])
def test_relative_place(
    run: Callable[..., Result],
    sandbox: Sandbox,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    command: str,
) -> None:
    """A relative OAIBG_STATE_DIR is a usage error that says what to set; nothing is sent."""
    monkeypatch.setenv("OAIBG_STATE_DIR", place)
    result = run(*KEYED) if command == "submit" else run(command, "--job-key", "k")
    assert (result.code, result.last["event"], result.last["code"]) == (2, "error", "usage")
    assert result.last["outcome"] == ("not_created" if command == "submit" else None)
    assert place.strip() in result.last["message"].replace("\\\\", "\\")
    assert "OAIBG_STATE_DIR to an absolute path" in result.last["hint"]
    assert not sandbox.requests
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("variables", [{"HOME": None}, {"HOME": ""}, {"HOME": "x"}])
def test_unknown_home(
    run: Callable[..., Result],
    sandbox: Sandbox,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str | None],
) -> None:
    """Without a home directory the state has no place: a usage error names OAIBG_STATE_DIR."""

    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    set_all(monkeypatch, variables)
    result = run(*KEYED)
    assert (result.code, result.last["event"], result.last["code"]) == (2, "error", "usage")
    assert "OAIBG_STATE_DIR" in result.last["hint"]
    assert not sandbox.requests
    assert list(folder.iterdir()) == []
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    assert run(*KEYED).code == 0
    assert (folder / "oaibg").is_dir()


def test_relative_place_and_a_lost_working_directory(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative OAIBG_STATE_DIR is the same usage error if the working directory is gone."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setenv("OAIBG_STATE_DIR", "state")
    gone.rmdir()
    result = run("show")
    assert (result.code, result.last["code"]) == (2, "usage")


@pytest.mark.parametrize("command", ["show", "monitor", "cancel"])
def test_key_in_another_state(
    run: Callable[..., Result],
    instant_sleep: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    """A key that the state doesn't have is an error that names the directory of the state."""
    run(*KEYED)
    other = str(tmp_path / "other")
    monkeypatch.setenv("OAIBG_STATE_DIR", other)
    by_option = run(command, "--job-key", "k")
    assert (by_option.code, by_option.last["code"]) == (5, "not_found")
    assert other in by_option.last["message"]
    assert "OAIBG_STATE_DIR" in by_option.last["hint"]
    by_name = run(command, "k")
    assert by_name.code == 5
    assert other in by_name.last["message"] + by_name.last["hint"]
    assert "OAIBG_STATE_DIR" in by_name.last["hint"]


@pytest.mark.parametrize("options", [(), ("--status", "failed"), ("--job-key", "k2")])
def test_empty_list(run: Callable[..., Result], state: Path, options: tuple[str, ...]) -> None:
    """A list without any job says in which directory the state is."""
    result = run("show", "--list", *options)
    assert (result.code, result.events) == (0, ["warning", "summary"])
    assert result.lines[0]["code"] == "state_empty"
    assert str(state) in result.lines[0]["message"]
    assert str(state) in run("show", "--list", *options, "--human").err
    assert "OAIBG_STATE_DIR" in result.lines[0]["message"]
    run(*KEYED)
    assert run("show", "--list").events == ["job", "summary"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--status", "failed"), "the status 'failed'"),
        (("--status", "refused"), "the status 'refused'"),
        (("--job-key", "k", "--status", "failed"), "the key 'k' and the status 'failed'"),
        (("--job-key", "k", "--limit", "1", "--status", "failed"), "the key 'k' and the status"),
    ],
)
def test_a_filter_that_nothing_passes(
    run: Callable[..., Result], state: Path, options: tuple[str, ...], words: str
) -> None:
    """If the state has other jobs, an empty list says which filter no job passes."""
    run(*KEYED)
    result = run("show", "--list", *options)
    assert (result.code, result.events) == (0, ["warning", "summary"])
    message = result.lines[0]["message"]
    assert message.startswith(f"No job in the local state in {state} has {words}")
    assert "OAIBG_STATE_DIR" not in message
