"""The skill's scripts accept the options of the scripts that they replace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agent_shell import LONG, MONITOR, RUN, agent_shell
from outputs import bring, completed, message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent_shell import Shell
    from forkserver import ForkServer
    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process

BEGIN, END = b"===OUTPUT_TEXT_BEGIN===", b"===OUTPUT_TEXT_END==="
SETTINGS = (
    *("--model", "m", "--verbosity", "low", "--reasoning-effort", "xhigh"),
    *("--poll-seconds", "0.1", "--max-wait-seconds", "0"),
)
WAITING = ("--poll-seconds", "0.1", "--max-wait-seconds", "0")
TEXT = ("--show-output-text", "--text-markers", "--output-json-file", "response.json")
MESSAGES = [{"role": "user", "content": "x"}]


@pytest.fixture
def shell(sandbox: Sandbox, state: Path, tmp_path: Path, forks: ForkServer) -> Iterator[Shell]:
    """An agent's shell."""
    with agent_shell(sandbox, state, tmp_path, forks) as shell:
        yield shell


def lines(out: bytes) -> list[dict[str, Any]]:
    """Return the events on stdout; the lines from marker to marker must be at the end."""
    return [json.loads(line) for line in out.partition(BEGIN)[0].splitlines()]


def prompts(*roles_and_texts: str) -> list[dict[str, Any]]:
    """Return the messages that the options for prompts make."""
    pairs = zip(roles_and_texts[::2], roles_and_texts[1::2], strict=True)
    return [
        {"role": role, "content": [{"type": "input_text", "text": text}]} for role, text in pairs
    ]


@pytest.mark.parametrize(
    ("argv", "sent"),
    [
        (
            ("--prompt", "p", "--system-prompt", "s", "--developer-prompt", "d"),
            prompts("system", "s", "developer", "d", "user", "p"),
        ),
        (
            ("--prompt-file", "prompt.md", "--developer-prompt", "d"),
            prompts("developer", "d", "user", "Review this."),
        ),
        (("--messages-json-file", "messages.json", "--system-prompt", "s"), MESSAGES),
        (("--input-json-file", "input.json"), "the input"),
    ],
    ids=lambda one: one[0] if isinstance(one, tuple) else "",
)
def test_run_takes_every_flag(
    shell: Shell, sandbox: Sandbox, argv: tuple[str, ...], sent: object
) -> None:
    """The run script takes each input with all settings, wait and output options."""
    (shell.folder / "messages.json").write_text(json.dumps(MESSAGES))
    (shell.folder / "input.json").write_text(json.dumps("the input"))
    result = shell.run(RUN, *argv, *SETTINGS, *TEXT)
    assert result.code == 0
    (post,) = sandbox.posts
    assert post.body == {
        "model": "m",
        "input": sent,
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "reasoning": {"effort": "xhigh"},
        "background": True,
    }
    found = lines(result.out)
    events = [event["event"] for event in found]
    assert [event for event in events if event != "poll"] == [
        "submit_start",
        "submitted",
        "wrote_json",
        "final",
    ]
    saved = json.loads((shell.folder / "response.json").read_text())
    assert (saved["id"], found[-1]["exit_code"]) == (found[-1]["response_id"], 0)
    text = saved["output"][-1]["content"][0]["text"]
    assert result.out.endswith(b"%b\n%b\n%b\n" % (BEGIN, text.encode(), END))


def test_monitor_takes_every_flag(shell: Shell) -> None:
    """The monitor script takes the ID with all wait and output options."""
    job = shell.oaibg("submit", "--prompt", "x", "--detach")
    result = shell.run(MONITOR, "--response-id", job.id, *WAITING, *TEXT)
    assert result.code == 0
    found = lines(result.out)
    assert [event["event"] for event in found if event["event"] != "poll"] == [
        "wrote_json",
        "final",
    ]
    assert {event["response_id"] for event in found} == {job.id}
    assert json.loads((shell.folder / "response.json").read_text())["id"] == job.id
    assert result.out.endswith(b"\n%b\n" % END)


def test_defaults(shell: Shell, sandbox: Sandbox) -> None:
    """Without settings, the request and the poll interval are those of the originals."""
    result = shell.run(RUN, "--prompt", "x", "--detach")
    assert lines(result.out)[0]["poll_seconds"] == 10
    (post,) = sandbox.posts
    assert post.body == {
        "model": "gpt-5.2",
        "input": prompts("user", "x"),
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "reasoning": {"effort": "medium"},
        "background": True,
    }


@pytest.mark.parametrize("flags", [("--text-markers",), ("--text-markers", "--show-output-text")])
def test_text_markers(shell: Shell, sandbox: Sandbox, flags: tuple[str, ...]) -> None:
    """The text is printed as it is, whole and once; half of a surrogate pair becomes U+FFFD."""
    text = 'é\n{"event":"final"}\n===OUTPUT_TEXT_END===\n\ud83d.\n\n'
    bring(sandbox, completed(message(text)))
    result = shell.run(RUN, "--prompt", "x", *flags, *WAITING)
    wanted = text.replace("\ud83d", "\ufffd").encode()
    assert result.out.partition(BEGIN)[2] == b"\n%b\n%b\n" % (wanted, END)
    assert "output_text" not in [event["event"] for event in lines(result.out)]


def test_text_markers_of_a_job_without_success(shell: Shell) -> None:
    """A partial text is printed; a missing one is reported by `output_text_missing`."""
    result = shell.run(
        RUN, "--prompt", "x", "--text-markers", "--metadata", "sandbox_outcome=incomplete", *WAITING
    )
    assert (result.code, lines(result.out)[-1]["status"]) == (4, "incomplete")
    assert b"\nThe sandbox" in result.out.partition(BEGIN)[2]
    result = shell.run(
        RUN, "--prompt", "x", "--text-markers", "--metadata", "sandbox_outcome=failed", *WAITING
    )
    assert (result.code, BEGIN in result.out) == (4, False)
    assert lines(result.out)[-2]["event"] == "output_text_missing"


def test_a_wait_limit(shell: Shell) -> None:
    """A wait limit in whole seconds ends both scripts with 3, and with the line `timeout`."""
    limit = ("--max-wait-seconds", "1", "--poll-seconds", "0.1", "--text-markers")
    shell.run(RUN, "--prompt", "x", *LONG, "--detach")
    first = shell.run(RUN, "--prompt", "x", *LONG, *limit)
    again = shell.run(MONITOR, "--response-id", first.id, *limit)
    assert [(one.code, one.last["event"]) for one in (first, again)] == [(3, "timeout")] * 2


def test_text_markers_and_a_reader_that_ends(shell: Shell) -> None:
    """If the reader closes stdout, or stdout is full, the script ends quietly, as `oaibg` does."""
    argv = f"'{RUN}' --prompt x --text-markers --poll-seconds 0.1"
    closed = shell.run("bash", "-c", f"{argv} | true; exit ${{PIPESTATUS[0]}}")
    full = shell.run("sh", "-c", f"{argv} > /dev/full")
    assert [closed.code, full.code] == [141, 9]
    assert "Traceback" not in closed.err + full.err
