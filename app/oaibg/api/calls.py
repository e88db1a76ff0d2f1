"""The API calls that the rest of the program makes, as protocols that don't need the SDK.

Every call raises `CallFailed` if it gets no usable reply. `timeout` is in seconds and covers the
whole call. `include` names additional data that the API returns on request.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from oaibg.api.payload import Payload
    from oaibg.api.stream import StreamEvent

    Hook = Callable[[], Awaitable[None]]


class Stream(Protocol):
    """A job's stream events as they arrive; implemented by `oaibg.api.stream.EventStream`."""

    heard: int
    """The number of bytes that have arrived; comments between the events count as well."""

    async def next(self) -> StreamEvent | None:
        """Return the next event, or None at the end; raises `CallFailed` if the stream breaks."""

    async def close(self) -> None:
        """Close the connection. No call of `next` may be pending."""


class Calls(Protocol):
    """The calls; implemented by `oaibg.api.client.Client`."""

    async def create(self, body: dict[str, Any], on_sending: Hook, *, timeout: float) -> Payload:
        """Create a response with one POST that contains exactly `body`.

        `on_sending` is awaited before the first byte is written. If it raises, nothing is sent.
        """

    async def create_stream(
        self, body: dict[str, Any], on_sending: Hook, *, timeout: float
    ) -> tuple[Payload, Stream | None]:
        """Create a response with one POST and stream it; `timeout` covers the first event only.

        Returns the response from the first event, and the stream, which begins with that event.
        The stream is None if the server ignores `stream`.
        """

    async def retrieve(
        self,
        response_id: str,
        timeout: float,
        include: Sequence[str] = (),
        *,
        is_batch: bool = False,
    ) -> Payload:
        """Retrieve a response or a batch; `include` is ignored for a batch."""

    async def stream(
        self,
        response_id: str,
        starting_after: int | None,
        timeout: float,
        include: Sequence[str] = (),
    ) -> Stream | Payload:
        """Stream a response's events after this `sequence_number`; None streams all of them.

        Returns the open stream, or the response if the server ignores `stream`.
        """

    async def cancel(
        self, response_id: str, timeout: float, *, is_batch: bool = False
    ) -> Payload | None:
        """Cancel a response or a batch. Repeating a cancel changes nothing.

        Returns None if the server accepts the cancel but its reply has no status.
        """

    def hurry(self) -> None:
        """Send the requests of many jobs without waiting for each other: the run ends."""
        return  # nothing waits unless the calls are paced

    async def upload(self, name: str, file: IO[bytes], timeout: float) -> str:
        """Upload a batch's input file and return its ID."""

    async def create_batch(
        self, file_id: str, metadata: dict[str, str], on_sending: Hook, *, timeout: float
    ) -> Payload:
        """Create a batch with one POST; `on_sending` is as for `create`."""

    async def list_batches(self, after: str | None, timeout: float) -> list[dict[str, Any]]:
        """List a page of batches, newest first; `after` is the last ID of the previous page."""

    async def download(self, file_id: str, into: IO[bytes], timeout: float) -> None:
        """Write a file's content to `into`; raises `OSError` if that fails."""

    async def download_artifact(
        self,
        container_id: str,
        file_id: str,
        into: IO[bytes],
        timeout: float,
        *,
        may_be_html: bool = False,
    ) -> None:
        """Write a file of a code interpreter container to `into`, like `download`.

        Unless the file `may_be_html`, an HTML page is taken for a proxy's.
        """
