"""The sandbox's own routes, for control by other processes. Their requests are not logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from oaibg.sandbox.encoding import to_json
from oaibg.sandbox.errors import ApiError
from oaibg.sandbox.faults import parse_faults

if TYPE_CHECKING:
    from starlette.requests import Request

    from oaibg.sandbox.state import State


def steering_routes(state: State) -> list[Route]:
    """Return the routes that add faults, list the logged requests, and clear the state."""

    async def add_faults(request: Request) -> Response:
        try:
            faults = parse_faults(await request.json())
        except ValueError as error:
            message = str(error) or "The body is not JSON."
            return JSONResponse(ApiError(400, message).envelope(), status_code=400)
        state.faults.add(faults)
        return JSONResponse({"added": len(faults)})

    async def list_requests(_request: Request) -> Response:
        requests = to_json([one.to_dict() for one in list(state.requests)])
        return Response(requests, headers={"content-type": "application/json"})

    async def clear(_request: Request) -> Response:
        state.clear()
        return JSONResponse({"cleared": True})

    return [
        Route("/sandbox/faults", add_faults, methods=["POST"]),
        Route("/sandbox/requests", list_requests, methods=["GET"]),
        Route("/sandbox", clear, methods=["DELETE"]),
    ]
