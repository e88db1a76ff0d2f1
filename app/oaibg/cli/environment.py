"""The environment variables: what they mean, how they are read and checked."""

from __future__ import annotations

import math
import os
import re
import sys
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

from oaibg.base.secrets import masked
from oaibg.contract.errors import AuthRefused, UsageError

DEFAULT_BASE_URL = "https://api.openai.com/v1"
_STATE_HINT = "Set OAIBG_STATE_DIR to an absolute path, and to the same one for every command."

_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})

VARIABLES = {
    "OPENAI_API_KEY": "The API key, needed for every request. Local servers accept any value.",
    "OPENAI_BASE_URL": f"The API's base URL. Default: `{DEFAULT_BASE_URL}`. Its query, if it has "
    "one, is sent with every request.",
    "OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_CUSTOM_HEADERS, OPENAI_LOG": "As in the OpenAI SDK.",
    "HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR": "As in the OpenAI SDK.",
    "OAIBG_MODEL": "The default of `--model`.",
    "OAIBG_STATE_DIR": "The directory of the local state; an absolute path. Default: "
    "`~/.config/oaibg`; on macOS, `~/Library/Application Support/oaibg`.",
    "OAIBG_KEEP_DAYS": "How many days the local state keeps results. Default: 30; 0 keeps none.",
    "OAIBG_HUMAN": "`1` is `--human` if stdout is a terminal.",
    "NO_COLOR": "Turns off colors in `--human`.",
}
"""What each variable does, in Markdown."""


def base_url() -> str:
    """Return `OPENAI_BASE_URL` without a slash at the end of its path. Empty counts as unset.

    A query such as `?api-version=preview` is kept; it is for every request.
    """
    url = os.environ.get("OPENAI_BASE_URL", "").strip() or DEFAULT_BASE_URL
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    before, mark, fragment = url.partition("#")
    problem = ""
    if not valid:
        shown = before.rpartition("@")[2].partition("?")[0].partition(";")[0][:200]
        # It may be the key, if the variables were swapped.
        problem = f"is not a valid URL: {re.sub(r'[A-Za-z0-9_-]{16,}', '***', masked(shown))!r}"
    elif mark:
        problem = f"has a fragment, which no request can have: {mark + fragment[:10]!r}"
    if problem:
        raise UsageError(
            f"OPENAI_BASE_URL {problem}.",
            hint=f"Use a URL such as {DEFAULT_BASE_URL}, or unset the variable for OpenAI's API.",
        )
    return urlunsplit(parts._replace(path=parts.path.rstrip("/")))


def without_credentials(url: str) -> str:
    """Return the URL without user, password, query and the parameters of its path, in one spelling.

    It is fit to store and show.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    host = host.removesuffix(":443" if parts.scheme == "https" else ":80")
    path = re.sub(r";[^/]*", "", parts.path)
    return urlunsplit((parts.scheme, host, path, "", "")).rstrip("/")


def api_key() -> str:
    """Return `OPENAI_API_KEY`; raises `AuthRefused`, whose message never contains the key."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key:
        problem, code = "OPENAI_API_KEY is not set.", "no_api_key"
        hint = "Run: export OPENAI_API_KEY=sk-… (local servers accept any value)."
    elif not (key.isascii() and key.isprintable()):
        problem, code = (
            "OPENAI_API_KEY contains characters that an HTTP header can't carry.",
            "invalid_api_key",
        )
        hint = "Copy the key again, without quotes, spaces or line breaks."
    else:
        return key
    raise AuthRefused(problem, code=code, hint=hint, outcome="not_created")


def state_folder() -> str:
    """Return the directory of the local state, which never depends on the working directory.

    It is `OAIBG_STATE_DIR`, or `oaibg` in the user's configuration directory. Raises `UsageError`
    if `OAIBG_STATE_DIR` is a relative path, or if the home directory is needed and unknown.
    """
    given = os.environ.get("OAIBG_STATE_DIR", "").strip()
    folder = _expanded(given) if given else _default_state_folder()
    if not folder.startswith("/"):
        raise UsageError(
            f"OAIBG_STATE_DIR is not an absolute path: {given!r}. In another working directory, "
            "it would be a different local state, without these job keys.",
            hint=_STATE_HINT,
        )
    return os.path.normpath(folder)


def _default_state_folder() -> str:
    if sys.platform == "darwin":
        return _expanded("~/Library/Application Support/oaibg")
    configuration = os.environ.get("XDG_CONFIG_HOME", "")
    if not configuration.startswith("/"):  # the XDG specification: ignore an empty or relative one
        configuration = _expanded("~/.config")
    return os.path.join(configuration, "oaibg")  # noqa: PTH118


def _expanded(path: str) -> str:
    """Return a path with its `~` expanded; raises `UsageError` if the home directory is unknown."""
    if not path.startswith("~"):
        return path
    folder = None
    if path.partition("/")[0] == "~" and (home := os.environ.get("HOME", "")).startswith("/"):
        folder = home + path[1:]
    else:
        import pwd

        user = path[1:].partition("/")[0]
        with suppress(KeyError):
            entry = pwd.getpwnam(user) if user else pwd.getpwuid(os.getuid())
            folder = entry.pw_dir + path[1 + len(user) :]
    if folder is None or not folder.startswith("/"):
        raise UsageError(
            f"The directory of the local state, {path}, is unknown, because HOME is not an "
            "absolute path and the system has no home directory for you.",
            hint=_STATE_HINT,
        )
    return folder


def human() -> bool:
    """Return whether `OAIBG_HUMAN` asks for human mode, which it does only on a terminal."""
    text = os.environ.get("OAIBG_HUMAN", "").strip().lower()
    if not text or not os.isatty(1):
        return False
    if text not in _YES | _NO:
        raise UsageError(
            f"OAIBG_HUMAN is neither 1 nor 0: {text!r}.",
            hint="Use 1 for human mode on a terminal, or 0 for JSON lines.",
        )
    return text in _YES


def has_human() -> bool:
    """Return whether `OAIBG_HUMAN` is set, so that the user knows about human mode."""
    return bool(os.environ.get("OAIBG_HUMAN", "").strip())


def keep_days() -> float:
    """Return how many days the local state keeps results: `OAIBG_KEEP_DAYS`, or 30."""
    text = os.environ.get("OAIBG_KEEP_DAYS", "").strip()
    try:
        days = float(text or 30)
    except ValueError:
        days = math.nan
    if not 0 <= days < math.inf:
        raise UsageError(
            f"OAIBG_KEEP_DAYS is not a number of days: {text!r}.",
            hint="Use a number such as 30, or 0 to keep no results.",
        )
    return days
