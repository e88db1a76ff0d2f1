"""Malicious response IDs and texts, and a huge result."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from harness import with_text
from ledger import count
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

MALICIOUS = "\x1b]0;owned\x07[bold red]x[/] \u202egnp.exe \x9b31m \r\b \ud800 end"
MALICIOUS_TEXT = "Malicious text (escape sequences, bidi, Rich markup, lone surrogates)"


@pytest.mark.row("Malicious response IDs (`../x`, line breaks, 100 KB)")
@pytest.mark.parametrize("name", ["monitor", "cancel", "show"])
@pytest.mark.parametrize(
    "identifier", ["../x", "..", "", "a\nb", "resp_1\n", "a/b", "a?b", "a%2fb", "é", "x" * 100_000]
)
def test_malicious_response_id(
    run: Callable[..., Result], sandbox: Sandbox, name: str, identifier: str
) -> None:
    """A malformed response ID is a usage error, and no request is sent."""
    result = run(name, identifier)
    assert (result.code, result.last["code"], result.events) == (2, "usage", ["error"])
    assert not sandbox.requests
    count("fuzzed")


@pytest.mark.row(MALICIOUS_TEXT)
@pytest.mark.parametrize("human", [False, True])
def test_malicious_text(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, human: bool
) -> None:
    """Control characters in the API's texts reach files, but never the terminal."""
    identifier = run("submit", "--prompt", "x", "--detach").id
    body = json.dumps(with_text(MALICIOUS, model=MALICIOUS, status="completed"))
    sandbox.script(Fault(on="retrieve", kind="raw", body=body))
    out, text = tmp_path / "o.json", tmp_path / "o.md"
    result = run(
        *("monitor", identifier, "--show-output-text", *(("--human",) if human else ())),
        *("--output-json-file", str(out), "--output-text-file", str(text)),
    )
    assert result.code == 0
    assert out.read_text() == body
    assert text.read_bytes() == MALICIOUS.replace("\ud800", "\ufffd").encode()
    if human:
        shown = result.out.decode() + result.err
        assert "[bold red]x[/]" in shown
        assert not set(shown) & set("\x1b\x07\u202e\x9b\r\b")
    else:
        (text_line,) = [line["text"] for line in result.lines if line["event"] == "output_text"]
        assert text_line == MALICIOUS
        assert "text_replaced" in [line.get("code") for line in result.lines]


@pytest.mark.row(MALICIOUS_TEXT)
def test_malicious_error(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """Control characters in the API's error messages never reach the terminal."""
    body = {"error": {"message": MALICIOUS, "code": "[red]\x1b[1mc[/]"}}
    sandbox.script(Fault(on="create", kind="status", status=400, body=body))
    result = run("submit", "--prompt", "x", "--human")
    assert "[bold red]x[/]" in result.err
    assert not set(result.err) & set("\x1b\x07\u202e\x9b\r\b")


@pytest.mark.row("An output text of 100 MB")
def test_huge_output(command: Command, tmp_path: Path) -> None:
    """A result of 100 MB is saved with memory for at most seven copies."""
    out, text = tmp_path / "o.json", tmp_path / "o.md"
    process = command.start(
        *("submit", "--prompt", "x", "--metadata", "sandbox_bytes=100000000"),
        *("--poll-seconds", "0.1", "--output-json-file", str(out), "--output-text-file", str(text)),
        fresh=True,  # the memory is measured
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert text.stat().st_size == 100_000_000
    assert out.stat().st_size > 100_000_000
    assert usage.ru_maxrss * 1024 < 7 * 100_000_000
