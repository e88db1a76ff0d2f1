"""What a person at a terminal sees: `OAIBG_HUMAN`, one tip, and each usage error once."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from harness import environment
from terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command
    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process

SUBMIT = ("submit", "Say hello.", "--poll-seconds", "0.05")
TIP = "Tip: --human"


@pytest.fixture
def screen(sandbox: Sandbox, state: Path, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run the command in a terminal, and return its exit code and the terminal's text.

    `redirected` streams are written to files of their names.
    """

    def run_it(*argv: str, redirected: tuple[str, ...] = (), **more: str) -> tuple[int, str]:
        settings = environment(sandbox.base_url, state) | more
        with ExitStack() as stack:
            files: dict[str, Any] = {
                name: stack.enter_context((tmp_path / name).open("w")).fileno()
                for name in redirected
            }
            terminal = Terminal(*argv, environment=settings, columns=1000, **files)
            with terminal as shown:
                return shown.end(), shown.text

    return run_it


def is_json(text: str) -> bool:
    """Whether a text has a line of JSON."""
    return any(line.startswith("{") for line in text.splitlines())


@pytest.mark.parametrize("value", ["1", "true", "YES", "on", " 1 "])
def test_human_by_the_environment(screen: Callable[..., tuple[int, str]], value: str) -> None:
    """With `OAIBG_HUMAN`, a terminal gets human mode."""
    code, text = screen(*SUBMIT, OAIBG_HUMAN=value)
    assert code == 0
    assert not is_json(text)
    assert TIP not in text


@pytest.mark.parametrize("value", ["", "0", "false", "No", "off"])
def test_no_human_by_the_environment(screen: Callable[..., tuple[int, str]], value: str) -> None:
    """If `OAIBG_HUMAN` is empty or means no, a terminal gets JSON lines."""
    code, text = screen(*SUBMIT, OAIBG_HUMAN=value)
    assert code == 0
    assert is_json(text)
    assert (TIP in text) == (value == "")


def test_human_only_on_a_terminal(
    screen: Callable[..., tuple[int, str]], tmp_path: Path, command: Command
) -> None:
    """`OAIBG_HUMAN` changes nothing if stdout is a file or a pipe, whatever its value is."""
    code, text = screen(*SUBMIT, redirected=("stdout",), OAIBG_HUMAN="1")
    lines = [json.loads(line) for line in (tmp_path / "stdout").read_text().splitlines()]
    assert (code, text, lines[-1]["event"]) == (0, "", "final")
    for value in ("1", "maybe"):
        assert command.run(*SUBMIT, env={"OAIBG_HUMAN": value}).last["event"] == "final"


def test_human_if_only_stderr_is_redirected(
    screen: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """`OAIBG_HUMAN` needs only stdout to be a terminal."""
    code, text = screen(*SUBMIT, redirected=("stderr",), OAIBG_HUMAN="1")
    assert code == 0
    assert not is_json(text)
    assert (tmp_path / "stderr").read_text()


def test_invalid_value_of_the_variable(screen: Callable[..., tuple[int, str]]) -> None:
    """Any other value of `OAIBG_HUMAN` is a usage error, unless --human is given."""
    code, text = screen(*SUBMIT, OAIBG_HUMAN="maybe")
    assert code == 2
    assert text.splitlines() == [
        "Error: OAIBG_HUMAN is neither 1 nor 0: 'maybe'.",
        "Use 1 for human mode on a terminal, or 0 for JSON lines.",
    ]
    assert screen(*SUBMIT, "--human", OAIBG_HUMAN="maybe")[0] == 0


def test_output_text_is_unaffected(screen: Callable[..., tuple[int, str]]) -> None:
    """`show --output-text` prints the same text with and without `OAIBG_HUMAN`."""
    screen(*SUBMIT, "--metadata", "sandbox_text=**hello**")
    code, text = screen("show", "--output-text", OAIBG_HUMAN="1")
    assert (code, text.strip()) == (0, "**hello**")
    assert screen("show", "--output-text", "--human", OAIBG_HUMAN="1")[0] == 2


def test_errors_of_unreadable_options(screen: Callable[..., tuple[int, str]]) -> None:
    """With `OAIBG_HUMAN`, the error of an unknown option is printed as human mode prints it."""
    with_variable = screen("show", "--frobnicate", OAIBG_HUMAN="1")
    assert with_variable == screen("show", "--frobnicate", "--human")


def test_completion_ignores_the_variable(command: Command) -> None:
    """An invalid `OAIBG_HUMAN` doesn't disturb shell completion."""
    variables = {"_OAIBG_COMPLETE": "complete_bash", "COMP_WORDS": "oaibg sub", "COMP_CWORD": "1"}
    result = command.run(env={**variables, "OAIBG_HUMAN": "maybe"}, fresh=True)
    assert (result.err, b"submit" in result.out) == ("", True)


def test_tip_is_shown_once(screen: Callable[..., tuple[int, str]], state: Path) -> None:
    """The first run on a terminal prints a tip on stderr; later runs don't."""
    texts = [screen(*argv)[1] for argv in (SUBMIT, SUBMIT, ("show",), ("monitor",))]
    assert [text.count(TIP) for text in texts] == [1, 0, 0, 0]
    (line,) = [line for line in texts[0].splitlines() if TIP in line]
    assert "OAIBG_HUMAN=1" in line
    assert [path.stat().st_mode & 0o777 for path in state.glob("shown-*")] == [0o600]


@pytest.mark.parametrize("redirected", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_no_tip_without_a_terminal(
    screen: Callable[..., tuple[int, str]], tmp_path: Path, redirected: tuple[str, ...]
) -> None:
    """If stdout or stderr isn't a terminal, the tip waits for a run in which both are."""
    _, text = screen(*SUBMIT, redirected=redirected)
    assert TIP not in text + "".join((tmp_path / name).read_text() for name in redirected)
    assert TIP in screen(*SUBMIT)[1]


@pytest.mark.parametrize("argv", [(*SUBMIT, "--human"), ("show", "--output-text")])
def test_no_tip_without_json(screen: Callable[..., tuple[int, str]], argv: tuple[str, ...]) -> None:
    """Human mode and raw text have no tip."""
    assert TIP not in screen(*argv)[1]
    assert TIP in screen(*SUBMIT)[1]


def test_no_tip_if_the_state_cannot_be_written(
    screen: Callable[..., tuple[int, str]], state: Path
) -> None:
    """Without a local state, the run works as usual, and prints no tip."""
    state.write_text("a file, not a directory")
    code, text = screen(*SUBMIT)
    assert code == 0
    assert TIP not in text


USAGE_ERRORS = (
    ("submit", "--nonsense"),
    ("submit", "a", "b"),
    ("nonsense",),
    ("show", "a/b"),
    ("submit", "--prompt-file", "/no/such/file"),
    ("submit", "x", "--verbosity", "loud"),
)


@pytest.mark.parametrize("argv", USAGE_ERRORS, ids=" ".join)
def test_usage_error_is_printed_once(
    screen: Callable[..., tuple[int, str]], argv: tuple[str, ...]
) -> None:
    """On a terminal, a usage error is prose only."""
    code, text = screen(*argv)
    assert code == 2
    assert text.count("Error: ") == 1
    assert not is_json(text)


def test_late_usage_error_is_printed_once(screen: Callable[..., tuple[int, str]]) -> None:
    """On a terminal, a usage error that comes after other lines is prose only, too."""
    screen("submit", "a", "--job-key", "k", "--detach")
    code, text = screen("submit", "b", "--job-key", "k", "--detach")
    assert code == 2
    assert text.count("belongs to another request") == 1


@pytest.mark.parametrize("redirected", [("stdout",), ("stderr",), ("stdout", "stderr")])
@pytest.mark.parametrize("argv", USAGE_ERRORS[:3], ids=" ".join)
def test_usage_error_in_a_file(
    screen: Callable[..., tuple[int, str]],
    tmp_path: Path,
    argv: tuple[str, ...],
    redirected: tuple[str, ...],
) -> None:
    """If a stream is redirected, stdout has the JSON line, and stderr has the prose."""
    code, text = screen(*argv, redirected=redirected)
    streams = {name: (tmp_path / name).read_text() for name in redirected}
    out, err = streams.get("stdout", text), streams.get("stderr", text)
    (line,) = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert (line["event"], line["code"], line["exit_code"], code) == ("error", "usage", 2, 2)
    assert err.count("Error: ") == 1


def test_other_errors_keep_their_line(screen: Callable[..., tuple[int, str]]) -> None:
    """An error that isn't about usage ends the lines on stdout, also on a terminal."""
    code, text = screen("show", "resp_unknown")
    assert code == 5
    assert is_json(text)
    assert "Error: " in text


def test_typed_input(sandbox: Sandbox, state: Path) -> None:
    """A command that waits for typed input says how to end it."""
    settings = environment(sandbox.base_url, state)
    with Terminal("submit", "-", "--dry-run", environment=settings, columns=1000) as shown:
        shown.wait_for(lambda text: "press Ctrl-D" in text)
        shown.press("hello\n\x04")
        assert shown.end() == 0
        assert '"text":"hello' in shown.text
