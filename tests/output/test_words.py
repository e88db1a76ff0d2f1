"""The words of human mode: names instead of IDs, the server that was asked, and what to do next."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from harness import environment
from oaibg.output.human.next_line import name_of, next_line
from oaibg.sandbox import Fault
from run_events import refused
from terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

SUBMIT = ("submit", "--prompt", "x", "--human", "--poll-seconds", "0.05")
LONG_JOB = ("--metadata", "sandbox_seconds=600")
ID = r"resp_[0-9a-f]{50}"
ALLOWED = {*range(10), *range(22, 30), 31, 32, 33, 35, 36, 39}
"""The codes of styles and colors that are readable on any background: neither blue, white nor
bright colors, and no backgrounds."""


@pytest.fixture
def terminal(sandbox: Sandbox, state: Path) -> Callable[..., Terminal]:
    """Return a function that starts the command in a terminal, against the sandbox."""

    def start(*argv: str, rows: int = 24) -> Terminal:
        return Terminal(*argv, environment=environment(sandbox.base_url, state), rows=rows)

    return start


def test_the_key_is_the_name(run: Callable[..., Result]) -> None:
    """The key is the job's name; the ID is printed once."""
    shown = run(*SUBMIT, "--job-key", "report-7").err
    (identifier,) = re.findall(ID, shown)
    assert re.search(rf"^Submitted report-7  {identifier}$", shown, re.MULTILINE)
    assert re.search(r"^report-7 completed after \S+ s$", shown, re.MULTILINE)
    again = run(*SUBMIT, "--job-key", "report-7").err
    assert f"Reattached to report-7  {identifier}\n" in again
    page = run("show", "report-7", "--human").out.decode()
    assert page.startswith(f"report-7  {identifier}\n  Status ")


def test_the_label_is_the_name(run: Callable[..., Result]) -> None:
    """A label is the name of a job without a key, but no command accepts it."""
    shown = run(*SUBMIT, *LONG_JOB, "--label", "Lakes", "--detach").err
    (identifier, again) = re.findall(ID, shown)
    assert identifier == again
    assert f"Submitted Lakes  {identifier}\nLakes keeps running.\n" in shown
    assert f" monitor {identifier} --poll-seconds 0.05 --human\n" in shown


def test_id_is_faint(terminal: Callable[..., Terminal]) -> None:
    """On a terminal, the name is bold and the ID is faint."""
    with terminal(*SUBMIT, "--job-key", "report-7") as screen:
        assert screen.end() == 0
        written = screen.written.decode()
    assert re.search(rf"Submitted \x1b\[1mreport-7\x1b\[0m  \x1b\[2m{ID}\x1b\[0m", written)
    assert "\x1b[1mreport-7\x1b[0m \x1b[32mcompleted\x1b[0m after" in written


def test_empty_lines_around_the_answer(terminal: Callable[..., Terminal]) -> None:
    """On a terminal, an empty line separates the status, the answer and the summary."""
    with terminal(*SUBMIT, "--metadata", "sandbox_text=The answer.") as screen:
        assert screen.end() == 0
        rows = screen.lines
    assert [rows[0].split()[0], *rows[1:4]] == ["Submitted", "", "The answer.", ""]
    assert re.fullmatch(r"The job completed after \S+ s", rows[4])
    assert re.match(r"gpt-5\.2 · ", rows[5])
    assert len(rows) == 6


MARKDOWN = """# Title

Use `import --all`, and *see* [the docs](https://a.test/).

## Part

> quoted

```python
def f(x):  # comment
    return "text" + 1
```

1. one

---
"""


def test_rendered_answer(terminal: Callable[..., Terminal]) -> None:
    """Headings are at the left, blocks have one empty line between them, and no background."""
    with terminal(*SUBMIT, "--metadata", f"sandbox_text={MARKDOWN}", rows=40) as screen:
        assert screen.end() == 0
        assert "\n".join(screen.lines[2:-3]) == "\n".join(
            (
                "Title",
                "",
                "Use import --all, and see the docs (https://a.test/).",
                "",
                "Part",
                "",
                "▌ quoted",
                "",
                "  def f(x):  # comment",
                '      return "text" + 1',
                "",
                " 1 one",
                "",
                "─" * 80,
            )
        )
        assert codes(screen) <= ALLOWED


def test_colors_for_any_background(
    terminal: Callable[..., Terminal], sandbox: Sandbox, tmp_path: Path
) -> None:
    """No text has a color that some backgrounds hide."""
    outcomes = ("completed", "failed", "refusal", "incomplete", "function_call")
    lines = (
        f'{{"custom_id":"{outcome}","body":{{"input":"x","metadata":'
        f'{{"sandbox_seconds":"0.2","sandbox_outcome":"{outcome}"}}}}}}\n'
        for outcome in outcomes
    )
    (tmp_path / "jobs.jsonl").write_text("".join(lines))
    files = ("--jobs-file", str(tmp_path / "jobs.jsonl"), "--results-file", str(tmp_path / "out"))
    sandbox.script(Fault(on="retrieve", kind="status", status=503))
    with terminal("submit", "--human", *files, "--poll-seconds", "0.3", rows=40) as screen:
        screen.end()
        assert codes(screen) <= ALLOWED
    with terminal("show", "--list", "--human") as screen:
        screen.end()
        assert codes(screen) <= ALLOWED


def codes(screen: Terminal) -> set[int]:
    """Return the numbers of the styles and colors that were used."""
    found = re.findall(r"\x1b\[([\d;]*)m", screen.written.decode())
    return {int(number or 0) for numbers in found for number in numbers.split(";")}


def test_next_uses_the_key(run: Callable[..., Result]) -> None:
    """The next command names the key first, and says what it does; in JSON, it names the ID."""
    detached = run(*SUBMIT, *LONG_JOB, "--job-key", "my report", "--detach")
    assert "my report keeps running.\nWait for it: " in detached.err
    assert detached.err.endswith(" monitor 'my report' --poll-seconds 0.05 --human\n")
    shown = run("show", "my report", "--human").err
    assert re.search(r"^Wait for it: .* monitor 'my report' --human$", shown, re.MULTILINE)
    limit = ("--max-wait-seconds", "0.3", "--poll-seconds", "0.05")
    waited = run("monitor", "my report", *limit, "--human").err
    assert "The wait limit was reached; my report is still queued.\nWait for it again: " in waited
    assert "monitor 'my report' " in waited
    argv = run("monitor", "my report", *limit).last["next"]
    assert re.fullmatch(ID, argv[-1])


def test_next_of_a_job_that_needs_action(run: Callable[..., Result]) -> None:
    """The command that sends the results of calls names the key."""
    outcome = ("--metadata", "sandbox_outcome=function_call")
    shown = run(*SUBMIT, *outcome, "--job-key", "k").err
    assert " oaibg submit --continue k --job-key KEY --input-json-file PATH\n" in shown


def test_warning_about_the_next_command(run: Callable[..., Result], tmp_path: Path) -> None:
    """A warning says that the command is below, instead of naming the JSON key `next`."""
    tools = tmp_path / "tools.json"
    tools.write_text('[{"type": "code_interpreter", "container": {"type": "auto"}}]')
    made = ("--tools-json-file", str(tools), "--artifacts-dir", str(tmp_path / "made"))
    shown = run(*SUBMIT, *LONG_JOB, "--detach", *made).err
    assert "Run the command below soon" in " ".join(shown.split())
    assert "`next`" not in shown


@pytest.mark.parametrize("key", ["resp_1", "batch_1", "--human", "a\x1bb", None])
def test_key_that_no_command_would_find(key: str | None) -> None:
    """A key that a command would take for an ID or an option is not used."""
    names = {"resp_9": name_of("resp_9", key)}
    argv = ["oaibg", "monitor", "--starting-after", "5", "--human", "resp_9"]
    line = next_line(refused("x"), argv, names, several=False)
    assert line == "Wait for it again: oaibg monitor resp_9 --human"


def test_next_keeps_a_guard_and_other_commands() -> None:
    """An ID that looks like an option stays behind its guard; an unknown command stays as it is."""
    event = refused("x")
    line = next_line(event, ["oaibg", "monitor", "--", "-r"], {"-r": "k"}, several=False)
    assert line == "Wait for it again: oaibg monitor -- -r"
    line = next_line(event, ["sh", "-c", "exec x"], {}, several=False)
    assert line == "Next: sh -c 'exec x'"


@pytest.mark.parametrize(("passed", "words"), [(12, "queued for 1"), (300, "in progress, submit")])
def test_show_of_a_job_that_has_not_ended(
    run: Callable[..., Result], sandbox: Sandbox, passed: int, words: str
) -> None:
    """`show` says for how long a job is queued, not that it has no text."""
    identifier = run("submit", "--prompt", "x", *LONG_JOB, "--detach").id
    sandbox.jobs[identifier].created -= passed
    shown = run("show", "--human")
    assert shown.code == 3
    status = re.search(r"^  Status +(.*)$", shown.out.decode(), re.MULTILINE)
    assert status is not None
    assert status[1].startswith(words)
    assert re.search(r"\d+ s( ago)?$", status[1])
    assert "text" not in shown.err
    assert "there is no text yet" in run("show", "--output-text").err


@pytest.mark.parametrize("outcome", ["failed", "refusal", "function_call"])
def test_the_end_says_why_there_is_no_text(run: Callable[..., Result], outcome: str) -> None:
    """If the last lines say why there is no text, no other line repeats it."""
    shown = run(*SUBMIT, "--metadata", f"sandbox_outcome={outcome}").err
    assert "no text" not in shown
    assert "no output text" not in shown


def test_refused_connection_names_the_address(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, instant_sleep: None
) -> None:
    """The error names the host and port that refused the connection; with a proxy, those of it."""
    limit = ("--max-wait-seconds", "20")
    with socket.socket() as bound:  # no other process can listen at its port
        bound.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{bound.getsockname()[1]}"
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://{place}/v1")
        shown = run(*SUBMIT, *limit)
        assert shown.code == 7
        assert f"{place} refused the connection; retrying in " in shown.err
        assert f"Last attempt: {place} refused the connection.\n" in shown.err
        monkeypatch.setenv("OPENAI_BASE_URL", "http://api.example.test/v1")
        monkeypatch.setenv("HTTP_PROXY", f"http://{place}")
        assert f"{place} refused the connection" in run(*SUBMIT, *limit).err


def test_unknown_host_is_named(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, instant_sleep: None
) -> None:
    """The error names a host that could not be resolved."""
    host = ".".join(["no-such-host" * 5] * 5)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{host}/v1")
    assert f"no connection to {host}:80: " in run(*SUBMIT, "--max-wait-seconds", "20").err


def test_tls_error_names_the_host(
    run: Callable[..., Result],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    instant_sleep: None,
) -> None:
    """The error names the host with which TLS failed."""
    monkeypatch.setenv("OPENAI_BASE_URL", sandbox.base_url.replace("http:", "https:"))
    shown = run(*SUBMIT, "--max-wait-seconds", "20").err
    assert "no TLS connection to 127.0.0.1: " in shown


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(on="create", kind="status", status=404, body="none"), "replied HTTP 404: none"),
        (Fault(on="create", kind="status", status=401), "refused the API key: HTTP 401"),
        (Fault(on="create", kind="html", status=403), "did not accept the request, so no job"),
        (Fault(on="retrieve", kind="status", status=503), "replied HTTP 503: "),
    ],
    ids=["404", "401", "403", "503"],
)
def test_replies_name_the_server(
    run: Callable[..., Result], sandbox: Sandbox, fault: Fault, words: str, instant_sleep: None
) -> None:
    """An error in a reply names the server that was asked, not the API in general."""
    sandbox.script(fault)
    place = sandbox.base_url.split("/")[2]
    assert f"{place} {words}" in run(*SUBMIT, "--max-wait-seconds", "20").err


@pytest.mark.process
def test_several_jobs_keep_running(
    terminal: Callable[..., Terminal], run: Callable[..., Result], sandbox: Sandbox
) -> None:
    """After Ctrl-C, the monitor of several jobs says how many keep running, and how to continue."""
    for key in ("one", "two"):
        run("submit", "--prompt", "x", *LONG_JOB, "--job-key", key, "--detach")
    with ExitStack() as stack:
        screen = stack.enter_context(terminal("monitor", "one", "two", "--human"))
        screen.wait_for(lambda text: "one" in text and "two" in text and "2 queued" in text)
        os.killpg(screen.process.pid, signal.SIGINT)
        assert screen.end() == 130
        words = "".join(screen.text.split())
    assert "Interrupted;2jobskeeprunning.Waitforthejobs:" in words
    assert re.search(r"monitor(onetwo|twoone)--human$", words)


def test_age_in_a_list(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """A list says how long ago each job was submitted."""
    run("submit", "--prompt", "x", "--detach")
    ages: list[str] = []
    now = time.time()
    for later in (0, 59, 60, 7200, 200_000):
        monkeypatch.setattr("time.time", lambda later=later: now + 1 + later)
        ages += re.findall(r"\d+ (\w+) ago", run("show", "--list", "--human").out.decode())
    assert ages == ["s", "min", "min", "h", "days"]
