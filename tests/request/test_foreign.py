"""Files in the format of chat completions and other APIs: the error shows what to write instead."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from runs import Files, line, refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx2

    from harness import Result
    from oaibg.sandbox import Sandbox

USER = {"role": "user", "content": "Hello"}
CALL = {"id": "call_7", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
PARAMETERS = {"type": "object", "properties": {}}
FUNCTION = {"name": "look", "description": "Looks.", "parameters": PARAMETERS}
TOOL = {"type": "function", **FUNCTION, "strict": False}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}}
URL = "https://a.b/c.png"
IMAGE = {"type": "input_image", "image_url": URL, "detail": "auto"}


def given(result: Result, sandbox: Sandbox, place: str) -> Any:
    """Return the JSON that an error shows after a colon; the error names the place."""
    refused(result, sandbox, place)
    text = result.last["hint"]
    start = min(at for at in (text.find(": {"), text.find(": [")) if at >= 0) + 2
    return json.loads(text[start:])


MESSAGES: list[tuple[Any, list[Any]]] = [
    (
        {"role": "tool", "tool_call_id": "call_7", "content": "sunny"},
        [{"type": "function_call_output", "call_id": "call_7", "output": "sunny"}],
    ),
    (
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "sunny"}]},
        [{"type": "function_call_output", "call_id": "c", "output": "sunny"}],
    ),
    (
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        [{"type": "function_call", "call_id": "call_7", "name": "look", "arguments": '{"a": 1}'}],
    ),
    (
        {"role": "assistant", "content": "Hm.", "refusal": None, "tool_calls": None},
        [{"role": "assistant", "content": "Hm."}],
    ),
    (
        {"role": "user", "content": [{"type": "text", "text": "é"}]},
        [{"role": "user", "content": [{"type": "input_text", "text": "é"}]}],
    ),
    (
        {"role": "assistant", "content": [{"type": "input_text", "text": "a"}]},
        [{"role": "assistant", "content": [{"type": "output_text", "text": "a"}]}],
    ),
    (
        {"role": "system", "content": [{"type": "output_text", "text": "a"}]},
        [{"role": "system", "content": [{"type": "input_text", "text": "a"}]}],
    ),
    (
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": URL}}]},
        [{"role": "user", "content": [IMAGE]}],
    ),
    (
        {
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": {"url": "https://a.b/c.png", "detail": "low"}}
            ],
        },
        [{"role": "user", "content": [IMAGE | {"detail": "low"}]}],
    ),
    (
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]},
        [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}],
    ),
    ({"role": "user", "name": "ann", "content": "a"}, [{"role": "user", "content": "a"}]),
    (
        {"role": "user", "content": ["a"]},
        [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}],
    ),
    (
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": {"a": 1}},
        [{"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 1}'}],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("message", "items"), MESSAGES)
@pytest.mark.parametrize("option", ["--messages-json-file", "--input-json-file"])
def test_chat_messages(
    run: Callable[..., Result],
    sandbox: Sandbox,
    tmp_path: Path,
    message: Any,
    items: list[Any],
    option: str,
) -> None:
    """The first message that the API refuses is shown as the items that it accepts."""
    path = tmp_path / "m.json"
    path.write_text(json.dumps([USER, message, message]))
    place = f"{'messages' if 'messages' in option else 'input'}[1]"
    shown = given(run("submit", option, str(path), "--dry-run"), sandbox, f"{path}: {place}: ")
    assert shown == items[0]
    path.write_text(json.dumps([USER, *items]))
    assert run("submit", option, str(path), "--dry-run").code == 0


def test_a_message_with_a_text_and_calls(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """A chat message with a text and tool calls is shown as several items."""
    path = tmp_path / "m.json"
    path.write_text(json.dumps([{"role": "assistant", "content": "Hm.", "tool_calls": [CALL]}]))
    result = run("submit", "--messages-json-file", str(path), "--dry-run")
    refused(result, sandbox, '{"role": "assistant", "content": "Hm."}, {"type": "function_call", ')


ITEMS = [
    USER,
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "1"},
    {"role": "assistant", "content": []},
    {"role": "assistant", "content": ""},
    {"type": "reasoning", "id": "rs_1", "summary": []},
    {"type": "a_new_type"},
    {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "phase": None,
     "content": [{"type": "output_text", "text": "a", "annotations": []}]},
]  # fmt: skip


def test_items_that_the_api_accepts(run: Callable[..., Result], tmp_path: Path) -> None:
    """A messages file can have all input items, which are sent unchanged."""
    path = tmp_path / "m.json"
    path.write_text(json.dumps(ITEMS))
    for option in ("--messages-json-file", "--input-json-file"):
        result = run("submit", option, str(path), "--dry-run")
        assert (result.code, result.last["body"]["input"]) == (0, ITEMS)


def test_an_empty_input(run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path) -> None:
    """An empty array is accepted if the request continues a response, and only then."""
    path = tmp_path / "m.json"
    path.write_text("[]")
    for option in ("--messages-json-file", "--input-json-file"):
        argv = ("submit", option, str(path), "--dry-run")
        refused(run(*argv), sandbox, "input is missing or empty", "previous_response_id")
        result = run(*argv, "--previous-response-id", "resp_1")
        assert (result.code, result.last["body"]["input"]) == (0, [])


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ({"type": "function", "function": FUNCTION}, TOOL),
        ({"type": "function", "function": {**FUNCTION, "strict": True}}, {**TOOL, "strict": True}),
        (FUNCTION, TOOL),
        ({"name": "look", "description": "Looks.", "input_schema": PARAMETERS}, TOOL),
        ({"name": "look", "description": "Looks.", "inputSchema": PARAMETERS}, TOOL),
        ({"type": "custom", "custom": {"name": "c"}}, {"type": "custom", "name": "c"}),
    ],
)
def test_foreign_tools(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, tool: Any, expected: Any
) -> None:
    """The first tool of another API is shown as a tool of the Responses API."""
    path = tmp_path / "t.json"
    path.write_text(json.dumps([{"type": "web_search"}, tool]))
    argv = ("submit", "--prompt", "x", "--tools-json-file", str(path), "--dry-run")
    assert given(run(*argv), sandbox, f"{path}: tools[1]: ") == expected
    path.write_text(json.dumps({"tools": [tool]}))
    assert given(run(*argv), sandbox, "expected an array of tools") == [expected]
    path.write_text(json.dumps([expected]))
    assert run(*argv).code == 0


@pytest.mark.parametrize(
    "content", [FORMAT, {"response_format": FORMAT}, {"json_schema": FORMAT["json_schema"]}]
)
def test_a_response_format_as_schema(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, content: Any
) -> None:
    """A `response_format` of chat completions is shown as `{name, schema, strict}`."""
    path = tmp_path / "s.json"
    path.write_text(json.dumps(content))
    argv = ("submit", "--prompt", "x", "--json-schema-file", str(path), "--dry-run")
    assert given(run(*argv), sandbox, str(path)) == FORMAT["json_schema"]
    path.write_text(json.dumps(FORMAT["json_schema"]))
    body = run(*argv).last["body"]
    assert body["text"]["format"] == {"type": "json_schema", "name": "n", "schema": SCHEMA} | {
        "strict": True
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"type": "json_object"}, '{"text": {"format": {"type": "json_object"}}}'),
        ({"type": "array", "items": SCHEMA}, "its type is 'array'"),
        ({"properties": {"a": SCHEMA}}, "there is no `type`"),
    ],
)
def test_files_that_are_not_schemas(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, content: Any, words: str
) -> None:
    """A schema that the API would refuse at its root is refused before anything is sent."""
    path = tmp_path / "s.json"
    path.write_text(json.dumps(content))
    argv = ("submit", "--prompt", "x", "--json-schema-file", str(path), "--dry-run")
    refused(run(*argv), sandbox, words)


CHAT = {
    "model": "m",
    "messages": [{"role": "system", "content": "Be brief."}, MESSAGES[0][0]],
    "max_tokens": 99,
    "reasoning_effort": "low",
    "response_format": FORMAT,
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "temperature": 1,
    "n": 1,
}
RESPONSES = {
    "model": "m",
    "input": [{"role": "system", "content": "Be brief."}, MESSAGES[0][1][0]],
    "max_output_tokens": 99,
    "reasoning": {"effort": "low"},
    "text": {"format": {"type": "json_schema", **FORMAT["json_schema"]}},  # type: ignore[dict-item]
    "tools": [TOOL],
    "tool_choice": {"type": "function", "name": "look"},
    "temperature": 1,
}


def test_a_whole_chat_request(run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path) -> None:
    """A request for chat completions is shown as a whole request, which is then accepted."""
    path = tmp_path / "b.json"
    path.write_text(json.dumps(CHAT))
    argv = ("submit", "--body-json-file", str(path), "--dry-run")
    assert given(run(*argv), sandbox, f"{path}: this is in the format of chat") == RESPONSES
    path.write_text(json.dumps(RESPONSES))
    body = run(*argv).last["body"]
    assert body.items() >= (RESPONSES | {"text": body["text"]}).items()


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"max_tokens": 5}, '"max_output_tokens": 5'),
        ({"max_completion_tokens": 5}, '"max_output_tokens": 5'),
        ({"reasoning_effort": "low"}, '"reasoning": {"effort": "low"}'),
        ({"response_format": {"type": "json_object"}}, '"text": {"format": {"type": "json_object"'),
        ({"functions": [FUNCTION]}, f'"tools": [{json.dumps(TOOL)}]'),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, '"name": "f"}'),
        ({"text": {"format": FORMAT}}, '"text": {"format": {"type": "json_schema", "name": "n"'),
        ({"tools": [{"type": "function", "function": FUNCTION}]}, json.dumps(TOOL)),
        ({"input": [MESSAGES[0][0]]}, json.dumps(MESSAGES[0][1][0])),
    ],
)  # fmt: skip
def test_chat_fields_of_a_body(
    run: Callable[..., Result],
    sandbox: Sandbox,
    tmp_path: Path,
    files: Files,
    field: dict[str, Any],
    words: str,
) -> None:
    """A field of chat completions is shown under its other name, also in a line of a jobs file."""
    path = tmp_path / "b.json"
    path.write_text(json.dumps(field))
    prompt = () if "input" in field else ("--prompt", "x")
    refused(run("submit", *prompt, "--body-json-file", str(path), "--dry-run"), sandbox, words)
    files.write(line("a", **field))
    refused(run(*files.argv("--dry-run")), sandbox, words)


def test_a_whole_request(run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path) -> None:
    """A whole request from a curl example is accepted, and its fields win over the defaults."""
    body = {
        "model": "m",
        "input": [USER],
        "stream": False,
        "background": True,
        "text": {"verbosity": "low"},
    }
    path = tmp_path / "b.json"
    path.write_text(json.dumps(body))
    result = run("submit", "--body-json-file", str(path), "--poll-seconds", "0.05")
    assert (result.code, result.last["status"]) == (0, "completed")
    (post,) = sandbox.posts
    assert (post.body["model"], post.body["input"]) == ("m", [USER])
    assert post.body["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert "stream" not in post.body
    assert post.body["background"] is True


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--prompt", "x"], "would replace that of --prompt"),
        (["--system-prompt", "x"], "can't be combined with an input in --body-json-file"),
        (["--attach", "x"], "can't be combined with an input in --body-json-file"),
    ],
)
def test_a_whole_request_and_another_input(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, more: list[str], words: str
) -> None:
    """The input is given once: in the whole request, or by an option."""
    path = tmp_path / "b.json"
    path.write_text(json.dumps({"input": "a"}))
    refused(run("submit", "--body-json-file", str(path), *more), sandbox, words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": "m", "input": "a"}, "Use --body-json-file PATH for a whole request"),
        ({"model": "m", "messages": [USER]}, f"Write: {json.dumps([USER])}"),
        (USER, f"Write: {json.dumps([USER])}"),
    ],
)
def test_requests_in_place_of_messages(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, content: Any, words: str
) -> None:
    """A whole request or a single message in place of messages is named, with what to write."""
    path = tmp_path / "m.json"
    path.write_text(json.dumps(content))
    for option in ("--messages-json-file", "--input-json-file"):
        refused(run("submit", option, str(path), "--dry-run"), sandbox, words)


def test_a_chat_batch_line(run: Callable[..., Result], sandbox: Sandbox, files: Files) -> None:
    """A line for `/v1/chat/completions` is shown as a whole line, which is then accepted."""
    files.write(line("a"), line("b") | {"url": "/v1/chat/completions", "body": CHAT})
    shown = given(run(*files.argv("--dry-run")), sandbox, "line 2: this is chat format")
    assert shown == line("b") | {"body": RESPONSES}
    files.write(shown)
    assert run(*files.argv("--dry-run")).code == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (json.dumps([CHAT]), "jq -c '.[]' "),
        (json.dumps([CHAT]), '{"body": {"model": "m", "input": [{"role": "system"'),
        (json.dumps([USER]), "use --messages-json-file"),
        (json.dumps({"prompt": "a"}, indent=2), "jq -c . "),
        ("id,question\n1,Why?\n", "Rename the column with the prompts to prompt"),
        ("What is the capital of Mali?\nAnd of Chad?\n", "jq -cR '{prompt: .}' "),
    ],
)
def test_other_jobs_files(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, content: str, words: str
) -> None:
    """The error for a jobs file in another form says how to convert it."""
    files.jobs.write_text(content)
    refused(run(*files.argv("--dry-run")), sandbox, words)


def test_long_texts_are_cut(run: Callable[..., Result], tmp_path: Path) -> None:
    """An error does not repeat long content, such as an image in Base64."""
    path = tmp_path / "m.json"
    url = "data:image/png;base64," + "A" * 100_000
    path.write_text(
        json.dumps(
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
        )
    )
    result = run("submit", "--messages-json-file", str(path), "--dry-run")
    assert len(result.out) < 4000
    assert '"type": "input_image", "image_url": "data:image/png;base64,A' in result.last["hint"]


@pytest.mark.parametrize(("message", "items"), MESSAGES)
def test_the_sandbox_agrees(http: httpx2.Client, message: Any, items: list[Any]) -> None:
    """The sandbox refuses each foreign message, as the API does, and accepts its items."""
    calls = [{"role": "user", "content": "x"}, {"type": "item_reference", "id": "msg_1"}]
    for given, status in (([*calls, message], 400), ([*calls, *items, *outputs(items)], 200)):
        reply = http.post("/responses", json={"model": "m", "input": given, "background": True})
        assert reply.status_code == status, reply.text


def outputs(items: list[Any]) -> list[Any]:
    """Return an output for each call in these items."""
    return [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "x"}
        for item in items
        if item.get("type") == "function_call"
    ]


@pytest.mark.parametrize(
    ("item", "key"),
    [
        ({"type": "function_call_output", "output": "x"}, "call_id"),
        ({"type": "function_call", "call_id": "c", "name": "f"}, "arguments"),
        ({"type": "mcp_approval_response", "approval_request_id": "m"}, "approve"),
        ({"type": "item_reference"}, "id"),
    ],
)
def test_items_that_lack_a_key(
    run: Callable[..., Result],
    sandbox: Sandbox,
    tmp_path: Path,
    files: Files,
    item: dict[str, Any],
    key: str,
) -> None:
    """An item that lacks what its type needs is refused before anything is sent."""
    path = tmp_path / "m.json"
    path.write_text(json.dumps([USER, item]))
    words = f"input[1]: no `{key}`, which a {item['type']} needs"
    for option in ("--messages-json-file", "--input-json-file"):
        refused(run("submit", option, str(path), "--dry-run"), sandbox, words)
    files.write({"input": [USER, item]})
    refused(run(*files.argv("--dry-run")), sandbox, f"line 1: {words}")


ODD = ([1], {"a": 1}, 1, True, None, "", "x")
"""Values that a key may have by mistake."""

DRY = ("--dry-run", "--human")
"""A dry run that is not compared with the sandbox, which knows all fields."""


@pytest.mark.parametrize("key", ["role", "type", "content", "tool_calls", "name"])
@pytest.mark.parametrize("value", ODD)
def test_values_of_another_type(
    run: Callable[..., Result], tmp_path: Path, key: str, value: Any
) -> None:
    """A wrong value in a message, a part, a tool or a schema is never a bug of the command."""
    path = tmp_path / "m.json"
    part = {"type": "text", "text": "a"}
    message = {"role": "user", "content": [part]}
    for content in ([message | {key: value}], [message | {"content": [part | {key: value}]}]):
        path.write_text(json.dumps(content))
        for option in ("--messages-json-file", "--input-json-file"):
            assert run("submit", option, str(path), *DRY).code in (0, 2)
    tool = {"type": "function", "function": {"name": "f"}, "name": "f"}
    path.write_text(json.dumps([tool | {key: value}]))
    assert run("submit", "--prompt", "x", "--tools-json-file", str(path), *DRY).code in (
        0,
        2,
    )
    for body in (
        {key: value},
        {"messages": [message | {key: value}]},
        {"text": {"format": {key: value}}},
    ):
        path.write_text(json.dumps(body))
        for argv in (("--json-schema-file", str(path)), ("--body-json-file", str(path))):
            assert run("submit", "--prompt", "x", *argv, *DRY).code in (0, 2)
    path.write_text(json.dumps({"prompt": "x", key: value}))
    files = ("--jobs-file", str(path), "--results-file", str(tmp_path / "r.jsonl"))
    assert run("submit", *files, *DRY).code in (0, 2)
