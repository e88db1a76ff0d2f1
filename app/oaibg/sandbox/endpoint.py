"""Handles one request: logs it, applies a scripted fault, runs the operation, and replies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.sandbox.call import Call
from oaibg.sandbox.errors import ApiError
from oaibg.sandbox.request_log import LoggedRequest, log_request
from oaibg.sandbox.wire.connection import Connection
from oaibg.sandbox.wire.reply import error_reply, fault_reply
from oaibg.sandbox.wire.writer import Writer

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from oaibg.sandbox.call import Operation
    from oaibg.sandbox.state import State
    from oaibg.sandbox.wire.reply import Answer


class Endpoint:
    """One operation as an ASGI app. `name` is its name in `Fault.on`, if it has one."""

    def __init__(self, state: State, operation: Operation, name: str | None = None) -> None:
        self._state = state
        self._operation = operation
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        raw_body = await _body(receive)
        if raw_body is None:
            return
        log = log_request(scope, raw_body)
        if self._state.keep_requests:
            self._state.requests.append(log)
        try:
            await self._exchange(log, scope, receive, send)
        finally:
            if self._state.on_done is not None:
                self._state.on_done(log)

    async def _exchange(
        self, log: LoggedRequest, scope: Scope, receive: Receive, send: Send
    ) -> None:
        state = self._state
        stream = _wants_stream(self._name, log)
        fault = state.faults.take(_fault_names(self._name, stream), log.response_id)
        kind = log.fault = fault.kind if fault else None
        connection = Connection(receive, scope["client"], state.find_transport)
        writer = Writer(connection, send, fault, log)
        if fault and kind == "status":
            await fault_reply(fault, log.path, state.personality).send(writer)
            return
        if kind == "restart":
            state.restart()
        if kind in ("reset_before", "restart"):
            await connection.reset()
            return
        if fault and kind == "hang_before" and await connection.gone_after(fault.seconds):
            return
        streams = stream and kind != "plain" and state.personality.stream != "ignored"
        outcome = str(fault.body) if fault and kind == "outcome" else None
        answer = self._answer(Call(state, log, scope, streams, outcome))
        if kind == "reset_after":
            await connection.reset()
            return
        if fault and kind == "hang_after" and await connection.gone_after(fault.seconds):
            return
        if fault and kind == "delay":
            late = 1 if fault.seconds is None else fault.seconds
            if await connection.gone_after(late):
                return
        if fault and kind in ("html", "raw"):
            answer = fault_reply(fault, log.path, state.personality)
        await answer.send(writer)

    def _answer(self, call: Call) -> Answer:
        try:
            _check_key(call.scope)
            return self._operation(call)
        except ApiError as error:
            return error_reply(error, self._state.personality)


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request; None if the client disconnects before the end of the body."""
    pieces = []
    while (message := await receive())["type"] == "http.request":
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)
    return None


def _wants_stream(name: str | None, log: LoggedRequest) -> bool:
    if name == "create":
        return isinstance(log.body, dict) and log.body.get("stream") is True
    return name == "retrieve" and log.query.get("stream", "").lower() == "true"


def _fault_names(name: str | None, stream: bool) -> tuple[str, ...]:
    if name is None:
        return ()
    if not stream:
        return (name,)
    return ("create", "stream") if name == "create" else ("stream",)


def _check_key(scope: Scope) -> None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            key = value.decode("latin-1").removeprefix("Bearer ").strip()
            if key.startswith("invalid"):
                message = (
                    f"Incorrect API key provided: {key[:7]}{'*' * 8}. "
                    "You can find your API key at https://platform.openai.com/account/api-keys."
                )
                raise ApiError(401, message, code="invalid_api_key")
