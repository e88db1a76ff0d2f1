"""The errors that the API answers with, as exceptions."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An error answer of the API.

    `envelope()` gives `{"error": {"message", "type", "param", "code"}}`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        """Take the HTTP status and the envelope's fields; `kind` is its `type`."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code

    def envelope(self) -> dict[str, Any]:
        """Return the JSON body of the answer."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


class FieldError(ApiError):
    """The refusal (400) of a request because of one of its fields, which `param` names."""

    def __init__(self, message: str, param: str, code: str | None = None) -> None:
        """Take the envelope's fields."""
        super().__init__(400, message, param=param, code=code)


def missing_parameter(param: str) -> FieldError:
    """Return the error for a field that the request needs and does not have."""
    message = f"Missing required parameter: '{param}'."
    return FieldError(message, param, "missing_required_parameter")
