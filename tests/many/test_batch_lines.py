"""Lines of results as other servers write them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from harness import with_text
from oaibg.sandbox import Fault
from runs import BatchFiles, batch_of, of
from schemas import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result
    from oaibg.sandbox import Sandbox

OK = {"id": "1", "custom_id": "a", "response": {"status_code": 200, "body": with_text("yes")}}


@pytest.fixture
def reading(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles
) -> Callable[..., Result]:
    """Run a batch whose output file has a good line for job a, and this line for job b."""

    def read(line: dict[str, Any] | str) -> Result:
        own = line if isinstance(line, str) else json.dumps({"id": "2", "custom_id": "b"} | line)
        sandbox.script(Fault(on="file_content", kind="raw", body=f"{json.dumps(OK)}\n{own}\n"))
        result = checked(run(*batch.argv("--show-output-text")))
        again = checked(run(*batch.argv()))
        assert (again.code, again.last["counts"]) == (result.code, result.last["counts"])
        return result

    return read


def error_of(result: Result) -> dict[str, Any]:
    """Return the `error` line of job b."""
    (error,) = [one for one in of(result, "error") if one["custom_id"] == "b"]
    return error


REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    (
        {"response": {"status_code": 400, "body": None}, "error": {"message": "bad input"}},
        "HTTP 400: bad input",
        "http_400",
    ),
    (
        {"response": {"status_code": 422}, "error": {"error": {"message": "bad", "code": 422}}},
        "HTTP 422: bad",
        "422",
    ),
    (
        {"response": {"status_code": "400", "body": {"detail": [{"msg": "no field"}]}}},
        'HTTP 400: [{"msg":"no field"}]',
        "http_400",
    ),
    (
        {"response": {"status_code": 400, "body": '{"error":{"message":"text","code":"c"}}'}},
        "HTTP 400: text",
        "c",
    ),
    (
        {"response": {"status_code": 400, "body": "plain words"}},
        "HTTP 400: plain words",
        "http_400",
    ),
    (
        {"response": {"status_code": 400, "error": {"message": "bad input", "code": "c"}}},
        "HTTP 400: bad input",
        "c",
    ),
    (
        {"response": {"status_code": 404, "message": "no such model"}, "error": None},
        "HTTP 404: no such model",
        "http_404",
    ),
    (
        {"response": {"status_code": 422, "body": {}, "detail": "no field"}, "error": {}},
        "HTTP 422: no field",
        "http_422",
    ),
    (
        {"response": {"status_code": 200, "body": {"error": {"message": "m", "code": "c"}}}},
        "HTTP 200: m",
        "c",
    ),
]


@pytest.mark.parametrize(("line", "message", "code"), REFUSALS)
def test_refusals_in_the_servers_words(
    reading: Callable[..., Result], line: dict[str, Any], message: str, code: str
) -> None:
    """A refused job is reported with the server's words and code, wherever the line has them."""
    result = reading(line)
    assert (result.code, result.last["counts"]) == (1, {"completed": 1, "refused": 1})
    error = error_of(result)
    assert (error["message"], error["code"]) == (message, code)


@pytest.mark.parametrize(
    "line",
    [
        {"response": {"status_code": 200, "body": with_text("no")}},
        {"response": {"status_code": 200, "body": with_text("no")}, "error": ""},
        {"response": {"status_code": 200, "body": json.dumps(with_text("no"))}},
        {"response": {"status_code": "200", "body": with_text("no")}, "error": {}},
        {"response": {"body": json.dumps(with_text("no"), indent=1)}, "error": None},
        {"response": {"status_code": 200, "body": with_text("no") | {"status": None}}},
    ],
)
def test_successes(reading: Callable[..., Result], batch: BatchFiles, line: dict[str, Any]) -> None:
    """A completed job needs no key `error`; its body may be a JSON string."""
    result = reading(line)
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    assert [one["text"] for one in of(result, "output_text")] == ["yes", "no"]
    assert not of(result, "warning")
    kept = [json.loads(raw) for raw in batch.results.read_bytes().splitlines()]
    assert kept[1] == {"id": "2", "custom_id": "b"} | line


@pytest.mark.parametrize(
    ("line", "status", "error"),
    [
        ({"error": {"code": "boom", "message": "it broke"}}, "failed", ("boom", "it broke")),
        ({"error": "it broke"}, "failed", (None, "it broke")),
        ({"response": {"error": {"message": "it broke"}}}, "failed", (None, "it broke")),
        ({"response": {}, "error": {"detail": "it broke"}}, "failed", (None, "it broke")),
        ({"error": {"code": "batch_expired", "message": "m"}}, "expired", ("batch_expired", "m")),
        ({"error": {"code": "completed", "message": "m"}}, "failed", ("completed", "m")),
        (
            {"response": {"status_code": 500}, "error": "it broke"},
            "failed",
            ("http_500", "HTTP 500: it broke"),
        ),
        (
            {"response": {"status_code": 429, "body": {"message": "slow down", "code": "busy"}}},
            "failed",
            ("busy", "HTTP 429: slow down"),
        ),
        (
            {"response": {"status_code": 502, "body": "<html>"}, "error": {}},
            "failed",
            ("http_502", "HTTP 502: an HTML page"),
        ),
    ],
)
def test_failures_without_a_response(
    reading: Callable[..., Result],
    line: dict[str, Any],
    status: str,
    error: tuple[str | None, str],
) -> None:
    """A job without a response failed, or did not run; `final` has the server's words.

    An HTTP status that doesn't blame the request is a failure, too: nothing needs to be changed.
    """
    result = reading(line)
    assert (result.code, result.last["counts"]) == (4, {"completed": 1, status: 1})
    (final,) = [one for one in of(result, "final") if one["custom_id"] == "b"]
    assert (final["status"], final["ok"]) == (status, False)
    assert (final["error"]["code"], final["error"]["message"]) == error


@pytest.mark.parametrize(
    "line",
    [
        "<html>",
        {"response": {"status_code": 200, "body": "no JSON"}},
        {"response": {"status_code": 200, "body": "[1]"}, "error": None},
        {"response": "text", "error": None},
        {"response": {"status_code": "9" * 5000, "body": 1}},
        {},
    ],
)
def test_lines_that_cannot_be_read(
    run: Callable[..., Result],
    sandbox: Sandbox,
    batch: BatchFiles,
    line: dict[str, Any] | str,
) -> None:
    """The warning about lines that can't be read names their file, which is saved, once."""
    own = line if isinstance(line, str) else json.dumps({"custom_id": "b"} | line)
    body = f"{own}\n{json.dumps(OK)}\n{own}"
    sandbox.script(Fault(on="file_content", kind="raw", body=body, times=2))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (1, {"completed": 1, "missing": 1})
    (warning,) = of(result, "warning")
    output = sandbox.batches[batch_of(sandbox)].output_file_id
    assert f"{output} were ignored: 2 can't be read, 0 are" in warning["message"]
    kept = batch.folder / f"{batch.results.name}.{output}.jsonl"
    assert f"saved as {kept}." in warning["message"]
    assert kept.read_text() == body
    assert result.last["next"] is None
    assert checked(run(*batch.argv())).code == 1
    assert list(batch.folder.glob(f"{batch.results.name}.*")) == [kept]


@pytest.mark.parametrize("end", ["\n", "\r\n", " \r\n\r\n"])
def test_byte_order_mark_and_line_ends(
    run: Callable[..., Result], sandbox: Sandbox, batch: BatchFiles, end: str
) -> None:
    """A byte order mark and the line ends of Windows don't get into the results file."""
    lines = [json.dumps(OK), json.dumps(OK | {"id": "2", "custom_id": "b"})]
    sandbox.script(Fault(on="file_content", kind="raw", body="\ufeff" + end.join([*lines, ""])))
    result = checked(run(*batch.argv()))
    assert (result.code, result.last["counts"]) == (0, {"completed": 2})
    assert batch.results.read_text() == "".join(f"{line}\n" for line in lines)
    assert run(*batch.argv()).code == 0
