"""The calls of the API that the rest of the program makes, as protocols. No SDK.

Every call raises `CallFailed` if it brought no usable answer. `timeout` is in seconds, and covers
the whole call.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oaibg.api.payload import Payload
    from oaibg.api.stream import StreamEvent

    Hook = Callable[[], Awaitable[None]]


class Stream(Protocol):
    """A job's events as they arrive; `oaibg.api.stream.EventStream` is the real one."""

    async def next(self) -> StreamEvent | None:
        """The next event; None at the end. Raises `CallFailed` if the stream breaks off."""

    async def close(self) -> None:
        """Close the connection; nobody may be waiting in `next`."""


class Calls(Protocol):
    """The calls; `oaibg.api.client.Client` makes them."""

    async def create(self, body: dict[str, Any], on_sending: Hook, *, timeout: float) -> Payload:
        """POST a response once, exactly as `body` is.

        `on_sending` is awaited before the first byte is written. Raising in it sends nothing.
        """

    async def create_stream(
        self, body: dict[str, Any], on_sending: Hook, *, timeout: float
    ) -> tuple[Payload, Stream | None]:
        """POST a response once, and keep listening to it; `timeout` ends with the first event.

        Returns the response as that event has it, and the stream from that event on; None for the
        stream if the server ignores `stream`.
        """

    async def retrieve(self, response_id: str, timeout: float) -> Payload:
        """GET a response or a batch."""

    async def stream(
        self, response_id: str, starting_after: int | None, timeout: float
    ) -> Stream | Payload:
        """GET a response's events after that `sequence_number`, or from the first one.

        Returns the open stream, or the response if the server ignores `stream`.
        """

    async def cancel(self, response_id: str, timeout: float) -> Payload | None:
        """POST a cancel; doing it again changes nothing.

        Returns None if the server took it and its answer says nothing about the job.
        """

    async def upload(self, name: str, file: IO[bytes], timeout: float) -> str:
        """POST a file for a batch; returns its id."""

    async def create_batch(
        self, file_id: str, metadata: dict[str, str], on_sending: Hook, *, timeout: float
    ) -> Payload:
        """POST a batch of responses once; `on_sending` as for `create`."""

    async def list_batches(self, after: str | None, timeout: float) -> list[dict[str, Any]]:
        """GET a page of the batches, newest first; `after` is the last id of the page before."""

    async def download(self, file_id: str, into: IO[bytes], timeout: float) -> None:
        """GET a file's content, and write it; raises `OSError` if it can't be written."""
