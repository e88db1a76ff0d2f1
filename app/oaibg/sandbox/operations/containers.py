"""The operation of the Containers API that reads a file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from oaibg.sandbox.errors import ApiError
from oaibg.sandbox.job.container import CONTENT
from oaibg.sandbox.wire.reply import Reply

if TYPE_CHECKING:
    from oaibg.sandbox.call import Call


def content(call: Call) -> Reply:
    """Return the content of a container's file."""
    now, file_id = time.time(), call.scope["path_params"]["file_id"]
    container = call.state.containers.get(call.id)
    if container is None or not container.exists(now):
        raise ApiError(404, f"Container with id '{call.id}' not found.")
    if container.expired(now):
        raise ApiError(404, "Container is expired.")
    if file_id != container.file_id:
        raise ApiError(404, f"File {file_id} not found on container {call.id}.")
    container.last_read = now
    return Reply(200, CONTENT, "application/binary")
