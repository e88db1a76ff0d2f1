"""Parsing a stream event."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from oaibg.api.stream import StreamEvent

few = settings(max_examples=40, deadline=None)


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


json_values = leaves | st.lists(leaves, max_size=3) | st.dictionaries(st.text(), leaves, max_size=3)


# A stream event's `response` is read on its own.
keys = st.text().filter(lambda key: key != "response")
objects = st.dictionaries(keys, json_values, max_size=4)


@few
@given(objects, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_any_object_is_read(data: dict[str, Any], indent: Any, ascii_only: bool) -> None:
    """Each key of an event has its value, in whatever order the keys are read."""
    text = json.dumps(data, indent=indent, ensure_ascii=ascii_only)
    for names in (list(data), list(reversed(data))):
        event = StreamEvent("", text)
        assert [event.get(key) for key in names] == [data[key] for key in names]
        assert event.get("\x00 none") is data.get("\x00 none")


@few
@given(st.text() | st.text('{}[]",:\\ 1ate"response'))
def test_any_text_is_accepted(text: str) -> None:
    """Text that is not a valid event raises no error."""
    event = StreamEvent("name", text)
    assert isinstance(event.type, str)
    assert event.number is None or event.number >= 0
    assert event.payload is None or isinstance(event.payload.data, dict)


@few
@given(objects, st.sampled_from([None, 2]))
def test_response_has_the_bytes_that_were_sent(
    response: dict[str, Any], indent: int | None
) -> None:
    """The response in an event has exactly the bytes that were sent, whatever surrounds them."""
    raw = json.dumps(response, indent=indent, ensure_ascii=indent is None)
    event = StreamEvent("", f'{{"a":[1,{{}}], "response" : {raw} ,"type":"t"}}')
    assert event.payload is not None
    assert event.payload.raw == raw.encode("utf-8", "replace")
    assert event.type == "t"
