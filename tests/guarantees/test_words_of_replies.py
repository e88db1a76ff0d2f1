"""What a server says in a successful reply reaches the user, in whichever form it is sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fault_runs import FAST, KEYED
from harness import with_text
from raw_server import Answer, reply
from runs import line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from raw_server import RawServer

ROW = "Create: 200 or a stream with an error and no response"
SSE = "Content-Type: text/event-stream"
QUOTA = {"message": "No credit.", "type": "insufficient_quota", "code": "insufficient_quota"}
PRETTY = json.dumps({"type": "error", "error": QUOTA}, indent=1)
SPLIT = "".join(f"data: {one}\n" for one in PRETTY.splitlines())
ONE = f"data: {json.dumps({'error': QUOTA})}\n\n"
FLAT = f"event: error\ndata: {json.dumps(QUOTA)}\n\n"


@pytest.mark.row(ROW)
@pytest.mark.parametrize("options", [(), ("--stream",)], ids=["plain", "stream"])
@pytest.mark.parametrize("kind", [SSE, "Content-Type: text/plain"])
@pytest.mark.parametrize(
    "body",
    [
        f"event: error\n{SPLIT}\n",
        f"{SPLIT}\n",
        f"event: error\n{SPLIT}\n".replace("\n", "\r"),
        f"event: error\n{ONE}".replace("\n", "\r\n"),
        f"\ufeff{ONE}",
        f"\ufeffevent: error\n{ONE}",
        f"event: ping\ndata: {{}}\n\n{ONE}",
        f"data: {{}}\n\n: comment\n\nid: 1\n{FLAT}",
        f"event: ping\n\nretry: 10\n\n{FLAT}data: [DONE]\n\n",
    ],
)
def test_the_error_of_a_stream(
    run: Callable[..., Result], raw: RawServer, options: tuple[str, ...], kind: str, body: str
) -> None:
    """The API's own error in a stream means what its code says, however the stream is written."""
    raw.answer = Answer(reply(body, "200 OK", kind))
    for _ in range(2):
        result = run(*KEYED, *options)
        assert (result.code, result.last["outcome"]) == (1, "not_created")
        assert (result.last["code"], result.last["message"]) == (
            *("insufficient_quota", "HTTP 200: No credit."),
        )
    assert len(raw.requests) == 2


FORMS: list[tuple[object, str]] = [
    ({"detail": "Not authenticated"}, "Not authenticated"),
    ({"success": False, "message": "No provider is available"}, "No provider is available"),
    ({"code": "insufficient_quota", "message": "No credit."}, "No credit."),
    ({"type": "error", "message": "Something broke."}, "Something broke."),
    ({"errors": [{"reason": "No lane is free."}]}, "No lane is free."),
    ([{"error": {**QUOTA}}], "No credit."),
    ([{"message": "one"}, {"message": "two"}], "two"),
    ({"reason": "No luck.", "ok": False}, "No luck."),
    ('"Nothing runs here."', "Nothing runs here."),
    ("<!doctype html><html><head><title>Sign in</title></head></html>", "Sign in"),
    ("\ufeff<html><title>Sign in</title>", "Sign in"),
    ("Nothing runs here.\n", "Nothing runs here."),
    ("event: error\ndata: the model crashed\n\n", "the model crashed"),
    ('data: {"detail": "Not authenticated"}\n\n', "Not authenticated"),
]


@pytest.mark.row(ROW)
@pytest.mark.parametrize("options", [(), ("--stream",)], ids=["plain", "stream"])
@pytest.mark.parametrize(("body", "words"), FORMS)
def test_the_words_of_a_create(
    run: Callable[..., Result], raw: RawServer, options: tuple[str, ...], body: Any, words: str
) -> None:
    """A create's 200 that is not the API's has an unknown outcome, and the server's words."""
    raw.answer = Answer(reply(body if isinstance(body, str) else json.dumps(body)))
    result = run(*KEYED, *options)
    assert (result.code, result.last["outcome"]) == (6, "unknown")
    assert words in result.last["message"]
    assert (run(*KEYED).code, len(raw.requests)) == (6, 1)


@pytest.mark.parametrize(("body", "words"), FORMS)
def test_the_words_of_a_poll(
    run: Callable[..., Result], raw: RawServer, body: Any, words: str
) -> None:
    """A poll's 200 that is not a response is a `poll_error` with the server's words."""
    failed = reply(body if isinstance(body, str) else json.dumps(body))
    replies = iter([failed, reply(json.dumps(with_text("ok")))])
    raw.answer = lambda _: Answer(next(replies))
    result = run("monitor", "resp_1", *FAST)
    assert (result.code, result.events) == (0, ["poll_error", "poll", "final"])
    assert words in result.lines[0]["error"]["message"]


@pytest.mark.parametrize(("body", "words"), FORMS)
def test_the_words_of_an_upload(
    run: Callable[..., Result], raw: RawServer, tmp_path: Path, body: Any, words: str
) -> None:
    """An upload that is answered with something else than a file ends in the server's words."""
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text(json.dumps(line("a")) + "\n")
    raw.answer = Answer(reply(body if isinstance(body, str) else json.dumps(body)))
    files = ("--jobs-file", str(jobs), "--results-file", str(tmp_path / "r.jsonl"))
    result = run("submit", *files, "--completion-window", "24h", "--max-wait-seconds", "1.5")
    (error,) = [one for one in result.lines if one["event"] == "error"]
    assert result.code == 7
    assert words in error["message"]


def test_a_reply_that_is_cut_off(run: Callable[..., Result], raw: RawServer) -> None:
    """A part of a response is not the server's words about the call."""
    whole = json.dumps(with_text("A secret plan."))
    replies = iter([reply(whole[:-9]), reply(json.dumps({"id": "resp_1"})), reply(whole)])
    raw.answer = lambda _: Answer(next(replies))
    result = run("monitor", "resp_1", *FAST)
    errors = [one["error"]["message"] for one in result.lines if one["event"] == "poll_error"]
    assert (result.code, len(errors)) == (0, 2)
    assert not any("secret" in one or "{" in one for one in errors)
