"""The files of a batch: which there are, their lines, and downloads with retries."""

from __future__ import annotations

import codecs
import os
import shutil
from typing import IO, TYPE_CHECKING

from oaibg.api.error_body import ABSENT
from oaibg.base.file_names import numbered, safe_name
from oaibg.base.files import new_file, settle
from oaibg.contract.errors import CallFailed, Unavailable
from oaibg.engine import report, verdicts
from oaibg.engine.hints import passing_hint
from oaibg.engine.patience import (
    BLOCKED_AFTER,
    MIN_RETRIEVE_SECONDS,
    Patience,
    Streak,
)
from oaibg.engine.persist import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oaibg.api.payload import Payload
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job

TRANSFER_SECONDS = 1800.0
"""Maximum seconds of an upload or a download, which may have hundreds of megabytes."""

_PIECE_BYTES = 4 << 20

_REFUSED_INTERVAL = 5.0


def files_of(batch: Payload) -> dict[str, str]:
    """Return what each file of a batch is, by its ID; "" or "null" means that there is none."""
    found: dict[str, str] = {}
    for kind in ("output", "error"):
        file_id = batch.data.get(f"{kind}_file_id")
        if isinstance(file_id, str) and file_id.strip().lower() not in ABSENT:
            found.setdefault(file_id, f"{kind} file {file_id}")
    return found


def count_of_jobs(batch: Payload, key: str) -> int:
    """Return one of the API's `request_counts`; 0 if there is none."""
    count = (batch.object("request_counts") or {}).get(key)
    return count if isinstance(count, int) else 0


def count_of_lines(batch: Payload) -> int:
    """Return how many lines the batch's files have by its `request_counts`."""
    kinds = {name.split()[0] for name in files_of(batch).values()}
    counts = {"output": count_of_jobs(batch, "completed"), "error": count_of_jobs(batch, "failed")}
    return sum(count for kind, count in counts.items() if kind in kinds)


def lacks_output(batch: Payload) -> bool:
    """Return whether jobs of the batch completed, but it names no file with their results."""
    has_output = any(name.startswith("output") for name in files_of(batch).values())
    return count_of_jobs(batch, "completed") > 0 and not has_output


def pieces(content: IO[bytes]) -> Iterator[list[bytes]]:
    """Yield the lines of a file in lists of a few megabytes; every line ends with a line feed.

    Some servers write a byte order mark, or the line ends of Windows.
    """
    while lines := content.readlines(_PIECE_BYTES):
        bare = (line.removeprefix(codecs.BOM_UTF8).strip() for line in lines)
        yield [line + b"\n" for line in bare if line]


async def keep_file(
    content: IO[bytes], file_id: str, results_path: str, job: Job, context: Context
) -> str:
    """Save a downloaded file beside the results file; return the sentence that says where.

    Nothing is overwritten. The sentence is empty, and a warning is emitted, if that fails.
    """
    try:
        path = await in_thread(_saved_copy, content, file_id, results_path)
    except OSError as error:
        await context.emit(report.not_written(job, f"a copy of {file_id}", error))
        return ""
    return f" The whole file was saved as {path}."


def _saved_copy(content: IO[bytes], file_id: str, results_path: str) -> str:
    folder, name = os.path.split(os.path.abspath(results_path))  # noqa: PTH100
    names = numbered(safe_name(f"{name}.{file_id}.jsonl"))
    content.seek(0)
    with new_file(folder, private=True) as file:
        shutil.copyfileobj(content, file)
        return settle(file, (os.path.join(folder, one) for one in names))  # noqa: PTH118


def _is_refusal(failure: CallFailed) -> bool:
    """Whether the server refuses to send a file; some send the JSON of an error in its place."""
    in_place = verdicts.is_error_in_200(failure) and failure.is_json
    return in_place or not verdicts.is_transient(failure)


class Downloads:
    """Downloads the files of one batch, which share one minute without a usable reply."""

    def __init__(self, job: Job, context: Context) -> None:
        self._job, self._context = job, context
        self._patience = Patience(context.clock, deadline=context.deadline)

    async def download(self, file_id: str, content: IO[bytes]) -> bool:
        """Download a file, reporting failed attempts; False if the wait limit is reached.

        Raises:
            CallFailed: the server refuses to send this file; others may still be had.
            AuthRefused: the key was refused twice in a row.
            Unavailable: there was no usable reply for a minute.
        """
        context, patience, clock = self._context, self._patience, self._context.clock
        api = await context.connect()
        refusals = Streak(_is_refusal)
        refused_keys = Streak(lambda failure: failure.http_status == 401)
        least = MIN_RETRIEVE_SECONDS
        while True:
            content.seek(0)
            content.truncate()
            left, least = max(context.deadline - clock.monotonic(), least), 0.01
            try:
                await api.download(file_id, content, min(left, TRANSFER_SECONDS))
            except CallFailed as failure:
                patience.failed(failure)
                for streak in (refusals, refused_keys):
                    streak.note(failure, clock.monotonic())
                if refused_keys.count >= 2:
                    raise verdicts.auth_error(failure) from failure
                if refusals.is_believed(clock.monotonic()):
                    patience.answered()  # the server is there
                    raise
                delay, count = self._delay(failure, file_id), patience.failures
                event = report.poll_error(
                    failure, self._job, context, attempt=count, consecutive=count, delay=delay
                )
                await context.emit(event)
                await clock.sleep(delay)
                if clock.monotonic() >= context.deadline:
                    return False
            else:
                patience.answered()
                content.seek(0)
                return True

    def _delay(self, failure: CallFailed, file_id: str) -> float:
        """Return the seconds until the next attempt; raise if the network counts as blocked."""
        patience, now = self._patience, self._context.clock.monotonic()
        patience.give_up_at(min(patience.give_up, now + BLOCKED_AFTER))
        if _is_refusal(failure):
            delay = patience.delay(longest=_REFUSED_INTERVAL)  # to confirm it soon
        else:
            delay = patience.delay()
        if now + delay >= patience.give_up:
            message = f"The batch file {file_id} could not be downloaded: {failure.message}"
            raise Unavailable.of(failure, message, hint=passing_hint(failure)) from failure
        return max(min(delay, patience.deadline - now), 0.0)
