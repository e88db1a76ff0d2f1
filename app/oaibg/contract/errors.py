"""The errors and the exit codes. Standard library only.

OaibgError
├── UsageError        2  bad options, input files or state; nothing was sent
├── ApiRefused        1  the API refused for good
├── NotFound          5  no such response, and no local copy
├── OutcomeUnknown    6  the submit may or may not have been accepted
├── Unavailable       7  network or API unavailable; nothing was created
├── AuthRefused       8  no key, or the key is refused
└── Internal          1  a bug
CallFailed               one failed HTTP call, with what is known of it; never reaches the user
StdoutGone          141  stdout was closed by its reader (9 if it is full)
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, Literal, Self

from oaibg import __version__

Outcome = Literal["not_created", "unknown", "created"]


class ExitCode(IntEnum):
    """The exit codes of the process: each stands for what the caller can do next."""

    OK = 0
    ERROR = 1
    USAGE = 2
    STILL_RUNNING = 3
    UNSUCCESSFUL = 4
    NOT_FOUND = 5
    OUTCOME_UNKNOWN = 6
    UNAVAILABLE = 7
    AUTH = 8
    LOCAL_IO = 9
    SIGHUP = 129
    SIGINT = 130
    STDOUT_CLOSED = 141
    SIGTERM = 143


class OaibgError(Exception):
    """An error that ends the run: one `error` event and one exit code."""

    code: str = "error"
    exit_code: ClassVar[ExitCode] = ExitCode.ERROR
    retryable: ClassVar[bool] = False
    has_code_of_failure: ClassVar[bool] = False
    """Whether `of` takes its code from the failed call."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        http_status: int | None = None,
        request_id: str | None = None,
        outcome: Outcome | None = None,
        resumable: bool = False,
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code or type(self).code, message, hint
        self.http_status, self.request_id = http_status, request_id
        self.outcome, self.resumable = outcome, resumable
        """Whether `next` monitors the id: the job may still be running at the API."""

    @classmethod
    def of(cls, failure: CallFailed, message: str | None = None, **known: Any) -> Self:
        """The error for a failed call, with the call's HTTP status and request id.

        `message` replaces the call's, and `known` is as for the constructor.
        """
        if cls.has_code_of_failure:
            known = {"code": failure.code, **known}
        return cls(
            message or failure.message,
            http_status=failure.http_status,
            request_id=failure.request_id,
            **known,
        )

    def extend(self, text: str) -> None:
        """Add to the message what else is known."""
        self.message += text


class UsageError(OaibgError):
    """Bad options, input files or state; nothing was sent."""

    code = "usage"
    exit_code = ExitCode.USAGE


class ApiRefused(OaibgError):
    """The API refused the request for good; `code` is the API's."""

    code = "api_error"
    has_code_of_failure = True


class NotFound(OaibgError):
    """No such response at the API (or no longer retained), and no local copy."""

    code = "not_found"
    exit_code = ExitCode.NOT_FOUND


class OutcomeUnknown(OaibgError):
    """The submit may or may not have been accepted: with another POST it may be paid twice."""

    code = "outcome_unknown"
    exit_code = ExitCode.OUTCOME_UNKNOWN


class Unavailable(OaibgError):
    """Network or API unavailable; nothing was created, and the same command may run again."""

    code = "unavailable"
    exit_code = ExitCode.UNAVAILABLE
    retryable = True


class AuthRefused(OaibgError):
    """No key, or the key is refused."""

    code = "auth"
    exit_code = ExitCode.AUTH
    has_code_of_failure = True


class Internal(OaibgError):
    """A bug in oaibg."""

    code = "internal"

    @classmethod
    def from_bug(cls, error: BaseException) -> Self:
        """The error for an exception that nobody expected.

        It names functions and lines only: values and messages may hold what must not be shown.
        """
        import traceback

        frames = traceback.extract_tb(error.__traceback__)[-3:]
        place = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
        return cls(
            f"A bug in oaibg {__version__}: {type(error).__name__} in {place}.",
            hint="Please report this line. `oaibg show --list` has the jobs that were submitted "
            "here, and `oaibg monitor` follows an id.",
            resumable=True,
        )


class CallFailed(Exception):
    """One HTTP call that brought no usable answer, and what is known of it.

    Args:
        code: the API's error code if it gave one, else `connect_error`, `connect_timeout`,
            `connection_error`, `timeout`, `client_error`, `bad_reply`, `reply_too_large` or
            `http_<status>`.
        message: for people; never holds the request or the key.
        http_status: of the reply; None if there was none.
        request_id: the reply's `x-request-id`.
        retry_after: the reply's `Retry-After` header as it was sent.
        sent: whether the request may have reached the server.
        begun: whether an answer had begun to arrive when the call timed out.
        envelope: whether the reply had the API's own error envelope (a proxy's has none).
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        http_status: int | None = None,
        request_id: str | None = None,
        retry_after: str | None = None,
        sent: bool = True,
        begun: bool = False,
        envelope: bool = False,
    ) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.http_status, self.request_id = http_status, request_id
        self.retry_after, self.envelope = retry_after, envelope
        self.sent, self.begun = sent, begun

    def note_unsent(self) -> None:
        """Note that nothing of what was sent can have created anything."""
        self.sent = False


class StdoutGone(BaseException):
    """stdout takes no more lines; not an error to report, as there is nowhere to report it."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code
