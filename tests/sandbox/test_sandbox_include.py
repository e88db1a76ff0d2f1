"""`include`, and the files of containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from openai import NotFoundError

from oaibg.sandbox import Fault
from sandbox_batches import end as end_batch
from sandbox_batches import line, read, start
from sandbox_client import LONG, create, end, events, refused, request
from sandbox_streams import streamed

if TYPE_CHECKING:
    import httpx2
    from openai import OpenAI

    from oaibg.sandbox import Sandbox

SOURCES = "web_search_call.action.sources"
OUTPUTS = "code_interpreter_call.outputs"
SEARCHES = {"sandbox_tools": "2", "sandbox_seconds": "0"}
FILE = {"sandbox_outcome": "file", "sandbox_seconds": "0"}


def sources_in(output: list[dict[str, Any]]) -> list[Any]:
    """Return the sources of each search of an output; None for a search without them."""
    found = [item for item in output if item["type"] == "web_search_call"]
    return [item["action"].get("sources") for item in found]


# --- include -------------------------------------------------------------------------------


def test_a_retrieve_has_to_request_the_sources_itself(http: httpx2.Client, sdk: OpenAI) -> None:
    """The `include` of the create doesn't apply to a retrieve, only its own does."""
    job = create(http, include=[SOURCES], metadata=SEARCHES)["id"]
    assert sources_in(end(http, job)["output"]) == [None, None]
    with_sources = sdk.responses.retrieve(job, include=["web_search_call.action.sources"])
    found = sources_in([item.to_dict() for item in with_sources.output])
    assert [one[0]["type"] for one in found] == ["url", "url"]


@pytest.mark.parametrize("query", ["include={}", "include[]={}", "include[0]={}", "include[]={}&a"])
def test_the_include_of_a_retrieve_has_several_forms(http: httpx2.Client, query: str) -> None:
    """A query can have one or more values, with or without brackets."""
    job = create(http, metadata=SEARCHES)["id"]
    several = query.format(OUTPUTS) + "&" + query.format(SOURCES)
    for one in (query.format(SOURCES), several):
        assert None not in sources_in(http.get(f"/responses/{job}?{one}").json()["output"])


def test_the_include_of_a_create_applies_to_its_reply(http: httpx2.Client, sdk: OpenAI) -> None:
    """That is the reply at the end without background mode, the stream, and a batch's result."""
    body = request(background=None, include=[SOURCES], metadata=SEARCHES)
    assert None not in sources_in(http.post("/responses", json=body).json()["output"])
    sent = streamed(http, include=[SOURCES], metadata=SEARCHES)
    assert None not in sources_in(sent[-1]["response"]["output"])
    done = [one["item"] for one in sent if one["type"] == "response.output_item.done"]
    assert done == sent[-1]["response"]["output"]
    requests = [line("with", include=[SOURCES], metadata=SEARCHES), line("without")]
    requests[1]["body"]["metadata"] = SEARCHES
    results = read(sdk, end_batch(sdk, start(sdk, requests)).output_file_id)
    assert None not in sources_in(results["with"]["response"]["body"]["output"])
    assert sources_in(results["without"]["response"]["body"]["output"]) == [None, None]


def test_a_resumed_stream_has_its_own_include(http: httpx2.Client) -> None:
    """A stream of a retrieve has sources only if its own query requests them."""
    job = streamed(http, include=[SOURCES], metadata=SEARCHES)[0]["response"]["id"]
    for query, found in (("", False), (f"&include[]={SOURCES}", True)):
        sent = events(http.get(f"/responses/{job}?stream=true{query}").text)
        items = [one["item"] for one in sent if one["type"] == "response.output_item.done"]
        assert all(bool(one) == found for one in sources_in(items))
        assert items == sent[-1]["response"]["output"]


def test_include_shows_the_outputs_of_code(http: httpx2.Client) -> None:
    """They are null unless they are requested."""
    job = end(http, create(http, metadata=FILE)["id"])
    assert job["output"][1]["outputs"] is None
    whole = http.get(f"/responses/{job['id']}", params={"include": OUTPUTS}).json()
    assert [one["type"] for one in whole["output"][1]["outputs"]] == ["logs"]


@pytest.mark.parametrize(
    ("include", "param", "code"),
    [
        (["odd"], "include[0]", "invalid_value"),
        ([SOURCES, "odd"], "include[1]", "invalid_value"),
        ([1], "include[0]", "invalid_type"),
        (SOURCES, "include", "invalid_type"),
    ],
)
def test_an_unknown_include_is_refused(
    sandbox: Sandbox, http: httpx2.Client, include: Any, param: str, code: str
) -> None:
    """The 400 of a create and of a retrieve names the place, and lists the known values."""
    error = refused(answer := http.post("/responses", json=request(include=include)))
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
    assert not sandbox.jobs
    if code == "invalid_value":
        assert OUTPUTS in error["message"]
        job = create(http)["id"]
        answer = http.get(f"/responses/{job}", params={"include[]": include})
        assert refused(answer) == error


# --- containers ----------------------------------------------------------------------------


def cited(job: dict[str, Any]) -> dict[str, Any]:
    """Return the only citation of a response's message."""
    (citation,) = job["output"][-1]["content"][0]["annotations"]
    return dict(citation)


def path_of(citation: dict[str, Any]) -> str:
    """Return the path of a cited file's content."""
    return f"/containers/{citation['container_id']}/files/{citation['file_id']}/content"


def test_a_cited_file_can_be_read(http: httpx2.Client, sdk: OpenAI) -> None:
    """The SDK reads the file; the citation covers the link in the text."""
    job = end(http, create(http, metadata=FILE)["id"])
    found = cited(job)
    text = job["output"][-1]["content"][0]["text"]
    assert text[found["start_index"] : found["end_index"]] == "sandbox:/mnt/data/chart.csv"
    assert found["filename"] == "chart.csv"
    assert found["container_id"] == job["output"][1]["container_id"]
    content = sdk.containers.files.content.retrieve(
        found["file_id"], container_id=found["container_id"]
    )
    assert content.text == "x,y\n1,2\n"


def test_a_citation_covers_a_text_without_a_link(http: httpx2.Client) -> None:
    """If the metadata chooses the text, all of it is cited."""
    job = end(http, create(http, metadata={**FILE, "sandbox_text": "See the chart."})["id"])
    assert (cited(job)["start_index"], cited(job)["end_index"]) == (0, len("See the chart."))


def test_a_file_of_a_batch_can_be_read(http: httpx2.Client, sdk: OpenAI) -> None:
    """The results of a batch cite files that exist."""
    batch = end_batch(sdk, start(sdk, [line("a", metadata=FILE)]))
    result = read(sdk, batch.output_file_id)["a"]["response"]["body"]
    assert http.get(path_of(cited(result))).text == "x,y\n1,2\n"


def test_unknown_containers_and_files_are_not_found(http: httpx2.Client, sdk: OpenAI) -> None:
    """Each gets 404 in the envelope of the API."""
    found = cited(end(http, create(http, metadata=FILE)["id"]))
    other = cited(end(http, create(http, metadata=FILE)["id"]))
    for odd in (
        {**found, "container_id": "cntr_none"},
        {**found, "file_id": "cfile_none"},
        {**found, "file_id": other["file_id"]},
    ):
        answer = http.get(path_of(odd))
        assert (answer.status_code, refused(answer)["type"]) == (404, "invalid_request_error")
    with pytest.raises(NotFoundError):
        sdk.containers.files.content.retrieve("cfile_x", container_id="cntr_x")


def test_a_container_is_unknown_before_its_job_completes(
    sandbox: Sandbox, http: httpx2.Client
) -> None:
    """A running job has no file yet."""
    metadata = {**FILE, "sandbox_seconds": str(LONG)}
    job = create(http, metadata=metadata)["id"]
    sandbox.jobs[job].created -= LONG
    path = path_of(cited(end(http, job)))
    assert http.get(path).status_code == 200
    sandbox.jobs[job].created += LONG
    assert http.get(path).status_code == 404


def test_a_container_expires_20_minutes_after_its_last_use(
    sandbox: Sandbox, http: httpx2.Client
) -> None:
    """The end of the job and each read use it."""
    used, unused = (end(http, create(http, metadata=FILE)["id"]) for _ in range(2))
    assert http.get(path_of(cited(used))).status_code == 200
    for job in (used, unused):
        sandbox.jobs[job["id"]].created -= 1201
    assert http.get(path_of(cited(used))).status_code == 200
    answer = http.get(path_of(cited(unused)))
    assert (answer.status_code, refused(answer)["message"]) == (404, "Container is expired.")


def test_metadata_makes_a_container_expire_at_once(http: httpx2.Client) -> None:
    """`sandbox_container` has only the value `expired`."""
    job = end(http, create(http, metadata={**FILE, "sandbox_container": "expired"})["id"])
    answer = http.get(path_of(cited(job)))
    assert (answer.status_code, refused(answer)["message"]) == (404, "Container is expired.")
    odd = http.post("/responses", json=request(metadata={"sandbox_container": "gone"}))
    assert (odd.status_code, refused(odd)["param"]) == (400, "metadata")


def test_a_fault_can_affect_the_content_of_a_container(
    sandbox: Sandbox, http: httpx2.Client
) -> None:
    """The operation `container_content` has its own name, and its ID is that of the container."""
    found = cited(end(http, create(http, metadata=FILE)["id"]))
    sandbox.script(
        Fault(on="file_content", kind="status", status=500),
        Fault(on="container_content", kind="status", status=503, response_id="cntr_other"),
        Fault(on="container_content", kind="status", status=502, response_id=found["container_id"]),
    )
    assert [http.get(path_of(found)).status_code for _ in range(2)] == [502, 200]
