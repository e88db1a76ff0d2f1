"""Start-up: what a command imports, how few files it needs, and how it was started."""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness import Command

pytestmark = pytest.mark.process


def loaded_by(command: Command, *argv: str) -> set[str]:
    """Run the command, and return the modules that it has imported at its end."""
    program = (
        "import os, sys; from oaibg.entry import entry; end = os._exit\n"
        "def report(code):\n"
        "    print(*sys.modules, file=sys.stderr, flush=True); end(code)\n"
        "os._exit = report; sys.argv = ['oaibg', *sys.argv[1:]]; entry()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *argv],
        env=command.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    ("argv", "absent"),
    [
        (("--version",), {"openai", "sqlite3", "asyncio", "rich"}),
        (("--help",), {"openai", "sqlite3", "asyncio", "rich", "genai_prices"}),
        (("submit", "--help"), {"openai", "sqlite3", "asyncio", "rich"}),
        (("submit",), {"openai", "sqlite3", "asyncio", "rich"}),
        (("submit", "--prompt", "x", "--dry-run"), {"openai", "sqlite3", "asyncio", "rich"}),
        (("submit", "--prompt", "x", "--dry-run"), {"genai_prices"}),
        (("submit", "--prompt", "x", "--detach"), {"rich", "genai_prices"}),
        (("show",), {"openai", "rich", "httpx2", "asyncio", "genai_prices"}),
        (("show", "--list"), {"openai", "rich", "httpx2", "asyncio", "genai_prices"}),
        (("monitor", "resp_1", "--max-wait-seconds", "1"), {"rich", "oaibg.sandbox"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_unused_libraries_are_not_imported(
    command: Command, argv: tuple[str, ...], absent: set[str]
) -> None:
    """A command does not import libraries that it does not use, so that it starts fast."""
    command.run("submit", "--prompt", "x", "--poll-seconds", "0.1")
    loaded = loaded_by(command, *argv)
    assert "oaibg.cli.app" in loaded
    assert not absent & loaded


def test_completion_imports_little(command: Command) -> None:
    """The completion of keys imports neither the SDK nor a network library."""
    command.run("submit", "x", "--detach", "--job-key", "rivers")
    command.environment["_OAIBG_COMPLETE"] = "complete_fish"
    command.environment["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    command.environment["_TYPER_COMPLETE_ARGS"] = "oaibg monitor riv"
    loaded = loaded_by(command)
    assert "oaibg.cli.known_names" in loaded
    assert not {"openai", "rich", "httpx2", "asyncio", "genai_prices"} & loaded
    assert command.run().out == b"rivers\n"


def test_few_open_files_are_enough(command: Command) -> None:
    """A run needs at most 24 file descriptors."""
    result = command.run(
        *("submit", "--prompt", "x", "--poll-seconds", "0.05"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)),
    )
    assert result.code == 0


def test_next_of_the_module(command: Command) -> None:
    """The `next` of `python -m oaibg` runs unchanged."""
    result = command.run("submit", "--prompt", "x", "--detach")
    done = subprocess.run(
        result.last["next"] + ["--poll-seconds", "0.05"],
        env=command.environment,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0


@pytest.mark.parametrize("model", ["gpt-5.2", "my-model"])
def test_no_price_list_for_the_text(command: Command, model: str) -> None:
    """`show --output-text` does not import the price list, whether the job has a price or not."""
    command.run("submit", "--prompt", "x", "--poll-seconds", "0.1", "--model", model)
    assert "genai_prices" not in loaded_by(command, "show", "--output-text")
