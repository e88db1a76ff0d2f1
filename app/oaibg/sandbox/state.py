"""The state of the server: jobs, files, batches, requests, faults and personality."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.batch.batch import ENDED, WINDOW, Batch
from oaibg.sandbox.batch.result_files import result_files
from oaibg.sandbox.faults import FaultScript
from oaibg.sandbox.job.container import container_of
from oaibg.sandbox.job.response_object import response_object
from oaibg.sandbox.personality import DEFAULT, Personality

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection

    from oaibg.sandbox.batch.files import StoredFile
    from oaibg.sandbox.job.container import Container
    from oaibg.sandbox.job.job import Job
    from oaibg.sandbox.request_log import LoggedRequest


@dataclass
class State:
    """The state of one server. The keys of the dictionaries are IDs."""

    seconds: float
    """The default duration of a job; its metadata can override it."""
    usual_personality: Personality = DEFAULT
    """The personality at the start and after `clear`."""
    usual_window: float = WINDOW
    """The batch window at the start and after `clear`."""
    batch_window: float = field(init=False)
    """Seconds until a new batch expires."""
    personality: Personality = field(init=False)
    jobs: dict[str, Job] = field(default_factory=dict)
    """Keys are the IDs that the creates returned."""
    other_ids: dict[str, str] = field(default_factory=dict)
    """Maps the IDs in later replies to those that the creates returned."""
    files: dict[str, StoredFile] = field(default_factory=dict)
    """The files created so far; `all_files` adds those of batches that have ended."""
    batches: dict[str, Batch] = field(default_factory=dict)
    containers: dict[str, Container] = field(default_factory=dict)
    requests: list[LoggedRequest] = field(default_factory=list)
    keep_requests: bool = True
    """Whether requests are logged in `requests`."""
    faults: FaultScript = field(default_factory=FaultScript)
    find_transport: Callable[[tuple[str, int]], asyncio.Transport | None] = lambda _client: None
    """Returns the transport of the client with this address."""
    on_done: Callable[[LoggedRequest], None] | None = None
    """Called after every request."""

    def __post_init__(self) -> None:
        """Start with the usual personality and batch window."""
        self.personality = self.usual_personality
        self.batch_window = self.usual_window

    def find(self, response_id: str) -> Job | None:
        """Return the job that has, or ever had, this ID; None if it is unknown or forgotten."""
        return self.jobs.get(self.other_ids.get(response_id, response_id))

    def forget(self, response_id: str) -> None:
        """Remove the job that has, or ever had, this ID."""
        if job := self.find(response_id):
            self.jobs.pop(job.id, None)

    def restart(self) -> None:
        """Do to the running jobs what a restart of this server does."""
        now, what = time.time(), self.personality.restart
        for job in [one for one in self.jobs.values() if one.running(now)]:
            if what == "forgets":
                self.forget(job.id)
            elif what == "orphans":
                job.outcome = "stuck"

    def keep_container(self, job: Job) -> None:
        """Add the container of a job, if it has one."""
        if container := container_of(job):
            self.containers[container.id] = container

    def show(self, job: Job, status: str, include: Collection[str] = ()) -> dict[str, Any]:
        """Return the response object of a job with `status`, with a new ID if IDs change.

        `include` is that of the request.
        """
        payload = response_object(job, status, self.personality, include)
        if self.personality.changing_ids:
            payload["id"] = self.personality.new_id()
            self.other_ids[payload["id"]] = job.id
        return payload

    def all_files(self) -> dict[str, StoredFile]:
        """Return all files, including those of batches that have ended."""
        now = time.time()
        for batch in list(self.batches.values()):
            if not batch.has_files and batch.status(now) in ENDED:
                for file in result_files(batch, now, self.keep_container):
                    self.files.setdefault(file.id, file)
                batch.has_files = True
        return self.files

    def clear(self) -> None:
        """Remove all jobs, batches, files, requests and faults, and restore the start settings."""
        self.faults.clear()
        self.batches.clear()
        self.containers.clear()
        self.files.clear()
        self.jobs.clear()
        self.other_ids.clear()
        self.requests.clear()
        self.personality = self.usual_personality
        self.batch_window = self.usual_window
