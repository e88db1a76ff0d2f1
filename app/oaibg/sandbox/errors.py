"""The errors of the API, as exceptions."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An error reply of the API: a status and `{"error": {"message", "type", "param", "code"}}`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        """Take the HTTP status and the fields of the error; `kind` is its `type`."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code

    def envelope(self) -> dict[str, Any]:
        """Return the JSON body of the reply."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


class FieldError(ApiError):
    """A 400 for an invalid field of the request; `param` names the field."""

    def __init__(self, message: str, param: str, code: str | None = None) -> None:
        """Take the fields of the error."""
        super().__init__(400, message, param=param, code=code)


def missing_parameter(param: str) -> FieldError:
    """Return the error for a required field that is missing."""
    message = f"Missing required parameter: '{param}'."
    return FieldError(message, param, "missing_required_parameter")
