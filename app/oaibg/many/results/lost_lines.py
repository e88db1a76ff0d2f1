"""Writes a results file again that was removed, replaced or truncated during the run."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from oaibg.contract.errors import OaibgError
from oaibg.engine import report
from oaibg.engine.persist import copy_of
from oaibg.state.database import StateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from oaibg.api.payload import Payload
    from oaibg.engine.context import Context
    from oaibg.engine.job import Job
    from oaibg.many.results.results_file import ResultsFile
    from oaibg.many.tally import Tally
    from oaibg.state.rows import Row

_PIECE = 100
"""The number of lines that are written at once."""


async def restore_lost_lines(
    results: ResultsFile, run_key: str | None, own: Job, tally: Tally, context: Context
) -> bool:
    """Check that the file has what the run wrote, and write what it lacks, with a warning.

    The lines come from the former file, if it is only no longer at its path, or else from the
    local state, which has the responses of the run `run_key`. A file at the path that has anything
    but results stays as it is. What can't be written is left to a rerun. Returns whether the file
    has nothing but results.
    """
    if results.is_intact():
        return True
    try:
        os.makedirs(os.path.dirname(results.path), exist_ok=True)  # noqa: PTH103, PTH120
        with results.reopened() as file:
            lost = results.statuses.keys() - file.statuses.keys()
            left = await _write(lost, results, file, _stored(run_key, context))
    except (OSError, OaibgError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.message
        message = f"Could not write {results.path} again: {str(reason).rstrip('.')}."
        tally.note_unwritten()
        tally.note_unsaved(message)
        await context.emit(report.warning(own, "write_failed", message))
        return False
    if not lost:
        return True
    message = (
        f"{results.path} was removed, replaced or changed while the run wrote to it. "
        f"{len(lost) - left:,} of {len(lost):,} lost results were written again."
    )
    if left:
        tally.note_unwritten()
        message += " Run `next` to fetch the others."
    await context.emit(report.warning(own, "results_changed", message))
    return True


async def _write(
    lost: set[str],
    results: ResultsFile,
    file: ResultsFile,
    stored: Callable[[str], Payload | None],
) -> int:
    """Write the lost lines to the file; return the number of those that are not available."""
    left, piece = set(lost), list[bytes]()
    for custom_id, raw in results.former_lines(lost):
        left.discard(custom_id)
        piece.append(raw)
        if len(piece) == _PIECE:
            await file.append(piece)
            piece = []
    await file.append(piece)
    todo = sorted(left)
    for start in range(0, len(todo), _PIECE):
        found = {name: stored(name) for name in todo[start : start + _PIECE]}
        known = {name: payload for name, payload in found.items() if payload is not None}
        await asyncio.gather(*(file.add_payload(*one) for one in known.items()))
        left -= known.keys()
    return len(left)


def _stored(run_key: str | None, context: Context) -> Callable[[str], Payload | None]:
    """Return a function that returns the stored response of a job of a run."""
    rows: dict[str, Row] = {}
    with suppress(StateError):
        rows = {} if run_key is None else context.store.of_run(context.base_url, run_key)

    def stored(custom_id: str) -> Payload | None:
        with suppress(StateError):
            return copy_of(rows[custom_id], context.store) if custom_id in rows else None
        return None

    return stored
