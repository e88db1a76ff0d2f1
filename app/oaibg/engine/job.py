"""What is known of one job while a command is at it, and the lines that end its run."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Literal, Protocol

from oaibg.base.record import Record
from oaibg.base.text import utf8
from oaibg.contract.errors import ExitCode
from oaibg.contract.events import (
    CallError,
    CancelResult,
    Detached,
    Error,
    Final,
    Interrupted,
    PollError,
    SubmitError,
    SubmitStart,
    Submitted,
    Timeout,
    Warning,  # noqa: A004 - the contract's name
)

if TYPE_CHECKING:
    from oaibg.api.calls import Stream
    from oaibg.api.payload import Payload
    from oaibg.contract.errors import CallFailed, OaibgError, Outcome
    from oaibg.request.body import Request


class Wait(Record):
    """How to wait for a job's end. Times are seconds."""

    poll_seconds: float = 10.0
    max_wait_seconds: float | None = None
    cancel_on_interrupt: bool = False
    events: Literal["all", "changes"] = "all"
    stream: bool = False
    stream_text: bool = False
    """Deltas of the text, too; it is with `stream` only."""
    starting_after: int | None = None
    """The number of the stream's event after which to go on; with `stream` only."""


class Output(Record):
    """Where the answer goes; paths are absolute."""

    show_output_text: bool = False
    json_file: str | None = None
    text_file: str | None = None
    human: bool = False
    several: bool = False
    """Whether it is for several jobs, whose answers nobody wants unasked."""

    @property
    def shows_text(self) -> bool:
        """Whether the text is told: asked for, or there is a person to read it."""
        alone = self.text_file is None and not self.several
        return self.show_output_text or (self.human and alone)


class Results(Protocol):
    """Where the results of several jobs go; `oaibg.results.ResultsFile` is the real one."""

    path: str

    async def add_payload(self, custom_id: str, payload: Payload) -> None:
        """Add a response that has ended; raises `OSError`."""
        ...


class Run:
    """What the jobs of one process have in common."""

    def __init__(self) -> None:
        self.answered = False
        """Whether the API has answered anything."""
        self.state_warned = False
        self.abandoned = False
        """Whether stdout is gone: no signal ends the wait, and nothing is to be cancelled."""


class Job:
    """One job: what the lines so far have told, kept for the line that ends the run.

    Args:
        response_id: None until it is known.
        wait: this run's wait options, which `next` repeats.
        output: this run's output options, likewise.
        submitting: whether this run submits the job, so that an outcome is told.
        custom_id: its name in a jobs file.
        run: what it shares with the other jobs of the process.
        delay: seconds to the first look at it, where it was submitted before.
        spread: in a run over several jobs, after which part of an interval the first regular poll
            comes, so that they lie evenly in it.
        results: where its result goes as a line.
    """

    def __init__(
        self,
        response_id: str | None = None,
        *,
        wait: Wait | None = None,
        output: Output | None = None,
        submitting: bool = False,
        custom_id: str | None = None,
        run: Run | None = None,
        delay: float = 0.0,
        spread: float | None = None,
        results: Results | None = None,
    ) -> None:
        self.response_id = response_id
        self.custom_id = custom_id
        self.run = run or Run()
        self.delay = delay
        self._spread = spread
        self.wait = wait or Wait()
        self.output = output or Output()
        self.again: list[str] | None = None
        """For a job that stands for several: the argv that goes on with their run."""
        self.status: str | None = None
        self.outcome: Outcome | None = "not_created" if submitting else None
        self._answered = False
        self.payload: Payload | None = None
        """The reply to the create, while that is the newest that is known; then the end."""
        self.streams = self.wait.stream
        """Whether the job is streamed, as far as is known: asked for, and not refused so far."""
        self.stream: Stream | None = None
        """The stream that the create opened, until somebody listens to it."""
        self.told_number = self.wait.starting_after
        """The number of the stream's last event of which nothing is untold."""
        self.unstored_row: int | None = None
        """The state's row that the id still has to be written to."""
        self.kept = not submitting
        """Whether the id outlives this process: it is in the state, or the user's own."""
        self.results = results
        self.write_failed = False
        self.untold: list[Warning] = []
        """Warnings that are to be told before the next event."""

    @property
    def answered(self) -> bool:
        """Whether the API has answered anything about the job in this run."""
        return self._answered

    @answered.setter
    def answered(self, answered: bool) -> None:
        self._answered = answered
        self.run.answered |= answered

    def next_poll(self, began: float, now: float) -> float:
        """When to poll again, after a poll that began at one time and was answered at another."""
        interval = self.wait.poll_seconds
        if self._spread is None:
            return now + interval
        # From the last poll's beginning, or the polls of many jobs would drift together.
        due = began + interval * self._spread
        self._spread = 1.0
        return max(due, now + interval / 2) if due < now else due

    def submit_start(self, request: Request, job_key: str | None) -> SubmitStart:
        """A submit was understood; nothing is sent yet."""
        return SubmitStart(
            response_id=None,
            model=request.text_of("model"),
            reasoning_effort=request.text_of("reasoning", "effort"),
            verbosity=request.text_of("text", "verbosity"),
            poll_seconds=self.wait.poll_seconds,
            job_key=job_key,
            request_sha256=request.sha256,
        )

    def warning(self, code: str, message: str) -> Warning:
        """Something to know that does not end the run."""
        return Warning(response_id=self.response_id, code=code, message=message)

    def not_written(self, path: str, error: OSError) -> Warning:
        """A file could not be written: the run goes on, and its code tells."""
        self.write_failed = True
        return self.warning("write_failed", f"{path} could not be written: {error.strerror}.")

    def submit_error(
        self, failure: CallFailed, *, attempt: int, elapsed: float, delay: float
    ) -> SubmitError:
        """A try that certainly created nothing."""
        return SubmitError(
            response_id=None,
            attempt=attempt,
            elapsed_seconds=elapsed,
            error=_call_error(failure),
            retry_in_seconds=round(delay, 3),
        )

    def reattached(self) -> Submitted:
        """The job was found to be submitted already."""
        return Submitted(
            response_id=self.response_id, status=self.status, request_id=None, reattached=True
        )

    def poll_error(
        self, failure: CallFailed, *, attempt: int, elapsed: float, consecutive: int, delay: float
    ) -> PollError:
        """A read that failed."""
        return PollError(
            response_id=self.response_id,
            attempt=attempt,
            elapsed_seconds=elapsed,
            consecutive=consecutive,
            error=_call_error(failure),
            retry_in_seconds=round(delay, 3),
        )

    def final(self, payload: Payload, elapsed: float) -> Final:
        """The job's end, from its payload."""
        code = self.end_code(payload)
        return Final(
            response_id=self.response_id,
            status=str(payload.status),
            ok=payload.succeeded,
            elapsed_seconds=elapsed,
            model=payload.model,
            usage=payload.object("usage"),
            error=payload.object("error"),
            incomplete_details=payload.object("incomplete_details"),
            output_text_bytes=len(utf8(payload.text)),
            exit_code=code,
            next=None if code == ExitCode.OK else self.show_command(),
        )

    def end_code(self, payload: Payload) -> ExitCode:
        """The exit code for a job that has ended."""
        if not payload.succeeded:
            return ExitCode.UNSUCCESSFUL
        return ExitCode.LOCAL_IO if self.write_failed else ExitCode.OK

    def timeout(self, elapsed: float) -> Timeout:
        """The wait budget is spent."""
        return Timeout(
            response_id=self.response_id,
            status=self.status,
            elapsed_seconds=elapsed,
            exit_code=3,
            next=self.again or self.monitor_command(),
        )

    def detached(self) -> Detached:
        """The job is left to run."""
        return Detached(
            response_id=self.response_id,
            status=self.status,
            exit_code=0,
            next=self.again or self.monitor_command(),
        )

    def cancel_result(self, code: ExitCode) -> CancelResult:
        """What became of a cancel."""
        commands = {
            ExitCode.STILL_RUNNING: self.monitor_command,
            ExitCode.ERROR: self.monitor_command,
            ExitCode.UNSUCCESSFUL: self.show_command,
        }
        command = commands.get(code)
        return CancelResult(
            response_id=self.response_id,
            status=self.status,
            cancelled=code == ExitCode.OK,
            exit_code=code,
            next=command() if command else None,
        )

    def interrupted(self, signum: int, *, cancelled: bool = False) -> Interrupted:
        """A signal ended the wait."""
        return Interrupted(
            response_id=self.response_id,
            signal=signal.Signals(signum).name,
            status=self.status,
            job_cancelled=cancelled,
            outcome=self.outcome,
            exit_code=128 + signum,
            next=self.again or (self.show_command() if cancelled else self.monitor_command()),
        )

    def error(self, error: OaibgError) -> Error:
        """An error ended the run."""
        outcome = self.outcome
        if outcome is not None and outcome != "created" and error.outcome is not None:
            outcome = error.outcome
        return Error(
            response_id=self.response_id,
            code=error.code,
            message=error.message,
            http_status=error.http_status,
            request_id=error.request_id,
            retryable=error.retryable,
            outcome=outcome,
            hint=error.hint,
            exit_code=error.exit_code,
            next=self._after(error, outcome),
        )

    def _after(self, error: OaibgError, outcome: Outcome | None) -> list[str] | None:
        if self.again is not None:
            return self.again if error.exit_code == ExitCode.UNAVAILABLE else None
        return self.monitor_command() if error.resumable or outcome == "created" else None

    def last_words(self) -> str | None:
        """What must be said where stdout takes nothing more: an id that is nowhere else."""
        if self.kept or self.outcome != "created":
            return None
        return (
            f"The job {self.response_id} was submitted, and the state could not take its id. "
            f"Follow it with: oaibg monitor {self.response_id}"
        )

    def monitor_command(self, *response_ids: str) -> list[str] | None:
        """The argv that follows the job further, or those jobs; None while its id is unknown."""
        wait = self.wait
        options: list[str] = []
        if wait.poll_seconds != Wait.poll_seconds:
            options += ["--poll-seconds", _number(wait.poll_seconds)]
        if wait.max_wait_seconds is not None:
            options += ["--max-wait-seconds", _number(wait.max_wait_seconds)]
        if wait.events != Wait.events:
            options += ["--events", wait.events]
        if wait.cancel_on_interrupt:
            options.append("--cancel-on-interrupt")
        if wait.stream:
            options.append("--stream-text" if wait.stream_text else "--stream")
            if self.told_number is not None:
                options += ["--starting-after", str(self.told_number)]
        if self.output.show_output_text:
            options.append("--show-output-text")
        return self._command("monitor", options, *response_ids)

    def show_command(self) -> list[str] | None:
        """The argv that shows the job's payload; None while its id is unknown."""
        return self._command("show", [])

    def _command(self, name: str, options: list[str], *response_ids: str) -> list[str] | None:
        ids = response_ids or ((self.response_id,) if self.response_id is not None else ())
        if not ids:
            return None
        output = self.output
        for flag, path in (
            ("--output-json-file", output.json_file),
            ("--output-text-file", output.text_file),
        ):
            if path is not None:
                options += [flag, path]
        if output.human:
            options.append("--human")
        # An id may begin with a hyphen, and would be read as an option.
        guard = ["--"] if any(one.startswith("-") for one in ids) else []
        return [*program(), name, *options, *guard, *ids]


def program() -> list[str]:
    """How this program was started, so that `next` can be run as it stands."""
    started = sys.argv[0] if sys.argv else ""
    if os.path.basename(started) == "__main__.py":  # noqa: PTH119
        return [sys.executable, "-m", "oaibg"]
    if os.path.basename(started) == "oaibg" != started:  # noqa: PTH119
        from shutil import which

        path = os.path.abspath(started)  # noqa: PTH100
        return ["oaibg"] if which("oaibg") == path else [path]
    return ["oaibg"]


def _call_error(failure: CallFailed) -> CallError:
    return CallError(
        code=failure.code,
        message=failure.message,
        http_status=failure.http_status,
        request_id=failure.request_id,
    )


def _number(value: float) -> str:
    return f"{value:.15g}"
