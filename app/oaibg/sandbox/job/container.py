"""The container in which a job runs code: its file, and when it expires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from oaibg.sandbox.job.items import item_id

if TYPE_CHECKING:
    from oaibg.sandbox.job.job import Job

CONTENT = b"x,y\n1,2\n"

_KEPT_SECONDS = 1200.0


@dataclass
class Container:
    """The container of one job."""

    job: Job
    last_read: float = 0.0
    """When its file was last read, in unix seconds."""

    @property
    def id(self) -> str:
        """The ID of the container."""
        return item_id("cntr", self.job.id, 48)

    @property
    def file_id(self) -> str:
        """The ID of its only file."""
        return item_id("cfile", self.job.id, 32)

    def exists(self, now: float) -> bool:
        """Return whether the job has used it: it is unknown before the job completes."""
        return self.job.status(now) == "completed"

    def expired(self, now: float) -> bool:
        """Return whether nothing has used it for 20 minutes, or the job's metadata says so."""
        last_used = max(self.job.ended, self.last_read)
        return self.job.container_expired or now - last_used > _KEPT_SECONDS


def container_of(job: Job) -> Container | None:
    """Return the container of a job; None if its outcome is not `file`."""
    return Container(job) if job.outcome == "file" else None
