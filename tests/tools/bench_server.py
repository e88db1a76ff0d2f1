"""A server for `make bench` that costs next to nothing: retrieves and streams, nothing else.

What the measured processes cost is what counts, and they share the machine with their server. The
sandbox checks, scripts and logs every request, for which it takes some half of its client's time;
this one takes a tenth. And of its jobs there can be thousands at once, which end when they are told
to, for which the API has no request. Jobs, payloads and events are the sandbox's, and so are the
headers; there are no faults, and every key will do.

`python tests/tools/bench_server.py` prints its address. `POST /bench/jobs` with `{"count": N,
"stream": bool, "delay": seconds}` replaces all jobs by new ones, and answers with their ids;
retrieves are answered so much later. They run until `POST /bench/ends` with
`{"ends": [unix seconds, …]}` says when each of them ends. `GET /bench/counts` tells what was
asked since they began.
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
_FOR_EVER = 1e6
_REASONS = {200: b"200 OK", 400: b"400 Bad Request", 404: b"404 Not Found"}
_REQUEST = {
    "model": "gpt-5.2",
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}],
    "background": True,
}
_TEXT = "The sandbox has no model to ask. You said: hello"


class Jobs:
    """All jobs, and the counts of what was asked about them."""

    def __init__(self) -> None:
        self._jobs: dict[str, _RunningJob] = {}
        self._bodies: dict[str, bytes] = {}
        self._streams: set[_Stream] = set()
        self.retrieves = self.streams = 0
        self.delay = 0.0

    def begin(self, count: int, delay: float, *, stream: bool) -> list[str]:
        """Forget everything, and begin new jobs; gives their ids."""
        self._jobs, self._bodies, self._streams = {}, {}, set()
        self.retrieves = self.streams = 0
        self.delay = delay
        for _ in range(count):
            response_id = f"resp_{secrets.token_hex(25)}"
            self._jobs[response_id] = _RunningJob(
                id=response_id,
                request={**_REQUEST, "stream": stream},
                created=time.time(),
                seconds=_FOR_EVER,
                outcome="completed",
                text=_TEXT,
            )
        return list(self._jobs)

    def end(self, ends: Sequence[float]) -> None:
        """Let the jobs end at those times, in the order of their ids."""
        for job, end in zip(self._jobs.values(), ends, strict=True):
            job.seconds = end - job.created
        for stream in list(self._streams):
            stream.go_on()

    def stream(self, job: Job, after: int, transport: asyncio.Transport) -> _Stream:
        """Send a job's events from now on."""
        self.streams += 1
        stream = _Stream(job, after, transport)
        self._streams.add(stream)
        stream.go_on()
        return stream

    def stop(self, stream: _Stream) -> None:
        """Send no more of it."""
        self._streams.discard(stream)
        stream.stop()

    def find(self, response_id: str) -> Job | None:
        """The job of that id."""
        return self._jobs.get(response_id)

    def body(self, job: Job) -> bytes:
        """A job as JSON, made once for as long as it runs."""
        if job.status(time.time()) == "completed":
            return to_json(response_object(job, "completed"))
        body = self._bodies.get(job.id)
        if body is None:
            body = self._bodies[job.id] = to_json(response_object(job, "in_progress"))
        return body

    def counts(self) -> dict[str, float]:
        """What was asked so far, and what the process has cost."""
        return {
            "retrieves": self.retrieves,
            "streams": self.streams,
            "cpu": time.process_time(),
        }


class _RunningJob(Job):
    """A job that was never queued: nothing about it changes until it ends."""

    @property
    def started(self) -> float:
        """When it leaves the queue."""
        return self.created


class _Request(NamedTuple):
    method: str
    path: str
    query: str
    body: bytes


class _Connection(asyncio.Protocol):
    """One connection, which is kept for as long as the client likes."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._received = b""
        self._stream: _Stream | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        """Nobody listens any more."""
        if self._stream is not None:
            self._jobs.stop(self._stream)

    def data_received(self, data: bytes) -> None:
        """Answer each request that is there whole."""
        self._received += data
        while (request := self._next_request()) is not None:
            self._answer(request)

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

    def _answer(self, request: _Request) -> None:
        jobs = self._jobs
        if request.path == "/bench/jobs":
            asked = json.loads(request.body)
            ids = jobs.begin(asked["count"], asked["delay"], stream=asked["stream"])
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
    """A job's events, each at its time."""

    def __init__(self, job: Job, after: int, transport: asyncio.Transport) -> None:
        self._job = job
        self._next = after + 1
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """Send no more."""
        if self._timer is not None:
            self._timer.cancel()

    def go_on(self) -> None:
        """Send what is due, and come back for the rest; also where the job's end has changed."""
        self.stop()
        now = time.time()
        events = timeline(self._job)[self._next :]
        due = [event for at, event in events if at <= now]
        self._next += len(due)
        if data := b"".join(map(to_sse, due)):
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        if left := events[len(due) :]:
            wait = max(left[0][0] - now, 0)
            self._timer = asyncio.get_running_loop().call_later(wait, self.go_on)
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
