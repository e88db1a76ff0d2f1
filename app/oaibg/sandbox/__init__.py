"""A local server with background responses and batches, for trying, demos and tests.

It runs on loopback, needs no key and costs nothing. Jobs take milliseconds or minutes and end in
any way, faults are scripted in advance, and personalities stand for other servers with the same
API.

    with Sandbox.running(seconds=0.05) as sandbox:
        sandbox.script(Fault(on="retrieve", kind="status", status=503))
        client = OpenAI(base_url=sandbox.base_url, api_key="sandbox")

`python -m oaibg.sandbox` runs the same server on its own. A request's `metadata` can choose what
its job does: see `oaibg.sandbox.job.metadata`. There are the Files API and the Batch API as well;
the metadata of a batch and of its lines choose what it does: see `oaibg.sandbox.batch.batch`.
Needs the extra `oaibg[sandbox]`.

How a request goes: `server` accepts it, `app` finds its operation, `endpoint` logs it and lets a
scripted fault strike, the operation (`operations`) checks it (`checks`) and works on the `state`,
and `wire` sends the answer. `job` and `batch` know nothing of HTTP: they are functions of time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from oaibg.sandbox.faults import Fault
from oaibg.sandbox.personality import PERSONALITIES, Personality

if TYPE_CHECKING:
    from oaibg.sandbox.batch.batch import Batch
    from oaibg.sandbox.batch.files import StoredFile
    from oaibg.sandbox.job.job import Job
    from oaibg.sandbox.request_log import LoggedRequest
    from oaibg.sandbox.server import Sandbox

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
    "Batch": "batch.batch",
    "Job": "job.job",
    "LoggedRequest": "request_log",
    "Sandbox": "server",
    "StoredFile": "batch.files",
}


def __getattr__(name: str) -> object:
    """Import the server when it is first asked for, so that the package loads without the extra."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
