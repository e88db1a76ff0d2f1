"""The error of input that is wrong in a known way."""

from __future__ import annotations


class Mend(ValueError):
    """Input that is wrong in a known way; `hint` is what to write or do instead."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint
