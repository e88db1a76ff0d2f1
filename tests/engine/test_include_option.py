"""`--include` is sent on the create and on every retrieve; the local state remembers it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from runs import FAST

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox.server import Sandbox

SOURCES, OUTPUTS = "web_search_call.action.sources", "code_interpreter_call.outputs"
SUBMIT = ("submit", "--prompt", "x", "--job-key", "k", "--metadata", "sandbox_seconds=600")


def included(sandbox: Sandbox) -> list[str | None]:
    """Return the `include` of each retrieve."""
    gets = [one for one in sandbox.requests if one.method == "GET"]
    return [one.query.get("include[]") for one in gets]


def test_create_and_retrieves(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The create has all values in its body, and every retrieve has them in its query."""
    values = [SOURCES, "reasoning.encrypted_content"]
    options = [word for value in values for word in ("--include", value)]
    assert run("submit", "--prompt", "x", *options, *FAST).code == 0
    assert sandbox.posts[0].body["include"] == values
    assert included(sandbox)
    assert set(included(sandbox)) == {values[-1]}


@pytest.mark.parametrize("way", ["option", "body"])
def test_the_local_state_remembers(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, way: str
) -> None:
    """A monitor or a rerun of a job key sends the values of the submit, however they were set."""
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"include": [SOURCES]}))
    option = ("--include", SOURCES) if way == "option" else ("--body-json-file", str(body))
    identifier = run(*SUBMIT, *option, "--detach").id
    for again in (
        ("monitor", identifier, "--max-wait-seconds", "0.05"),
        ("monitor", "--job-key", "k", "--max-wait-seconds", "0.05"),
        (*SUBMIT, *option, "--max-wait-seconds", "0.05"),
        ("show", identifier),
    ):
        before = len(included(sandbox))
        run(*again)
        assert set(included(sandbox)[before:]) == {SOURCES}
    assert len(sandbox.posts) == 1


@pytest.mark.parametrize("command", ["monitor", "show"])
def test_a_job_of_another_machine(
    run: Callable[..., Result],
    sandbox: Sandbox,
    started: Callable[..., str],
    state: Path,
    command: str,
) -> None:
    """`monitor` and `show` accept the option for a job that the local state does not know."""
    limit = ("--max-wait-seconds", "0.05") if command == "monitor" else ()
    identifier = started("--metadata", "sandbox_seconds=600")
    (state / "state.sqlite3").unlink()
    result = run(command, identifier, "--include", SOURCES, *limit)
    assert set(included(sandbox)) == {SOURCES}
    words = result.last["next"]
    assert words[words.index("--include") + 1] == SOURCES


@pytest.mark.parametrize("command", ["monitor", "show"])
def test_more_values_later(run: Callable[..., Result], tmp_path: Path, command: str) -> None:
    """Values that are given later are added to those of the submit; `show` retrieves for them."""
    saved = tmp_path / "o.json"
    output = ("--metadata", "sandbox_tools=1", "--metadata", "sandbox_outcome=file", *FAST)
    identifier = run("submit", "--prompt", "x", *output, "--include", OUTPUTS).id
    result = run(command, identifier, "--include", SOURCES, "--output-json-file", str(saved))
    items = {item["type"]: item for item in json.loads(saved.read_bytes())["output"]}
    assert (result.code, items["web_search_call"]["action"]["sources"] != []) == (0, True)
    assert items["code_interpreter_call"]["outputs"]


def test_a_state_of_an_older_version(
    run: Callable[..., Result], sandbox: Sandbox, state: Path
) -> None:
    """A state without the column is extended when it is opened; its jobs stay."""
    identifier = run(*SUBMIT, "--detach").id
    with closing(sqlite3.connect(state / "state.sqlite3")) as db:
        db.execute("ALTER TABLE jobs DROP COLUMN include")
        db.commit()
    assert run("show", "--job-key", "k").id == identifier
    assert run("submit", "--prompt", "y", "--include", SOURCES, "--detach").code == 0


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_value(run: Callable[..., Result], sandbox: Sandbox, value: str) -> None:
    """An empty value is a usage error, and nothing is sent."""
    assert run("submit", "--prompt", "x", "--include", value).code == 2
    assert sandbox.requests == []
