"""The sandbox as a server in a thread of its own, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from oaibg.sandbox.app import build_app
from oaibg.sandbox.batch.batch import WINDOW
from oaibg.sandbox.personality import DEFAULT, Personality, find_personality
from oaibg.sandbox.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oaibg.sandbox.batch.batch import Batch
    from oaibg.sandbox.batch.files import StoredFile
    from oaibg.sandbox.faults import Fault
    from oaibg.sandbox.job.job import Job
    from oaibg.sandbox.request_log import LoggedRequest

HOST = "127.0.0.1"

_ENDING_SECONDS = 0.5
_KEEP_ALIVE_SECONDS = 120
_BACKLOG = 2048


class Sandbox:
    """A running sandbox, from `Sandbox.running()`. All of it is safe to use from any thread."""

    def __init__(self, state: State, port: int) -> None:
        """Take the state of the server on that port; `running` calls this."""
        self._state = state
        self.base_url = f"http://{HOST}:{port}/v1"
        """The value for `OPENAI_BASE_URL`."""

    @classmethod
    @contextlib.contextmanager
    def running(
        cls,
        port: int = 0,
        seconds: float = 0.05,
        on_done: Callable[[LoggedRequest], None] | None = None,
        personality: Personality | str = DEFAULT,
        batch_window: float = WINDOW,
        log: bool = True,
    ) -> Iterator[Sandbox]:
        """Run a sandbox for the time of a `with` block, in a daemon thread.

        `port` 0 takes a free one; `seconds` is how long a job takes unless its metadata says
        otherwise; `on_done` is called after every exchange, in the server's thread;
        `personality` is one, or the name of one in `PERSONALITIES`; `batch_window` is in how many
        seconds a batch expires; without `log`, `requests` and `posts` stay empty, for runs whose
        requests would fill the memory.
        Open connections are aborted at the end. Raises `OSError` if the port is taken, and
        `ValueError` for a name that is unknown.
        """
        state = State(
            seconds=seconds,
            on_done=on_done,
            usual_personality=find_personality(personality),
            usual_window=batch_window,
            keep_requests=log,
        )
        listener = _listen(port)
        server = _Server(state)
        thread = threading.Thread(
            target=server.run, args=([listener],), name="oaibg-sandbox", daemon=True
        )
        try:
            thread.start()
            server.wait_until_accepting(thread)
            yield cls(state, listener.getsockname()[1])
        finally:
            server.stop()
            thread.join(timeout=5)
            listener.close()

    @property
    def requests(self) -> list[LoggedRequest]:
        """The requests to the API, in order of arrival."""
        return self._state.requests

    @property
    def posts(self) -> list[LoggedRequest]:
        """The requests that tried to create a response."""
        return self._posts_to("/v1/responses")

    @property
    def file_posts(self) -> list[LoggedRequest]:
        """The requests that tried to upload a file."""
        return self._posts_to("/v1/files")

    @property
    def batch_posts(self) -> list[LoggedRequest]:
        """The requests that tried to create a batch."""
        return self._posts_to("/v1/batches")

    @property
    def jobs(self) -> dict[str, Job]:
        """The jobs by the ids that their creates gave."""
        return self._state.jobs

    @property
    def files(self) -> dict[str, StoredFile]:
        """The files by their ids, with those of batches that have ended."""
        return self._state.all_files()

    @property
    def batches(self) -> dict[str, Batch]:
        """The batches by their ids, in the order of their creates."""
        return self._state.batches

    @property
    def batch_window(self) -> float:
        """How many seconds a new batch has until it expires."""
        return self._state.batch_window

    @batch_window.setter
    def batch_window(self, seconds: float) -> None:
        self._state.batch_window = seconds

    def script(self, *faults: Fault) -> None:
        """Append faults to those that are still to come."""
        self._state.faults.add(faults)

    def become(self, personality: Personality | str) -> None:
        """Answer as that personality, or the one of that name, from now on.

        It shows earlier jobs its way, too, by the ids that they have. Raises
        `ValueError` for a name that is unknown.
        """
        self._state.personality = find_personality(personality)

    def forget(self, response_id: str) -> None:
        """Drop a response, as the API does after a while: later requests give 404."""
        self._state.forget(response_id)

    def clear(self) -> None:
        """Forget jobs, batches, files, requests and faults, and be as at the start."""
        self._state.clear()

    def _posts_to(self, path: str) -> list[LoggedRequest]:
        requests = list(self._state.requests)
        return [one for one in requests if one.method == "POST" and one.path == path]


class _Server(uvicorn.Server):
    """A uvicorn server that starts and ends at once, and knows its clients' connections."""

    def __init__(self, state: State) -> None:
        super().__init__(
            uvicorn.Config(
                build_app(state),
                http=H11Protocol,
                loop="asyncio",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            )
        )
        state.find_transport = self._find_transport
        self._accepting = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def wait_until_accepting(self, thread: threading.Thread) -> None:
        """Block until connections are accepted; raise `RuntimeError` if that never comes."""
        while not self._accepting.wait(0.05):
            if not thread.is_alive():
                raise RuntimeError("the sandbox did not start")

    def stop(self) -> None:
        """Make it end soon, from any thread; does nothing once it has ended."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def main_loop(self) -> None:
        """Serve until stopped."""
        await self.on_tick(0)
        self._loop = asyncio.get_running_loop()
        self._accepting.set()
        if not self.should_exit:
            await self._stopping.wait()

    async def shutdown(
        self,
        sockets: list[socket.socket] | None = None,  # noqa: ARG002 - uvicorn's signature
    ) -> None:
        """Abort all connections, wait a moment for their tasks, and be done."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if tasks := set(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=_ENDING_SECONDS)

    def _find_transport(self, client: tuple[str, int]) -> asyncio.Transport | None:
        for one in self.server_state.connections:
            if isinstance(one, H11Protocol) and one.client == client:
                return one.transport
        return None


def _listen(port: int) -> socket.socket:
    # The protocol is named because asyncio sets TCP_NODELAY only then: 40 ms an answer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
