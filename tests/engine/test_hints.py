"""Hints look at what is there: the address, the field, the schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from oaibg.sandbox import Fault
from runs import HOT, line, of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox
    from runs import Files

SUBMIT = ("submit", "--prompt", "x")
EFFORT, VERBOSITY = "--reasoning-effort omit", "--verbosity omit"
STRICT = '"strict": false'
NO_EXTRA = (
    "Invalid schema for response_format 'answer': In context=(), 'additionalProperties' is "
    "required to be supplied and to be false."
)
ALL_KEYS = (
    "Invalid schema for response_format 'answer': In context=(), 'required' is required to be "
    "supplied and to be an array including every key in properties."
)


def own(message: str, **fields: Any) -> dict[str, Any]:
    """An error in the API's envelope."""
    return {"error": {"message": message, "type": "invalid_request_error", **fields}}


REFUSALS = [
    (
        own(
            "Unsupported parameter: 'reasoning.effort' is not supported with this model.",
            param="reasoning.effort",
            code="unsupported_parameter",
        ),
        EFFORT,
    ),
    (own("Unrecognized request argument supplied: reasoning"), EFFORT),
    (own("Unsupported value: 'xhigh'.", param="reasoning.effort"), EFFORT),
    ({"error": "unknown field `reasoning`"}, EFFORT),
    ({"detail": [{"loc": ["body", "reasoning", "effort"], "msg": "extra_forbidden"}]}, EFFORT),
    (own("reasoning is not supported by this model"), EFFORT),
    (own("Unsupported value: 'text.verbosity' does not support 'medium' with x."), VERBOSITY),
    (own("Unsupported value: 'medium'.", param="text.verbosity"), VERBOSITY),
    ({"error": "Unknown parameter: 'verbosity'"}, VERBOSITY),
    (own("Unknown parameter: 'background_options'.", param="background_options"), "--completion-w"),
    ({"error": "unexpected field background_options.completion_window"}, "--completion-window"),
    (own(NO_EXTRA, param="text.format.schema", code="invalid_json_schema"), STRICT),
    (own(ALL_KEYS), "list all keys in `required`"),
    (own("Invalid schema for function 'f': 'required' is required"), "in the tool"),
    (own("This model does not support reasoning."), EFFORT),
    (own("Bad value: must be low.", param="body.reasoning.effort"), EFFORT),
    (own("Unknown parameter: 'text.verbosity'.", param="text"), VERBOSITY),
    ({"detail": [{"loc": ["body", "text", "verbosity"], "msg": "Input should be low"}]}, VERBOSITY),
    (
        own("Invalid schema: additionalProperties must be false", param="text.format.schema"),
        "--json-schema-file",
    ),
    ({"detail": "json_schema: 'additionalProperties' must be set to false"}, "--json-schema-file"),
    (own("Invalid schema: required", param="tools[0].parameters"), "in the tool"),
    (own("Encrypted content is not supported.", param="include"), "--dry-run"),
    (own("Unsupported.", param="reasoning.summary"), "--dry-run"),
    ({"error": "temperature must be at most 2"}, "--dry-run"),
]


@pytest.mark.parametrize(("body", "hint"), REFUSALS)
def test_refused_field(
    run: Callable[..., Result], sandbox: Sandbox, body: object, hint: str
) -> None:
    """The hint for a refused field names the option that leaves it out."""
    sandbox.script(Fault(on="create", kind="status", status=400, body=body))
    result = run(*SUBMIT)
    assert (result.code, result.last["outcome"]) == (1, "not_created")
    assert hint in result.last["hint"]


def test_refused_field_in_a_run(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """The jobs of a run get the same hints."""
    jobs, results = tmp_path / "jobs.jsonl", tmp_path / "results.jsonl"
    body = {"model": "m", "input": "x"}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}
    jobs.write_text(json.dumps(line) + "\n")
    sandbox.script(Fault(on="create", kind="status", status=400, body=REFUSALS[0][0]))
    result = run("submit", "--jobs-file", str(jobs), "--results-file", str(results))
    (error,) = [line for line in result.lines if line["event"] == "error"]
    assert EFFORT in error["hint"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
@pytest.mark.parametrize("command", [SUBMIT, ("show", "resp_1")])
def test_loopback_that_refuses(
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    instant_sleep: None,
    host: str,
    command: tuple[str, ...],
) -> None:
    """A refused connection on the loopback interface asks whether the local server runs."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{host}:9/v1")
    monkeypatch.setenv("NO_PROXY", "*")
    result = run(*command)
    assert result.code == 7
    assert f"local server is running, and that its URL is http://{host}:9/v1" in result.last["hint"]
    assert "HTTPS" not in result.last["hint"]


def test_name_that_does_not_resolve(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, instant_sleep: None
) -> None:
    """A host name that the DNS does not have is named."""
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.no-such-host.invalid/v1")
    hint = run(*SUBMIT).last["hint"]
    assert "'api.no-such-host.invalid'" in hint
    assert "could not be resolved" in hint


def test_https_for_a_plain_server(
    run: Callable[..., Result],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    instant_sleep: None,
) -> None:
    """`https://` for a server without TLS is recognized."""
    monkeypatch.setenv("OPENAI_BASE_URL", sandbox.base_url.replace("http:", "https:"))
    result = run(*SUBMIT, "--max-wait-seconds", "5")
    assert (result.code, sandbox.posts) == (7, [])
    assert "must use http://" in result.last["hint"]


@pytest.mark.parametrize(
    ("path", "shown", "not_shown"),
    [
        ("", "usually ends in /v1", "has no /responses"),
        ("/api/v1", "has no /responses", "usually ends in /v1"),
        ("/v1/responses", "Remove /responses", "usually ends in /v1"),
    ],
)
def test_address_without_the_api(
    run: Callable[..., Result],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    shown: str,
    not_shown: str,
) -> None:
    """The hint for an address without the API looks at the base URL's path."""
    monkeypatch.setenv("OPENAI_BASE_URL", sandbox.base_url.removesuffix("/v1") + path)
    result = run(*SUBMIT)
    assert (result.code, result.last["http_status"] in (404, 405)) == (1, True)
    assert shown in result.last["hint"]
    assert not_shown not in result.last["hint"]


@pytest.mark.parametrize("status", [403, 404])
def test_model_without_access(run: Callable[..., Result], sandbox: Sandbox, status: int) -> None:
    """A model that the key can't use is not a refused key."""
    body = own("Project `p` does not have access to model `m`", code="model_not_found")
    sandbox.script(Fault(on="create", kind="status", status=status, body=body))
    result = run(*SUBMIT)
    assert (result.code, result.last["outcome"]) == (1, "not_created")
    assert "--model" in result.last["hint"]


def test_a_refused_row_of_a_run(run: Callable[..., Result], files: Files) -> None:
    """A refused job of a run has no --dry-run hint, for that prints only the first requests."""
    files.write(line("a", **HOT))
    result = run(*files.argv())
    (error,) = of(result, "error")
    assert (error["custom_id"], error["hint"]) == ("a", None)
