"""A local server with background responses and batches, for trying, demos and tests.

It runs on loopback, needs no key, costs nothing and does what it is told: jobs that take
milliseconds or minutes, that end in any way, faults that are scripted in advance, and
personalities of other servers with the same API.

    with Sandbox.running(seconds=0.05) as sandbox:
        sandbox.script(Fault(on="retrieve", kind="status", status=503))
        client = OpenAI(base_url=sandbox.base_url, api_key="sandbox")

`python -m oaibg.sandbox` runs the same server on its own. What a job does can be chosen by the
request's `metadata`: see `oaibg.sandbox.jobs`. It has the Files API and the Batch API as well:
what a batch does is chosen by its metadata and by those of its lines, see `oaibg.sandbox.batches`.
Needs the extra `oaibg[sandbox]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .faults import Fault
from .personality import PERSONALITIES, Personality

if TYPE_CHECKING:
    from .app import LoggedRequest
    from .batches import Batch
    from .files import StoredFile
    from .jobs import Job
    from .server import Sandbox

__all__ = [
    "PERSONALITIES",
    "Batch",
    "Fault",
    "Job",
    "LoggedRequest",
    "Personality",
    "Sandbox",
    "StoredFile",
]

_HOMES = {
    "Batch": "batches",
    "Job": "jobs",
    "LoggedRequest": "app",
    "Sandbox": "server",
    "StoredFile": "files",
}


def __getattr__(name: str) -> object:
    """Import the server when it is first asked for, so that the package loads without the extra."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
