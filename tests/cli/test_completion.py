"""Shell completion: the keys and IDs in the local state, and its scripts in real shells."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import environment
from runs import FAST, line
from terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Command, Result
    from oaibg.sandbox import Sandbox
    from runs import Files

PLACES = {
    "bash": (".bash_completions/oaibg.sh", ".bashrc"),
    "zsh": (".zfunc/_oaibg", ".zshrc"),
    "fish": (".config/fish/completions/oaibg.fish", None),
}
"""Where each shell's script is installed, and the start-up file that reads it, in the home."""

ODD = ("my key", "a:b=c", "it's $HOME", "lakes/1", "*")
"""Job keys that a shell must quote, or that bash takes for several words."""

_IN_CONTROL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Runs a shell with its terminal as the controlling one, without which fish does not start."""

CLEAR = "\x15\x0c"
"""Ctrl-U and Ctrl-L, which remove the line and clear the screen."""

WORDS = [
    ("mon", "monitor"),
    ("show my", r"show my\ key"),
    (r"show my\ k", r"show my\ key"),
    ('show "my', 'show "my key"'),
    ("show --job-key a:", "show --job-key a:b=c"),
    ("show a:b=", "show a:b=c"),
    ("cancel it", r"cancel it\'s\ \$HOME"),
    ("monitor lak", "monitor lakes/1"),
    ("submit --reas", "submit --reasoning-effort"),
    ("submit --events=ch", "submit --events=changes"),
    ("show --list --status comp", "show --list --status completed"),
    ("submit --prompt-file .con", "submit --prompt-file .config/"),
    ("submit --prompt-file=.con", "submit --prompt-file=.config/"),
]
"""What is typed after the program's name, and what the Tab key makes of it."""


def is_in(part: str, text: str) -> bool:
    """Return whether a text has a part."""
    return part in text


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
    """Keys are offered, then the IDs of jobs without one, newest first; other IDs once begun.

    The jobs of a run are only offered by the run's key.
    """
    one = run("submit", "--prompt", "x", "--job-key", "rivers-1", *FAST).id
    files.write(line("a"))
    run(*files.argv("--job-key", "rivers-2"))
    two = run("submit", "--prompt", "y", *FAST).id
    for command in ("show", "monitor", "cancel", "submit --continue"):
        assert complete(f"oaibg {command} ") == ["rivers-2", "rivers-1", two]
        assert complete(f"oaibg {command} resp_") == [two, one]
        assert complete(f"oaibg {command} riv") == ["rivers-2", "rivers-1"]
    for command in ("show", "monitor", "cancel", "submit"):
        assert complete(f"oaibg {command} --job-key ") == ["rivers-2", "rivers-1"]
    run("submit", "--prompt", "z", "--model", "gpt-5-mini", *FAST)
    assert complete("oaibg submit --model ") == ["gpt-5-mini", "gpt-5.2"]


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


def test_a_state_that_can_not_be_read(
    command: Command, unprivileged: Callable[..., Result], state: Path
) -> None:
    """A local state that can't be read offers nothing, and no error is printed."""
    command.run("submit", "x", "--detach", "--job-key", "rivers")
    state.chmod(0)
    command.environment["_OAIBG_COMPLETE"] = "complete_fish"
    command.environment["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    command.environment["_TYPER_COMPLETE_ARGS"] = "oaibg monitor "
    result = unprivileged()
    state.chmod(0o700)
    assert (result.code, result.out.strip(), result.err) == (0, b"", "")


@pytest.fixture
def home(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty home directory, which the command uses."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("ZDOTDIR", "XDG_CONFIG_HOME", "SHELL"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.mark.parametrize("name", PLACES)
def test_installs_for_the_named_shell(
    run: Callable[..., Result], home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Completion is installed for the named shell, whichever shell is the user's."""
    monkeypatch.setenv("SHELL", "/bin/fish" if name == "bash" else "/bin/bash")
    script, startup = PLACES[name]
    old = b"alias ll='ls -l' # \xff"
    if startup:
        (home / startup).write_bytes(old)
    for _ in range(2):
        result = run("--install-completion", name)
        assert (result.code, result.err) == (0, "")
        assert str(home / script) in result.out.decode()
    written = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    assert written == {script, startup} - {None}
    assert "oaibg" in (home / script).read_text()
    if startup:
        expected = old + f"\nsource '{home / script}'\n".encode()
        assert (home / startup).read_bytes() == expected
    assert run("--show-completion", name).out.decode() == (home / script).read_text()


def test_other_directories(
    run: Callable[..., Result], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directories that zsh and fish are configured to use are respected."""
    for name in ("zsh", "fish"):
        (home / name).mkdir()
    monkeypatch.setenv("ZDOTDIR", str(home / "zsh"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    assert run("--install-completion=zsh").code == run("--install-completion=fish").code == 0
    assert (home / "zsh/.zshrc").exists()
    assert (home / "fish/completions/oaibg.fish").exists()


def test_without_a_shell_it_is_the_users(
    run: Callable[..., Result], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a value, --install-completion is for the user's own shell."""
    monkeypatch.setenv("SHELL", "/usr/local/bin/zsh")
    assert run("--install-completion").code == 0
    assert (home / ".zfunc/_oaibg").exists()
    assert b"#compdef oaibg" in run("--show-completion").out


@pytest.mark.parametrize(
    ("shell", "argv", "words"),
    [
        ("/bin/bash", ["tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        ("/bin/bash", ["zhs"], "Did you mean zsh?"),
        ("/bin/tcsh", [], "--install-completion needs a value"),
        (None, [], "SHELL is one of bash, zsh, fish."),
    ],
)
def test_an_unknown_shell(
    run: Callable[..., Result],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    shell: str | None,
    argv: list[str],
    words: str,
) -> None:
    """A shell without completion is one usage error, and nothing is written."""
    if shell is not None:
        monkeypatch.setenv("SHELL", shell)
    result = run("--install-completion", *argv)
    assert (result.code, result.events) == (2, ["error"])
    assert words in f"{result.last['message']} {result.last['hint']}"
    assert not [*home.iterdir()]


def test_a_home_that_can_not_be_written(run: Callable[..., Result], home: Path) -> None:
    """If the script can't be written, one usage error says where, and what to do instead."""
    (home / ".bash_completions").write_text("")
    result = run("--install-completion", "bash")
    assert (result.code, result.events) == (2, ["error"])
    assert str(home / ".bash_completions") in result.last["message"]
    assert "oaibg --show-completion bash" in result.last["hint"]


def test_a_home_that_is_unknown(
    run: Callable[..., Result], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home directory that is not an absolute path is a usage error."""
    monkeypatch.setenv("HOME", "home")
    result = run("--install-completion", "bash")
    assert (result.code, result.events) == (2, ["error"])
    assert "HOME" in result.last["message"]
    monkeypatch.setenv("HOME", str(home / "it's"))
    assert run("--install-completion", "bash").code == 0
    line = (home / "it's/.bashrc").read_text()
    assert shlex.split(line) == ["source", str(home / "it's/.bash_completions/oaibg.sh")]


def test_values_of_options(
    complete: Callable[[str], list[str]], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values of options that have a few are offered; nothing is run or installed."""
    monkeypatch.setenv("SHELL", "/bin/bash")
    assert complete("oaibg submit --reasoning-effort m") == ["minimal", "medium", "max"]
    assert complete("oaibg submit --verbosity ") == ["low", "medium", "high", "omit"]
    assert complete("oaibg submit --completion-window ") == ["soonest", "2h", "8h", "24h"]
    assert complete("oaibg submit --events=c") == ["changes"]
    assert complete("oaibg monitor --events ") == ["all", "changes", "summary"]
    assert complete("oaibg show --list --status c") == ["completed", "cancelled"]
    assert complete("oaibg --install-completion ") == ["bash", "zsh", "fish"]
    assert complete("oaibg --version --ev") == ["--event-schema"]
    assert complete("oaibg --show-completion bash --ev") == ["--event-schema"]
    assert complete("oaibg submit --prompt-file ") == []
    assert complete("oaibg m") == ["monitor"]
    assert complete("oaibg show --l") == ["--list", "--limit"]
    assert not [*home.iterdir()]


@pytest.fixture
def shell(command: Command, sandbox: Sandbox, state: Path, home: Path) -> Callable[[str], Terminal]:
    """Start an interactive shell with completion, in a terminal."""

    def start(name: str) -> Terminal:
        if shutil.which(name) is None:
            pytest.skip(f"needs {name}")
        (home / ".bashrc").write_text("PS1='ready> '")
        (home / ".zshrc").write_text("PS1='ready> '")
        (home / ".config/fish").mkdir(parents=True)
        prompt = "function fish_prompt; printf 'ready> '; end\n"
        (home / ".config/fish/config.fish").write_text(prompt)
        settings = environment(sandbox.base_url, state) | {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        installed = command.run("--install-completion", name, env={"HOME": str(home)})
        assert installed.code == 0
        program = (sys.executable, "-c", _IN_CONTROL)
        terminal = Terminal(name, "-i", environment=settings, folder=home, program=program)
        terminal.wait_for(lambda text: "ready>" in text)
        return terminal

    return start


@pytest.mark.process
@pytest.mark.parametrize("name", PLACES)
def test_in_a_shell(
    run: Callable[..., Result], shell: Callable[[str], Terminal], name: str
) -> None:
    """In a real shell, the Tab key completes keys, quoted if necessary, values, and files."""
    for key in ODD:
        run("submit", "--prompt", "x", "--job-key", key, "--detach")
    with shell(name) as terminal:
        for typed, completed in WORDS:
            terminal.press(f"oaibg {typed}\t")
            terminal.wait_for(partial(is_in, f"> oaibg {completed}"))
            terminal.press(CLEAR)
            terminal.wait_for(lambda text: text.strip() == "ready>")


@pytest.mark.process
@pytest.mark.parametrize("name", PLACES)
def test_a_shell_shows_the_newest_first(
    run: Callable[..., Result], shell: Callable[[str], Terminal], name: str
) -> None:
    """A real shell lists the keys in the order of the jobs, newest first."""
    for key in ("rivers-a", "rivers-c", "rivers-b"):
        run("submit", "--prompt", "x", "--job-key", key, "--detach")
    with shell(name) as terminal:
        terminal.press("oaibg show --job-key \t\t\t")
        words = ["rivers-b", "rivers-c", "rivers-a"]
        text = terminal.wait_for(lambda text: all(word in text for word in words))
        listed = text.partition("show --job-key")[2].split()
        assert [word for word in listed if word in words][-3:] == words
