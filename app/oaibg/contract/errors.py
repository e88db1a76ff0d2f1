"""The errors and the exit codes. Imports only the standard library.

OaibgError
├── UsageError        2  invalid options, input files or local state; nothing was sent
├── ApiRefused        1  the API refused the request
├── NotRetrievable    1  the server can't return background jobs
│   └── LookRefused   1  the server refuses every retrieve of the job
├── NotFound          5  the API has no such response, and there is no local copy
├── OutcomeUnknown    6  the submit may or may not have been accepted
├── Unavailable       7  the network or the API is unavailable; nothing was created
├── AuthRefused       8  the API key is missing or was refused
└── Internal          1  a bug
CallFailed               one HTTP call failed; users see it only as one of the errors above
StdoutGone          141  the reader of stdout closed it (9: stdout is full)
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, Literal, Self

from oaibg import __version__

Outcome = Literal["not_created", "unknown", "created"]


class ExitCode(IntEnum):
    """The exit codes of the process: each one says what the caller can do next."""

    meaning: str
    action: str
    """What to do next, in Markdown."""

    def __new__(cls, number: int, meaning: str = "", action: str = "") -> Self:
        """Create the code of that number."""
        code = int.__new__(cls, number)
        code._value_, code.meaning, code.action = number, meaning, action
        return code

    OK = 0, "the job completed, or the command did what was asked", "Use the answer: see `hint`."
    ERROR = (
        1,
        "the API refused the request, or oaibg has a bug",
        "Do what `hint` says before you repeat the command.",
    )
    USAGE = (
        2,
        "an option, an input file or the local state is invalid; nothing was sent",
        "Fix what `message` names. `job_key_reused`: the key already belongs to another request.",
    )
    STILL_RUNNING = (
        3,
        "the wait limit was reached; the job keeps running",
        "Run `next` to keep waiting. If no request has succeeded, `hint` says so.",
    )
    UNSUCCESSFUL = (
        4,
        "the job ended without success, or ended before it could be cancelled",
        "Read `status`, `error` and `hint`. `--retry-failed` makes a new attempt; you pay again.",
    )
    NOT_FOUND = (
        5,
        "the API has no such response, and there is no local copy",
        "Check the ID or key, `OPENAI_BASE_URL` and `OAIBG_STATE_DIR`. Old results expire.",
    )
    OUTCOME_UNKNOWN = (
        6,
        "the request may have been accepted; do not submit it again",
        "Ask the person who pays whether to use `--resubmit-unknown`: the job may be billed twice.",
    )
    UNAVAILABLE = (
        7,
        "the network or the API is unavailable, or the job key is in use",
        "Do what `hint` says: run `next`, or the same command if it is null. You won't pay twice.",
    )
    AUTH = 8, "the API key is missing or was refused", "Fix `OPENAI_API_KEY`."
    LOCAL_IO = (
        9,
        "the job completed, but a file could not be written; or stdout is full",
        "Fix the cause and run `next`; if null, a file is lost. No last line: rerun with the key.",
    )
    NEEDS_ACTION = (
        10,
        "the job completed without an answer: tool calls, a refusal, or no text",
        "Do what `hint` says: answer `calls`, or report `refusal`. Don't repeat the job.",
    )
    SIGHUP = (
        129,
        "ended by SIGHUP; a submitted job keeps running unless cancelled",
        "Run `next`. If it is null and `outcome` is `unknown`, see 6; else see `hint`.",
    )
    SIGINT = 130, "ended by SIGINT (Ctrl-C); see 129", "See 129."
    STDOUT_CLOSED = (
        141,
        "the program that reads stdout closed it; a submitted job keeps running",
        "Run the same command again with its job key. Without a key, see `oaibg show --list`.",
    )
    SIGTERM = 143, "ended by SIGTERM; see 129", "See 129."


class OaibgError(Exception):
    """An error that ends the process with one `error` event and one exit code."""

    code: str = "error"
    exit_code: ClassVar[ExitCode] = ExitCode.ERROR
    retryable: ClassVar[bool] = False
    can_follow: ClassVar[bool] = True
    """Whether `next` may monitor the job."""
    has_code_of_failure: ClassVar[bool] = False
    """Whether `of` uses the failed call's code."""

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
        """Whether `next` monitors the job, because it may still be running at the API."""

    @classmethod
    def of(cls, failure: CallFailed, message: str | None = None, **known: Any) -> Self:
        """Return the error for a failed call, with the call's HTTP status and request ID.

        `message` replaces the call's message; `known` goes to the constructor.
        """
        if cls.has_code_of_failure:
            known = {"code": failure.code, **known}
        return cls(
            message or failure.message,
            http_status=failure.http_status,
            request_id=failure.request_id,
            **known,
        )

    def reword(self, message: str) -> None:
        """Replace the message."""
        self.message = message

    def extend(self, text: str) -> None:
        """Append to the message."""
        self.message = f"{self.message.rstrip('.')}.{text}"


class UsageError(OaibgError):
    """The options, an input file or the local state is invalid; nothing was sent."""

    code = "usage"
    exit_code = ExitCode.USAGE


class ApiRefused(OaibgError):
    """The API refused the request permanently; `code` is the API's."""

    code = "api_error"
    has_code_of_failure = True
    is_general = False
    """Whether the API would refuse every other request, too."""

    def note_general(self) -> None:
        """Note that the API would refuse every other request, too."""
        self.is_general = True


class NotRetrievable(OaibgError):
    """The server has no retrieve, so the job can't be followed."""

    code = "no_retrieve"
    can_follow = False


class LookRefused(NotRetrievable):
    """The server refuses every retrieve of the job; `code` is the API's."""

    has_code_of_failure = True


class NotFound(OaibgError):
    """The API has no such response, or no longer retains it, and there is no local copy."""

    code = "not_found"
    exit_code = ExitCode.NOT_FOUND
    can_follow = False


class OutcomeUnknown(OaibgError):
    """The API may have accepted the create: another POST may pay twice."""

    code = "outcome_unknown"
    exit_code = ExitCode.OUTCOME_UNKNOWN


class Unavailable(OaibgError):
    """The network or the API is unavailable; nothing was created, so a retry is safe."""

    code = "unavailable"
    exit_code = ExitCode.UNAVAILABLE
    retryable = True


class AuthRefused(OaibgError):
    """The API key is missing or was refused."""

    code = "auth"
    exit_code = ExitCode.AUTH
    has_code_of_failure = True


class Internal(OaibgError):
    """A bug in oaibg."""

    code = "internal"

    @classmethod
    def from_bug(cls, error: BaseException) -> Self:
        """Return the error for an unexpected exception.

        It names only functions and line numbers: values and messages may contain secrets.
        """
        import traceback

        frames = traceback.extract_tb(error.__traceback__)[-3:]
        place = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
        return cls(
            f"A bug in oaibg {__version__}: {type(error).__name__} in {place}.",
            hint="Please report this message. `oaibg show --list` lists the jobs submitted from "
            "here; `oaibg monitor RESPONSE_ID` follows one.",
            resumable=True,
        )


class CallFailed(Exception):
    """One HTTP call without a usable reply.

    Args:
        code: the API's error code, or one of `oaibg.contract.codes.FAILURES`.
        message: for people; never contains the request or the API key.
        http_status: the reply's; None without a reply.
        request_id: the reply's `x-request-id`.
        retry_after: the reply's `Retry-After` header, unparsed.
        sent: whether the request may have reached the server.
        begun: whether a reply had begun to arrive when the call timed out.
        envelope: whether the reply has the API's error envelope; a proxy's reply has not.
        kind: the `type` of the API's error.
        param: the field that the API's error names.
        is_json: whether the error reply's body is JSON.
        base_url: the API's base URL, without credentials.
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
        kind: str | None = None,
        param: str | None = None,
        is_json: bool = False,
        base_url: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.http_status, self.request_id = http_status, request_id
        self.retry_after, self.envelope = retry_after, envelope
        self.kind, self.param, self.is_json = kind, param, is_json
        self.sent, self.begun, self.base_url = sent, begun, base_url
        self.proxy: str | None = None
        """The host of the proxy that the call goes through, and the variable that names it."""

    def note_unsent(self) -> None:
        """Note that this call can't have created anything."""
        self.sent = False


class StdoutGone(BaseException):
    """stdout accepts no more lines, so there is no place to report this."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code
