"""The event loop's threads; without one, work is done in the loop's own thread."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Threads(ThreadPoolExecutor):
    """A pool that does work at once, and blocks its caller, if the system allows no more threads.

    That happens where the number of a user's or a container's processes is limited.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do the work once: in a thread of the pool, or here if none can be started."""
        future, begun = Future[Any](), threading.Lock()

        def work() -> None:
            if not begun.acquire(blocking=False) or not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - the caller gets it
                future.set_exception(error)

        try:
            super().submit(work)
        except RuntimeError:  # the work is queued, but there may be no thread that takes it
            work()
        return future
