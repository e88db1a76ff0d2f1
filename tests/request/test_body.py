"""The body of a request: input and settings are kept, merged and hashed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oaibg.contract.errors import UsageError
from oaibg.request import fields
from oaibg.request.body import Settings, build_request, canonical_json, merge_patch

if TYPE_CHECKING:
    from pathlib import Path

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


@given(value=JSON)
def test_input_items_are_kept(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    """Arbitrary JSON in an input item reaches the request's body and canonical JSON unchanged."""
    path = tmp_path_factory.mktemp("i") / "i.json"
    path.write_text(json.dumps([{"type": "new", "x": value}]))
    request = build_request(fields.read_input(str(path)), PLAIN)
    assert request.body["input"] == [{"type": "new", "x": value}]
    assert json.loads(canonical_json(request.body)) == request.body


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([{"role": "user", "content": "\ud800"}], "input[0].content"),
        ([{"a": [0, {"b\udfff": 1}]}], "input[0].a[1].b\\udfff"),
        ("\udc80", "input"),
    ],
)
def test_lone_surrogates(value: Any, path: str) -> None:
    """The error for a lone surrogate, which can't be sent, names its path."""
    with pytest.raises(UsageError) as caught:
        build_request(value, PLAIN)
    assert f"{path} contains a lone surrogate" in caught.value.message


def test_number_out_of_range(tmp_path: Path) -> None:
    """1e999 is valid JSON, but can't be sent; the error names its path."""
    path = tmp_path / "i.json"
    path.write_text('[{"type": "new", "a": 1.5, "b": 1e999}]')
    with pytest.raises(UsageError, match=r"input\[0\]\.b is a number that is out of range"):
        build_request(fields.read_input(str(path)), PLAIN)


@pytest.mark.parametrize("key", ["background", "stream"])
def test_body_with_fields_of_oaibg(key: str) -> None:
    """A body that sets `background` or `stream` is refused, even if it is null."""
    with pytest.raises(UsageError, match=f"remove `{key}`; "):
        build_request("x", PLAIN.but(body={key: None}))


@given(target=JSON, patch=JSON)
def test_merge_patch(target: Any, patch: Any) -> None:
    """By RFC 7396, null removes a key, other values replace it, and the rest is kept."""
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
    """Requests that differ only in the order of keys have the same hash."""
    one = build_request([{"a": 1, "b": 2}], PLAIN)
    two = build_request([{"b": 2, "a": 1}], PLAIN)
    assert one.sha256 == two.sha256
    assert build_request([{"a": 1, "b": 3}], PLAIN).sha256 != one.sha256
