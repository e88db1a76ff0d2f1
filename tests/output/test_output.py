"""Output without a terminal: `--human` in pipes, raw text, odd JSON and saved files."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import FakeClient, FakeClock, fake_context, monitor, with_text
from oaibg.api.payload import Payload
from oaibg.base.files import save
from oaibg.base.json_text import json_line
from oaibg.base.text import inert, utf8
from oaibg.cli.next_command import NextCommand
from oaibg.contract.errors import Internal
from oaibg.contract.events import OutputText, Warning  # noqa: A004
from oaibg.engine import report_end
from oaibg.engine.job import Job
from oaibg.engine.run_options import Output
from oaibg.output.renderers import JsonLines
from oaibg.output.stdout import Stderr, Stdout
from oaibg.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

SUBMIT = ("submit", "--prompt", "x", "--human", "--poll-seconds", "0.05")


def test_human_run(run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None) -> None:
    """Human mode prints progress to stderr, and only the answer to stdout."""
    sandbox.script(Fault(on="retrieve", kind="status", status=500))
    result = run(
        *("submit", "--prompt", "x", "--metadata", "sandbox_text=The answer.", "--human"),
        *("--poll-seconds", "20"),
    )
    assert (result.code, result.out) == (0, b"The answer.\n")
    words = re.sub(r"\d+(\.\d+)? s|resp_\w+|\d+", "…", result.err.replace(" 500", " five"))
    assert [word.rstrip() for word in words.splitlines()] == [
        "Submitting to gpt-….… …",
        "Submitted …",
        (
            "…  ….….….…:… replied HTTP five: The server had an error while processing your "
            "request. Sorry about that; retrying in …"
        ),
        "…  completed",
        "The job completed after …",
        "gpt-….… · … input tokens · … output tokens (… reasoning) · about $….…",
    ]


def test_human_end_without_success(run: Callable[..., Result]) -> None:
    """Human mode prints why a job failed, and how to submit it again."""
    setting = ("--metadata", "sandbox_outcome=failed", "--poll-seconds", "0.05")
    result = run("submit", "--prompt", "x", "--human", *setting)
    assert (result.code, result.out) == (4, b"")
    assert re.search(r"\nThe job failed after .+: The model .+\n", result.err)
    assert result.err.splitlines()[-1].startswith(
        "The error may be temporary: try once more. To submit"
    )


def test_human_errors(run: Callable[..., Result]) -> None:
    """Errors in human mode are printed to stderr only, with the usual exit codes."""
    usage = run("submit", "--human")
    assert (usage.code, usage.out) == (2, b"")
    assert usage.err.startswith("Error: There is no input.\nGive a prompt in quotes")
    missing = run("show", "resp_unknown", "--human")
    assert (missing.code, missing.out) == (5, b"")
    assert missing.err.startswith("Error: No such response: HTTP 404")


def test_human_list_and_show(run: Callable[..., Result]) -> None:
    """`show --human` prints the table of jobs, and a job with its answer, to stdout."""
    run("submit", "--prompt", "x", "--job-key", "k", "--poll-seconds", "0.05")
    listed = run("show", "--list", "--human")
    assert re.search(
        r"\nk +completed +\d+ s ago +gpt-5.2 +95 +\$[\d.]+ +resp_\w+\n$", listed.out.decode()
    )
    shown = run("show", "--human")
    assert re.match(r"k  resp_\w+\n  Status +completed\n  Model +gpt-5.2\n", shown.out.decode())
    assert shown.out.endswith(b'\n\nThe sandbox has no model to ask. You said: "x"\n')
    assert shown.err == ""


@pytest.mark.parametrize("setting", [{}, {"FORCE_COLOR": "1"}])
def test_pipes(
    run: Callable[..., Result], setting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pipe, each event is a line, without a live display, even with forced colors."""
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    result = run(*SUBMIT)
    plain = re.sub(r"\x1b\[[\d;]*m", "", result.err)
    assert "\x1b" not in plain
    assert "\r" not in plain
    assert plain.splitlines()[0] == "Submitting to gpt-5.2 …"


def test_list_in_a_pipe(run: Callable[..., Result]) -> None:
    """In a pipe, the list has one line per job."""
    one = run("submit", "--prompt", "x", "--detach").id
    rows = run("show", "--list", "--human").out.decode().splitlines()
    assert len(rows) == 2
    assert re.fullmatch(rf"{one}  queued  \d+ s ago +gpt-5\.2", rows[1])


@pytest.mark.parametrize("kind", ["background", "batch"])
def test_dry_run_of_a_jobs_file(run: Callable[..., Result], tmp_path: Path, kind: str) -> None:
    """A dry run of a jobs file is a page: how many jobs, how, and the first requests in words."""
    lines: list[dict[str, Any]] = [
        {"custom_id": f"q{one}", "prompt": f"Question {one}?\n" + "x" * 999} for one in range(9)
    ]
    content = [{"type": "input_text", "text": "What is this?"}]
    lines[1] = {"custom_id": "q1", "input": [{"role": "user", "content": content}]}
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    files = ("--jobs-file", str(tmp_path / "jobs.jsonl"), "--results-file", str(tmp_path / "r.csv"))
    window = ("--completion-window", "24h") if kind == "batch" else ()
    result = run("submit", "--human", *files, "--dry-run", *window)
    page = result.out.decode()
    assert (result.code, result.err) == (0, "")
    assert page.startswith("9 jobs are valid.\n")
    assert {"batch": "one batch", "background": "jobs in background mode"}[kind] in page
    assert str(tmp_path / "r.csv") in page
    assert "Question 0? xxx" in page
    assert "What is this?" in page
    assert "… and 6 more.\n" in page
    assert "{" not in page
    assert max(map(len, page.splitlines())) < 200
    hint = "Nothing was sent. To submit them, run the same command without --dry-run"
    assert page.endswith(f"{hint}.\n")
    alone = run("submit", "--human", *files[:2], "--dry-run", *window).out.decode()
    assert alone.endswith(f"{hint}, and with --results-file PATH.\n")


def test_dry_run(run: Callable[..., Result], tmp_path: Path) -> None:
    """A dry run prints a summary to stderr, and the request with cut file data to stdout."""
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


def test_line_ends_of_windows(run: Callable[..., Result]) -> None:
    """CRLF in an answer is printed as a line end."""
    result = run(*SUBMIT, "--metadata", "sandbox_text=one\r\ntwo")
    assert result.out == b"one\ntwo\n"


@given(st.text(st.characters(exclude_categories=())))
def test_every_text_is_one_json_line(text: str) -> None:
    """Any text becomes one line of ASCII JSON, and can be encoded in UTF-8."""
    event = OutputText(response_id=None, text=text, bytes=0)
    line = json_line(event.to_dict("t"))
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert isinstance(utf8(text), bytes)
    utf8(text).decode()


@given(st.text(st.characters(exclude_categories=())))
def test_inert_text_has_no_control_characters(text: str) -> None:
    """Inert text has only printable characters, line ends, tabs, spaces and joiners."""
    for char in inert(text):
        assert char.isprintable() or char in "\n\t\u200c\u200d" or char.isspace()
        assert char not in "\r\x0b\x0c\x85\u2028\u2029"


def test_lone_surrogates_in_the_answer(tmp_path: Path) -> None:
    """Lone surrogates become U+FFFD in the text file, with a warning; the JSON file keeps them."""
    client = FakeClient(FakeClock(), retrieves=[with_text("a\ud800b")])
    output = Output(
        show_output_text=True,
        output_json_file=str(tmp_path / "j"),
        output_text_file=str(tmp_path / "t"),
    )
    events = monitor(fake_context(client, output=output))
    assert (tmp_path / "t").read_bytes() == "a\ufffdb".encode()
    assert rb"a\ud800b" in (tmp_path / "j").read_bytes()
    assert [event.code for event in events if isinstance(event, Warning)] == ["text_replaced"]
    assert [event.text for event in events if isinstance(event, OutputText)] == ["a\ud800b"]


def test_numbers_that_json_can_not_represent(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """Numbers that JSON can't represent, such as NaN, become null in lines."""
    identifier = run("submit", "--prompt", "x", "--detach").id
    body = '{"id":"r","status":"completed","x":[NaN,-Infinity,1e999,1]}'
    sandbox.script(Fault(on="retrieve", kind="raw", body=body))
    result = run("show", identifier)
    assert result.last["response"]["x"] == [None, None, None, 1]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"status":"completed","x":[[],"' + b"[" * 900 + b'\\"]"]}',
        b'{"status":"completed","x":' + b"9" * 5000 + b"}",
        b'{"status":"completed","x":' + b"[" * 199 + b"]" * 199 + b"}",
    ],
    ids=["brackets in a text", "digits", "200 levels"],
)
def test_odd_json_of_a_result(raw: bytes) -> None:
    """Unusual JSON is parsed, fits in a line, and keeps its bytes."""
    payload = Payload(raw)
    assert (payload.status, payload.raw) == ("completed", raw)
    assert json.loads(json_line(payload.data))["status"] == "completed"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"status":"completed","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"status":"completed","x":[{"y":' + b'{"z":' * 800 + b"1" + b"}" * 800 + b"}]}",
        b'{"status":"completed","x":' + b"[" * 200 + b"]" * 200 + b"}",
    ],
    ids=["arrays", "objects", "201 levels"],
)
def test_deep_json_is_not_a_result(raw: bytes) -> None:
    """JSON that is nested deeper than 200 levels is not a payload."""
    with pytest.raises(ValueError, match="nested deeper than 200 levels"):
        Payload(raw)


def test_broken_json_is_rejected_quickly() -> None:
    """An unterminated string full of escaped quotes inside open brackets is rejected quickly."""
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"line 1|nested deeper"):
        Payload(b"[" * 3000 + b'"' + rb"\"" * 200_000)
    assert time.monotonic() - began < 5


def test_save_keeps_modes_and_links(tmp_path: Path) -> None:
    """`save` keeps the mode of a file, follows links, and leaves no temporary file."""
    target, link = tmp_path / "t", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    save(str(link), b"new")
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"new", 0o640)
    assert link.is_symlink()
    save("/dev/null", b"x")
    with pytest.raises(FileNotFoundError):
        save(str(tmp_path / "no" / "f"), b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "t"]


def test_save_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If `save` fails, the old file is unchanged and no temporary file remains."""
    target = tmp_path / "t"
    target.write_bytes(b"old")
    synced: list[bool] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(target.read_bytes() == b"old")
        real(descriptor)

    def replace(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(OSError, match="No space"):
        save(str(target), b"new")
    assert synced == [True]
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_json_lines_to_a_descriptor(tmp_path: Path) -> None:
    """A line is in the file when `write` returns."""
    path = tmp_path / "out"
    with path.open("wb") as file:
        lines = JsonLines(Stdout(file.fileno()), lambda: "2026-01-01T00:00:00.000Z")
        lines.write(report_end.error(Job(submitting=True), _boom(), NextCommand()))
        written = path.read_bytes()
    assert written.startswith(b'{"ts":"2026-01-01T00:00:00.000Z","v":1,"event":"error"')


def _boom() -> Internal:
    return Internal("boom")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_terminal_without_unicode(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """Our own messages have no escapes where stderr can't encode their characters."""
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding))
    Stderr(Stdout()).write("Submitting …\n")
    assert capfd.readouterr().err == "Submitting ...\n"
