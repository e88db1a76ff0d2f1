"""The calls of the API that the rest of the program makes, as protocols. No SDK."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from oaibg.api.payload import Payload
    from oaibg.api.stream import StreamEvent


class Stream(Protocol):
    """A job's events as they come; `oaibg.sse.EventStream` is the real one."""

    async def next(self) -> StreamEvent | None:
        """The next one; None at the end. Raises `CallFailed` where the stream breaks off."""
        ...

    async def close(self) -> None:
        """Close the connection; nobody may be waiting in `next`."""
        ...


class Client(Protocol):
    """The calls of the API; `oaibg.api.Api` is the real one. All raise `CallFailed`."""

    async def create(
        self, body: dict[str, Any], on_sending: Callable[[], Awaitable[None]], *, timeout: float
    ) -> Payload:
        """POST once; `on_sending` is awaited before the first byte is written."""
        ...

    async def create_stream(
        self, body: dict[str, Any], on_sending: Callable[[], Awaitable[None]], *, timeout: float
    ) -> tuple[Payload, Stream | None]:
        """POST once, and go on listening; None where the server does not stream."""
        ...

    async def retrieve(self, response_id: str, timeout: float) -> Payload:
        """GET a response."""
        ...

    async def stream(
        self, response_id: str, starting_after: int | None, timeout: float
    ) -> Stream | Payload:
        """GET a response's events after that number; the response where it is not streamed."""
        ...

    async def cancel(self, response_id: str, timeout: float) -> Payload | None:
        """POST a cancel; None where it was taken, and the answer tells nothing."""
        ...


class BatchClient(Client, Protocol):
    """The calls of the Batch API; `oaibg.api.Api` has them, too."""

    async def upload(self, name: str, file: IO[bytes], timeout: float) -> str:
        """POST a file; gives its id."""
        ...

    async def create_batch(
        self,
        file_id: str,
        metadata: dict[str, str],
        on_sending: Callable[[], Awaitable[None]],
        *,
        timeout: float,
    ) -> Payload:
        """POST a batch once; else as `create`."""
        ...

    async def batches(self, after: str | None, timeout: float) -> list[dict[str, Any]]:
        """GET a page of the batches, the newest first."""
        ...

    async def download(self, file_id: str, into: IO[bytes], timeout: float) -> None:
        """GET a file's content, and write it."""
        ...
