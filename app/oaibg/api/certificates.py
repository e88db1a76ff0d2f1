"""Loads the certificates that `SSL_CERT_FILE` or `SSL_CERT_DIR` names, or else the system's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

from oaibg.api.failures import plain
from oaibg.contract.errors import UsageError

if TYPE_CHECKING:
    import ssl

_VARIABLES = {
    "SSL_CERT_FILE": "a readable file of certificates in PEM format",
    "SSL_CERT_DIR": "a directory of certificates",
}
"""The variables in the order in which they count; httpx2 only uses the first that is set."""


def tls_context() -> ssl.SSLContext:
    """Return the settings for TLS, which takes about 50 ms.

    Raises `UsageError` if a variable names anything other than certificates.
    """
    name = next((one for one in _VARIABLES if os.environ.get(one)), None)
    try:
        if name == "SSL_CERT_DIR":
            _check_folders(os.environ[name])
        return httpx2.create_ssl_context()
    except OSError as error:  # `ssl.SSLError` is one
        if name is None:
            raise
        raise UsageError(
            f"{name} can't be used: {os.environ[name]} ({error.strerror or plain(error)}).",
            hint=f"Set {name} to {_VARIABLES[name]}, or unset it.",
            outcome="not_created",
        ) from error


def _check_folders(paths: str) -> None:
    """Raise `OSError` unless there is at least one directory; OpenSSL ignores missing ones."""
    if not any(Path(path).is_dir() for path in paths.split(os.pathsep)):
        raise NotADirectoryError("not a directory")
