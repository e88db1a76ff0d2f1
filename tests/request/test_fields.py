"""The fields that come from files and options: what is accepted, and which errors name what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from oaibg.contract.errors import UsageError
from oaibg.request import fields

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty."),
        ("[1", "invalid JSON at line 1, column 3: Expecting ',' delimiter."),
        ('[\n {"role": user}]', "invalid JSON at line 2, column 11: Expecting value."),
        ("[NaN]", "NaN is not valid JSON."),
        ("[-Infinity]", "-Infinity is not valid JSON."),
        ('[{"role": "user", "role": "user"}]', "an object contains the key 'role' twice."),
        ("[" * 100_000, "nested too deeply."),
        ("{}", "expected an array of messages such as "),
        ('"hi"', "found a string."),
        ('{"messages": []}', "an object with the key `messages`; give only the array"),
        ("[null]", "messages[0]: expected an object, found null."),
        (
            '[{"role": "user", "content": "x"}, 5]',
            "messages[1]: expected an object, found a number.",
        ),
        ('[{"content": "x"}]', "messages[0]: no `role`; expected one of system, developer, user"),
        (
            '[{"role": "tool", "content": "x"}]',
            "messages[0]: this is not in the format of",
        ),
        (
            '[{"role": ["user"], "content": "x"}]',
            "messages[0]: unknown role ['user']; expected one of",
        ),
        (
            '[{"role": "user"}]',
            "messages[0]: no `content`; expected a string or an array of content parts.",
        ),
        (
            '[{"role": "user", "content": {}}]',
            "messages[0]: content is an object; expected a string",
        ),
        ('[{"role": "user", "content": null}]', "messages[0]: content is null; expected a string"),
        ('[{"role": "user", "content": []}]', "messages[0]: content is an empty array."),
        (
            '[{"role": "user", "content": [1]}]',
            "messages[0].content[0]: expected an object, found a number.",
        ),
        (
            '[{"role": "user", "content": [{"type": "input_text", "text": ""}, {"text": "x"}]}]',
            "messages[0].content[1]: `type` is missing; a text part is ",
        ),
        (
            '[{"role": "user", "content": [{"type": "input_text"}]}]',
            "messages[0].content[0]: an input_text needs a `text`.",
        ),
    ],
)
def test_invalid_messages(tmp_path: Path, text: str, message: str) -> None:
    """The error for an invalid messages file names the file, the position and the reason."""
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        fields.read_messages(str(path))
    assert str(path) in caught.value.message
    assert message in caught.value.message


@pytest.mark.parametrize("text", ["{}", '""', '" "', "5", "null", "[1]"])
def test_invalid_input_field(tmp_path: Path, text: str) -> None:
    """The input field is a non-empty string or an array of items; the error names the file."""
    path = tmp_path / "i.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"i\.json: "):
        fields.read_input(str(path))


@pytest.mark.parametrize(
    ("given_file", "expected"),
    [
        (
            {"type": "object", "title": "A b/c"},
            {"type": "json_schema", "name": "A_b_c", "schema": "…", "strict": True},
        ),
        (
            {"type": "object"},
            {"type": "json_schema", "name": "answer", "schema": "…", "strict": True},
        ),
        (
            {"name": "n", "schema": {"type": "object"}, "strict": False},
            {"type": "json_schema", "name": "n", "schema": "…", "strict": False},
        ),
    ],
)
def test_json_schema(tmp_path: Path, given_file: Any, expected: dict[str, Any]) -> None:
    """A bare schema gets a name and is strict; a wrapped schema keeps its own."""
    path = tmp_path / "s.json"
    path.write_text(json.dumps(given_file))
    found = fields.read_json_schema(str(path))
    assert found | {"schema": "…"} == expected
    assert found["schema"] == given_file.get("schema", given_file)


@pytest.mark.parametrize("text", ["[]", '{"schema": {}}'])
def test_invalid_json_schema(tmp_path: Path, text: str) -> None:
    """A schema that is not an object, or is wrapped without a name, is refused."""
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        fields.read_json_schema(str(path))


@pytest.mark.parametrize("text", ["{}", "[5]", "[{}]"])
def test_invalid_tools(tmp_path: Path, text: str) -> None:
    """Tools that are not an array of objects with a type are refused."""
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"t\.json: "):
        fields.read_tools(str(path))


@pytest.mark.parametrize(
    "pairs",
    [
        ["a"],
        ["=b"],
        ["a=1", "a=2"],
        ["k" * 65 + "=v"],
        ["k=" + "v" * 513],
        [f"{i}=" for i in range(17)],
    ],
)
def test_invalid_metadata(pairs: list[str]) -> None:
    """Metadata beyond the API's limits is refused before anything is sent."""
    with pytest.raises(UsageError, match="--metadata"):
        fields.parse_metadata(pairs)
