"""Input files: what is accepted goes out as it stands, and what is not is named exactly."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oaibg.contract.errors import UsageError
from oaibg.request import fields, json_files, sources
from oaibg.request.body import Settings, build_request, canonical_json, merge_patch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result

PLAIN = Settings(model="m", reasoning_effort="medium", verbosity="medium")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty."),
        ("[1", "line 1, column 3: not JSON: Expecting ',' delimiter."),
        ('[\n {"role": user}]', "line 2, column 11: not JSON: Expecting value."),
        ("[NaN]", "NaN is not JSON."),
        ("[-Infinity]", "-Infinity is not JSON."),
        ('[{"role": "user", "role": "user"}]', "the key 'role' stands twice in one object."),
        ("[" * 100_000, "nested too deeply."),
        ("{}", "expected an array of messages, as "),
        ('"hi"', "found a text."),
        ('{"messages": []}', "an object with a `messages` key; give the array itself"),
        ("[]", "the array of messages is empty."),
        ("[null]", "message 0: expected an object, found null."),
        ('[{"role": "user", "content": "x"}, 5]', "message 1: expected an object, found a number."),
        ('[{"content": "x"}]', "message 0: no role; expected one of system, developer, user"),
        ('[{"role": "tool", "content": "x"}]', "message 0: role 'tool'; expected one of"),
        ('[{"role": ["user"], "content": "x"}]', "message 0: role ['user']; expected one of"),
        ('[{"role": "user"}]', "message 0: no content; expected a text or an array of parts."),
        ('[{"role": "user", "content": {}}]', "message 0: content is an object; expected a text"),
        ('[{"role": "user", "content": null}]', "message 0: content is null; expected a text"),
        ('[{"role": "user", "content": []}]', "message 0: content is an empty array."),
        (
            '[{"role": "user", "content": ["x"]}]',
            "message 0, content part 0: expected an object, found a text.",
        ),
        (
            '[{"role": "user", "content": [{"type": "input_text", "text": ""}, {"text": "x"}]}]',
            "message 0, content part 1: no type; a text is ",
        ),
        (
            '[{"type": "function_call_output", "output": "x"}]',
            "message 0: type 'function_call_output' is no message; use --input-json-file",
        ),
    ],
)
def test_bad_messages(tmp_path: Path, text: str, message: str) -> None:
    """The error names the file, the position, and what is wrong."""
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        fields.read_messages(str(path))
    assert str(path) in caught.value.message
    assert message in caught.value.message


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """Also with the position."""
    path = tmp_path / "m.json"
    path.write_bytes(b'["\xff"]')
    with pytest.raises(UsageError, match="byte 2: not UTF-8"):
        fields.read_messages(str(path))


def test_missing_file(tmp_path: Path) -> None:
    """The system's own words, and the path."""
    with pytest.raises(UsageError, match=r"nothere: No such file or directory\."):
        sources.read_prompt(str(tmp_path / "nothere"))
    with pytest.raises(UsageError, match="Is a directory"):
        sources.read_prompt(str(tmp_path))
    with pytest.raises(UsageError, match="no valid path"):
        sources.read_prompt("a\0b")


def test_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` reads stdin, with or without a byte order mark; a closed one is an error."""
    for raw in (b"hello", b"\xef\xbb\xbfhello"):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
        assert sources.read_prompt("-") == "hello"
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    with pytest.raises(UsageError, match="stdin: the prompt is empty"):
        sources.read_prompt("-")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="stdin is closed"):
        sources.read_prompt("-")


@pytest.mark.slow
@given(value=JSON)
def test_input_items_are_kept(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    """Whatever JSON stands in an input item is in the request's body, and in its hash."""
    path = tmp_path_factory.mktemp("i") / "i.json"
    path.write_text(json.dumps([{"x": value}]))
    request = build_request(fields.read_input(str(path)), PLAIN)
    assert request.body["input"] == [{"x": value}]
    assert json.loads(canonical_json(request.body)) == request.body


@pytest.mark.parametrize("text", ["{}", "[]", '""', '" "', "5", "null", "[1]"])
def test_bad_input_field(tmp_path: Path, text: str) -> None:
    """Only a text, or an array of objects."""
    path = tmp_path / "i.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"i\.json: "):
        fields.read_input(str(path))


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ([{"role": "user", "content": "\ud800"}], "input[0].content"),
        ([{"a": [0, {"b\udfff": 1}]}], "input[0].a[1].b\\udfff"),
        ("\udc80", "input"),
    ],
)
def test_lone_surrogates_are_named(value: Any, where: str) -> None:
    """They are no Unicode and can't be sent."""
    with pytest.raises(UsageError) as caught:
        build_request(value, PLAIN)
    assert f"{where} has text that is not Unicode" in caught.value.message


def test_number_out_of_range(tmp_path: Path) -> None:
    """1e999 is JSON, and would go out as no JSON."""
    path = tmp_path / "i.json"
    path.write_text('[{"a": 1.5, "b": 1e999}]')
    with pytest.raises(UsageError, match=r"input\[0\]\.b: a number is out of range"):
        build_request(fields.read_input(str(path)), PLAIN)


@pytest.mark.parametrize("key", ["background", "stream"])
def test_body_file_cannot_leave_background_mode(key: str) -> None:
    """The tool decides these."""
    with pytest.raises(UsageError, match=f"`{key}` can't be set there"):
        build_request("x", PLAIN.but(body={key: None}))


@given(target=JSON, patch=JSON)
def test_merge_patch(target: Any, patch: Any) -> None:
    """RFC 7396: a patch that is no object replaces; null removes; the rest is kept."""
    before = json.dumps([target, patch])
    merged = merge_patch(target, patch)
    assert json.dumps([target, patch]) == before
    if not isinstance(patch, dict):
        assert merged == patch
        return
    for key, value in patch.items():
        if value is None:
            assert key not in merged
        elif not isinstance(value, dict):
            assert merged[key] == value
    if isinstance(target, dict):
        assert all(merged[key] == target[key] for key in target if key not in patch)


def test_hash_does_not_depend_on_key_order() -> None:
    """The same request has the same hash, however its files are written."""
    one = build_request([{"a": 1, "b": 2}], PLAIN)
    two = build_request([{"b": 2, "a": 1}], PLAIN)
    assert one.sha256 == two.sha256
    assert build_request([{"a": 1, "b": 3}], PLAIN).sha256 != one.sha256


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
    """A bare schema, or with its name and strictness."""
    path = tmp_path / "s.json"
    path.write_text(json.dumps(given_file))
    found = fields.read_json_schema(str(path))
    assert found | {"schema": "…"} == expected
    assert found["schema"] == given_file.get("schema", given_file)


@pytest.mark.parametrize("text", ["[]", '{"schema": {}}'])
def test_bad_json_schema(tmp_path: Path, text: str) -> None:
    """No object, or a schema without its name."""
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        fields.read_json_schema(str(path))


@pytest.mark.parametrize("text", ["{}", "[5]", "[{}]"])
def test_bad_tools(tmp_path: Path, text: str) -> None:
    """Tools are an array of objects with a type."""
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
def test_bad_metadata(pairs: list[str]) -> None:
    """The API's limits hold before anything is sent."""
    with pytest.raises(UsageError, match="--metadata"):
        fields.parse_metadata(pairs)


def test_file_that_is_too_large(run: Callable[..., Result], tmp_path: Path) -> None:
    """Refused at the limit, also where it never ends."""
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(json_files.INPUT_BYTES_MAX + 1)
    for path in (str(large), "/dev/zero"):
        result = run("submit", "--messages-json-file", path)
        assert (result.code, result.last["code"]) == (2, "usage")
        assert result.last["message"] == f"{path}: larger than 256 MiB, the most that is read."
