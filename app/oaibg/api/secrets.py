"""What must never be shown, and how it is masked."""

from __future__ import annotations

import logging
import os
import re

_MIN_LENGTH = 12
"""Characters from which a key, or a part of a header's value, is a secret: the keys of local
servers are words such as `any`."""

_MAX_SHOWN = 1000
"""Characters of a masked text that are kept."""


class Secrets:
    """The secrets of one client: the key, private header values, credentials in URLs."""

    def __init__(self, api_key: str) -> None:
        self._secrets = _credentials()
        self.add(api_key)

    def add(self, value: str) -> None:
        """Add a header's value, whole and in its parts: `Token key=…` has the key as a part."""
        parts = {value, *re.split(r"[^A-Za-z0-9_.+/~-]+", value)}
        self._secrets |= {part for part in parts if len(part) >= _MIN_LENGTH}

    def masked(self, text: str) -> str:
        """A text with `***` for every secret, cut after 1,000 characters."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        text = mask_credentials(text)
        return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"

    def mask_log(self) -> None:
        """Mask all that is logged from now on: `OPENAI_LOG=debug` logs what servers send."""
        for handler in logging.getLogger().handlers:
            handler.addFilter(self._mask_record)

    def _mask_record(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.masked(record.getMessage()), None
        return True


def mask_credentials(text: str) -> str:
    """A text with `***` for the user and password of every URL in it."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)


def _credentials() -> set[str]:
    """The credentials in the URLs of the API and the proxies, in every form they are sent in."""
    from base64 import b64encode
    from urllib.parse import unquote
    from urllib.request import getproxies_environment

    found = []
    for url in (os.environ.get("OPENAI_BASE_URL", ""), *getproxies_environment().values()):
        user = url.rpartition("://")[2].partition("/")[0].rpartition("@")[0]
        plain = unquote(user)
        found += [user, user.partition(":")[2], plain, plain.partition(":")[2]]
        found.append(b64encode(plain.encode()).decode())
    return {secret for secret in found if len(secret) >= 4}
