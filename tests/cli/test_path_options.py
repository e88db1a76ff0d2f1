"""The options with paths: no command overwrites a file that it reads, or any other it must not."""

from __future__ import annotations

import os
import sys
from itertools import combinations, product
from typing import TYPE_CHECKING

import pytest
from typer.main import get_command

from oaibg.cli.app import app
from oaibg.cli.path_options import INPUTS, OUTPUTS
from oaibg.state.database import FILE
from runs import line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

READ = {
    "--prompt-file": "question",
    "--messages-json-file": '[{"role": "user", "content": "x"}]',
    "--input-json-file": '"x"',
    "--attach": "notes",
    "--tools-json-file": '[{"type": "web_search"}]',
    "--json-schema-file": '{"type": "object"}',
    "--body-json-file": '{"temperature": 1}',
    "--jobs-file": "",
}
"""The options that read a file, and a content that each of them takes."""

ALONE = ("--prompt-file", "--messages-json-file", "--input-json-file", "--jobs-file")
"""Those that need no other input."""

WRITTEN = ("--results-file", "--output-json-file", "--output-text-file", "--artifacts-dir")
FILES = WRITTEN[:3]
WAYS = ("name", "symlink", "dots", "hard link", "symlinked folder")


def same(path: Path, way: str) -> str:
    """Return another path of the same file."""
    other = path.with_name("other name")
    if way == "symlink":
        other.symlink_to(path)
    elif way == "hard link":
        other.hardlink_to(path)
    elif way == "dots":
        (path.parent / "sub").mkdir()
        other = path.parent / "sub" / ".." / path.name
    elif way == "symlinked folder":
        (path.parent / "link").symlink_to(path.parent)
        other = path.parent / "link" / path.name
    else:
        other = path
    return str(other)


def refused(result: Result, sandbox: Sandbox, *words: str) -> None:
    """Check that a command ended with a usage error before any request."""
    assert (result.code, result.events, result.last["code"]) == (2, ["error"], "usage")
    assert all(word in result.last["message"] for word in words), result.last["message"]
    assert not sandbox.requests


def test_each_path_option_is_in_the_table() -> None:
    """Each option that takes the path of a file or a directory is an input or an output."""
    commands = getattr(get_command(app), "commands")  # noqa: B009 - Typer's own type
    paths = {
        param.name
        for command in commands.values()
        for param in command.params
        if param.metavar in ("PATH", "DIR")
    }
    assert paths == {*INPUTS, *OUTPUTS}
    assert {f"--{name.replace('_', '-')}" for name in INPUTS} == READ.keys()
    assert {f"--{name.replace('_', '-')}" for name in OUTPUTS} == {*WRITTEN}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("reads", "writes"), list(product(READ, FILES)))
def test_an_output_that_is_an_input(
    run: Callable[..., Result],
    sandbox: Sandbox,
    tmp_path: Path,
    reads: str,
    writes: str,
    way: str,
) -> None:
    """An output file that is an input file, by any name, is refused and stays as it was."""
    path = tmp_path / "input.txt"
    content = READ[reads]
    path.write_text(content)
    prompt = () if reads in ALONE else ("--prompt", "x")
    argv = ("submit", *prompt, reads, str(path), writes, same(path, way))
    for more in ((), ("--dry-run",)):
        refused(run(*argv, *more), sandbox, reads, writes, "same file")
    assert path.read_text() == content


def test_an_output_that_a_pattern_attaches(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An output file that a pattern or a `~` of --attach finds is refused and stays."""
    (tmp_path / "a.md").write_text("notes")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for found in ("*.md", "~/a.md", str(tmp_path / "**")):
        argv = ("submit", "--prompt", "x", "--attach", found, "--output-text-file", "a.md")
        refused(run(*argv), sandbox, "--attach", "--output-text-file")
    assert (tmp_path / "a.md").read_text() == "notes"


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("one", "two"), list(combinations(FILES, 2)))
def test_two_outputs_that_are_one(
    run: Callable[..., Result],
    sandbox: Sandbox,
    tmp_path: Path,
    one: str,
    two: str,
    way: str,
    there: bool,
) -> None:
    """Two output files that are the same file are refused, also if it does not exist yet."""
    path = tmp_path / "out.txt"
    if there:
        path.write_text("")
    elif way == "hard link":
        return
    argv = ("submit", "--prompt", "x", one, str(path), two, same(path, way))
    refused(run(*argv), sandbox, one, two, "same file")


@pytest.mark.parametrize("command", ["monitor", "show"])
def test_two_outputs_of_other_commands(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, command: str
) -> None:
    """`monitor` and `show` refuse one file for two outputs before any request."""
    path = str(tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path)
    for one, two in combinations(WRITTEN[1:], 2):
        argv = (command, "resp_1", one, path, two, str(tmp_path / "link" / "out"))
        refused(run(*argv), sandbox, one, two)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.CSV"])
def test_the_lines_beside_a_table(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    """The JSON Lines beside a results table count as an output, too."""
    table = tmp_path / name
    lines = tmp_path / f"{name}.jsonl"
    lines.write_text("x")
    argv = ("submit", "--results-file", str(table))
    refused(run(*argv, "--jobs-file", str(lines)), sandbox, "--jobs-file", lines.name)
    taken = ("--jobs-file", str(table), "--artifacts-dir", str(lines))
    assert run(*argv[:1], *taken, *argv[1:]).code == 2
    assert lines.read_text() == "x"


@pytest.mark.parametrize("command", ["submit", "monitor", "show"])
@pytest.mark.parametrize(
    "name",
    [
        FILE,
        f"{FILE}-journal",
        f"{FILE}-wal",
        f"{FILE}.corrupt-1",
        "results/a.json",
        "locks/a",
        "shown-a",
    ],
)
def test_an_output_in_the_local_state(
    run: Callable[..., Result],
    sandbox: Sandbox,
    tmp_path: Path,
    state: Path,
    command: str,
    name: str,
) -> None:
    """No output file may be a file of the local state, or one that the state may create."""
    identifier = run("submit", "--prompt", "x", "--poll-seconds", "0.05").id
    (state / "locks").mkdir(exist_ok=True)
    before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    sandbox.clear()
    what = ("--prompt", "x") if command == "submit" else (identifier,)
    (tmp_path / "link").symlink_to(state)
    for option in WRITTEN[1:3]:
        for path in (state / name, tmp_path / "link" / name):
            refused(run(command, *what, option, str(path)), sandbox, option, "local state")
    assert {path: path.read_bytes() for path in state.rglob("*") if path.is_file()} == before


def test_a_hard_link_of_the_local_state(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, state: Path
) -> None:
    """A hard link to the database or to a stored result counts as the state's file."""
    run("submit", "--prompt", "x", "--poll-seconds", "0.05")
    sandbox.clear()
    (stored,) = (state / "results").iterdir()
    for number, path in enumerate((state / FILE, stored)):
        link = tmp_path / f"link {number}"
        link.hardlink_to(path)
        argv = ("submit", "--prompt", "x", "--output-text-file", str(link))
        refused(run(*argv), sandbox, "local state")
    files = tmp_path / "jobs.jsonl"
    files.write_text(f"{line('a')}")
    argv = ("submit", "--jobs-file", str(files), "--results-file", str(tmp_path / "link 1"))
    refused(run(*argv), sandbox, "local state")


@pytest.mark.parametrize("name", ["", "results", "locks"])
def test_artifacts_in_the_local_state(
    run: Callable[..., Result], sandbox: Sandbox, state: Path, name: str
) -> None:
    """Images and files of jobs, whose names a model chooses, are not saved in the local state."""
    run("submit", "--prompt", "x", "--poll-seconds", "0.05")
    sandbox.clear()
    argv = ("submit", "--prompt", "x", "--artifacts-dir", str(state / name))
    refused(run(*argv), sandbox, "--artifacts-dir", "local state")


def test_names_that_differ_in_case(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS, where case doesn't matter, two new names may be one file."""
    outputs = (
        ("--output-text-file", str(tmp_path / "a")),
        ("--output-json-file", str(tmp_path / "A")),
    )
    argv = ("submit", "--prompt", "x", "--poll-seconds", "0.05", *outputs[0], *outputs[1])
    monkeypatch.setattr(sys, "platform", "darwin")
    result = run(*argv)
    assert (result.code, len(sandbox.posts)) == (2, 0)
    assert "can't name the same file" in result.last["message"]
    monkeypatch.setattr(sys, "platform", "linux")
    assert run(*argv).code == 0


def test_the_local_state_in_capitals(
    run: Callable[..., Result], sandbox: Sandbox, state: Path
) -> None:
    """A file that may be one of the local state, where case doesn't matter, is not written."""
    state.mkdir()
    path = state / "STATE.sqlite3"
    result = run("submit", "--prompt", "x", "--output-text-file", str(path))
    assert (result.code, len(sandbox.posts)) == (2, 0)
    assert "belongs to the local state" in result.last["message"]


def test_files_beside_the_state(run: Callable[..., Result], sandbox: Sandbox, state: Path) -> None:
    """Other files in the state's directory are the user's: outputs may go there."""
    state.mkdir()
    argv = ("submit", "--prompt", "x", "--poll-seconds", "0.05")
    assert run(*argv, "--output-text-file", str(state / "answer.md")).code == 0
    assert (state / "answer.md").read_text()


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize("name", ["submit", "monitor", "show"])
def test_an_output_that_is_a_standard_stream(
    command: Command, sandbox: Sandbox, tmp_path: Path, name: str, stream: str
) -> None:
    """An output file that a standard stream reads or writes is refused before any request."""
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("question")
    link.hardlink_to(path)
    what = ("--prompt", "x") if name == "submit" else ("resp_1",)
    for output in (path, link):
        with path.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            argv = (name, *what, "--output-text-file", str(output))
            result = command.run(*argv, **{stream: file})
        assert result.code == 2
        assert not sandbox.requests
        assert path.read_text().startswith("question")


@pytest.mark.parametrize("name", ["a.xlsx", "A.XLS", "a.ods", "a.numbers", "a.parquet", "a.csv.gz"])
@pytest.mark.parametrize("command", ["submit", "monitor"])
def test_results_in_a_format_that_is_not_written(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, command: str, name: str
) -> None:
    """A results file named like a spreadsheet is refused before anything is sent."""
    jobs, path = tmp_path / "jobs.jsonl", tmp_path / name
    jobs.write_text('{"prompt": "a"}\n')
    rest = ("--jobs-file", str(jobs)) if command == "submit" else ("batch_123",)
    result = run(command, *rest, "--results-file", str(path))
    assert (result.code, result.last["code"]) == (2, "usage")
    assert result.last["message"].startswith(f"--results-file: {path} can't be written")
    assert "ends in .csv or .tsv" in result.last["hint"]
    assert not sandbox.requests
    assert not path.exists()
