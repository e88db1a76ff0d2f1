"""The calls of the Responses API, made with the SDK.

Importing `openai` takes a third of a second, so import this module only when a request is about to
be sent. All calls use raw replies: the SDK's typed models are slow, and users get what the server
sent.
"""

from __future__ import annotations

import gc
from contextlib import AsyncExitStack
from typing import IO, TYPE_CHECKING, Any

# The import creates about 100,000 objects that are never freed. The garbage collector would find
# nothing during the import, and `freeze` keeps these objects out of all later collections. The
# first call would import the resource, so it is imported here as well.
gc.disable()
try:
    import httpx2
    import openai
    import openai.resources.responses.responses
finally:
    gc.enable()
    gc.freeze()

from oaibg.api.calls import Calls
from oaibg.api.download import error_in, write_file
from oaibg.api.error_body import is_page, reports_failure
from oaibg.api.failures import error_failed, not_json, reply_failed, unusable
from oaibg.api.payload import Payload, is_response_id
from oaibg.api.salvage import Arrived, events_response, is_events, unwrapped
from oaibg.api.stream import EventStream, has_events_type
from oaibg.api.transport import CONNECT_TIMEOUT, Transport
from oaibg.base.json_text import objects
from oaibg.contract.errors import CallFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from oaibg.api.calls import Hook
    from oaibg.api.transport import Use

_TRANSFER_TIMEOUTS = httpx2.Timeout(120.0, connect=CONNECT_TIMEOUT)
"""For files of up to hundreds of megabytes: seconds in which no byte is sent or received."""

_UNCOMPRESSED = {"accept-encoding": "identity"}
"""Headers of a stream: a server or proxy that compresses it may delay small events."""

_OMITTED = {
    f"X-Stainless-{name}": openai.Omit()
    for name in (
        *("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async"),
        *("Retry-Count", "Read-Timeout"),
    )
}
"""The SDK's headers about itself, omitted from polls because every header costs time."""


class Client(Calls):
    """Makes the calls at one base URL, such as `https://api.openai.com/v1`.

    In addition to `CallFailed`, calls raise the errors that `Transport.exchange` documents.
    """

    def __init__(self, base_url: str, api_key: str) -> None:
        self._transport = Transport(base_url, api_key)

    async def create(self, body: dict[str, Any], on_sending: Hook, *, timeout: float) -> Payload:
        """POST /responses."""

        async def post(sdk: openai.AsyncOpenAI) -> Payload:
            # `extra_body`, because the SDK transforms its own parameters.
            reply = await sdk.responses.with_raw_response.create(extra_body=body)
            return self._created(reply.http_response)

        return await self._create(post, on_sending, timeout)

    async def create_stream(
        self, body: dict[str, Any], on_sending: Hook, *, timeout: float
    ) -> tuple[Payload, EventStream | None]:
        """POST /responses with `stream`."""
        opened: EventStream | None = None

        async def post(sdk: openai.AsyncOpenAI) -> Payload:
            nonlocal opened
            call = sdk.responses.with_streaming_response.create(
                extra_body=body, extra_headers=_UNCOMPRESSED
            )
            async with AsyncExitStack() as opening:
                reply = (await opening.enter_async_context(call)).http_response
                if not await is_events(reply):
                    await reply.aread()
                    return self._created(reply)
                opened = self._stream("creating", reply)
                created_some = False
                while (event := await opened.next()) is not None:
                    if event.error is not None:
                        is_own = event.error.envelope and not created_some
                        raise error_failed(reply, event.error._replace(envelope=is_own))
                    created_some = created_some or event.payload is not None
                    if event.payload is not None and event.payload.id is not None:
                        created = self._created(reply, event.payload)
                        opened.give_back(event)
                        opening.pop_all()
                        return created
            raise reply_failed(reply, "the stream ended before it sent the response ID")

        return await self._create(post, on_sending, timeout), opened

    async def retrieve(
        self,
        response_id: str,
        timeout: float,
        include: Sequence[str] = (),
        *,
        is_batch: bool = False,
    ) -> Payload:
        """GET /responses/{id} or /batches/{id}."""
        arrived = Arrived(creating=False)
        try:
            async with self._transport.exchange("reading", timeout, arrived=arrived) as sdk:
                # The `retrieve` of the SDK's resources does the same, but takes a third longer.
                base = str(sdk.base_url).rstrip("/")  # without a path, the SDK adds no slash
                url = f"{base}/{'batches' if is_batch else 'responses'}/{response_id}"
                params = {} if is_batch else _included(include)
                options = openai.RequestOptions(headers=_OMITTED, params=params)
                reply = await sdk.get(url, cast_to=httpx2.Response, options=options)
                payload = _payload(reply)
                if payload.status is None and not payload.answer.types:
                    message = "the reply has neither a status nor output"
                    raise unusable(reply, message, payload.data)
                return payload
        except CallFailed:
            found = arrived.response()
            if found is None or found.status is None:
                raise
            return found

    async def stream(
        self,
        response_id: str,
        starting_after: int | None,
        timeout: float,
        include: Sequence[str] = (),
    ) -> EventStream | Payload:
        """GET /responses/{id}?stream=true."""
        after = openai.omit if starting_after is None else starting_after
        exchange = self._transport.exchange("listening", timeout)
        async with AsyncExitStack() as opening, exchange as sdk:
            call = sdk.responses.with_streaming_response.retrieve(
                response_id,
                stream=True,
                starting_after=after,
                extra_headers=_UNCOMPRESSED,
                **_included(include),
            )
            reply = (await opening.enter_async_context(call)).http_response
            # The first event may come late, so a body of the right type is not awaited here.
            if has_events_type(reply) or await is_events(reply):
                opening.pop_all()
                return self._stream("listening", reply)
            await reply.aread()
            payload = _payload(reply)
            if payload.status is None:
                problem = "the reply is neither a stream nor a response"
                raise unusable(reply, problem, payload.data)
            return payload

    async def cancel(
        self, response_id: str, timeout: float, *, is_batch: bool = False
    ) -> Payload | None:
        """POST /responses/{id}/cancel or /batches/{id}/cancel."""
        async with self._transport.exchange("reading", timeout) as sdk:
            resource = sdk.batches if is_batch else sdk.responses
            reply = await resource.with_raw_response.cancel(response_id)
            http = reply.http_response
            try:
                payload = Payload(http.content)
            except ValueError as error:
                if is_page(http.text) or error_in(http.content) is not None:
                    raise not_json(http, error) from error
                return None
            if payload.status is not None:
                return payload
            if reports_failure(payload.data):
                raise unusable(http, "the server refused it", payload.data)
            return None

    async def upload(self, name: str, file: IO[bytes], timeout: float) -> str:
        """POST /files."""
        async with self._transport.exchange("reading", timeout) as sdk:
            reply = await sdk.files.with_raw_response.create(
                file=(name, file, "application/jsonl"), purpose="batch", timeout=_TRANSFER_TIMEOUTS
            )
            payload = _payload(reply.http_response)
            if payload.id is None:
                raise unusable(reply.http_response, "the reply has no ID", payload.data)
            return payload.id

    async def create_batch(
        self, file_id: str, metadata: dict[str, str], on_sending: Hook, *, timeout: float
    ) -> Payload:
        """POST /batches."""

        async def post(sdk: openai.AsyncOpenAI) -> Payload:
            reply = await sdk.batches.with_raw_response.create(
                completion_window="24h",
                endpoint="/v1/responses",
                input_file_id=file_id,
                metadata=metadata,
            )
            return self._created(reply.http_response)

        return await self._create(post, on_sending, timeout)

    async def list_batches(self, after: str | None, timeout: float) -> list[dict[str, Any]]:
        """GET /batches."""
        async with self._transport.exchange("reading", timeout) as sdk:
            cursor = openai.omit if after is None else after
            reply = await sdk.batches.with_raw_response.list(limit=100, after=cursor)
            data = _payload(reply.http_response).data
            if reports_failure(data):
                raise unusable(reply.http_response, "the reply is not a list", data)
            return objects(data.get("data"))

    async def download(self, file_id: str, into: IO[bytes], timeout: float) -> None:
        """GET /files/{id}/content."""
        async with self._transport.exchange("reading", timeout, bounded=False) as sdk:
            call = sdk.files.with_streaming_response.content(file_id, timeout=_TRANSFER_TIMEOUTS)
            await write_file(call, into, may_be_error=True)

    async def download_artifact(
        self,
        container_id: str,
        file_id: str,
        into: IO[bytes],
        timeout: float,
        *,
        may_be_html: bool = False,
    ) -> None:
        """GET /containers/{id}/files/{id}/content."""
        async with self._transport.exchange("reading", timeout, bounded=False) as sdk:
            call = sdk.containers.files.content.with_streaming_response.retrieve(
                file_id, container_id=container_id, timeout=_TRANSFER_TIMEOUTS
            )
            await write_file(call, into, may_be_html=may_be_html)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def _create(
        self,
        post: Callable[[openai.AsyncOpenAI], Awaitable[Payload]],
        on_sending: Hook,
        timeout: float,
    ) -> Payload:
        """Send one POST; a response whose ID has arrived counts, whatever happens to the rest."""
        arrived = Arrived(creating=True)
        exchange = self._transport.exchange("creating", timeout, on_sending, arrived=arrived)
        try:
            async with exchange as sdk:
                return await post(sdk)
        except CallFailed:
            if (payload := arrived.response()) is None:
                raise
            return self._masked(payload)

    def _created(self, reply: httpx2.Response, payload: Payload | None = None) -> Payload:
        """Return the response that a create returned; raises `CallFailed` without a usable ID."""
        payload = unwrapped(payload or _payload(reply))
        if payload.id is None or (is_response_id(payload.id) and not payload.names_job):
            raise unusable(reply, "the reply has no ID", payload.data)
        if not is_response_id(payload.id):
            raise reply_failed(reply, f"the reply has the unusable ID {payload.id!a}")
        payload.request_id = reply.headers.get("x-request-id")
        payload.note_left(reply.headers)
        return self._masked(payload)

    def _masked(self, payload: Payload) -> Payload:
        request_id = payload.request_id
        payload.request_id = request_id and self._transport.secrets.masked(request_id)
        return payload

    def _stream(self, use: Use, reply: httpx2.Response) -> EventStream:
        return EventStream(reply, lambda: self._transport.exchange(use, None))


def _included(include: Sequence[str]) -> dict[str, Any]:
    return {"include": list(include)} if include else {}


def _payload(reply: httpx2.Response) -> Payload:
    request_id = reply.headers.get("x-request-id")
    try:
        return Payload(reply.content, request_id)
    except ValueError as error:
        if (payload := events_response(reply.content)) is not None:
            return payload
        raise not_json(reply, error) from error
