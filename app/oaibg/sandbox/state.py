"""Everything that the server knows: jobs, files, batches, requests, faults, and its personality."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from oaibg.sandbox.batch.batch import ENDED, WINDOW, Batch
from oaibg.sandbox.batch.result_files import result_files
from oaibg.sandbox.faults import FaultScript
from oaibg.sandbox.job.response_object import response_object
from oaibg.sandbox.personality import DEFAULT, Personality

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from oaibg.sandbox.batch.files import StoredFile
    from oaibg.sandbox.job.job import Job
    from oaibg.sandbox.request_log import LoggedRequest


@dataclass
class State:
    """What the server knows. Dictionaries are by id."""

    seconds: float
    """How long a job takes unless its metadata says otherwise."""
    usual_personality: Personality = DEFAULT
    """The one at the start, and after `clear`."""
    usual_window: float = WINDOW
    """Likewise."""
    batch_window: float = field(init=False)
    """How many seconds a new batch has until it expires."""
    personality: Personality = field(init=False)
    jobs: dict[str, Job] = field(default_factory=dict)
    """By the ids that their creates gave."""
    other_ids: dict[str, str] = field(default_factory=dict)
    """From the ids that jobs were given later to those of their creates."""
    files: dict[str, StoredFile] = field(default_factory=dict)
    """See `all_files`."""
    batches: dict[str, Batch] = field(default_factory=dict)
    requests: list[LoggedRequest] = field(default_factory=list)
    keep_requests: bool = True
    """Whether `requests` is filled."""
    faults: FaultScript = field(default_factory=FaultScript)
    find_transport: Callable[[tuple[str, int]], asyncio.Transport | None] = lambda _client: None
    """Finds the transport of a client's address."""
    on_done: Callable[[LoggedRequest], None] | None = None
    """Called after every exchange."""

    def __post_init__(self) -> None:
        """Begin with the usual personality and window."""
        self.personality = self.usual_personality
        self.batch_window = self.usual_window

    def find(self, response_id: str) -> Job | None:
        """Return the job that was ever given this id; None if it is unknown or forgotten."""
        return self.jobs.get(self.other_ids.get(response_id, response_id))

    def forget(self, response_id: str) -> None:
        """Drop a job, whichever of its ids is named."""
        if job := self.find(response_id):
            self.jobs.pop(job.id, None)

    def show(self, job: Job, status: str) -> dict[str, Any]:
        """Return the payload of a job that has `status`, with another id if ids change."""
        payload = response_object(job, status, self.personality)
        if self.personality.changing_ids:
            payload["id"] = self.personality.new_id()
            self.other_ids[payload["id"]] = job.id
        return payload

    def all_files(self) -> dict[str, StoredFile]:
        """Return the files, with those of batches that have ended."""
        now = time.time()
        for batch in list(self.batches.values()):
            if not batch.has_files and batch.status(now) in ENDED:
                for file in result_files(batch, now):
                    self.files.setdefault(file.id, file)
                batch.has_files = True
        return self.files

    def clear(self) -> None:
        """Forget jobs, batches, files, requests and faults, and be as at the start."""
        self.faults.clear()
        self.batches.clear()
        self.files.clear()
        self.jobs.clear()
        self.other_ids.clear()
        self.requests.clear()
        self.personality = self.usual_personality
        self.batch_window = self.usual_window
