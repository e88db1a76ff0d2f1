"""What a completed job contains: its text, its refusal and its calls decide the exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from outputs import APPROVAL, CALL, IMAGE, REASONING, bring, completed, message, refusal
from runs import FAST

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from oaibg.sandbox.server import Sandbox
    from outputs import Item

SUBMIT = ("submit", "--prompt", "x", *FAST)
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.fixture
def answer(tmp_path: Path) -> Path:
    """A text file with an older answer."""
    path = tmp_path / "answer.md"
    path.write_text("an older answer")
    return path


@pytest.fixture
def asked(
    run: Callable[..., Result], sandbox: Sandbox, answer: Path
) -> Callable[..., tuple[Result, str]]:
    """Submit a job with this output and a text file; return the result and the file's text."""

    def ask(*output: Item, **more: Any) -> tuple[Result, str]:
        bring(sandbox, completed(*output, **more))
        return run(*SUBMIT, "--output-text-file", str(answer)), answer.read_text()

    return ask


# --- the text --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ([message("Wait.", phase="commentary"), message("42", phase="final_answer")], "42"),
        ([message("42", phase="final_answer"), message("Done.", phase="commentary")], "42"),
        ([message("4", phase="final_answer"), message("2", phase="final_answer")], "42"),
        ([message("Wait.", phase="commentary"), message("42")], "42"),
        ([message("Old.", phase="final_answer"), message("No phase.")], "Old."),
        ([message("Only this.", phase="commentary")], "Only this."),
        ([message("4"), message("2")], "42"),
        ([message("42", phase="analysis")], "42"),
        ([message("4", "2", phase=None)], "42"),
    ],
)
def test_the_text_is_the_final_answer(
    run: Callable[..., Result],
    asked: Callable[..., tuple[Result, str]],
    output: list[Item],
    text: str,
) -> None:
    """The text is that of the final answer, or of all messages except commentary, or of all."""
    result, written = asked(*output)
    assert (result.code, written) == (0, text)
    assert result.last["output_text_bytes"] == len(text)
    assert run("show", "--output-text", result.id).out.decode() == text
    assert run("show", "--human", result.id).out.decode().endswith(f"{text}\n")


def test_structured_output_is_valid_json(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, answer: Path
) -> None:
    """Commentary before structured output doesn't make the file invalid JSON."""
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    output = [message("Let me see.", phase="commentary"), message("{}", phase="final_answer")]
    bring(sandbox, completed(*output))
    files = ("--json-schema-file", str(schema), "--output-text-file", str(answer))
    assert run(*SUBMIT, *files).code == 0
    assert json.loads(answer.read_text()) == {}


@pytest.mark.parametrize(
    "content",
    [
        "42",
        [{"type": "text", "text": "42"}],
        [{"type": "text", "text": "4"}, {"type": "output_text", "text": "2"}],
        [None, "x", {"type": "text", "text": "42"}],
    ],
)
def test_text_in_other_forms(
    asked: Callable[..., tuple[Result, str]], content: str | list[Any]
) -> None:
    """A message whose content is a string, or has parts of the type `text`, has that text."""
    result, written = asked(message() | {"content": content})
    assert (result.code, written, result.last["output_text_bytes"]) == (0, "42", 2)


def test_response_without_a_status(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """`show --output-text` says that a response has no status, with and without a text."""
    identifier = run("submit", "--prompt", "x", "--detach").id
    for output in ([message("42")], [message()]):
        sandbox.clear()
        bring(sandbox, completed(*output, status=None))
        shown = run("show", identifier, "--output-text")
        assert (shown.code, "None" in shown.err) == (3, False)
        assert f"{identifier} has no status." in shown.err


# --- calls -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "call"),
    [
        (CALL, {"type": "function_call", "id": "call_1", "name": "get_weather"}),
        (
            {"type": "custom_tool_call", "call_id": "call_2", "name": "run", "input": "1 + 1"},
            {"type": "custom_tool_call", "id": "call_2", "name": "run"},
        ),
        (APPROVAL, {"type": "mcp_approval_request", "id": "mcpr_1", "name": "delete"}),
        (
            {"type": "shell_call", "call_id": "call_3", "action": {"commands": ["ls"]}},
            {"type": "shell_call", "id": "call_3", "name": None},
        ),
        (
            {"type": "local_shell_call", "call_id": "call_4", "action": {"command": ["ls"]}},
            {"type": "local_shell_call", "id": "call_4", "name": None},
        ),
        (
            {"type": "apply_patch_call", "call_id": "call_5", "operation": {"type": "delete_file"}},
            {"type": "apply_patch_call", "id": "call_5", "name": None},
        ),
        (
            {"type": "computer_call", "call_id": "call_6", "actions": [{"type": "wait"}]},
            {"type": "computer_call", "id": "call_6", "name": None},
        ),
        (
            {"type": "custom_tool_call", "id": "ct_1", "name": "f", "input": "x"},
            {"type": "custom_tool_call", "id": "ct_1", "name": "f"},
        ),
        (CALL | {"call_id": 7}, {"type": "function_call", "id": "7", "name": "get_weather"}),
        (CALL | {"call_id": ""}, {"type": "function_call", "id": "fc_1", "name": "get_weather"}),
        (
            {"type": "function_call", "id": "", "name": "f", "arguments": "{}"},
            {"type": "function_call", "id": None, "name": "f"},
        ),
        ({"type": "shell_call", "id": 5}, {"type": "shell_call", "id": "5", "name": None}),
        ({"type": "computer_call"}, {"type": "computer_call", "id": None, "name": None}),
        (
            APPROVAL | {"id": None},
            {"type": "mcp_approval_request", "id": None, "name": "delete"},
        ),
        (
            {"type": "tool_search_call", "call_id": "call_7", "execution": "client"},
            {"type": "tool_search_call", "id": "call_7", "name": None},
        ),
    ],
)
@pytest.mark.parametrize("also", [(), (message("I'll check."),)], ids=["alone", "with a text"])
def test_a_call_that_waits(
    run: Callable[..., Result],
    sandbox: Sandbox,
    item: Item,
    call: dict[str, Any],
    also: tuple[Item, ...],
) -> None:
    """A completed job with a call that waits ends with exit 10, and `calls` names the call."""
    bring(sandbox, completed(REASONING, *also, item))
    result = run(*SUBMIT)
    assert (result.code, result.last["status"], result.last["ok"]) == (10, "completed", False)
    without = [{key: one[key] for key in one if key != "arguments"} for one in result.last["calls"]]
    assert (without, result.last["next"]) == ([call], None)
    shown = run("show", result.id)
    assert (shown.code, shown.last["calls"]) == (10, result.last["calls"])


@pytest.mark.parametrize(
    ("item", "arguments"),
    [
        (CALL, CALL["arguments"]),
        ({"type": "custom_tool_call", "call_id": "c", "name": "run", "input": "1 + 1"}, "1 + 1"),
        ({"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}}, '["ls"]'),
        (CALL | {"arguments": "x" * 500}, "x" * 500),
        (CALL | {"arguments": "x" * 501}, "x" * 499 + "…"),
        ({"type": "computer_call", "call_id": "c"}, None),
    ],
)
def test_the_arguments_of_a_call(
    run: Callable[..., Result], sandbox: Sandbox, item: Item, arguments: str | None
) -> None:
    """`calls` has what a call does, with at most 500 characters."""
    bring(sandbox, completed(item))
    assert run(*SUBMIT).last["calls"][0]["arguments"] == arguments


def test_the_hint_to_send_results(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """The command of the hint has a job key, so that running it twice pays once."""
    bring(sandbox, completed(CALL))
    result = run(*SUBMIT)
    begin, _, command = result.last["hint"].partition(": ")
    assert begin == "Send the results under a new key, with the same tools"
    more = f"--continue {result.id} --job-key KEY --input-json-file PATH"
    assert command == f"oaibg submit {more}"


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (["delete"], "Ask the user whether `delete` may run. Then send the decision under"),
        (["a", "b", "a"], "Ask the user whether `a`, `b` may run. Then"),
        (["a", "b", "c", "d"], "Ask the user whether `a`, `b`, `c` and other tools may run. Then"),
        ([None], "Ask the user whether the tool may run. Then send the decision under"),
    ],
)
def test_the_hint_of_an_approval(
    run: Callable[..., Result], sandbox: Sandbox, names: list[str | None], asked: str
) -> None:
    """An approval is the user's decision: the hint says to ask, and names the tools."""
    bring(sandbox, completed(*(APPROVAL | {"id": f"m_{n}", "name": n} for n in names)))
    assert run(*SUBMIT).last["hint"].startswith(asked)


@pytest.mark.parametrize(
    "items",
    [
        [{"type": "web_search_call", "id": "ws_1", "status": "completed"}],
        [{"type": "mcp_call", "id": "mcp_1", "name": "x", "output": "1"}],
        [CALL, {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}],
        [
            {"type": "shell_call", "call_id": "call_3", "action": {"commands": ["ls"]}},
            {"type": "shell_call_output", "call_id": "call_3", "output": []},
        ],
        [{"type": "tool_search_call", "call_id": "call_7", "execution": "server"}],
        [{"type": "tool_search_call", "id": "ts_1"}],
        [
            CALL | {"call_id": 7},
            {"type": "function_call_output", "call_id": "7", "output": "sunny"},
        ],
        [APPROVAL, {"type": "mcp_approval_response", "approval_request_id": "mcpr_1"}],
    ],
)
def test_a_call_that_does_not_wait(
    run: Callable[..., Result], sandbox: Sandbox, items: list[Item]
) -> None:
    """Hosted tools and answered calls don't wait for the user."""
    bring(sandbox, completed(*items, message("42")))
    result = run(*SUBMIT)
    assert (result.code, result.last["calls"]) == (0, [])


@pytest.mark.parametrize("status", ["incomplete", "failed"])
def test_a_call_of_a_job_without_success(
    run: Callable[..., Result], sandbox: Sandbox, status: str
) -> None:
    """A job without success can't be continued, so none of its calls waits."""
    bring(sandbox, completed(CALL, status=status))
    result = run(*SUBMIT)
    assert (result.code, result.last["calls"]) == (4, [])


# --- no text ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ([REASONING, CALL], "tool_calls"),
        ([APPROVAL], "tool_calls"),
        ([refusal()], "refusal"),
        ([message("Hm.", phase="commentary"), refusal() | {"phase": "final_answer"}], "refusal"),
        ([IMAGE], "not_text"),
        ([message({"type": "output_audio", "data": ""})], "not_text"),
        ([message()], "empty"),
        ([message("")], "empty"),
        ([REASONING], "empty"),
        ([], "empty"),
    ],
)
def test_a_requested_text_that_is_missing(
    asked: Callable[..., tuple[Result, str]], answer: Path, output: list[Item], reason: str
) -> None:
    """If the requested text is missing, exit 10 and a reason say so, and the file stays."""
    result, written = asked(*output)
    assert (result.code, result.last["ok"], result.last["next"]) == (10, False, None)
    missing = result.lines[-2]
    assert missing["event"] == "output_text_missing"
    assert (missing["reason"], missing["path"]) == (reason, str(answer))
    assert written == "an older answer"


@pytest.mark.parametrize("output", [[IMAGE], [message()], []])
def test_a_text_that_nobody_requested(
    run: Callable[..., Result], sandbox: Sandbox, output: list[Item]
) -> None:
    """A completed job without text is a success if no option asks for the text."""
    bring(sandbox, completed(*output))
    result = run(*SUBMIT)
    assert (result.code, result.last["ok"]) == (0, True)
    assert run("show", "--human", result.id).code == 0
    assert run("show", "--output-text", result.id).code == 10


def test_structured_output_is_a_requested_text(
    run: Callable[..., Result], sandbox: Sandbox
) -> None:
    """A response without the structured output that the request asked for ends with exit 10."""
    bring(sandbox, completed(message(), text={"format": {"type": "json_schema", "schema": {}}}))
    assert run(*SUBMIT).code == 10


def test_output_types(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """`output_types` counts the output items by type, unknown types included."""
    bring(sandbox, completed(REASONING, IMAGE, IMAGE, {"type": "new_item"}, message("42")))
    types = {"reasoning": 1, "image_generation_call": 2, "new_item": 1, "message": 1}
    result = run(*SUBMIT)
    assert result.last["output_types"] == types
    assert run("show", result.id).last["output_types"] == types


def test_times_and_tier(run: Callable[..., Result], sandbox: Sandbox) -> None:
    """`job_seconds` is the job's own time, and null if the API does not report it."""
    more = {"created_at": 1000, "completed_at": 1150.5, "service_tier": "flex"}
    bring(sandbox, completed(message("42"), **more))
    last = run(*SUBMIT).last
    assert (last["job_seconds"], last["service_tier"]) == (150.5, "flex")
    sandbox.clear()
    bring(sandbox, completed(message("42"), created_at=1000))
    last = run(*SUBMIT).last
    assert (last["job_seconds"], last["service_tier"]) == (None, None)


# --- for people ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ([refusal("No way.")], "the model refused: No way."),
        ([CALL], 'waiting for the result of get_weather({"city":"Paris"}) (call_1)'),
        ([APPROVAL], "waiting for approval of delete({}) (mcpr_1)"),
        ([CALL | {"arguments": "9" * 900}], f"get_weather({'9' * 120}…) (call_1)"),
    ],
)
def test_human_mode_says_what_the_job_waits_for(
    run: Callable[..., Result], sandbox: Sandbox, output: list[Item], words: str
) -> None:
    """Human mode and `show --output-text` print the refusal, or the call with its arguments."""
    bring(sandbox, completed(*output))
    result = run(*SUBMIT, "--human")
    assert (result.code, words in result.err) == (10, True)
    raw = run("show", "--output-text")
    assert (raw.code, raw.out) == (10, b"")
    assert words[1:] in raw.err
    assert ".." not in raw.err
    assert (raw.err.count("completed"), raw.err.count("tatus")) == (1, 1)
    assert words in run("show", "--human").out.decode().replace("\n", " ")


ASK = "Ask the user whether `delete` may run."
SENT = (
    "under a new key, with the same tools: oaibg submit --continue resp_1 --job-key KEY "
    "--input-json-file PATH"
)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ([CALL], f"Send the results {SENT}"),
        ([CALL, message("Wait.")], f"Send the results {SENT}"),
        ([APPROVAL], f"{ASK} Then send the decision {SENT}"),
        ([APPROVAL, CALL], f"{ASK} Then send the results and the decision {SENT}"),
        ([IMAGE], "To save its images and files: oaibg show resp_1 --artifacts-dir DIR"),
        ([refusal()], None),
        ([REASONING], None),
    ],
)
def test_people_read_what_to_do_next(
    run: Callable[..., Result],
    sandbox: Sandbox,
    answer: Path,
    output: list[Item],
    words: str | None,
) -> None:
    """At exit 10, human mode and `show --output-text` end with the next command on stderr."""
    bring(sandbox, completed(*output))
    submitted = run(*SUBMIT, "--human", "--output-text-file", str(answer))
    shown = run("show", "--human", "--output-text-file", str(answer))
    raw = run("show", "--output-text")
    (identifier,) = sandbox.jobs
    has_text = b"Wait." in raw.out
    for result, names_file in ((submitted, not has_text), (shown, not has_text), (raw, False)):
        assert result.code == 10
        last = result.err.splitlines()[-1].replace(identifier, "resp_1")
        assert last.startswith(words or "")
        assert ("oaibg" in last) == (words is not None)
        assert (f"{answer} was not written." in result.err) == names_file


def test_saved_images_need_no_next_step(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """If the images were saved, no line says how to save them; nor if the job ended with exit 0."""
    bring(sandbox, completed(IMAGE | {"result": "aGk="}))
    for command in (
        (
            *SUBMIT,
            "--human",
            "--output-text-file",
            str(tmp_path / "o"),
            "--artifacts-dir",
            str(tmp_path / "a"),
        ),
        ("show", "--output-text", "--artifacts-dir", str(tmp_path / "a")),
    ):
        result = run(*command)
        assert (result.code, "To save" in result.err) == (10, False)
    result = run(*SUBMIT, "--human")
    assert (result.code, "To save" in result.err) == (0, False)


# --- runs ------------------------------------------------------------------------------------


def test_a_run_counts_the_jobs_that_need_action(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """A run with a job that waits exits with 10, again after a rerun from the results file."""
    jobs, results = tmp_path / "jobs.jsonl", tmp_path / "results.jsonl"
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {"input": "x"}}
    jobs.write_text("".join(json.dumps({**line, "custom_id": one}) + "\n" for one in "ab"))
    bring(sandbox, completed(CALL), times=1)
    bring(sandbox, completed(message("42")))
    command = ("submit", "--jobs-file", str(jobs), "--results-file", str(results), *FAST)
    for _ in range(2):
        result = run(*command)
        assert result.last["counts"] == {"completed": 1, "needs_action": 1}
        assert (result.code, result.last["next"]) == (10, None)


@pytest.mark.parametrize(("jobs", "words"), [("a", "1 needs action"), ("ab", "2 need action")])
def test_human_mode_counts_the_jobs_that_need_action(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, jobs: str, words: str
) -> None:
    """The summary of a run in human mode has the verb in the right form."""
    path = tmp_path / "jobs.jsonl"
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {"input": "x"}}
    path.write_text("".join(json.dumps({**line, "custom_id": one}) + "\n" for one in jobs))
    bring(sandbox, completed(CALL))
    files = ("--jobs-file", str(path), "--results-file", str(tmp_path / "results.jsonl"))
    result = run("submit", *files, *FAST, "--human")
    assert (result.code, f"{words}. This command took " in result.err) == (10, True)
