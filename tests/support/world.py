"""A local state, a scripted server and a fake clock, in which scenarios are run and checked."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import closing
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness import cancel_steps, fake_context, follow_steps, job_of, show_steps
from ledger import count, rows_of
from oaibg.base.text import utf8
from oaibg.contract.events import (
    Event,
    Interrupted,
    Submitted,
    WroteJson,
    WroteText,
    exit_code_of,
)
from oaibg.engine import commands
from oaibg.engine.claim import Submission
from oaibg.engine.find import Target
from oaibg.engine.run_options import Output
from oaibg.request.body import Request
from oaibg.state.store import Store
from promises import (
    Emitted,
    Played,
    check_deadline,
    check_end,
    check_identity,
    check_line,
    check_pace,
    check_reasons,
    check_stream,
)
from scenarios import Run
from scripted_server import Clock, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oaibg.engine.context import Context
    from scenarios import Scenario
    from scripted_server import Answer


def play(scenario: Scenario, folder: Path) -> None:
    """Run all commands of a scenario, then repeat a submit whose outcome is unknown.

    With a job key there is at most one job; without, only the first submit is run.
    """
    count("fuzzed")
    (folder / "here").mkdir()
    world = World(scenario, folder)
    with closing(world.store):
        for run in scenario.runs:
            if run.command != "submit" or world.key is not None or world.known == "nothing":
                world.perform(run)
        if world.key is not None and world.known == "unknown":
            world.perform(Run("submit"))


class World:
    """A local state, a server and a clock; runs commands and checks their promises."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self.folder, self.key = folder, "k" if scenario.keyed else None
        self.clock = Clock()
        self.server = Server(
            self.clock,
            create=_endless(scenario.creates),
            retrieve=_endless(scenario.retrieves),
            cancel=_endless(scenario.cancels),
        )
        self.store = Store(str(folder) if scenario.keyed else None, now=self.clock.now)
        self.known: Literal["nothing", "unknown", "created"] = "nothing"
        """What is known about the job of the job key."""
        self.response_id = "resp_elsewhere"

    def perform(self, run: Run) -> None:
        """Run one command and check it."""
        before, begun, started = self.known, len(self.server.log), self.clock.time
        events = asyncio.run(self._events(run))
        played = Played(run, started, events, self.server.log[begun:])
        check_stream(played)
        if run.command == "submit":
            self._check_submit(played, before)
            self._check_state()
        else:
            assert not played.called("create")
        check_identity(played, self)
        check_deadline(played)
        check_pace(played)
        check_reasons(played)
        check_end(played, self.response_id)
        self._check_files(played)

    async def _events(self, run: Run) -> list[Emitted]:
        task = asyncio.current_task()
        assert task is not None
        output = Output(
            show_output_text=run.show_text,
            output_json_file=self._path(run.json_folder, "o.json"),
            output_text_file=self._path(run.text_folder, "o.md"),
        )
        context = fake_context(self.server, self.store, wait=run.wait, output=output)
        self.clock.time += run.late
        if run.signal_after is not None:
            self.clock.alarm_at = self.clock.time + run.signal_after
            self.clock.alarm = task.cancel
        begun = len(self.server.log)
        events: list[Emitted] = []

        async def emit(event: Event) -> None:
            events.append(Emitted(event, self.clock.time, len(self.server.log) - begun))
            check_line(event)
            if isinstance(event, Submitted):
                self._check_stored(event)

        await emit(await self._steps(run, context.but(emit=emit)))
        self.clock.alarm = None
        return events

    async def _steps(self, run: Run, context: Context) -> Event:
        if run.command == "submit":
            job = job_of(context, submitting=True)
            submission = Submission(
                request=Request(body={"background": True}, sha256="0" * 64),
                model="m",
                job_key=self.key,
                detach=run.detach,
                resubmit_unknown=run.resubmit and self.key is not None,
            )
            return await commands.submit(submission, job, context)
        by_key = run.by == "key" and self.key is not None
        target = Target(job_key=self.key) if by_key else Target(response_id=self.response_id)
        steps = {"monitor": follow_steps, "cancel": cancel_steps, "show": show_steps}
        return await steps[run.command](target, context)

    def _path(self, folder: str | None, name: str) -> str | None:
        return None if folder is None else str(self.folder / folder / name)

    def _rows(self) -> list[tuple[str, str | None]]:
        """Return the steps and IDs of the submitted jobs, as another process would read them."""
        if self.key is None:
            rows = [(row.step, row.response_id) for row in self.store.jobs()]
        else:
            rows = rows_of(self.folder)
        return [row for row in rows if row[0] in ("sending", "submitted")]

    def _check_stored(self, event: Submitted) -> None:
        """A response ID is stored before it is emitted."""
        assert ("submitted", event.response_id) in self._rows()

    def _check_submit(self, played: Played, before: str) -> None:
        """At most one create may have created a job; none is sent if a job may exist already."""
        creates, last, run = played.called("create"), played.last, played.run
        reached = [call for call in creates if call.may_have_created]
        over = before == "unknown" and run.resubmit
        if self.key is not None and before != "nothing" and not over:
            assert not creates
        assert reached in ([], creates[-1:])
        outcome = getattr(last, "outcome", None)
        if reached and (created := reached[-1].payload) is not None:
            self.known, self.response_id = "created", str(created.id)
            assert outcome in (None, "created")
        elif reached:
            self.known = "unknown"
            assert outcome == "unknown"
            assert isinstance(last, Interrupted) or exit_code_of(last) == 6
        elif self.key is not None and before == "created":
            assert outcome in (None, "created")
        elif self.key is not None and before == "unknown" and not over:
            assert (exit_code_of(last), outcome) == (6, "unknown")
        else:
            assert outcome == "not_created"

    def _check_state(self) -> None:
        """The local state contains what the next process must know."""
        rows = self._rows()
        if self.known == "created":
            assert ("submitted", self.response_id) in rows
        elif self.known == "unknown":
            assert ("sending", None) in rows
        else:
            assert not rows

    def _check_files(self, played: Played) -> None:
        """Files contain what the server sent, and match the lines that report them."""
        seen = [call.payload for call in self.server.log if call.payload is not None]
        for emitted in played.events:
            event = emitted.event
            if isinstance(event, WroteJson | WroteText):
                data = Path(event.path).read_bytes()
                assert (event.bytes, event.sha256) == (len(data), hashlib.sha256(data).hexdigest())
                whole = isinstance(event, WroteJson)
                assert data in [one.raw if whole else utf8(one.text) for one in seen]


def _endless(steps: list[Answer]) -> Iterator[Answer]:
    return chain(steps, repeat(steps[-1]))
