"""The shell scripts in `examples/`, run against the sandbox."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import environment
from oaibg.sandbox import Fault
from places import EXAMPLES, ROOT
from terminal import Terminal

if TYPE_CHECKING:
    from harness import Command
    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_examples_for_agents(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    """`resume.sh` follows `next` until the job ends, and `outcome.jq` prints the outcome."""
    answer = tmp_path / "answer.md"
    (tmp_path / "oaibg").write_text(f'#!/bin/sh\nexec {sys.executable} -m oaibg "$@"\n')
    (tmp_path / "oaibg").chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLICE_SECONDS": "9",
        "RETRY_SECONDS": "0",
        "TRIES": "30",
    }
    messages = tmp_path / "m.json"
    messages.write_text('[{"role": "user", "content": "x"}]')
    sandbox.script(Fault(on="retrieve", kind="raw", body='{"status":"in_progress"}', times=1))
    argv = ["sh", str(EXAMPLES / "resume.sh"), "key", str(messages), str(answer)]
    environment = command.environment | variables
    done = subprocess.run(argv, env=environment, capture_output=True, check=False, timeout=180)
    assert (done.returncode, len(sandbox.posts)) == (0, 1)
    assert b'"exit_code":3' in done.stderr
    assert answer.read_text().startswith("The sandbox")
    gone = environment | {
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "TRIES": "2",
        "SLICE_SECONDS": "4",
    }
    unavailable = subprocess.run(argv, env=gone, capture_output=True, check=False, timeout=180)
    assert unavailable.returncode == 7
    printed = subprocess.run(
        ["jq", "-r", "-f", str(EXAMPLES / "outcome.jq")],
        input=command.run("show", "resp_unknown").out,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert printed.stdout.startswith(b"resp_unknown: not_found (exit 5): No such response")


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        ("refusal", b"refused: No."),
        ("function_call", b"waiting for get_weather"),
        ("approval", b"waiting for delete_file"),
    ],
)
def test_outcome_of_a_job_that_needs_action(command: Command, outcome: str, why: bytes) -> None:
    """`outcome.jq` prints the refusal, or the names of the calls that wait."""
    settings = ("--metadata", f"sandbox_outcome={outcome}", "--metadata", "sandbox_text=No.")
    printed = subprocess.run(
        ["jq", "-r", "-f", str(EXAMPLES / "outcome.jq")],
        input=command.run("submit", "--prompt", "x", "--poll-seconds", "0.05", *settings).out,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert b": completed (exit 10): " + why in printed.stdout


def printed_commands(text: str) -> list[tuple[str, str]]:
    """The commands after `$ `, which a backslash continues, and their exit codes."""
    parts = re.findall(r"^\$ ((?:.*\\\n)*.*)$|^\(exit code (\d+)\)$", text, re.MULTILINE)
    found: list[tuple[str, str]] = []
    for command, code in parts:
        found = [*found, (command, "0")] if command else [*found[:-1], (found[-1][0], code)]
    return found


def test_demo(tmp_path: Path) -> None:
    """The demo shows a person's view live, then the lines; its commands work if pasted."""
    settings = environment("unused", tmp_path / "state") | {"TMPDIR": str(tmp_path)}
    settings["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{settings['PATH']}"
    script = str(EXAMPLES / "demo.sh")
    with Terminal(script, program=("sh",), environment=settings, rows=500) as screen:
        screen.wait_for(lambda text: "next poll" in text)
        screen.wait_for(lambda text: re.search(r"of 12 done +━", text))
        assert screen.end() == 0, screen.text
        shown = screen.text
    assert re.search(r"^ *Recommendation$", shown, re.MULTILINE)
    words = re.sub(r"^[^#$ ].*", "", shown, flags=re.MULTILINE)
    assert max(map(len, words.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == []

    commands = printed_commands(shown)
    assert [code for _, code in commands if code != "0"] == ["4", "4"]
    lines = [f"{command}\n[ $? = {code} ] || exit 9" for command, code in commands]
    with subprocess.Popen(
        ["bash", "-c", "\n".join(lines)],
        cwd=ROOT,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as shell:
        try:
            code = shell.wait(120)
        finally:
            os.killpg(shell.pid, signal.SIGKILL)
    assert code == 0
