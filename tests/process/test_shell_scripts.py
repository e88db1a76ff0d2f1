"""The shell scripts in `examples/` that agents use, run against the sandbox."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from oaibg.sandbox import Fault
from places import EXAMPLES

if TYPE_CHECKING:
    from pathlib import Path

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
