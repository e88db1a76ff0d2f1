"""The help, and what a wrong word is answered with."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer.main

from oaibg.cli import suggestions
from oaibg.cli.app import app
from oaibg.cli.help import EXAMPLES
from oaibg.contract.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Command, Result

COMMANDS = ("submit", "monitor", "cancel", "show")
EVERY = ((), ("--help",), *((name, "--help") for name in COMMANDS))
PARAMS = {name: command.params for name, command in typer.main.get_command(app).commands.items()}  # type: ignore[attr-defined]
BIN = Path(sys.executable).parent


def sections(text: str) -> dict[str, list[str]]:
    """The lines of a help by the heading above them."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if re.fullmatch(r"\S[\w ]*:", line):
            lines = found[line.rstrip(":")] = []
        elif line.startswith("  "):
            lines.append(line)
    return found


def help_of(run: Callable[..., Result], *argv: str) -> str:
    """A help's text."""
    result = run(*argv, "--help")
    assert (result.code, result.err) == (0, "")
    return result.out.decode()


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_one_line_each(run: Callable[..., Result], name: str) -> None:
    """In 80 columns each has its line, with its text beside it, under a heading."""
    text = help_of(run, name)
    assert max(map(len, text.splitlines())) < 80
    groups = sections(text)
    del groups["Examples"], groups["Exit codes"]
    lines = [line for group in groups.values() for line in group]
    options = [param.opts[0] for param in PARAMS[name] if param.param_type_name == "option"]
    arguments = [param.metavar for param in PARAMS[name] if param.param_type_name == "argument"]
    assert sorted(line.split()[0] for line in lines) == sorted([*options, *arguments, "--help"])
    for line in lines:
        assert re.fullmatch(r"  \S+( \S+)?  +\S.*\.", line), line
    assert len({len(re.match(r"  \S+( \S+)?  +", line)[0]) for line in lines}) == 1  # type: ignore[index]


def test_options_of_submit_are_grouped(run: Callable[..., Result]) -> None:
    """What belongs together stands together, and what is needed first comes first."""
    assert list(sections(help_of(run, "submit"))) == [
        *("Input", "Request", "Safety", "Many jobs", "Waiting", "Output", "Other"),
        *("Examples", "Exit codes"),
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_value_is_named(run: Callable[..., Result], name: str) -> None:
    """Where only some values are allowed the help has them all."""
    words = re.findall(r"\w+", help_of(run, name))
    for param in PARAMS[name]:
        assert set(getattr(param.type, "choices", ())) <= set(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_are_true(run: Callable[..., Result], name: str) -> None:
    """A default that the help tells is the one that holds."""
    groups = sections(help_of(run, name))
    told = {
        line.split()[0]: found[1] or found[2]
        for lines in groups.values()
        for line in lines
        if (found := re.search(r"(\w+) \(default\)|\(default: (?:.* )?([\w.-]+)\)", line))
    }
    defaults = {
        param.opts[0]: f"{param.default:g}" if param.type.name == "seconds" else param.default
        for param in PARAMS[name]
        if param.param_type_name == "option" and param.default not in (None, False)
    }
    assert defaults.items() <= told.items()
    assert set(told) - set(defaults) <= {"--events", "--max-in-flight"}


def test_the_program_alone_shows_its_commands(run: Callable[..., Result]) -> None:
    """What it is, the four commands whole, a first example, the options, and where to look next."""
    alone = run()
    assert alone.out == run("--help").out
    text = alone.out.decode()
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
    """The words are the same however many columns there are, and they stay whole and within."""
    wide = run(*argv).out.decode()
    monkeypatch.setenv("COLUMNS", str(columns))
    result = run(*argv)
    assert (result.code, result.err) == (0, "")
    text = result.out.decode()
    assert re.sub(r"\s", "", text) == re.sub(r"\s", "", wide)
    examples = "\n".join(line for lines in EXAMPLES.values() for line in lines)
    rest = [line for line in text.splitlines() if line.strip() not in examples]
    if columns >= 40:
        assert text.split() == wide.split()
        assert max(map(len, rest)) < min(columns, 80)


@pytest.mark.process
def test_help_on_a_terminal_is_plain(command: Command) -> None:
    """Also where colour is asked for: the same text, without a code that steers the terminal."""
    plain = command.run("submit", "--help").out
    leader, follower = pty.openpty()
    wish = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "80"}
    process = command.start("submit", "--help", stdout=follower, env=wish)
    os.close(follower)
    read = b""
    try:
        while part := os.read(leader, 65536):
            read += part
    except OSError:
        pass  # how Linux tells that the other end is closed
    os.close(leader)
    assert process.wait(30) == 0
    assert read.replace(b"\r\n", b"\n") == plain


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "example"),
    [(name, example) for name, examples in EXAMPLES.items() for example in examples],
)
def test_examples_run(
    run: Callable[..., Result], command: Command, tmp_path: Path, name: str, example: str
) -> None:
    """Each is in its help, and a shell runs it as it stands, but for the ids."""
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
        timeout=60,
    )
    assert done.stderr == b""
    assert done.returncode == (4 if name == "cancel" else 0)


@pytest.mark.parametrize("name", COMMANDS)
def test_exit_codes(run: Callable[..., Result], name: str) -> None:
    """The help of a command lists every exit code with its meaning."""
    lines = [line.split(maxsplit=1) for line in sections(help_of(run, name))["Exit codes"]]
    assert lines == [[str(int(code)), code.meaning] for code in ExitCode]


def wrong(run: Callable[..., Result], *argv: str) -> str:
    """The hint of a usage error, which nothing was sent for and which people read on stderr."""
    result = run(*argv)
    last = result.last
    assert (result.code, last["event"], last["code"]) == (2, "error", "usage")
    assert result.err == f"Error: {last['message']}\n{last['hint']}\n"
    assert result.events == ["error"]
    return str(last["hint"])


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("submit --prom x", "Did you mean --prompt?"),
        ("submit --promtp x", "Did you mean --prompt?"),
        ("submit --prev x", "Did you mean --previous-response-id?"),
        ("submit --Prompt x", "Did you mean --prompt?"),
        ("submit --reasoning_effort low", "Did you mean --reasoning-effort?"),
        ("submit --file x", "Did you mean --prompt-file or --input-json-file?"),
        ("submit --output x", "Did you mean --output-text-file or --output-json-file?"),
        ("submit --output-file x", "Did you mean --output-text-file or --output-json-file?"),
        ("submit --out x", "Did you mean --output-text-file or --output-json-file?"),
        ("show -o x", "Did you mean --output-text-file or --output-json-file?"),
        ("submit --wait 5", "Did you mean --max-wait-seconds?"),
        ("submit --timeout 5", "Did you mean --max-wait-seconds?"),
        ("monitor --max-wait=5", "Did you mean --max-wait-seconds?"),
        ("submit --interval 5", "Did you mean --poll-seconds?"),
        ("submit --effort low", "Did you mean --reasoning-effort?"),
        ("submit --key k", "Did you mean --job-key?"),
        ("submit --text x", "Did you mean --prompt or --show-output-text?"),
        ("show --text", "Did you mean --output-text?"),
        ("submit --tools x", "Did you mean --tools-json-file?"),
        ("submit --schema x", "Did you mean --json-schema-file?"),
        ("submit --system x", "Did you mean --system-prompt?"),
        ("submit --messages x", "Did you mean --messages-json-file?"),
        ("submit --input x", "Did you mean --prompt-file or --input-json-file?"),
        ("submit --window 2h", "Did you mean --completion-window?"),
        ("submit --no-wait", "Did you mean --detach?"),
        ("submit --id resp_1", "Did you mean --previous-response-id?"),
        ("-h", "Did you mean --help?"),
        ("submit -h", "Did you mean --help?"),
        ("--verison", "Did you mean --version?"),
        ("submit --json", "--output-json-file saves"),
        ("show --follow", "--stream tells each step"),
        ("submit --background", "--detach ends without waiting"),
        ("submit --store", "--body-json-file"),
        ("submit --temperature 1", "--body-json-file"),
        ("submit --top-p=1", "--body-json-file"),
        ("submit --api-key x", "OPENAI_API_KEY"),
        ("--base-url x submit", "OPENAI_BASE_URL"),
        ("monitor --response-id resp_1", "The id is an argument: oaibg monitor RESPONSE_ID."),
        ("show --id resp_1", "The id is an argument: oaibg show RESPONSE_ID."),
        ("monitor --prompt x", "--prompt is an option of `oaibg submit`."),
        ("submit --list", "--list is an option of `oaibg show`."),
        (
            "show --timeout 5",
            "--max-wait-seconds is an option of `oaibg submit` and `oaibg monitor`.",
        ),
        ("submit --event-schema", "--event-schema is an option of `oaibg`."),
        ("--job-key x submit", "It goes after the command: oaibg submit --job-key."),
        ("--job-key x show", "It goes after the command: oaibg show --job-key."),
        ("--timeout 5 monitor x", "It goes after the command: oaibg monitor --max-wait-seconds."),
        ("--prompt x", "It goes after the command: oaibg submit --prompt."),
    ],
)
def test_wrong_option(run: Callable[..., Result], line: str, meant: str) -> None:
    """The right one is told, or where what was asked for goes instead."""
    hint = wrong(run, *line.split())
    assert meant in hint
    assert hint.endswith(" --help'.")


def test_option_that_is_like_no_other(run: Callable[..., Result]) -> None:
    """Nothing is guessed; where to look is told."""
    assert wrong(run, "show", "--frobnicate") == "Try 'oaibg show --help'."


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("submit --reasoning-effort hi", "high"),
        ("submit --reasoning-effort MEDIUM", "medium"),
        ("submit --reasoning-effort maximum", "max"),
        ("submit --verbosity hight", "high"),
        ("submit --completion-window 24", "24h"),
        ("monitor x --events change", "changes"),
    ],
)
def test_wrong_value(run: Callable[..., Result], line: str, meant: str) -> None:
    """The value that is most like it is told."""
    assert f"Did you mean {meant}?" in wrong(run, *line.split())


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("submit --poll-seconds abc", "'abc' is not a number of seconds above 0."),
        ("submit --poll-seconds 0", "'0' is not a number of seconds above 0."),
        ("monitor x --max-wait-seconds nan", "'nan' is not a number of seconds above 0."),
        ("submit --max-output-tokens many", "'many' is not a whole number of 1 or more."),
        ("submit --max-output-tokens 0", "'0' is not a whole number of 1 or more."),
        ("submit --starting-after -1", "'-1' is not a whole number of 0 or more."),
        ("submit --max-in-flight 100001", "'100001' is not a whole number from 1 to 100000."),
        ("show --list --limit 1.5", "'1.5' is not a whole number from 1 to 2147483647."),
        ("submit --prompt", "--prompt needs a value: --prompt TEXT."),
        ("submit --dry-run=yes", "--dry-run takes no value."),
    ],
)
def test_value_that_is_none(run: Callable[..., Result], line: str, told: str) -> None:
    """What is expected is told in plain words."""
    wrong(run, *line.split())
    assert told in run(*line.split()).last["message"]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        *(
            (words, f"Did you mean `oaibg {meant}`?")
            for words, meant in suggestions.COMMANDS.items()
        ),
        ("submti sumbit", "Did you mean `oaibg submit`?"),
        ("lst", "Did you mean `oaibg show --list`?"),
        ("resp_123", "`oaibg monitor resp_123` follows"),
        ("batch_123", "`oaibg show batch_123` looks once"),
    ],
)
def test_wrong_command(run: Callable[..., Result], words: str, meant: str) -> None:
    """A word that other tools have, or one that is nearly right, leads to the command."""
    for word in words.split():
        assert meant in wrong(run, word, "resp_1")


def test_prompt_without_its_option(run: Callable[..., Result]) -> None:
    """It is told where a prompt goes, and the prompt itself is not told again."""
    for argv in (("submit", "my secret"), ("my secret",), ("submit", "my", "secret")):
        assert "--prompt" in wrong(run, *argv)
        assert b"secret" not in run(*argv).out


def test_file_without_its_option(run: Callable[..., Result], tmp_path: Path) -> None:
    """A file is no prompt: the option that reads it is named."""
    (tmp_path / "task.md").write_text("x")
    assert "--prompt-file" in wrong(run, "submit", str(tmp_path / "task.md"))


def test_second_id_for_show(run: Callable[..., Result]) -> None:
    """It takes one, and the command that takes several is named."""
    assert "`oaibg monitor` takes several" in wrong(run, "show", "resp_1", "resp_2")


def test_synonyms_lead_somewhere(run: Callable[..., Result]) -> None:
    """Every option and command that a suggestion names exists, and no synonym does."""
    everywhere = "".join(help_of(run, *argv[:1]) for argv in EVERY)
    exist = set(re.findall(r"(?m)^  (--[a-z-]+)", everywhere))
    for words, meant in suggestions.OPTIONS.items():
        assert set(re.findall(r"--[a-z-]+", meant)) <= exist
        assert not set(words.split()) & exist
    for words, meant in suggestions.COMMANDS.items():
        assert set(re.findall(r"--[a-z-]+", meant)) <= exist
        assert {meant.split()[0]} <= {*COMMANDS, "--help", "--version"}
        assert not set(words.split()) & set(COMMANDS)
    every = [word for words in suggestions.OPTIONS for word in words.split()]
    assert len(every) == len(set(every))
