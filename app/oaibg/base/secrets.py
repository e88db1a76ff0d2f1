"""The secrets in the environment variables, masked in all that oaibg writes."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from urllib.parse import unquote, urlsplit

MIN_LENGTH = 12
"""Minimum length, in characters, of a key or a part of a header's value that counts as a secret:
the keys of local servers are words such as `any`."""

_VARIABLES = ("OPENAI_API_KEY", "OPENAI_CUSTOM_HEADERS", "OPENAI_BASE_URL")


def masked(text: str) -> str:
    """Return a text with `***` for every secret in it."""
    for secret in _secrets() if len(text) >= MIN_LENGTH else ():
        if secret in text:
            text = text.replace(secret, "***")
    return text


def masked_bytes(data: bytes) -> bytes:
    """As `masked`, for bytes in UTF-8, such as JSON, which stays valid."""
    for secret in _secrets():
        if (raw := secret.encode()) in data:
            data = data.replace(raw, b"***")
    return data


def masked_values(value: object) -> object:
    """Return a JSON value whose strings are masked, except for the keys of objects."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {key: masked_values(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [masked_values(entry) for entry in value]
    return value


def parts_of(value: str) -> set[str]:
    """Return a secret value and each part of it: in `Token key=…` only a part is the key."""
    parts = {value.strip(), *re.split(r"[^A-Za-z0-9_.+/~-]+", value)}
    return {part for part in parts if len(part) >= MIN_LENGTH}


def _secrets() -> tuple[str, ...]:
    """Return the secrets, longest first."""
    return _found(*(os.environ.get(name, "") for name in _VARIABLES))


@lru_cache(maxsize=1)
def _found(key: str, headers: str, base_url: str) -> tuple[str, ...]:
    found = {part for part in parts_of(key) if "://" not in key}
    for line in headers.splitlines():
        name, _, value = line.partition(":")
        if not name.strip().lower().startswith(("openai-", "user-agent", "accept", "content-")):
            found |= parts_of(value)
    return tuple(sorted(found | url_secrets(base_url), key=len, reverse=True))


def url_secrets(url: str) -> set[str]:
    """Return the values in a URL's query and in the parameters of its path that may be secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return set()
    pieces = [*parts.query.split("&"), *re.findall(r";([^;/]*)", parts.path)]
    pairs = [piece.partition("=")[::2] for piece in pieces]
    values = {value or name for name, value in pairs if name != "api-version"}
    values |= {unquote(value) for value in values}
    return {value for value in values if len(value) >= MIN_LENGTH}
