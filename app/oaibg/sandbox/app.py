"""The routes of the sandbox: the Responses API, and a few of its own to steer it."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl

from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route, Router

from . import batch_api
from .batches import WINDOW, Batch
from .checks import ApiError, FieldError, check_create, not_found, refused_key
from .faults import FaultScript, parse_faults
from .jobs import Job, input_items, new_job
from .pages import page_of, whole_number
from .personality import DEFAULT, Personality
from .wire import Link, Reply, Wire, error_reply, fault_reply, to_json

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from .files import StoredFile

_SECRET_HEADERS = ("authorization", "api-key", "x-api-key", "cookie")


@dataclass(slots=True)
class LoggedRequest:
    """A request that arrived whole, and what became of it."""

    method: str
    path: str
    """Without the query."""
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case; keys are masked."""
    body: Any
    """The parsed JSON; None without a body, or where it is not JSON. Of an upload that was read:
    its `purpose`, `filename` and `bytes`."""
    raw_body: bytes
    at: float
    """Unix seconds."""
    status: int | None = None
    """None while it is unanswered, and when its connection was aborted without an answer."""
    response_id: str | None = None
    """The job, the batch or the file that it created or named."""
    fault: str | None = None
    """The kind of the scripted fault that struck, if any."""


@dataclass
class State:
    """Everything the server knows."""

    seconds: float
    usual: Personality = DEFAULT
    """What `clear` goes back to."""
    usual_window: float = WINDOW
    """Likewise."""
    batch_window: float = field(init=False)
    """How many seconds the batches that are made have until they expire."""
    personality: Personality = field(init=False)
    jobs: dict[str, Job] = field(default_factory=dict)
    """By the ids that their creates gave."""
    other_ids: dict[str, str] = field(default_factory=dict)
    """From the ids that jobs were given later to those of their creates."""
    files: dict[str, StoredFile] = field(default_factory=dict)
    batches: dict[str, Batch] = field(default_factory=dict)
    requests: list[LoggedRequest] = field(default_factory=list)
    keep_requests: bool = True
    """Whether they are kept there."""
    faults: FaultScript = field(default_factory=FaultScript)
    link: Callable[[tuple[str, int]], Link | None] = lambda _client: None
    """Finds the connection of a client's address."""
    on_done: Callable[[LoggedRequest], None] | None = None
    """Told of every exchange that is over."""

    def __post_init__(self) -> None:
        """Begin with what is usual."""
        self.personality = self.usual
        self.batch_window = self.usual_window

    def find(self, response_id: str) -> Job | None:
        """Return the job that was ever given this id; None where it is unknown or forgotten."""
        return self.jobs.get(self.other_ids.get(response_id, response_id))

    def forget(self, response_id: str) -> None:
        """Let go of a job, whichever of its ids is named."""
        if job := self.find(response_id):
            self.jobs.pop(job.id, None)

    def show(self, job: Job, status: str) -> dict[str, Any]:
        """Return the payload with which a job that has `status` goes out."""
        payload = self.personality.payload(job, status)
        if self.personality.changing_ids:
            payload["id"] = self.personality.new_id()
            self.other_ids[payload["id"]] = job.id
        return payload

    def clear(self) -> None:
        """Forget jobs, batches, files, requests and faults, and be as at the start."""
        self.faults.clear()
        self.batches.clear()
        self.files.clear()
        self.jobs.clear()
        self.other_ids.clear()
        self.requests.clear()
        self.personality = self.usual
        self.batch_window = self.usual_window


def build_app(state: State) -> Router:
    """Return the ASGI app over this state."""

    def api(path: str, method: str, act: _Act, operation: str | None = None) -> Route:
        return Route(path, _Endpoint(state, act, operation), methods=[method])

    routes = [
        api("/v1/responses", "POST", _create, "create"),
        api("/v1/responses/{id}", "GET", _retrieve, "retrieve"),
        api("/v1/responses/{id}", "DELETE", _delete),
        api("/v1/responses/{id}/cancel", "POST", _cancel, "cancel"),
        api("/v1/responses/{id}/input_items", "GET", _input_items),
        *(api(path, method, _batch_api(act), name) for path, method, act, name in _BATCH_ROUTES),
    ]
    unknown = Route("/{path:path}", _Endpoint(state, _refuse_by(routes)))
    return Router(routes=[*routes, *_steering(state), unknown])


@dataclass(slots=True)
class _Call:
    """A request on its way through an operation of the API."""

    state: State
    log: LoggedRequest
    scope: Scope
    response_id: str | None
    stream: bool

    def job(self) -> Job:
        """Return the job that the path names; raise the API's error where there is none."""
        response_id = self.response_id or ""
        job = self.state.find(response_id)
        if job is None:
            raise not_found(response_id, self.state.personality.not_found)
        return job


_Act = Callable[[_Call], Reply]


class _Endpoint:
    """One operation as an ASGI app: logs the request, lets the script interfere, and answers."""

    def __init__(self, state: State, act: _Act, operation: str | None = None) -> None:
        self._state = state
        self._act = act
        self._operation = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw_body = await _body(receive)
        if raw_body is None:
            return
        log = _log(scope, raw_body)
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
        stream = _wants_stream(self._operation, log)
        fault = state.faults.take(_names(self._operation, stream), log.response_id)
        kind = log.fault = fault.kind if fault else None
        wire = Wire(scope, receive, send, state.show, state.link, fault, _status_setter(log))
        if fault and kind == "status":
            await wire.send(fault_reply(fault, log.path, state.personality))
            return
        if kind == "reset_before":
            await wire.reset()
            return
        if fault and kind == "hang_before" and await wire.gone_after(fault.seconds):
            return
        streams = stream and kind != "plain" and state.personality.stream != "ignored"
        reply = self._reply(_Call(state, log, scope, log.response_id, streams))
        if kind == "reset_after":
            await wire.reset()
            return
        if fault and kind == "hang_after" and await wire.gone_after(fault.seconds):
            return
        if fault and kind == "delay":
            late = 1 if fault.seconds is None else fault.seconds
            if await wire.gone_after(late):
                return
        if fault and kind in ("html", "raw"):
            reply = fault_reply(fault, log.path, state.personality)
        await wire.send(reply)

    def _reply(self, call: _Call) -> Reply:
        try:
            _check_key(call.scope)
            return self._act(call)
        except ApiError as error:
            return error_reply(error, self._state.personality)


def _create(call: _Call) -> Reply:
    if call.log.body is None and call.log.raw_body.strip() != b"null":
        raise ApiError(400, "We could not parse the JSON body of your request.")
    state = call.state
    request = check_create(call.log.body, state.find)
    _check_stream(call)
    try:
        job = new_job(request, time.time(), state.seconds, state.personality)
    except ValueError as error:
        raise FieldError(400, str(error), param="metadata", code="invalid_value") from None
    state.jobs[job.id] = job
    call.log.response_id = job.id
    if call.stream:
        return _stream(call, job)
    if not job.background:
        return Reply(wait_for=job)
    return Reply(body=to_json(state.personality.payload(job, "queued")))


def _retrieve(call: _Call) -> Reply:
    job = call.job()
    if not call.stream:
        return Reply(body=to_json(call.state.show(job, job.status(time.time()))))
    _check_stream(call)
    if not job.streamable:
        message = "This response cannot be streamed because it was not created with stream=true."
        raise ApiError(400, message, param="stream")
    if call.state.personality.stream == "resume_refused":
        message = "This response can no longer be streamed because it is too old."
        raise ApiError(400, message, param="stream")
    return _stream(call, job, whole_number(call.log.query, "starting_after", -1))


def _check_stream(call: _Call) -> None:
    if call.stream and call.state.personality.stream == "refused":
        raise ApiError(400, "This server does not stream responses.", param="stream")


def _stream(call: _Call, job: Job, starting_after: int = -1) -> Reply:
    return Reply(
        media_type="text/event-stream; charset=utf-8",
        events_of=job,
        starting_after=starting_after,
        manner=call.state.personality.stream,
    )


def _cancel(call: _Call) -> Reply:
    job = call.job()
    personality = call.state.personality
    if personality.cancel == "refused":
        raise ApiError(personality.cancel_status, "This server does not cancel responses.")
    if not job.background:
        raise ApiError(400, "Cannot cancel a synchronous response.")
    if not job.cancel(time.time(), overtaken=personality.cancel == "overtaken"):
        raise ApiError(400, "Cannot cancel a completed response.")
    return Reply(body=to_json(call.state.show(job, "cancelled")))


def _delete(call: _Call) -> Reply:
    job = call.job()
    call.state.forget(job.id)
    return Reply(body=to_json({"id": job.id, "object": "response", "deleted": True}))


def _input_items(call: _Call) -> Reply:
    query = call.log.query
    items = input_items(call.job())
    if query.get("order", "desc") != "asc":
        items.reverse()
    return page_of([(one["id"], partial(dict, one)) for one in items], query, 20, 100)


def _batch_api(act: batch_api.Act) -> _Act:
    """Return an operation that is there only on servers with a Batch API."""

    def run(call: _Call) -> Reply:
        log = call.log
        if not call.state.personality.batches:
            raise ApiError(404, f"Invalid URL ({log.method} {log.path})")
        return act(call.state, log)

    return run


_BATCH_ROUTES: tuple[tuple[str, str, batch_api.Act, str | None], ...] = (
    ("/v1/files", "POST", batch_api.create_file, "file_create"),
    ("/v1/files", "GET", batch_api.list_files, None),
    ("/v1/files/{id}", "GET", batch_api.retrieve_file, None),
    ("/v1/files/{id}", "DELETE", batch_api.delete_file, None),
    ("/v1/files/{id}/content", "GET", batch_api.file_content, "file_content"),
    ("/v1/batches", "POST", batch_api.create_batch, "batch_create"),
    ("/v1/batches", "GET", batch_api.list_batches, "batch_list"),
    ("/v1/batches/{id}", "GET", batch_api.retrieve_batch, "batch_retrieve"),
    ("/v1/batches/{id}/cancel", "POST", batch_api.cancel_batch, "batch_cancel"),
)


def _refuse_by(routes: list[Route]) -> _Act:
    """Return the operation of all other paths: 405 where another method would do, else 404."""

    def refuse(call: _Call) -> NoReturn:
        log = call.log
        if any(route.matches(call.scope)[0] is not Match.NONE for route in routes):
            message = (
                f"Not allowed to {log.method} on {log.path}. "
                "(HINT: Perhaps you meant to use a different HTTP method?)"
            )
            raise ApiError(405, message)
        raise ApiError(404, f"Invalid URL ({log.method} {log.path})")

    return refuse


def _steering(state: State) -> list[Route]:
    """Return the routes for other processes; requests to them are not logged."""

    async def script(request: Request) -> Response:
        try:
            faults = parse_faults(await request.json())
        except ValueError as error:
            message = str(error) or "the body is not JSON"
            return JSONResponse(ApiError(400, message).envelope(), status_code=400)
        state.faults.add(faults)
        return JSONResponse({"added": len(faults)})

    async def logged(_request: Request) -> Response:
        return Response(to_json([_to_dict(one) for one in list(state.requests)]), 200, _JSON)

    async def clear(_request: Request) -> Response:
        state.clear()
        return JSONResponse({"cleared": True})

    return [
        Route("/sandbox/faults", script, methods=["POST"]),
        Route("/sandbox/requests", logged, methods=["GET"]),
        Route("/sandbox", clear, methods=["DELETE"]),
    ]


_JSON = {"content-type": "application/json"}


def _to_dict(log: LoggedRequest) -> dict[str, Any]:
    return {**asdict(log), "raw_body": log.raw_body.decode("utf-8", "replace")}


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request; None when the client has gone before it had sent all."""
    pieces = []
    while (message := await receive())["type"] == "http.request":
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)
    return None


@functools.lru_cache(maxsize=1024)
def _decoded(raw: bytes) -> str:
    # Cached for the memory's sake: a client's headers are the same in all of its requests.
    return raw.decode("latin-1")


def _log(scope: Scope, raw_body: bytes) -> LoggedRequest:
    headers: dict[str, str] = {}
    for key, value in scope["headers"]:
        headers.setdefault(_decoded(key), _decoded(value))
    query = scope["query_string"].decode("latin-1")
    uploads = headers.get("content-type", "").startswith("multipart/")
    for name in _SECRET_HEADERS:
        if name in headers:
            headers[name] = "Bearer ***" if name == "authorization" else "***"
    return LoggedRequest(
        method=scope["method"],
        path=scope["path"],
        query=dict(parse_qsl(query, keep_blank_values=True)) if query else {},
        headers=headers,
        body=None if uploads else _parse(raw_body),
        raw_body=raw_body,
        at=time.time(),
        response_id=scope["path_params"].get("id"),
    )


def _status_setter(log: LoggedRequest) -> Callable[[int], None]:
    def set_status(status: int) -> None:
        log.status = status

    return set_status


def _parse(raw_body: bytes) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(raw_body, parse_constant=refuse) if raw_body else None
    except (ValueError, RecursionError):
        return None


def _wants_stream(operation: str | None, log: LoggedRequest) -> bool:
    if operation == "create":
        return isinstance(log.body, dict) and log.body.get("stream") is True
    return operation == "retrieve" and log.query.get("stream", "").lower() == "true"


def _names(operation: str | None, stream: bool) -> tuple[str, ...]:
    """Return the names by which a fault may mean this request."""
    if operation is None:
        return ()
    if not stream:
        return (operation,)
    return ("create", "stream") if operation == "create" else ("stream",)


def _check_key(scope: Scope) -> None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            key = value.decode("latin-1").removeprefix("Bearer ").strip()
            if key.startswith("invalid"):
                raise refused_key(key)
