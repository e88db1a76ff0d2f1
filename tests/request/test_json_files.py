"""Input files as such: encoding, paths and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oaibg.contract.errors import UsageError
from oaibg.request import fields, json_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result


def test_file_that_is_not_utf8(tmp_path: Path) -> None:
    """The error for a file that is not UTF-8 names the first invalid byte."""
    path = tmp_path / "m.json"
    path.write_bytes(b'["\xff"]')
    with pytest.raises(UsageError, match="byte 2 is not UTF-8"):
        fields.read_messages(str(path))


def test_file_that_is_too_large(run: Callable[..., Result], tmp_path: Path) -> None:
    """A file above the limit is refused, even if it never ends."""
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(json_files.INPUT_BYTES_MAX + 1)
    for path in (str(large), "/dev/zero"):
        result = run("submit", "--messages-json-file", path)
        assert (result.code, result.last["code"]) == (2, "usage")
        assert result.last["message"] == f"{path}: larger than the limit of 256 MiB."
