"""The help: its layout at any width, its defaults, examples and exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer.main

from oaibg.cli.app import app
from oaibg.cli.help_texts import COMMON, EXAMPLES, MORE_EXAMPLES, USAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Command, Result

COMMANDS = ("submit", "monitor", "cancel", "show")
EVERY = ((), ("--help",), *((name, "--help") for name in COMMANDS))
PARAMS = {name: command.params for name, command in typer.main.get_command(app).commands.items()}  # type: ignore[attr-defined]
BIN = Path(sys.executable).parent
ALL_EXAMPLES = [
    (name, example)
    for table in (EXAMPLES, MORE_EXAMPLES)
    for name, examples in table.items()
    for example in examples
]


def sections(text: str) -> dict[str, list[str]]:
    """Return the lines of a help by their headings."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if re.fullmatch(r"\S[\w ]*:", line):
            lines = found[line.rstrip(":")] = []
        elif line.startswith("  "):
            lines.append(line)
    return found


def help_of(run: Callable[..., Result], *argv: str) -> str:
    """Return the text of a help, which is printed without errors."""
    result = run(*argv, "--help")
    assert (result.code, result.err) == (0, "")
    return result.out.decode()


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_fits_one_line(run: Callable[..., Result], name: str) -> None:
    """In 80 columns, each option has one line with its text, under a heading."""
    text = help_of(run, name)
    assert max(map(len, text.splitlines())) < 80
    groups = sections(text)
    common = groups.pop("Common options")
    del groups["Examples"], groups["Exit codes"]
    groups.pop("More examples", None)
    lines = [line for group in groups.values() for line in group]
    options = [param.opts[0] for param in PARAMS[name] if param.param_type_name == "option"]
    arguments = [param.metavar for param in PARAMS[name] if param.param_type_name == "argument"]
    assert sorted(line.split()[0] for line in lines) == sorted([*options, *arguments, "--help,"])
    assert set(common) <= set(lines)
    for line in lines:
        assert re.fullmatch(r"  \S+( \S+)?  +\S.*\.", line), line
    assert len({len(re.match(r"  \S+( \S+)?  +", line)[0]) for line in lines}) == 1  # type: ignore[index]


def test_options_of_submit_are_grouped(run: Callable[..., Result]) -> None:
    """The options of submit are grouped, and the groups come in the order of their use."""
    assert list(sections(help_of(run, "submit"))) == [
        *("Examples", "Common options", "Exit codes"),
        *("Input", "Request", "Safety", "Many jobs", "Waiting", "Output", "Other"),
        "More examples",
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_first_screen_is_enough_to_start(run: Callable[..., Result], name: str) -> None:
    """The first 24 lines have the usage, three or four examples, and the common options."""
    screen = "\n".join(help_of(run, name).splitlines()[:24])
    assert screen.startswith(f"Usage: {USAGE[name][0]}\n")
    assert all(f" {form}\n" in screen for form in USAGE[name])
    groups = sections(screen)
    assert list(groups)[:2] == ["Examples", "Common options"]
    assert groups["Examples"] == [f"  {example}" for example in EXAMPLES[name]]
    assert 3 <= len(groups["Examples"]) <= 4
    assert [line.split()[0] for line in groups["Common options"]] == list(COMMON[name])
    assert list(sections(help_of(run, name)))[2] == "Exit codes"


@pytest.mark.parametrize("name", COMMANDS)
def test_usage_names_real_options(name: str) -> None:
    """Each option and value in the usage of a command exists, in its own spelling."""
    forms = {param.opts[0]: param.metavar for param in PARAMS[name]}
    for form in USAGE[name]:
        assert form.startswith(f"oaibg {name} ")
        for option, value in re.findall(r"(--[a-z-]+) ?([A-Z]*)", form):
            assert forms[option] == (value or None)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_h_is_help(run: Callable[..., Result], name: str) -> None:
    """-h prints what --help prints, also after other options."""
    plain = run(*name.split(), "--help")
    assert run(*name.split(), "-h").out == plain.out
    if name == "submit":
        assert run("submit", "--prompt", "x", "-h").out == plain.out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_value(run: Callable[..., Result], name: str) -> None:
    """If an option allows only certain values, the help names all of them."""
    words = re.findall(r"\w+", help_of(run, name))
    for param in PARAMS[name]:
        assert set(getattr(param.type, "choices", ())) <= set(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_are_true(run: Callable[..., Result], name: str) -> None:
    """The defaults in the help are the real defaults."""
    groups = sections(help_of(run, name))
    documented = {
        line.split()[0]: found[1] or found[2]
        for lines in groups.values()
        for line in lines
        if (found := re.search(r"(\w+) \(default\)|\(default: (?:.* )?([\w.-]+)\)", line))
    }
    defaults = {
        param.opts[0]: f"{param.default:g}"
        if param.type.name.startswith("seconds")
        else param.default
        for param in PARAMS[name]
        if param.param_type_name == "option" and param.default not in (None, False)
    }
    assert defaults.items() <= documented.items()
    assert set(documented) - set(defaults) <= {"--events", "--max-in-flight"}


def test_without_a_command_the_program_prints_its_help(run: Callable[..., Result]) -> None:
    """Without arguments, oaibg prints the help that --help prints: commands, example, options."""
    bare = run()
    assert bare.out == run("--help").out
    text = bare.out.decode()
    groups = sections(text)
    assert list(groups) == ["Commands", "Examples", "Options"]
    assert [line.split()[0] for line in groups["Commands"]] == list(COMMANDS)
    assert all(line.endswith(".") and "..." not in line for line in groups["Commands"])
    assert all(line.endswith(".") for line in groups["Options"])
    assert max(map(len, text.splitlines())) < 80
    assert len(text.splitlines()) <= 24
    assert "oaibg COMMAND --help" in text


@pytest.mark.parametrize("columns", [1, 20, 40, 80, 300])
@pytest.mark.parametrize("argv", EVERY, ids=" ".join)
def test_help_at_any_width(
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    argv: tuple[str, ...],
    columns: int,
) -> None:
    """At any width the help has the same words, unbroken, and no line exceeds the width."""
    wide = run(*argv).out.decode()
    monkeypatch.setenv("COLUMNS", str(columns))
    result = run(*argv)
    assert (result.code, result.err) == (0, "")
    text = result.out.decode()
    assert re.sub(r"\s", "", text) == re.sub(r"\s", "", wide)
    examples = "\n".join(example for _, example in ALL_EXAMPLES)
    rest = [line for line in text.splitlines() if line.strip() not in examples]
    if columns >= 40:
        assert text.split() == wide.split()
        assert max(map(len, rest)) < min(columns, 80)


@pytest.mark.process
def test_help_on_a_terminal_is_plain(command: Command) -> None:
    """A terminal gets the same plain text, without control codes, even with FORCE_COLOR."""
    plain = command.run("submit", "--help").out
    leader, follower = pty.openpty()
    color = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "80"}
    process = command.start("submit", "--help", stdout=follower, env=color)
    os.close(follower)
    read = b""
    try:
        while part := os.read(leader, 65536):
            read += part
    except OSError:
        pass  # Linux reports the closed other end as an error
    os.close(leader)
    assert process.wait(60) == 0
    assert read.replace(b"\r\n", b"\n") == plain


@pytest.mark.process
@pytest.mark.parametrize(("name", "example"), ALL_EXAMPLES)
def test_examples_run(
    run: Callable[..., Result], command: Command, tmp_path: Path, name: str, example: str
) -> None:
    """Each example is in its help, and succeeds in a shell unchanged, except for the IDs."""
    text = help_of(run, *(() if name == "oaibg" else (name,)))
    assert "\n  " + example.replace("\n", "\n  ") + "\n" in text
    (tmp_path / "task.md").write_text("Say it.")
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    lines = [
        f'{{"custom_id": "{number}", "method": "POST", "url": "/v1/responses", '
        f'"body": {{"input": "{number}"}}}}\n'
        for number in range(2)
    ]
    (tmp_path / "jobs.jsonl").write_text("".join(lines))
    quick = ("--poll-seconds", "0.05")
    first = command.run("submit", "--prompt", "x", "--job-key", "other", *quick)
    second = command.run("submit", "--prompt", "x", *quick)
    files = ("--jobs-file", str(tmp_path / "jobs.jsonl"), "--results-file", str(tmp_path / "r"))
    script = example.replace("resp_123", first.id).replace("resp_456", second.id)
    if "batch_123" in script:
        submitted = command.run("submit", *files, "--completion-window", "24h", *quick)
        ids = [line["response_id"] for line in submitted.lines if line["response_id"]]
        script = script.replace("batch_123", ids[0])
    if name != "submit":
        script = script.replace("report-7", "other")
    wait = " --poll-seconds 0.05" if "oaibg submit" in script or name == "monitor" else ""
    done = subprocess.run(
        ["/bin/sh", "-c", script + wait],
        env=command.environment | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.stderr == b"" or "--human" in script
    assert done.returncode == (4 if name == "cancel" else 0)


@pytest.mark.process
@pytest.mark.parametrize("argv", [*EVERY, ("--event-schema",)])
def test_help_without_docstrings(command: Command, argv: tuple[str, ...]) -> None:
    """PYTHONOPTIMIZE=2, which removes docstrings, leaves the help and the schema as they are."""
    stripped = command.run(*argv, fresh=True, env={"PYTHONOPTIMIZE": "2"})
    plain = command.run(*argv, fresh=True)
    assert (stripped.code, stripped.err) == (0, "")
    if argv == ("--event-schema",):
        descriptions = [one["description"] for one in json.loads(stripped.out)["oneOf"]]
        assert all(isinstance(one, str) for one in descriptions)
    else:
        assert stripped.out == plain.out
