"""Finds the response that a submit continues, and checks the tool results that are sent to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from oaibg.api.answer import call_of, identifier, result_keys
from oaibg.api.payload import is_batch_id
from oaibg.base.json_text import objects
from oaibg.contract.advice import OTHER_STATE
from oaibg.contract.errors import UsageError
from oaibg.engine.persist import copy_of, state_error
from oaibg.state.commits import patiently_blocking
from oaibg.state.database import StateError

if TYPE_CHECKING:
    from oaibg.api.answer import Call
    from oaibg.base.clock import Clock
    from oaibg.state.store import Row, Store


class Previous(NamedTuple):
    """The response that a submit continues."""

    response_id: str
    calls: list[Call] | None
    """The calls that wait; None if the local state does not have the response's result."""

    def check_results(self, given: object) -> None:
        """Check that an `input` has a result for each call that waits, and no other results.

        Raises `UsageError`, which lists the calls that wait.
        """
        if self.calls is None:
            return
        waiting = {call.id: call for call in self.calls}
        known = {*waiting, *(call.id for item in objects(given) if (call := call_of(item)))}
        sent: set[str] = set()
        for index, item in enumerate(given if isinstance(given, list) else []):
            if (keys := result_keys(item)) is None:
                continue
            key, needed = keys
            given_id = item.get(key)
            number = identifier(given_id)
            if given_id is None:
                raise self._refused(f"input[{index}] has no {key}")
            if number is None or number not in known:
                what = f"has the {key} {given_id!r}, which matches no waiting call"
                raise self._refused(f"input[{index}] {what}")
            if number in waiting and item["type"] != (kind := _type_of_result(waiting[number])):
                raise self._refused(f"input[{index}] answers {number}, which needs the type {kind}")
            if number in sent:
                raise self._refused(f"input[{index}] answers {number} a second time")
            if needed not in item:
                raise self._refused(f"input[{index}] has no `{needed}`")
            sent.add(number)
        if missing := [str(one) for one in waiting if one not in sent]:
            raise self._refused(f"the input has no result for {', '.join(missing)}")

    def _refused(self, problem: str) -> UsageError:
        calls = self.calls or []
        waiting = f"No call of {self.response_id} is waiting."
        hint = "Send a new prompt, without tool results."
        if calls:
            listed = ", ".join(f"{one.id} ({one.name or one.type})" for one in calls)
            waiting = f"These calls of {self.response_id} are waiting: {listed}."
            example = json.dumps([_example(one) for one in calls], ensure_ascii=False)
            hint = f"Use --input-json-file with a file such as {example}."
            if any(_type_of_result(one) == "mcp_approval_response" for one in calls):
                hint += " Set `approve` to true only if you want the tool to run."
        message = f"{problem}. {waiting}"
        return UsageError(message[0].upper() + message[1:], hint=hint)


def find_previous(
    name: str, store: Store, problem: StateError | None, base_url: str, clock: Clock
) -> Previous:
    """Find a response by its ID or job key; raises `UsageError` if it can't be continued.

    An ID of the API that the local state does not know is accepted, because it may come from
    another machine.
    """
    is_api_id = name.startswith("resp_")
    try:
        if problem is not None and problem.code != "state_corrupt":
            raise problem
        row = patiently_blocking(lambda: _row(name, store, base_url), clock)
    except StateError as error:
        if is_api_id:
            return Previous(name, None)
        raise state_error(error) from error
    if row is None:
        if is_api_id:
            return Previous(name, None)
        raise UsageError(
            f"The local state in {store.place} has no job with the ID or key {name!r} for "
            f"{base_url}.",
            hint=f"`oaibg show --list` lists its jobs. {OTHER_STATE} For an ID of another "
            "machine, use --previous-response-id.",
        )
    if row.response_id is None:
        raise UsageError(
            f"The job with the key {name!r} has no response ID, so it can't be continued.",
            hint=f"To see its state, run `oaibg show --job-key {name}`.",
        )
    payload = copy_of(row, store)
    if payload is None:
        return Previous(row.response_id, None)
    # A call without an ID can't be answered.
    return Previous(row.response_id, [one for one in payload.answer.calls if one.id is not None])


def _row(name: str, store: Store, base_url: str) -> Row | None:
    row = store.by_id(base_url, name) or store.by_key(base_url, name)
    other = store.at_other_base_url(base_url, name) if row is None else None
    if other is not None:
        raise UsageError(
            f"The response {name} was submitted to {other.base_url}, but this command sends "
            f"requests to {base_url}.",
            hint="Set OPENAI_BASE_URL to the first URL.",
        )
    jobs = store.of_run(base_url, name) if row is None else {}
    if jobs or is_batch_id(name):
        what = (
            f"belongs to a run of {len(jobs):,} jobs" if jobs and "" not in jobs else "is a batch"
        )
        raise UsageError(
            f"{name!r} {what}; only one response can be continued.",
            hint="Give the response ID of one job; `oaibg show --list --job-key KEY` lists them.",
        )
    return row


def _type_of_result(call: Call) -> str:
    return _RESULT_TYPES.get(call.type, f"{call.type}_output")


def _example(call: Call) -> dict[str, Any]:
    """Return a result that the call may wait for."""
    kind = _type_of_result(call)
    key, needed = result_keys({"type": kind}) or ("call_id", "output")
    return {"type": kind, key: call.id, needed: _EXAMPLES.get(needed, "…")}


_RESULT_TYPES = {
    "mcp_approval_request": "mcp_approval_response",
    "tool_search_call": "tool_search_output",
}
_EXAMPLES: dict[str, Any] = {"approve": False, "status": "completed", "tools": []}
"""What the results of some types have in place of a text."""
