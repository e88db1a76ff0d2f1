"""A server for `make bench` that supports only retrieves and streams, and uses little CPU time.

The measured processes share the machine with their server. The sandbox validates, scripts and logs
every request, and uses about half as much CPU time as its client; this server uses a tenth. It also
runs thousands of jobs at once and ends each at a given time, for which the API has no request. Its
jobs, payloads, events and headers are those of the sandbox. It has no faults, and accepts any key.

`python tests/tools/bench_server.py` prints its address. `POST /bench/jobs` with `{"count": N,
"stream": bool, "delay": seconds}` replaces all jobs by new ones and returns their IDs; the reply to
a retrieve is sent after that delay. The jobs run until `POST /bench/ends` with `{"ends": [unix
seconds, …]}` sets the time at which each of them ends. `GET /bench/counts` returns the counts of
requests since the jobs began.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

from oaibg.sandbox.encoding import to_json, to_sse
from oaibg.sandbox.job.events import timeline
from oaibg.sandbox.job.job import Job
from oaibg.sandbox.job.response_object import response_object

if TYPE_CHECKING:
    from collections.abc import Sequence

_BACKLOG = 4096
_FOREVER = 1e6
_REASONS = {200: b"200 OK", 400: b"400 Bad Request", 404: b"404 Not Found"}
_REQUEST = {
    "model": "gpt-5.2",
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}],
    "background": True,
}
_TEXT = "The sandbox has no model to ask. You said: hello"


class Jobs:
    """All jobs, and the counts of requests for them."""

    def __init__(self) -> None:
        self._jobs: dict[str, _RunningJob] = {}
        self._bodies: dict[str, bytes] = {}
        self._streams: set[_Stream] = set()
        self.retrieves = self.streams = 0
        self.delay = 0.0

    def begin(self, count: int, delay: float, *, stream: bool) -> list[str]:
        """Replace all jobs by new ones, reset the counts, and return the IDs."""
        self._jobs, self._bodies, self._streams = {}, {}, set()
        self.retrieves = self.streams = 0
        self.delay = delay
        for _ in range(count):
            response_id = f"resp_{secrets.token_hex(25)}"
            self._jobs[response_id] = _RunningJob(
                id=response_id,
                request={**_REQUEST, "stream": stream},
                created=time.time(),
                seconds=_FOREVER,
                outcome="completed",
                text=_TEXT,
            )
        return list(self._jobs)

    def end(self, ends: Sequence[float]) -> None:
        """Set the time at which each job ends, in the order of their IDs."""
        for job, end in zip(self._jobs.values(), ends, strict=True):
            job.seconds = end - job.created
        for stream in list(self._streams):
            stream.send_due()

    def stream(self, job: Job, after: int, transport: asyncio.Transport) -> _Stream:
        """Start to send a job's events."""
        self.streams += 1
        stream = _Stream(job, after, transport)
        self._streams.add(stream)
        stream.send_due()
        return stream

    def stop(self, stream: _Stream) -> None:
        """Stop a stream."""
        self._streams.discard(stream)
        stream.stop()

    def find(self, response_id: str) -> Job | None:
        """Return the job with this ID, or None."""
        return self._jobs.get(response_id)

    def body(self, job: Job) -> bytes:
        """Return a job as JSON, built only once while the job runs."""
        if job.status(time.time()) == "completed":
            return to_json(response_object(job, "completed"))
        body = self._bodies.get(job.id)
        if body is None:
            body = self._bodies[job.id] = to_json(response_object(job, "in_progress"))
        return body

    def counts(self) -> dict[str, float]:
        """Return the counts of requests, and the CPU time of this process in seconds."""
        return {
            "retrieves": self.retrieves,
            "streams": self.streams,
            "cpu": time.process_time(),
        }


class _RunningJob(Job):
    """A job that is never queued: it doesn't change until it ends."""

    @property
    def started(self) -> float:
        """The Unix time at which the job starts: when it is created."""
        return self.created


class _Request(NamedTuple):
    method: str
    path: str
    query: str
    body: bytes


class _Connection(asyncio.Protocol):
    """One connection, which stays open until the client closes it."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._received = b""
        self._stream: _Stream | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport for replies."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        """Stop the stream of this connection."""
        if self._stream is not None:
            self._jobs.stop(self._stream)

    def data_received(self, data: bytes) -> None:
        """Reply to each complete request."""
        self._received += data
        while (request := self._next_request()) is not None:
            self._reply_to(request)

    def _next_request(self) -> _Request | None:
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        length = 0
        if not head.startswith(b"GET"):
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
        if len(rest) < length:
            return None
        self._received = rest[length:]
        method, target, _ = head.partition(b"\r\n")[0].decode("ascii").split(" ")
        path, _, query = target.partition("?")
        return _Request(method, path, query, rest[:length])

    def _reply_to(self, request: _Request) -> None:
        jobs = self._jobs
        if request.path == "/bench/jobs":
            settings = json.loads(request.body)
            ids = jobs.begin(settings["count"], settings["delay"], stream=settings["stream"])
            self._send(200, to_json(ids))
        elif request.path == "/bench/ends":
            jobs.end(json.loads(request.body)["ends"])
            self._send(200, b"{}")
        elif request.path == "/bench/counts":
            self._send(200, to_json(jobs.counts()))
        elif (job := jobs.find(request.path.rpartition("/")[2])) is None:
            self._send(404, _error("Response not found."))
        elif not request.query or "true" not in parse_qs(request.query).get("stream", ()):
            jobs.retrieves += 1
            if jobs.delay:
                loop = asyncio.get_running_loop()
                loop.call_later(jobs.delay, lambda: self._send(200, jobs.body(job)))
            else:
                self._send(200, jobs.body(job))
        elif not job.streamable:
            self._send(400, _error("This response cannot be streamed."))
        else:
            after = parse_qs(request.query).get("starting_after", ["-1"])[0]
            self._transport.write(_head(200, b"text/event-stream", b"transfer-encoding: chunked"))
            self._stream = jobs.stream(job, int(after), self._transport)

    def _send(self, status: int, body: bytes) -> None:
        head = _head(status, b"application/json", b"content-length: %d" % len(body))
        if not self._transport.is_closing():
            self._transport.write(head + body)


class _Stream:
    """Sends a job's events, each at its time."""

    def __init__(self, job: Job, after: int, transport: asyncio.Transport) -> None:
        self._job = job
        self._next = after + 1
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """Cancel the next send."""
        if self._timer is not None:
            self._timer.cancel()

    def send_due(self) -> None:
        """Send the events that are due, and schedule the next send by the job's current end."""
        self.stop()
        now = time.time()
        events = timeline(self._job)[self._next :]
        due = [event for at, event in events if at <= now]
        self._next += len(due)
        if data := b"".join(map(to_sse, due)):
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        if left := events[len(due) :]:
            wait = max(left[0][0] - now, 0)
            self._timer = asyncio.get_running_loop().call_later(wait, self.send_due)
        else:
            self._transport.write(b"0\r\n\r\n")


def _head(status: int, media_type: bytes, length: bytes) -> bytes:
    lines = (
        b"HTTP/1.1 " + _REASONS[status],
        b"date: " + formatdate(usegmt=True).encode(),
        b"server: bench",
        b"content-type: " + media_type,
        b"x-request-id: req_" + secrets.token_hex(16).encode(),
        b"openai-version: 2020-10-01",
        length,
    )
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _error(message: str) -> bytes:
    error: dict[str, Any] = {"message": message, "type": "invalid_request_error"}
    return to_json({"error": {**error, "param": None, "code": None}})


async def _serve() -> None:
    jobs = Jobs()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(jobs), "127.0.0.1", 0, backlog=_BACKLOG)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await server.serve_forever()


def main() -> int:
    """Serve until killed."""
    asyncio.run(_serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
