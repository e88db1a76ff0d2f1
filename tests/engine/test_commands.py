"""`oaibg submit`: whole runs, and the requests that they send."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from harness import FakeClient, FakeClock, fake_context, response, submit
from oaibg.engine.cost import cost_of
from scripted import last_error, submission

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

FAST = ("--poll-seconds", "0.05")


def test_no_wait_limit(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """`--max-wait-seconds 0` sets no limit: the wait ends with the job, and `next` has no limit."""
    limit = ("--max-wait-seconds", "0")
    detached = run("submit", "--prompt", "x", "--detach", *limit)
    assert "--max-wait-seconds" not in detached.last["next"]
    assert run("submit", "--prompt", "x", *FAST, *limit).code == 0
    assert run("monitor", detached.id, *FAST, *limit).code == 0
    assert len(sandbox.posts) == 2


def test_next_of_detach_repeats_the_limit(run: Callable[..., Result]) -> None:
    """The `next` of a detached job waits as long as this command was allowed to."""
    waits = ("--max-wait-seconds", "60", "--poll-seconds", "2")
    detached = run("submit", "--prompt", "x", "--detach", *waits)
    assert detached.last["next"][2:] == [*waits[2:], *waits[:2], detached.id]


def test_whole_submit(run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path) -> None:
    """A submit emits every step, writes the requested files, and ends with exit 0."""
    out, text = tmp_path / "o.json", tmp_path / "o.md"
    result = run(
        "submit",
        *("--prompt", "hi", "--metadata", "sandbox_text=The answer.", "--poll-seconds", "0.2"),
        *("--show-output-text", "--output-json-file", str(out), "--output-text-file", str(text)),
    )
    identifier = result.id
    raw = out.read_bytes()
    assert result.code == 0
    assert result.err == ""
    assert result.story == [
        {
            "event": "submit_start",
            "response_id": None,
            "model": "gpt-5.2",
            "reasoning_effort": "medium",
            "verbosity": "medium",
            "poll_seconds": 0.2,
            "job_key": None,
            "request_sha256": "…",
        },
        {
            "event": "submitted",
            "response_id": identifier,
            "status": "queued",
            "request_id": "…",
            "reattached": False,
        },
        {
            "event": "poll",
            "response_id": identifier,
            "attempt": 1,
            "status": "completed",
            "elapsed_seconds": "…",
            "next_poll_seconds": None,
        },
        {
            "event": "wrote_json",
            "response_id": identifier,
            "path": str(out),
            "bytes": len(raw),
            "sha256": "…",
        },
        {
            "event": "wrote_text",
            "response_id": identifier,
            "path": str(text),
            "bytes": 11,
            "sha256": "…",
        },
        {
            "event": "output_text",
            "response_id": identifier,
            "text": "The answer.",
            "bytes": 11,
        },
        {
            "event": "final",
            "response_id": identifier,
            "status": "completed",
            "ok": True,
            "elapsed_seconds": "…",
            "model": "gpt-5.2",
            "usage": json.loads(raw)["usage"],
            "error": None,
            "incomplete_details": None,
            "output_text_bytes": 11,
            "output_types": {"reasoning": 1, "message": 1},
            "refusal": None,
            "calls": [],
            "service_tier": "default",
            "job_seconds": result.last["job_seconds"],
            "cost_usd": cost_of(json.loads(raw)["usage"], "gpt-5.2", "default", None),
            "files": [str(out), str(text)],
            "job_key": None,
            "hint": f"The answer is in {text}.",
            "exit_code": 0,
            "next": None,
        },
    ]
    assert text.read_text() == "The answer."
    assert result.lines[3]["sha256"] == hashlib.sha256(raw).hexdigest()
    assert list(sandbox.jobs) == [identifier]


def test_request_is_exactly_the_documented_one(
    run: Callable[..., Result], sandbox: Sandbox
) -> None:
    """The request has only documented defaults and the user's options: no `store`, no tools."""
    assert run("submit", "--prompt", "hi", "--system-prompt", "s", "--detach").code == 0
    assert [post.body for post in sandbox.posts] == [
        {
            "model": "gpt-5.2",
            "input": [
                {"role": "system", "content": [{"type": "input_text", "text": "s"}]},
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            ],
            "text": {"format": {"type": "text"}, "verbosity": "medium"},
            "reasoning": {"effort": "medium"},
            "background": True,
        }
    ]


def test_every_option_reaches_the_request(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """Each option sets its field; the body file is merged last, and null removes (RFC 7396)."""
    previous = run("submit", "--prompt", "first", *FAST).id
    files: dict[str, Any] = {
        "tools": [{"type": "web_search"}],
        "schema": {"title": "My answer", "type": "object", "properties": {}},
        "body": {"top_p": 0.5, "text": {"verbosity": None}, "store": True},
        "input": "just text",
    }
    paths = {}
    for name, value in files.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(value))
        paths[name] = str(path)
    result = run(
        "submit",
        *("--input-json-file", paths["input"], "--model", "m", "--reasoning-effort", "omit"),
        *("--verbosity", "high", "--instructions", "be brief", "--max-output-tokens", "1000"),
        *("--completion-window", "soonest", "--previous-response-id", previous),
        *("--tools-json-file", paths["tools"], "--json-schema-file", paths["schema"]),
        *("--metadata", "a=b", "--metadata", "c=d=e", "--body-json-file", paths["body"]),
        "--detach",
    )
    assert result.code == 0
    assert sandbox.posts[-1].body == {
        "model": "m",
        "input": "just text",
        "text": {
            "format": {
                "type": "json_schema",
                "name": "My_answer",
                "schema": files["schema"],
                "strict": True,
            }
        },
        "background": True,
        "instructions": "be brief",
        "max_output_tokens": 1000,
        "background_options": {"completion_window": "soonest"},
        "previous_response_id": previous,
        "tools": [{"type": "web_search"}],
        "metadata": {"a": "b", "c": "d=e"},
        "top_p": 0.5,
        "store": True,
    }


def test_messages_are_sent_unchanged(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """Messages of all roles are sent unchanged, with unknown keys; a byte order mark is ignored."""
    messages = [
        {"role": "system", "content": "a"},
        {"role": "developer", "content": [{"type": "input_text", "text": "b", "extra": 1}]},
        {"role": "user", "content": "c \u00e9 \U0001f600", "unknown": {"kept": [1.5, None]}},
        {"role": "assistant", "content": [{"type": "output_text", "text": "d"}]},
        {"role": "user", "content": "e"},
    ]
    path = tmp_path / "m.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(messages).encode())
    assert run("submit", "--messages-json-file", str(path), "--detach").code == 0
    assert sandbox.posts[0].body["input"] == messages


def test_detach_ends_at_once(run: Callable[..., Result]) -> None:
    """--detach ends with exit 0, the ID, and `next` to follow the job."""
    waits = ("--poll-seconds", "2", "--max-wait-seconds", "60", "--show-output-text")
    result = run("submit", "--prompt", "x", "--detach", *waits)
    assert result.events == ["submit_start", "submitted", "detached"]
    assert (result.code, result.last["status"]) == (0, "queued")
    assert result.last["next"][1 if result.last["next"][0] == "oaibg" else 3 :] == [
        "monitor",
        *("--poll-seconds", "2", "--max-wait-seconds", "60", "--show-output-text"),
        result.id,
    ]


def test_detach_of_a_job_that_has_ended(run: Callable[..., Result]) -> None:
    """With --detach, a job that has already ended gives `final` and its exit code."""
    argv = ("submit", "--prompt", "x", "--job-key", "k", "--metadata", "sandbox_outcome=failed")
    assert run(*argv, *FAST).code == 4
    result = run(*argv, "--detach")
    assert (result.code, result.events[-1]) == (4, "final")


def test_bug_ends_with_one_error() -> None:
    """An unexpected exception ends with one `error` event that has the ID and `next`."""
    client = FakeClient(FakeClock(), creates=[response("queued")], retrieves=[])
    error = last_error(submit(submission(), fake_context(client)))
    assert (error.code, error.exit_code, error.outcome) == ("internal", 1, "created")
    assert error.response_id == "resp_1"
    assert error.next is not None
    assert error.next[-2:] == ["monitor", "resp_1"]
