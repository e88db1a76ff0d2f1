"""Each field of a personality changes how the sandbox replies."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from openai import NotFoundError

from oaibg.sandbox import PERSONALITIES, Fault, Personality, Sandbox
from oaibg.sandbox.personality import CHOICES
from sandbox_batches import end as end_batch
from sandbox_batches import line, read, start, upload
from sandbox_client import LONG, create, end, events, refused, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai import OpenAI


def text_of(response: dict[str, Any]) -> str:
    """Return the text of a response's message."""
    return "".join(item["content"][0]["text"] for item in response["output"] if "content" in item)


# --- choosing a personality ----------------------------------------------------------------


def test_every_difference_is_in_a_named_personality() -> None:
    """Every choice of every field occurs in one of them, except statuses of refused cancels."""
    for name in Personality.__dataclass_fields__:
        seen = {getattr(one, name) for one in PERSONALITIES.values()}
        assert len(seen) > 1, name
        assert name == "cancel_status" or seen >= set(CHOICES.get(name, ())), name
    assert next(iter(PERSONALITIES.values())) == Personality()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ids": "short"}, "ids must be one of openai, uuid, long, not 'short'"),
        ({"statuses": "completed"}, "statuses must be one of"),
        ({"errors": "html"}, "errors must be one of"),
        ({"not_found": 410}, "not_found must be one of 404, 400, not 410"),
        ({"cancel": "late"}, "cancel must be one of"),
        ({"cancel_status": 500}, "cancel_status must be one of"),
    ],
)
def test_invalid_personalities_are_refused(fields: Any, message: str) -> None:
    """The message contains the name of the field."""
    with pytest.raises(ValueError, match=message):
        Personality(**fields)


def test_an_unknown_personality_is_refused(sandbox: Sandbox, http: httpx2.Client) -> None:
    """The message lists the known names, and the server doesn't change."""
    names = "openai, gateway, minimal, eager, stubborn"
    with pytest.raises(ValueError, match=names), Sandbox.running(personality="nobody"):
        pass
    with pytest.raises(ValueError, match=names):
        sandbox.become("nobody")
    assert create(http)["id"].startswith("resp_")


def test_clear_restores_the_first_personality() -> None:
    """A changed personality also applies to earlier jobs, until `clear`."""
    with (
        Sandbox.running(seconds=LONG, personality="minimal") as sandbox,
        httpx2.Client(base_url=sandbox.base_url, trust_env=False) as http,
    ):
        first = create(http)
        sandbox.become(Personality(ids="long", statuses="in_progress"))
        second = create(http)
        shown = http.get(f"/responses/{first['id']}").json()
        sandbox.clear()
        third = create(http)
    assert [len(job["id"]) for job in (first, second, third)] == [36, 428, 36]
    assert [job.get("usage", "none") for job in (first, second, third)] == ["none", None, "none"]
    assert (shown["id"], shown["status"]) == (first["id"], "in_progress")


# --- IDs and payloads ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "shape"),
    [
        ("openai", r"resp_[0-9a-f]{50}"),
        ("uuid", r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        ("long", r"[A-Za-z][A-Za-z0-9_-]{420,440}="),
    ],
)
def test_ids_have_their_format(sandbox: Sandbox, http: httpx2.Client, ids: str, shape: str) -> None:
    """Every job has its own ID in the chosen format, and keeps it."""
    sandbox.become(Personality(ids=ids))
    first, second = create(http)["id"], create(http)["id"]
    assert first != second
    assert re.fullmatch(shape, first)
    assert http.get(f"/responses/{first}").json()["id"] == first
    assert list(sandbox.jobs) == [first, second]


def test_all_ids_of_a_job_are_valid(sandbox: Sandbox, http: httpx2.Client) -> None:
    """If IDs change, all of them can be retrieved, cancelled and continued until `forget`."""
    sandbox.become(Personality(ids="uuid", changing_ids=True))
    ids = [create(http, metadata={"sandbox_seconds": str(LONG), "n": "1"})["id"]]
    for _ in range(3):
        answer = http.get(f"/responses/{ids[-1]}").json()
        assert answer["metadata"]["n"] == "1"
        ids.append(answer["id"])
    ids.append(http.post(f"/responses/{ids[2]}/cancel").json()["id"])
    assert len(set(ids)) == 5
    assert [http.get(f"/responses/{one}").json()["status"] for one in ids] == ["cancelled"] * 5
    create(http, previous_response_id=ids[3])
    assert len(sandbox.jobs) == 2
    sandbox.forget(ids[1])
    assert [http.get(f"/responses/{one}").status_code for one in ids] == [404] * 5
    assert http.post("/responses", json=request(previous_response_id=ids[3])).status_code == 400


def test_sparse_responses_have_few_keys(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A sparse response has an ID and a status and, at the end, the output."""
    sandbox.become(Personality(sparse=True))
    job = create(http)
    assert list(job) == ["id", "status"]
    ended = end(http, job["id"])
    assert list(ended) == ["id", "status", "output"]
    assert text_of(ended)


def test_output_is_null_until_the_end(sandbox: Sandbox, http: httpx2.Client) -> None:
    """At the end `output` is a list, even if it is empty."""
    sandbox.become(Personality(null_output=True))
    job = create(http)
    assert job["output"] is None
    assert text_of(end(http, job["id"]))
    failed = create(http, metadata={"sandbox_outcome": "failed", "sandbox_seconds": "0"})
    assert end(http, failed["id"])["output"] == []


@pytest.mark.parametrize("statuses", ["queued", "in_progress"])
def test_running_jobs_have_one_status(sandbox: Sandbox, http: httpx2.Client, statuses: str) -> None:
    """A job has the chosen status from its create to its end."""
    sandbox.become(Personality(statuses=statuses))
    job = create(http)
    seen = [job["status"]]
    while seen[-1] != "completed":
        seen.append(http.get(f"/responses/{job['id']}").json()["status"])
    assert set(seen[:-1]) == {statuses}


def test_partial_output_shows_while_a_job_runs(sandbox: Sandbox, http: httpx2.Client) -> None:
    """A job in progress shows part of the text; a completed job shows all of it."""
    sandbox.become(Personality(partial=True))
    job = create(http, metadata={"sandbox_text": "someness", "sandbox_seconds": str(LONG)})["id"]
    url = f"/responses/{job}"
    seen = [http.get(url).json()]
    sandbox.jobs[job].created -= LONG / 2
    seen.append(http.get(url).json())
    sandbox.jobs[job].created -= LONG
    seen.append(http.get(url).json())
    assert [(one["status"], text_of(one)) for one in seen] == [
        ("queued", ""),
        ("in_progress", "some"),
        ("completed", "someness"),
    ]
    sandbox.become(Personality(partial=True, statuses="in_progress", sparse=True))
    assert text_of(create(http, metadata={"sandbox_text": "abcd"})) == "ab"


def test_incomplete_jobs_have_the_servers_reason(sandbox: Sandbox, http: httpx2.Client) -> None:
    """`incomplete_reason` replaces the API's reason."""
    sandbox.become(Personality(incomplete_reason="too_long"))
    metadata = {"sandbox_outcome": "incomplete", "sandbox_seconds": "0"}
    ended = end(http, create(http, metadata=metadata)["id"])
    assert ended["incomplete_details"] == {"reason": "too_long"}


def test_streams_also_have_the_personality(sandbox: Sandbox, http: httpx2.Client) -> None:
    """The personality applies to the responses in events, and to nothing else in them."""
    sandbox.become(Personality(sparse=True, statuses="queued", ids="uuid", changing_ids=True))
    streamed = events(http.post("/responses", json=request(stream=True)).text)
    shown = [one["response"] for one in streamed if "response" in one]
    assert [one["status"] for one in shown] == ["queued"] * 3 + ["completed"]
    assert [one["sequence_number"] for one in streamed] == list(range(len(streamed)))
    assert list(shown[0]) == ["id", "status"]
    for one in shown:
        assert http.get(f"/responses/{one['id']}").json()["status"] == "completed"


# --- errors and cancels --------------------------------------------------------------------

MISSING = "Response with id 'none' not found."
NO_ROLE = "Missing required parameter: 'input[0].role'."
NO_ROLE_LISTED = [
    {"loc": ["body", "input", 0, "role"], "msg": NO_ROLE, "type": "missing_required_parameter"}
]


def enveloped(message: str, **fields: object) -> dict[str, object]:
    """Return an error body in OpenAI's format."""
    usual = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return {"error": {**usual, **fields}}


@pytest.mark.parametrize(
    ("errors", "missing", "status", "refused_field"),
    [
        (
            "envelope",
            enveloped(MISSING),
            400,
            enveloped(NO_ROLE, param="input[0].role", code="missing_required_parameter"),
        ),
        (
            "number",
            enveloped(MISSING, code=404),
            400,
            enveloped(NO_ROLE, param="input[0].role", code=400),
        ),
        ("text", {"error": MISSING}, 400, {"error": NO_ROLE}),
        ("detail", {"detail": MISSING}, 422, {"detail": NO_ROLE_LISTED}),
        ("plain", MISSING, 400, NO_ROLE),
    ],
)
def test_errors_have_their_format(
    sandbox: Sandbox,
    http: httpx2.Client,
    errors: str,
    missing: object,
    status: int,
    refused_field: object,
) -> None:
    """Errors of retrieves, creates and `status` faults without a body have the format."""

    def body(answer: httpx2.Response) -> object:
        plain = answer.headers["content-type"] == "text/plain; charset=utf-8"
        return answer.text if plain else answer.json()

    sandbox.become(Personality(errors=errors))
    lost = http.get("/responses/none")
    bad = http.post("/responses", json=request(input=[{"content": "x"}]))
    assert (lost.status_code, body(lost)) == (404, missing)
    assert (bad.status_code, body(bad)) == (status, refused_field)
    sandbox.script(
        Fault(kind="status", status=418),
        Fault(kind="status", status=418, body={"own": 1}),
        Fault(kind="status", status=502),
        Fault(kind="raw", body="own"),
    )
    usual, own, page, raw = (http.get("/responses/none") for _ in range(4))
    assert usual.status_code == 418
    assert usual.headers["content-type"] == lost.headers["content-type"]
    assert "teapot" in usual.text.lower()
    assert (own.json(), page.text[:6], raw.text) == ({"own": 1}, "<html>", "own")


@pytest.mark.parametrize("status", [404, 400])
def test_not_found_has_its_status(sandbox: Sandbox, http: httpx2.Client, status: int) -> None:
    """A retrieve and a cancel get the chosen status; an unknown path still gets 404."""
    sandbox.become(Personality(not_found=status))
    assert http.get("/responses/none").status_code == status
    assert http.post("/responses/none/cancel").status_code == status
    assert http.get("/nothing").status_code == 404


@pytest.mark.parametrize("status", [400, 404, 409, 501])
def test_cancels_are_refused_with_their_status(
    sandbox: Sandbox, http: httpx2.Client, status: int
) -> None:
    """The job keeps running, and completes."""
    sandbox.become(Personality(cancel="refused", cancel_status=status))
    job = create(http)["id"]
    answer = http.post(f"/responses/{job}/cancel")
    assert answer.status_code == status
    assert refused(answer)["message"] == "This server does not cancel responses."
    assert end(http, job)["status"] == "completed"


def test_overtaken_cancels_hold_until_the_jobs_end(sandbox: Sandbox, http: httpx2.Client) -> None:
    """The job is cancelled until its usual end, then completed; a stuck job stays cancelled."""
    sandbox.become(Personality(cancel="overtaken"))
    stuck = create(http, metadata={"sandbox_outcome": "stuck"})["id"]
    job = create(http, metadata={"sandbox_seconds": str(LONG)})["id"]
    for one in (stuck, job):
        assert http.post(f"/responses/{one}/cancel").json()["status"] == "cancelled"
    assert http.get(f"/responses/{job}").json()["status"] == "cancelled"
    sandbox.jobs[job].created -= LONG
    assert http.get(f"/responses/{job}").json()["status"] == "completed"
    assert http.get(f"/responses/{stuck}").json()["status"] == "cancelled"
    assert http.post(f"/responses/{job}/cancel").status_code == 400


# --- batches -------------------------------------------------------------------------------


def test_a_server_can_lack_batches(sandbox: Sandbox, sdk: OpenAI) -> None:
    """The paths of files and batches get 404; responses still work."""
    sandbox.become(Personality(batches=False))
    calls: list[Callable[[], object]] = [
        sdk.batches.list,
        sdk.files.list,
        lambda: upload(sdk, b"{}"),
        lambda: sdk.batches.retrieve("x"),
    ]
    for call in calls:
        with pytest.raises(NotFoundError, match="Invalid URL"):
            call()
    assert (sandbox.files, sandbox.batches) == ({}, {})
    sdk.responses.create(model="gpt-5.2", input="Hi", background=True)


def test_result_files_have_the_personality(sandbox: Sandbox, sdk: OpenAI) -> None:
    """The responses and errors in result files have the server's format."""
    sandbox.become(Personality(ids="uuid", sparse=True, errors="text"))
    batch = end_batch(sdk, start(sdk, [line("good"), line("hot", temperature=9)]))
    good = read(sdk, batch.output_file_id)["good"]["response"]["body"]
    hot = read(sdk, batch.error_file_id)["hot"]["response"]["body"]
    assert list(good) == ["id", "status", "output"]
    assert len(good["id"]) == 36
    assert isinstance(hot["error"], str)
