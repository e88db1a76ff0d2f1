"""Mistyped keys and IDs: what the error suggests, and whether the API is asked at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oaibg.sandbox import Fault
from runs import FAST, new_jobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox import Sandbox

OPENAI = "https://api.openai.com/v1"
COMMANDS = ("monitor", "show", "cancel")
ARGV = ("submit", "--prompt", "x", "--detach")


@pytest.mark.parametrize("command", COMMANDS)
def test_mistyped_key(run: Callable[..., Result], sandbox: Sandbox, command: str) -> None:
    """The hint has the key that resembles the name; the server is asked only once."""
    run(*ARGV, "--job-key", "report-7")
    sandbox.requests.clear()
    result = run(command, "reprot-7")
    assert (result.code, result.last["code"]) == (5, "not_found")
    assert result.last["hint"].startswith("Did you mean report-7? ")
    assert result.last["next"] is None
    assert len([one for one in sandbox.requests if one.method == "GET"]) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_name_that_openai_cannot_have(
    run: Callable[..., Result],
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    """OpenAI's IDs begin with resp_ or batch_, so it isn't asked for another name."""
    for name, value in {"OPENAI_BASE_URL": OPENAI, "HTTPS_PROXY": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    run(*ARGV, "--job-key", "report-7", "--max-wait-seconds", "0.1")
    result = run(command, "reprot-7")
    assert (result.code, result.events, result.last["code"]) == (5, ["error"], "not_found")
    assert (
        f"The local state in {state} has no job or run named 'reprot-7'" in result.last["message"]
    )


def test_one_mistyped_name_of_several(
    run: Callable[..., Result], started: Callable[..., str]
) -> None:
    """A mistyped name among several doesn't end the others."""
    identifier = started("--job-key", "report-7")
    result = run("monitor", identifier, "reprot-7", "--poll-seconds", "0.05")
    (error,) = [line for line in result.lines if line["event"] == "error"]
    assert error["hint"].startswith("Did you mean report-7? ")
    assert result.last["counts"] == {"completed": 1, "not_found": 1}


@pytest.mark.parametrize("command", COMMANDS)
def test_mistyped_value_of_job_key(run: Callable[..., Result], command: str) -> None:
    """The value of --job-key is compared with the known keys, too."""
    run(*ARGV, "--job-key", "report-7")
    result = run(command, "--job-key", "report7")
    assert (result.code, result.last["code"]) == (5, "not_found")
    assert result.last["hint"].startswith("Did you mean report-7? ")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Report 7/a", "report 7/b"),
        ("report", "report 7/b"),
        ("REPORT 7/B", "report 7/b"),
        ("report 7/b/x", "report 7/b"),
    ],
)
def test_forms_of_a_key(run: Callable[..., Result], typed: str, meant: str) -> None:
    """A suggestion is found in another case, by its beginning, and if a few characters differ."""
    run(*ARGV, "--job-key", "report 7/b")
    result = run("show", typed)
    assert f"Did you mean {meant}?" in result.last["hint"]


def test_file_of_a_run_in_another_directory(
    run: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose key is the path of its jobs file is found by the name of the file."""
    (folder / "lakes.jsonl").write_text('{"prompt":"x"}\n')
    argv = ("--jobs-file", "lakes.jsonl", "--results-file", "r.jsonl", "--poll-seconds", "0.05")
    assert run("submit", *argv).code == 0
    monkeypatch.chdir("/")
    hint = run("show", "lakes.jsonl").last["hint"]
    assert hint.startswith(f"Did you mean {(folder / 'lakes.jsonl').resolve()}? ")


def test_label_in_place_of_a_name(run: Callable[..., Result]) -> None:
    """A label is not accepted as a name; the hint has the name of its job."""
    identifier = run(*ARGV, "--label", "Lakes").id
    run(*ARGV, "--label", "Two words", "--job-key", "k")
    assert run("show", "Lakes").last["hint"].startswith(f"That is the label of {identifier}. ")
    result = run("show", "Two words")
    assert (result.code, result.last["code"]) == (2, "usage")
    assert result.last["hint"].startswith("That is the label of k. ")


def test_part_of_an_id(run: Callable[..., Result], started: Callable[..., str]) -> None:
    """An ID that was copied in part is completed in the hint; the API is asked as usual."""
    identifier = started()
    hint = run("show", identifier[:-3]).last["hint"]
    assert hint.startswith(f"Did you mean {identifier}? ")


@pytest.mark.parametrize("command", COMMANDS)
def test_name_that_is_like_no_other(run: Callable[..., Result], command: str) -> None:
    """Without a similar name, there is no suggestion."""
    run(*ARGV, "--job-key", "report-7")
    assert "Did you mean" not in run(command, "--job-key", "lakes").last["hint"]


def test_mistyped_name_without_a_network(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the server can't be asked, the message has the suggestion."""
    run(*ARGV, "--job-key", "report-7")
    monkeypatch.setenv("OPENAI_API_KEY", "")
    last = run("show", "reprot-7").last
    assert last["exit_code"] == 8
    assert "Did you mean report-7? OPENAI_API_KEY is not set." in last["message"]


def test_gateway_that_knows_the_name(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """A 404 of a gateway doesn't end the wait for a name that may be an ID of another server."""
    run(*ARGV, "--job-key", "report-7")
    sandbox.script(Fault(on="retrieve", kind="status", status=404, body="Not here", times=2))
    result = run("monitor", "reprot-7", "--poll-seconds", "0.05", "--max-wait-seconds", "1")
    assert result.events.count("poll_error") >= 2


def test_new_job_whose_id_is_like_an_earlier_one(
    run: Callable[..., Result], sandbox: Sandbox
) -> None:
    """A job that the server doesn't return at once is awaited, even if its ID is like another."""
    for name, one in zip(("job-12", "job-13"), new_jobs(sandbox, 2, 0.0), strict=True):
        sandbox.jobs[name] = sandbox.jobs.pop(one)
        sandbox.jobs[name].id = name
    assert run("monitor", "job-12", *FAST).code == 0
    missing = {"error": {"message": "No job-13.", "type": "invalid_request_error", "code": None}}
    sandbox.script(Fault(on="retrieve", kind="status", status=404, body=missing))
    result = run("monitor", "job-13", *FAST)
    assert (result.code, result.events.count("poll_error")) == (0, 1)
