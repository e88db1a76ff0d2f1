"""The sandbox: a local server with background responses and batches, for demos and tests.

It runs on loopback, needs no key and costs nothing. Jobs take as long as you choose and end with
any status. Faults are scripted in advance. Personalities imitate other servers with the same API.

    with Sandbox.running(seconds=0.05) as sandbox:
        sandbox.script(Fault(on="retrieve", kind="status", status=503))
        client = OpenAI(base_url=sandbox.base_url, api_key="sandbox")

`python -m oaibg.sandbox` runs the same server as a command. The `metadata` of a request or a batch
chooses what its job or batch does: see `oaibg.sandbox.job.metadata`. The server also has the Files
API and the Batch API. Running it needs the extra `oaibg[sandbox]`.

`server` accepts a request, `app` finds its operation, and `endpoint` logs it and applies a scripted
fault. The operation (`operations`) checks the request (`checks`) and updates the `state`; `wire`
sends the reply. `job` and `batch` don't depend on HTTP: they are pure functions of time.
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
    """Import the server on first use, so that the package loads without the extra."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
