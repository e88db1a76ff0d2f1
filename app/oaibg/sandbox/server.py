"""Runs the sandbox in a thread, as a server on loopback."""

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
    """A running sandbox; `Sandbox.running()` starts one. Thread-safe."""

    def __init__(self, state: State, port: int) -> None:
        """Take the state of the server on this port; `running` calls this."""
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
        """Run a sandbox in a daemon thread for the duration of a `with` block.

        Open connections are aborted at the end of the block.

        `port` 0 is any free port; `seconds` is the default duration of a job. `on_done` is called
        after every request, in the server's thread. `personality` is a `Personality` or a name in
        `PERSONALITIES`; a batch expires after `batch_window` seconds. Without `log`, `requests` and
        `posts` stay empty, to save memory in long runs.
        Raises `OSError` if the port is in use, and `ValueError` for an unknown name.
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
        """The logged requests, in order of arrival."""
        return self._state.requests

    @property
    def posts(self) -> list[LoggedRequest]:
        """The requests to create a response, successful or not."""
        return self._posts_to("/v1/responses")

    @property
    def file_posts(self) -> list[LoggedRequest]:
        """The requests to upload a file, successful or not."""
        return self._posts_to("/v1/files")

    @property
    def batch_posts(self) -> list[LoggedRequest]:
        """The requests to create a batch, successful or not."""
        return self._posts_to("/v1/batches")

    @property
    def jobs(self) -> dict[str, Job]:
        """The jobs by the IDs that their creates returned."""
        return self._state.jobs

    @property
    def files(self) -> dict[str, StoredFile]:
        """All files by ID, including those of batches that have ended."""
        return self._state.all_files()

    @property
    def batches(self) -> dict[str, Batch]:
        """The batches by ID, oldest first."""
        return self._state.batches

    @property
    def batch_window(self) -> float:
        """Seconds until a new batch expires."""
        return self._state.batch_window

    @batch_window.setter
    def batch_window(self, seconds: float) -> None:
        self._state.batch_window = seconds

    def script(self, *faults: Fault) -> None:
        """Append faults to the script."""
        self._state.faults.add(faults)

    def become(self, personality: Personality | str) -> None:
        """Switch to another personality, or to the one with this name.

        It also applies to existing jobs, except that they keep their IDs. Raises `ValueError` for
        an unknown name.
        """
        self._state.personality = find_personality(personality)

    def forget(self, response_id: str) -> None:
        """Remove a response, as the API does after some time: later requests for it get 404."""
        self._state.forget(response_id)

    def restart(self) -> None:
        """Do to the running jobs what a restart of this server does; connections stay open."""
        self._state.restart()

    def clear(self) -> None:
        """Remove all jobs, batches, files, requests and faults, and restore the start settings."""
        self._state.clear()

    def _posts_to(self, path: str) -> list[LoggedRequest]:
        requests = list(self._state.requests)
        return [one for one in requests if one.method == "POST" and one.path == path]


class _Server(uvicorn.Server):
    """A uvicorn server that starts and stops at once, and can find a client's connection."""

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
        """Block until connections are accepted; raise `RuntimeError` if the thread ends first."""
        while not self._accepting.wait(0.05):
            if not thread.is_alive():
                raise RuntimeError("the sandbox did not start")

    def stop(self) -> None:
        """Stop the server soon, from any thread. Does nothing if it has already stopped."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def main_loop(self) -> None:
        """Serve until `stop` is called."""
        await self.on_tick(0)
        self._loop = asyncio.get_running_loop()
        self._accepting.set()
        if not self.should_exit:
            await self._stopping.wait()

    async def shutdown(
        self,
        sockets: list[socket.socket] | None = None,  # noqa: ARG002 - uvicorn's signature
    ) -> None:
        """Abort all connections and wait briefly for their tasks."""
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
    # asyncio sets TCP_NODELAY only if the protocol is given; without it a reply takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
