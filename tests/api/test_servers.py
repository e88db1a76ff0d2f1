"""The command against servers with variants of the API, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from harness import FakeClient, FakeClock, fake_context, follow_steps
from oaibg.api.client import Client
from oaibg.contract.events import Error
from oaibg.engine.find import Target
from oaibg.sandbox import PERSONALITIES, Fault, Personality
from oaibg.sandbox.encoding import to_json
from oaibg.sandbox.job.response_object import response_object
from oaibg.sandbox.personality import CHOICES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness import Result
    from oaibg.contract.events import Event
    from oaibg.sandbox import Sandbox

FAST = ("--poll-seconds", "0.05")
LONG = 600
"""Seconds of a job that a test ends itself."""

SINGLE: list[dict[str, Any]] = [
    {"ids": "uuid"},
    {"ids": "long"},
    {"changing_ids": True},
    {"ids": "uuid", "changing_ids": True},
    {"statuses": "queued"},
    {"statuses": "in_progress"},
    {"sparse": True},
    {"null_output": True},
    {"partial": True},
    {"incomplete_reason": "length"},
    {"cancel": "overtaken"},
]
"""Single differences from OpenAI's API; errors and refused cancels have separate tests."""

PRESETS = list(PERSONALITIES.values())
SERVERS = {
    **PERSONALITIES,
    **{
        " ".join(f"{name}={value}" for name, value in fields.items()): Personality(**fields)
        for fields in SINGLE
    },
}

every_error_body = pytest.mark.parametrize("errors", CHOICES["errors"])
every_not_found = pytest.mark.parametrize("status", CHOICES["not_found"])


def servers(fits: Callable[[Personality], bool] = lambda _: True) -> pytest.MarkDecorator:
    """Run a test against each server that fits."""
    chosen = {name: one for name, one in SERVERS.items() if fits(one)}
    return pytest.mark.parametrize("personality", chosen.values(), ids=chosen)


@pytest.fixture(scope="module")
def client(server: Sandbox) -> Iterator[httpx2.Client]:
    """An HTTP client of the sandbox."""
    with httpx2.Client(base_url=server.base_url, trust_env=False) as client:
        yield client


@pytest.fixture
def create(sandbox: Sandbox, client: httpx2.Client) -> Callable[[], str]:
    """Return a function that creates a long job without the command and returns its ID."""
    metadata = {"sandbox_seconds": str(LONG)}
    body = {"model": "m", "input": "x", "background": True, "metadata": metadata}
    return lambda: str(client.post("/responses", json=body).json()["id"])


def let_end(sandbox: Sandbox, response_id: str) -> None:
    """Make the sandbox end a long job."""
    sandbox.jobs[response_id].created -= LONG


def served(sandbox: Sandbox, personality: Personality, response_id: str, raw: bytes) -> bytes:
    """Return the server's object of a completed job, with the ID in `raw`."""
    shown = response_object(sandbox.jobs[response_id], "completed", personality)
    return to_json({**shown, "id": json.loads(raw)["id"]})


def ids(*results: Result) -> set[str | None]:
    """Return the IDs on all lines except `submit_start`."""
    lines = [line for result in results for line in result.lines]
    return {line["response_id"] for line in lines if line["event"] != "submit_start"}


# --- from a submit to the end --------------------------------------------------------------


@servers(lambda one: one.background)
def test_job_is_submitted_once_and_resumed(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, personality: Personality
) -> None:
    """A rerun resumes the job by its key; lines keep its first ID, files the server's bytes."""
    sandbox.become(personality)
    out, text = tmp_path / "o.json", tmp_path / "o.md"
    argv = (
        *("submit", "--prompt", "x", "--job-key", "k", *FAST),
        *("--metadata", f"sandbox_seconds={LONG}", "--metadata", "sandbox_text=The end."),
    )
    files = ("--output-json-file", str(out), "--output-text-file", str(text))

    started = run(*argv, "--detach")
    (identifier,) = sandbox.jobs
    status = "in_progress" if personality.statuses == "in_progress" else "queued"
    assert (started.code, started.events) == (0, ["submit_start", "submitted", "detached"])
    assert started.last["status"] == status
    running = run("show", identifier)
    assert (running.code, running.events, running.last["status"]) == (3, ["response"], status)

    let_end(sandbox, identifier)
    resumed = run(*argv, *files)
    assert resumed.code == 0
    assert resumed.events == [
        *("submit_start", "submitted", "poll", "wrote_json", "wrote_text", "final")
    ]
    assert out.read_bytes() == served(sandbox, personality, identifier, out.read_bytes())
    assert text.read_text() == "The end."
    final = resumed.last
    assert (final["status"], final["output_text_bytes"]) == ("completed", 8)
    assert (final["model"] is None, final["usage"] is None) == (personality.sparse,) * 2
    assert (final["error"], final["incomplete_details"]) == (None, None)

    requests, raw = len(sandbox.requests), out.read_bytes()
    again, shown = run(*argv, *files), run("show", identifier)
    assert (again.code, again.last["event"], out.read_bytes()) == (0, "final", raw)
    assert (shown.code, shown.last["source"]) == (0, "local")
    assert shown.last["response"] == json.loads(raw)
    assert (len(sandbox.posts), len(sandbox.requests)) == (1, requests)
    assert ids(started, running, resumed, again, shown) == {identifier}


@servers(lambda one: one in PRESETS and one.background)
def test_job_is_followed_to_its_end(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, personality: Personality
) -> None:
    """One run follows a job through all of the server's statuses without a warning."""
    sandbox.become(personality)
    out, text = tmp_path / "o.json", tmp_path / "o.md"
    files = ("--output-json-file", str(out), "--output-text-file", str(text))
    setting = ("--metadata", "sandbox_text=The end.")
    result = run("submit", "--prompt", "x", *setting, *FAST, *files, "--show-output-text")
    (identifier,) = sandbox.jobs
    assert result.code == 0
    assert [event for event in result.events if event != "poll"] == [
        *("submit_start", "submitted", "wrote_json", "wrote_text", "output_text", "final")
    ]
    assert out.read_bytes() == served(sandbox, personality, identifier, out.read_bytes())
    assert text.read_text() == "The end."
    assert ids(result) == {identifier}
    assert [post.response_id for post in sandbox.posts] == [identifier]


@servers(lambda one: one.partial)
def test_partial_output_is_not_the_answer(
    run: Callable[..., Result],
    sandbox: Sandbox,
    create: Callable[[], str],
    tmp_path: Path,
    personality: Personality,
) -> None:
    """Output of a running job is neither written nor printed."""
    sandbox.become(personality)
    identifier = create()
    sandbox.jobs[identifier].created -= LONG / 2
    text = tmp_path / "o.md"
    answer = ("--output-text-file", str(text), "--show-output-text")
    result = run("monitor", identifier, *FAST, "--max-wait-seconds", "0.1", *answer)
    assert (result.code, set(result.events)) == (3, {"poll", "timeout"})
    assert not text.exists()


@servers(lambda one: one in PRESETS or one.sparse or one.incomplete_reason == "length")
@pytest.mark.parametrize("outcome", ["incomplete", "failed"])
def test_unsuccessful_ends(
    run: Callable[..., Result], sandbox: Sandbox, personality: Personality, outcome: str
) -> None:
    """An unsuccessful job ends with exit 4, and the server's reason or error if it has one."""
    sandbox.become(personality)
    setting = ("--metadata", f"sandbox_outcome={outcome}", "--metadata", "sandbox_seconds=0")
    result = run("submit", "--prompt", "x", *setting, *FAST)
    final, has_reason = result.last, not personality.sparse
    assert (result.code, final["event"], final["status"]) == (4, "final", outcome)
    reason = {"reason": personality.incomplete_reason}
    is_explained = has_reason and outcome == "incomplete"
    assert final["incomplete_details"] == (reason if is_explained else None)
    assert (final["error"] is not None) == (has_reason and outcome == "failed")
    assert (final["output_text_bytes"] > 0) == (outcome == "incomplete")


@servers(lambda one: one.changing_ids)
def test_lines_keep_the_id_that_was_named(
    run: Callable[..., Result],
    sandbox: Sandbox,
    client: httpx2.Client,
    create: Callable[[], str],
    personality: Personality,
) -> None:
    """Lines have the ID of the command, whatever ID the server returns; `show` finds it again."""
    sandbox.become(personality)
    first = create()
    later = client.get(f"/responses/{first}").json()["id"]
    let_end(sandbox, first)
    monitored = run("monitor", later, *FAST)
    assert (monitored.code, monitored.events) == (0, ["poll", "final"])
    shown = run("show", later)
    assert (shown.code, shown.last["source"]) == (0, "local")
    assert shown.last["response"]["id"] not in (first, later)
    assert ids(monitored, shown) == {later}


# --- cancel --------------------------------------------------------------------------------


@servers(lambda one: one.cancel != "refused" and one.background)
def test_cancel(
    run: Callable[..., Result],
    sandbox: Sandbox,
    create: Callable[[], str],
    personality: Personality,
) -> None:
    """A cancel ends with exit 0; `show` retrieves the job again in case it still completed."""
    sandbox.become(personality)
    identifier = create()
    cancelled = run("cancel", identifier)
    assert (cancelled.code, cancelled.events) == (0, ["cancel_result"])
    assert (cancelled.last["status"], cancelled.last["cancelled"]) == ("cancelled", True)
    let_end(sandbox, identifier)
    shown = run("show", identifier)
    overtaken = personality.cancel == "overtaken"
    assert (shown.code, shown.last["status"], shown.last["source"]) == (
        (0, "completed", "api") if overtaken else (4, "cancelled", "api")
    )
    assert ids(cancelled, shown) == {identifier}


@pytest.mark.parametrize(
    ("status", "errors"),
    [
        *((status, "envelope") for status in CHOICES["cancel_status"]),
        *((404, errors) for errors in CHOICES["errors"] if errors != "envelope"),
        (501, "plain"),
    ],
)
def test_refused_cancel(
    run: Callable[..., Result],
    sandbox: Sandbox,
    create: Callable[[], str],
    instant_sleep: None,
    status: int,
    errors: str,
) -> None:
    """A refused cancel ends with exit 1 and the server's message; an ended job with its status."""
    sandbox.become(Personality(cancel="refused", cancel_status=status, errors=errors))
    identifier = create()
    result = run("cancel", identifier)
    assert (result.code, result.events) == (1, ["warning", "cancel_result"])
    assert result.lines[0]["code"] == "cancel_refused"
    assert "This server does not cancel responses." in result.lines[0]["message"]
    assert (result.last["status"], result.last["cancelled"]) == ("queued", False)
    assert result.last["next"][-2:] == ["monitor", identifier]
    let_end(sandbox, identifier)
    ended = run("cancel", identifier)
    assert (ended.code, ended.events) == (4, ["cancel_result"])
    assert (ended.last["status"], ended.last["next"]) == ("completed", None)


# --- unknown IDs ---------------------------------------------------------------------------


@every_not_found
@every_error_body
@pytest.mark.parametrize("command", ["show", "cancel"])
def test_unknown_id(
    run: Callable[..., Result],
    sandbox: Sandbox,
    instant_sleep: None,
    errors: str,
    status: int,
    command: str,
) -> None:
    """An unknown ID ends with exit 5 and the server's message, for a 404 and for a 400."""
    sandbox.become(Personality(not_found=status, errors=errors))
    result = run(command, "resp_none")
    assert (result.code, result.events, result.last["code"]) == (5, ["error"], "not_found")
    assert (result.last["http_status"], result.last["response_id"]) == (status, "resp_none")
    assert "Response with id 'resp_none' not found." in result.last["message"]


@pytest.mark.usefixtures("run")
@every_not_found
@every_error_body
def test_monitor_of_an_unknown_id(sandbox: Sandbox, errors: str, status: int) -> None:
    """A monitor ends with exit 5 after replies without the ID over at least 15 s."""
    sandbox.become(Personality(not_found=status, errors=errors))
    clock = FakeClock()

    async def monitored() -> list[Event]:
        api = Client(sandbox.base_url, "sk-test-0123456789")

        async def connect() -> Client:
            return api

        found: list[Event] = []

        async def emit(event: Event) -> None:
            found.append(event)

        context = fake_context(FakeClient(clock)).but(connect=connect, emit=emit)
        try:
            last = await follow_steps(Target(response_id="resp_none"), context)
            return [*found, last]
        finally:
            await api.close()

    events = asyncio.run(monitored())
    assert [event.event for event in events] == ["poll_error"] * 3 + ["error"]
    last = events[-1]
    assert isinstance(last, Error)
    assert (last.exit_code, last.code, last.http_status) == (5, "not_found", status)
    assert "Response with id 'resp_none' not found." in last.message
    assert (len(sandbox.requests), clock.time - FakeClock().time) == (4, 15)


# --- error bodies --------------------------------------------------------------------------

MESSAGE = "Invalid 'temperature': expected a value from 0 to 2."
LISTED = '[{"loc":["body","temperature"],"msg":"' + MESSAGE + '","type":"decimal_out_of_range"}]'


def code_of(errors: str, status: int, own: str | None = None) -> str:
    """Return the code of an error with this body and status; `own` is the API's code."""
    codes = {"envelope": own, "number": str(status)}
    return codes.get(errors) or f"http_{status}"


@every_error_body
def test_refused_field(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, errors: str
) -> None:
    """A refused field ends with exit 1 and the server's message, or FastAPI's list as sent."""
    sandbox.become(Personality(errors=errors))
    body = tmp_path / "body.json"
    body.write_text('{"temperature": 5}')
    result = run("submit", "--prompt", "x", "--body-json-file", str(body))
    last, status = result.last, 422 if errors == "detail" else 400
    assert (result.code, last["outcome"], last["http_status"]) == (1, "not_created", status)
    assert (LISTED if errors == "detail" else MESSAGE) in last["message"]
    assert last["code"] == code_of(errors, status, "decimal_out_of_range")


@every_error_body
def test_unknown_model(run: Callable[..., Result], sandbox: Sandbox, errors: str) -> None:
    """An unknown model ends with exit 1 and the server's message; `code` is always a string."""
    sandbox.become(Personality(errors=errors))
    result = run("submit", "--prompt", "x", "--model", "missing-model")
    assert (result.code, result.last["outcome"]) == (1, "not_created")
    assert "The requested model 'missing-model' does not exist." in result.last["message"]
    assert result.last["code"] == code_of(errors, 404, "model_not_found")


@every_error_body
def test_refused_key(
    run: Callable[..., Result], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, errors: str
) -> None:
    """A refused key ends with exit 8 and the server's message, without the key."""
    sandbox.become(Personality(errors=errors))
    monkeypatch.setenv("OPENAI_API_KEY", "invalid-hush-0123456789")
    result = run("submit", "--prompt", "x")
    assert (result.code, result.last["outcome"]) == (8, "not_created")
    assert "Incorrect API key provided" in result.last["message"]
    assert result.last["code"] == code_of(errors, 401, "invalid_api_key")
    assert b"hush" not in result.out


@every_error_body
def test_transient_errors(
    run: Callable[..., Result], sandbox: Sandbox, instant_sleep: None, errors: str
) -> None:
    """Transient errors are reported with the server's message, and the job completes."""
    sandbox.become(Personality(errors=errors))
    sandbox.script(
        Fault(on="create", kind="status", status=429),
        Fault(on="retrieve", kind="status", status=500),
    )
    result = run("submit", "--prompt", "x", "--metadata", "sandbox_seconds=0", *FAST)
    assert (result.code, result.events) == (
        *(0, ["submit_start", "submit_error", "submitted", "poll_error", "poll", "final"]),
    )
    busy, broken = (line["error"] for line in result.lines if line["event"].endswith("_error"))
    assert "Rate limit reached for requests." in busy["message"]
    assert "The server had an error while processing your request." in broken["message"]
    assert busy["code"] == code_of(errors, 429, "rate_limit_exceeded")
    assert broken["code"] == code_of(errors, 500)


def test_job_key_of_an_overtaken_cancel(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A rerun retrieves a job whose local copy is cancelled again, and reports its real end."""
    sandbox.become(Personality(cancel="overtaken"))
    argv = ("submit", "--prompt", "x", "--job-key", "k", "--metadata", "sandbox_seconds=600")
    identifier = run(*argv, "--detach").id
    assert run("cancel", identifier).last["status"] == "cancelled"
    assert run(*argv).last["status"] == "cancelled"
    let_end(sandbox, identifier)
    result = run(*argv)
    assert (result.code, result.last["status"], len(sandbox.posts)) == (0, "completed", 1)
