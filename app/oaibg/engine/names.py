"""Finds what a name on the command line stands for: a response ID, a job key, or a run."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from oaibg.api.payload import is_api_id, is_response_id
from oaibg.contract.advice import OTHER_STATE
from oaibg.contract.errors import UsageError
from oaibg.engine.find import Target
from oaibg.engine.near_names import LIST_HINT, hint_for_unknown, suggestion
from oaibg.engine.persist import state_error
from oaibg.state.commits import patiently_blocking
from oaibg.state.database import StateError
from oaibg.state.rows import line_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oaibg.base.clock import Clock
    from oaibg.state.runs import RunRow
    from oaibg.state.store import Store

    Named = Target | RunRow


def as_ids(names: list[str]) -> list[Named] | None:
    """Return names that all are IDs of the API, which are never looked up; else None."""
    if all(map(is_api_id, names)):
        return [Target(response_id=name) for name in names]
    return None


class Names:
    """Finds names in the local state, for one base URL; `problem` is why it can't be used."""

    def __init__(
        self, store: Store, problem: StateError | None, base_url: str, clock: Clock
    ) -> None:
        self._store, self._problem = store, problem
        self._base_url, self._clock = base_url, clock

    def of(self, names: Iterable[str]) -> list[Named]:
        """Return what IDs and keys stand for.

        The IDs of the API are never looked up. Of other names, an ID in the state comes first, then
        a key, then the path of a run's file, then `RUN/CUSTOM_ID`; a name that is unknown may
        still be an ID.

        Raises `UsageError` for an unknown name that can't be an ID, also if the state can't be
        used.
        """
        return [self._of(name) for name in names]

    def of_key(self, job_key: str) -> Named:
        """Return what a key stands for; an unknown one is the key of a job."""
        found: Named | None = None
        with suppress(StateError):  # which is reported when the job is looked for
            found = self._read(lambda: self._by_key(job_key))
        return found or Target(job_key=job_key)

    def newest(self) -> Named:
        """Return the newest submit, a job or a run; a target without a name if it has no ID."""
        found: Named | None = None
        with suppress(StateError):  # as above
            found = self._read(self._newest)
        return found or Target()

    def others(self, name: str, run: RunRow) -> list[str]:
        """Return the keys of the other runs over a file, newest first, if the name is its path.

        They are left out if the state can't be read.
        """
        if name == run.run_key:
            return []
        paths = _paths(name)
        runs: list[RunRow] = []
        with suppress(StateError):
            runs = patiently_blocking(self._store.runs, self._clock)
        return [
            one.run_key
            for one in runs
            if one.base_url == self._base_url
            and one.run_key != run.run_key
            and (one.jobs_file in paths or one.results_file in paths)
        ]

    def _newest(self) -> Named | None:
        row = self._store.newest(self._base_url)
        if row is None or row.run_key is None:
            return None if row is None or row.is_unknown else Target(response_id=row.response_id)
        return self._store.run(self._base_url, row.run_key)

    def _of(self, name: str) -> Named:
        may_be_id = is_response_id(name)
        if is_api_id(name):
            return Target(response_id=name)
        try:
            if self._problem is not None:
                raise self._problem
            found = self._read(lambda: self._look_up(name))
        except StateError as error:
            if may_be_id:
                return Target(response_id=name)
            raise state_error(error) from error
        if found is None and not may_be_id:
            raise UsageError(
                f"{name!r} is neither a response ID nor a key that the local state in "
                f"{self._store.place} has for {self._base_url}.",
                hint=hint_for_unknown(
                    suggestion(name, self._store, self._base_url),
                    f"{LIST_HINT} {OTHER_STATE} A response ID has 1 to 1,024 letters, digits "
                    "and _ - = . : + ~.",
                ),
            )
        return found or Target(response_id=name)

    def _look_up(self, name: str) -> Named | None:
        if self._store.by_id(self._base_url, name) is not None:
            return Target(response_id=name)
        return self._by_key(name)

    def _by_key(self, key: str) -> Named | None:
        store, base_url = self._store, self._base_url
        row = store.by_key(base_url, key)
        if row is not None:
            # Without an ID, the job may be being submitted.
            id_ = row.response_id
            return Target(job_key=key) if id_ is None else Target(response_id=id_)
        return store.run(base_url, key, *_paths(key)) or self._job_of_run(key)

    def _job_of_run(self, name: str) -> Target | None:
        """Return the job that `RUN/CUSTOM_ID` names; both parts may contain slashes."""
        for at in (at for at, character in enumerate(name) if character == "/"):
            row = self._store.by_key(self._base_url, line_key(name[:at], name[at + 1 :]))
            if row is not None and row.response_id is not None:
                return Target(response_id=row.response_id)
        return None

    def _read(self, look_up: Callable[[], Named | None]) -> Named | None:
        return patiently_blocking(look_up, self._clock)


def _paths(name: str) -> list[str]:
    """Return the absolute paths that a name may stand for."""
    try:
        return list({os.path.abspath(name), os.path.realpath(name)})  # noqa: PTH100
    except (OSError, ValueError):
        return []
