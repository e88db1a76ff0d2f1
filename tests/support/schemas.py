"""The JSON Schema of each event, and a check of a run's lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jsonschema

from oaibg.contract.schema import event_schema

if TYPE_CHECKING:
    from harness import Result

SCHEMAS = {
    one["properties"]["event"]["const"]: jsonschema.Draft202012Validator(one)
    for one in event_schema()["oneOf"]
}


def checked(result: Result) -> Result:
    """Return the result of a run over several jobs, after checking each line against the schema."""
    lines = result.lines
    assert lines[-1]["event"] == "summary"
    for line in lines:
        assert list(line)[4] == "custom_id"
        assert SCHEMAS[line["event"]].is_valid(line)
    return result
