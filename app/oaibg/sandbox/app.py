"""The routes of the sandbox: which operation handles which path and method."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from starlette.routing import Match, Route, Router

from oaibg.sandbox.endpoint import Endpoint
from oaibg.sandbox.errors import ApiError
from oaibg.sandbox.operations import batches, containers, files, responses
from oaibg.sandbox.operations.steering import steering_routes

if TYPE_CHECKING:
    from oaibg.sandbox.call import Call, Operation
    from oaibg.sandbox.state import State
    from oaibg.sandbox.wire.reply import Answer

_Row = tuple[str, str, "Operation", str | None]
"""Path, method, operation, and the name of the operation in `Fault.on`."""

_RESPONSES: tuple[_Row, ...] = (
    ("/v1/responses", "POST", responses.create, "create"),
    ("/v1/responses/{id}", "GET", responses.retrieve, "retrieve"),
    ("/v1/responses/{id}", "DELETE", responses.delete, None),
    ("/v1/responses/{id}/cancel", "POST", responses.cancel, "cancel"),
    ("/v1/responses/{id}/input_items", "GET", responses.list_input_items, None),
    (
        "/v1/containers/{id}/files/{file_id}/content",
        *("GET", containers.content, "container_content"),
    ),
)
_BATCHES: tuple[_Row, ...] = (
    ("/v1/files", "POST", files.create, "file_create"),
    ("/v1/files", "GET", files.list_all, None),
    ("/v1/files/{id}", "GET", files.retrieve, None),
    ("/v1/files/{id}", "DELETE", files.delete, None),
    ("/v1/files/{id}/content", "GET", files.content, "file_content"),
    ("/v1/batches", "POST", batches.create, "batch_create"),
    ("/v1/batches", "GET", batches.list_all, "batch_list"),
    ("/v1/batches/{id}", "GET", batches.retrieve, "batch_retrieve"),
    ("/v1/batches/{id}/cancel", "POST", batches.cancel, "batch_cancel"),
)


def build_app(state: State) -> Router:
    """Return the ASGI app of a server with this state."""
    rows = [
        *_RESPONSES,
        *((path, how, _with_batches(run), name) for path, how, run, name in _BATCHES),
    ]
    routes = [
        Route(path, Endpoint(state, operation, name), methods=[method])
        for path, method, operation, name in rows
    ]
    unknown = Route("/{path:path}", Endpoint(state, _unknown_path(routes)))
    return Router(routes=[*routes, *steering_routes(state), unknown])


def _with_batches(operation: Operation) -> Operation:
    """Wrap an operation of the Batch API: 404 if the personality has no Batch API."""

    def run(call: Call) -> Answer:
        if not call.state.personality.batches:
            raise _invalid_url(call)
        return operation(call)

    return run


def _unknown_path(routes: list[Route]) -> Operation:
    """Return the operation for all other paths: 405 if another method is allowed, else 404."""

    def refuse(call: Call) -> NoReturn:
        if any(route.matches(call.scope)[0] is not Match.NONE for route in routes):
            message = (
                f"Not allowed to {call.log.method} on {call.log.path}. "
                "(HINT: Perhaps you meant to use a different HTTP method?)"
            )
            raise ApiError(405, message)
        raise _invalid_url(call)

    return refuse


def _invalid_url(call: Call) -> ApiError:
    return ApiError(404, f"Invalid URL ({call.log.method} {call.log.path})")
