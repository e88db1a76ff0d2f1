"""Masking of secrets in everything that is printed, logged or stored."""

from __future__ import annotations

import logging
import os
import re

from oaibg.base.secrets import parts_of, url_secrets

_QUERY_LENGTH = 8
"""A value in the base URL's query is a secret from this length on."""

_MAX_SHOWN = 1000
"""Maximum number of characters of a masked text."""


class Secrets:
    """The secrets of one client: API key, private header values, and credentials in URLs."""

    def __init__(self, api_key: str) -> None:
        self._secrets = _credentials()
        self.add(api_key)

    def add(self, value: str) -> None:
        """Add a header's value and each part of it: in `Token key=…` only a part is the key."""
        self._secrets |= parts_of(value)

    def masked(self, text: str) -> str:
        """Return a text with `***` for every secret, cut after 1,000 characters."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        text = mask_credentials(text)
        return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"

    def mask_log(self) -> None:
        """Mask all later log records: with `OPENAI_LOG=debug` they contain replies."""
        for handler in logging.getLogger().handlers:
            handler.addFilter(self._mask_record)

    def _mask_record(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.masked(record.getMessage()), None
        return True


def mask_credentials(text: str) -> str:
    """Return a text with `***` for the user and password of every URL in it."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)


def _credentials() -> set[str]:
    """Return the credentials in the base URL and the proxy URLs, in every form that is sent.

    The values in the base URL's query count as well, except a version, which isn't private.
    """
    from base64 import b64encode
    from urllib.parse import parse_qsl, quote_plus, unquote, urlsplit
    from urllib.request import getproxies_environment

    base_url = os.environ.get("OPENAI_BASE_URL", "")
    found = []
    for part in urlsplit(base_url).query.split("&"):
        for name, value in parse_qsl(part):
            if name != "api-version" and len(value) >= _QUERY_LENGTH:
                found += [value, quote_plus(value), part.partition("=")[2]]
    for url in (base_url, *getproxies_environment().values()):
        user = url.rpartition("://")[2].partition("/")[0].rpartition("@")[0]
        plain = unquote(user)
        found += [user, user.partition(":")[2], plain, plain.partition(":")[2]]
        found.append(b64encode(plain.encode()).decode())
    return {secret for secret in found if len(secret) >= 4} | url_secrets(base_url)
