"""The contract: key sets, exit codes, codes and the JSON Schema are fixed here."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, get_args

import jsonschema
import pytest

from harness import (
    FakeClient,
    FakeClock,
    failed,
    fake_context,
    response,
    submit,
)
from oaibg.api.answer import Reason
from oaibg.base.json_text import json_line
from oaibg.cli.app import app
from oaibg.cli.next_command import NextCommand
from oaibg.contract import codes
from oaibg.contract.errors import ApiRefused, AuthRefused, ExitCode, OaibgError, Unavailable
from oaibg.contract.events import EVENTS
from oaibg.contract.schema import event_schema
from oaibg.engine import report_end
from oaibg.engine.claim import Submission
from oaibg.engine.job import Job
from oaibg.engine.run_options import Output, Wait
from oaibg.request.body import Request
from places import APP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result, Step
    from runs import Files

SOURCE = "".join(
    path.read_text()
    for path in (APP / "oaibg").rglob("*.py")
    if "sandbox" not in path.parts and path.name != "codes.py"
)

KEYS = {
    "submit_start": "model reasoning_effort verbosity poll_seconds job_key request_sha256",
    "submit_error": "attempt elapsed_seconds error retry_in_seconds",
    "submitted": "status request_id reattached",
    "poll": "attempt status elapsed_seconds next_poll_seconds",
    "poll_error": "attempt elapsed_seconds consecutive error retry_in_seconds",
    "progress": "type item_type sequence_number text",
    "output_text_delta": "delta sequence_number",
    "output_text": "text bytes",
    "output_text_missing": "status reason path",
    "wrote_json": "path bytes sha256",
    "wrote_text": "path bytes sha256",
    "wrote_artifact": "path bytes sha256 source",
    "warning": "code message",
    "final": "status ok elapsed_seconds model usage error incomplete_details output_text_bytes "
    "output_types refusal calls service_tier job_seconds cost_usd files job_key hint exit_code "
    "next",
    "timeout": "status elapsed_seconds job_key hint exit_code next",
    "interrupted": "signal status job_cancelled outcome job_key hint exit_code next",
    "error": "code message http_status request_id retryable outcome job_key hint exit_code next",
    "detached": "status job_key hint exit_code next",
    "cancel_result": "status cancelled job_key hint exit_code next",
    "response": "response status source usage error incomplete_details output_text_bytes "
    "output_types refusal calls job_seconds cost_usd files job_key hint exit_code next",
    "dry_run": "method url body body_bytes attachments request_sha256 job_key hint exit_code next",
    "job": "custom_id job_key label model status replaced usage cost_usd job_seconds created_at "
    "updated_at base_url",
    "run": "job_key label jobs_file results_file rerun total counts is_active is_cancelled "
    "per_minute eta_seconds usage cost_usd created_at updated_at base_url",
    "run_progress": "total done counts in_flight per_minute eta_seconds usage cost_usd",
    "summary": "unsuccessful counts elapsed_seconds usage cost_usd results_file job_key hint "
    "exit_code next",
}

CODES = {
    "OK": 0,
    "ERROR": 1,
    "USAGE": 2,
    "STILL_RUNNING": 3,
    "UNSUCCESSFUL": 4,
    "NOT_FOUND": 5,
    "OUTCOME_UNKNOWN": 6,
    "UNAVAILABLE": 7,
    "AUTH": 8,
    "LOCAL_IO": 9,
    "NEEDS_ACTION": 10,
    "SIGHUP": 129,
    "SIGINT": 130,
    "STDOUT_CLOSED": 141,
    "SIGTERM": 143,
}


def test_key_sets() -> None:
    """Every event has exactly these keys in addition to the common ones."""
    found = {
        name: [field for field in event.fields if field != "response_id"]
        for name, event in EVENTS.items()
    }
    assert found == {name: keys.split() for name, keys in KEYS.items()}


def test_exit_codes() -> None:
    """The exit codes that agents act on have these names and numbers."""
    assert {code.name: int(code) for code in ExitCode} == CODES


def test_four_commands() -> None:
    """There are exactly four commands."""
    assert [
        command.callback.__name__ for command in app.registered_commands if command.callback
    ] == [
        "submit",
        "monitor",
        "cancel",
        "show",
    ]


def test_schema_is_what_the_command_prints(run: Callable[..., Result]) -> None:
    """`--event-schema` prints a valid JSON Schema of every event."""
    result = run("--event-schema")
    schema = json.loads(result.out)
    assert (result.code, schema) == (0, event_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert [entry["properties"]["event"]["const"] for entry in schema["oneOf"]] == list(KEYS)
    for entry in schema["oneOf"]:
        assert set(entry["properties"]) - set(entry["required"]) <= {"custom_id"}


def test_every_line_satisfies_the_schema(
    run: Callable[..., Result], tmp_path: Path, files: Files
) -> None:
    """Commands that together emit every event write only lines that satisfy the schema."""
    fast = ("--poll-seconds", "0.05")
    runs = [
        run("submit", "--prompt", "x", "--dry-run"),
        run(
            *("submit", "--prompt", "x", "--job-key", "k", "--show-output-text", *fast),
            *("--output-json-file", str(tmp_path / "j"), "--output-text-file", str(tmp_path / "t")),
        ),
        run("submit", "--prompt", "x", "--job-key", "k"),
        run("submit", "--prompt", "x", "--stream-text"),
        run("submit", "--prompt", "x", "--metadata", "sandbox_seconds=60", "--detach"),
        run("show"),
        run("monitor", "--max-wait-seconds", "0.1", "--job-key", "k"),
        run("cancel", "--job-key", "k"),
        run("show", "--list"),
        run("nonsense"),
    ]
    lines = [line for result in runs for line in result.lines]
    image = {"type": "image_generation_call", "id": "ig_1", "result": "QUJD"}
    scripts: list[list[Step]] = [
        [failed(500), response("odd"), response("completed", output=[image])],
        [response("x")],
        [failed(404)],
    ]
    for steps in scripts:
        client = FakeClient(FakeClock(), creates=[failed(429), response("queued")], retrieves=steps)
        request = Request(body={"background": True}, sha256="0" * 64)
        submission = Submission(request=request, model="m")
        output = Output(artifacts_dir=str(tmp_path / "a"))
        context = fake_context(client, wait=Wait(max_wait_seconds=90.0), output=output)
        events = submit(submission, context)
        lines += [
            json.loads(json_line(event.to_dict("2026-01-01T00:00:00.000Z"))) for event in events
        ]
    no_text = report_end.interrupted(Job("r"), NextCommand(), 2)
    lines.append(json.loads(json_line(no_text.to_dict("2026-01-01T00:00:00.000Z"))))
    missing = run(
        "submit", "--prompt", "x", "--metadata", "sandbox_empty=1", "--show-output-text", *fast
    )
    lines += missing.lines
    files.add(1)
    lines += run(*files.argv("--events", "summary")).lines
    validator = jsonschema.Draft202012Validator(event_schema())
    for line in lines:
        validator.validate(line)
    assert {line["event"] for line in lines} == set(KEYS) - {"run"}


def test_schema_rejects_invalid_lines() -> None:
    """The schema rejects a line with a missing key or a wrong type."""
    validator = jsonschema.Draft202012Validator(event_schema())
    line: dict[str, Any] = {"ts": "t", "v": 1, "event": "warning", "response_id": None}
    assert not validator.is_valid(line)
    assert validator.is_valid(line | {"code": "c", "message": "m"})
    assert not validator.is_valid(line | {"code": 1, "message": "m"})


def test_documented_codes_exist() -> None:
    """Every code in the tables is one that the package writes."""
    for code in (*codes.WARNINGS, *codes.ERRORS, *codes.FAILURES, *codes.COUNTS):
        if code not in ("http_502", "completed"):  # made of a status; the API's own
            assert f'"{code}"' in SOURCE, code


def test_error_codes_are_documented() -> None:
    """Every code that the package gives an error is in the table."""
    written = set(re.findall(r'\bcode ?= ?"(\w+)"', SOURCE)) | {"no_api_key", "invalid_api_key"}
    written |= set(re.findall(r'StateError\("(\w+)"', SOURCE))
    documented = set(codes.ERRORS) | set(codes.FAILURES) | set(get_args(Reason))
    assert written - {"error", "api_error"} <= documented


def test_help_is_plain_text(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """The help has no colors and no boxes, even if FORCE_COLOR is set."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    for argv in ((), ("--help",), ("submit", "--help")):
        result = run(*argv)
        assert result.code == 0
        assert result.out.isascii()
        assert b"\x1b" not in result.out


def test_version(run: Callable[..., Result]) -> None:
    """`--version` prints the name and the version on one line."""
    assert re.fullmatch(rb"oaibg \d+\.\d+\.\d+\n", run("--version").out)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(ApiRefused, "no_quota"), (AuthRefused, "no_quota"), (Unavailable, "unavailable")],
)
def test_error_of_a_failed_call(kind: type[OaibgError], code: str) -> None:
    """An error has the status, request ID and message of its call; a refusal also has its code."""
    error = kind.of(failed(429, "no_quota"), hint="wait")
    assert (error.code, error.message, error.hint) == (code, "HTTP 429", "wait")
    assert (error.http_status, error.request_id, type(error)) == (429, "req_e", kind)
    error = kind.of(failed(429), "It failed.", code="mine", outcome="not_created", resumable=True)
    assert (error.code, error.message, error.hint) == ("mine", "It failed.", None)
    assert (error.outcome, error.resumable) == ("not_created", True)
