"""The environment variables, read and checked."""

from __future__ import annotations

import math
import os
from urllib.parse import urlsplit, urlunsplit

from oaibg.contract.errors import AuthRefused, UsageError

DEFAULT_BASE_URL = "https://api.openai.com/v1"


def base_url() -> str:
    """The API's URL: `OPENAI_BASE_URL` without a trailing slash; empty counts as unset."""
    url = os.environ.get("OPENAI_BASE_URL", "").strip() or DEFAULT_BASE_URL
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise UsageError(
            f"OPENAI_BASE_URL is no http or https address: {url.rpartition('@')[2][:200]!r}.",
            hint=f"It looks like {DEFAULT_BASE_URL}; unset it for OpenAI's own API.",
        )
    return url.rstrip("/")


def without_credentials(url: str) -> str:
    """The URL in one spelling that may be stored and shown: no user, password or query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    host = host.removesuffix(":443" if parts.scheme == "https" else ":80")
    return urlunsplit((parts.scheme, host, parts.path, "", "")).rstrip("/")


def api_key() -> str:
    """The key in `OPENAI_API_KEY`; raises `AuthRefused`, whose message never contains the key."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key:
        problem, code = "OPENAI_API_KEY is not set.", "no_api_key"
        hint = "export OPENAI_API_KEY=…; a local server takes any value."
    elif not (key.isascii() and key.isprintable()):
        problem, code = "OPENAI_API_KEY has characters that no key has.", "invalid_api_key"
        hint = "Was it copied whole, without quotes or line breaks?"
    else:
        return key
    raise AuthRefused(problem, code=code, hint=hint, outcome="not_created")


def state_folder() -> str:
    """The state's folder: `OAIBG_STATE_DIR`, else one in the user's application folder."""
    import typer

    return os.path.abspath(os.environ.get("OAIBG_STATE_DIR") or typer.get_app_dir("oaibg"))  # noqa: PTH100


def keep_days() -> float:
    """How many days the state keeps results: `OAIBG_KEEP_DAYS`, else 30."""
    text = os.environ.get("OAIBG_KEEP_DAYS", "").strip()
    try:
        days = float(text or 30)
    except ValueError:
        days = math.nan
    if not 0 <= days < math.inf:
        raise UsageError(f"OAIBG_KEEP_DAYS is {text!r}; expected a number of days, 0 for none.")
    return days
