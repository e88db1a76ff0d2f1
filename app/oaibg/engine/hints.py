"""The hints of errors: what to write or do instead, judged by what the failure says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from oaibg.base.text import host_of
from oaibg.contract.advice import ASK_FOR_NETWORK

if TYPE_CHECKING:
    from oaibg.contract.errors import CallFailed

RETRY_HINT = "To submit the request again, add --retry-failed; you pay again."

BUSY_HINT = "Wait until the other process has finished."

KEY_HINT = "Check OPENAI_API_KEY, and OPENAI_ORG_ID and OPENAI_PROJECT_ID if they are set."

REGION_HINT = (
    "The API does not serve the place that the request comes from. Use a proxy (HTTPS_PROXY), a "
    "VPN or a machine whose traffic leaves from a supported country."
)

NO_RETRIEVE_HINT = (
    "Use a server that supports background mode and GET /responses/{id}: check OPENAI_BASE_URL. "
    "Another submit would also create a job whose answer can't be retrieved."
)

LOOK_HINT = (
    "The job may still be running. Check the ID and OPENAI_BASE_URL. Another retrieve would be "
    "refused, too."
)

_CERTIFICATE_HINT = (
    "If your company's proxy intercepts TLS connections, set SSL_CERT_FILE to the path of its CA "
    "certificate. Otherwise check the host name in OPENAI_BASE_URL."
)
_QUOTA_HINT = (
    "Waiting does not help. The owner of the account must add credit, or raise the limit in the "
    "billing settings."
)
_TOO_LARGE_HINT = (
    "Waiting does not help: the request alone exceeds the rate limit. Send less, raise the limit, "
    "or use another --model."
)
_PREVIOUS_HINT = (
    "Check the ID of the response to continue, and OPENAI_BASE_URL. Old responses expire."
)
_MODEL_HINT = "Use --model (or OAIBG_MODEL) to choose a model that this key can access."

_LOOPBACK = re.compile(r"localhost|127(?:\.\d+){3}|::1")
_NO_NAME = re.compile(
    r"name or service not known|nodename nor servname|name resolution|getaddrinfo"
    r"|no address associated|name does not resolve",
    re.IGNORECASE,
)


def unknown_hint(failure: CallFailed) -> str | None:
    """The hint for a create whose outcome is unknown."""
    if failure.code != "timeout" or is_openai(failure.base_url):
        return None
    return (
        "The server may not support background mode: it then replies only when the job has ended, "
        "which takes too long."
    )


def is_openai(base_url: str | None) -> bool:
    """Whether a base URL is OpenAI's own API, which has background mode and keeps its jobs."""
    host = urlsplit(base_url or "").hostname or ""
    return host == "openai.com" or host.endswith(".openai.com")


def server_of(failure: CallFailed) -> str:
    """Return what to call the server that was asked: the API, or else its host and port."""
    base_url = failure.base_url
    host = host_of(base_url)
    return "The API" if not host or is_openai(base_url) else host


def passing_hint(failure: CallFailed | None) -> str:
    """The hint for a call that got no usable reply."""
    if failure is not None and failure.code in ("timeout", "connection_error"):
        return (
            "A connection was opened, but no complete reply arrived: the server, or a proxy in "
            "front of it, is busy or failing."
        )
    if failure is None or failure.http_status in (None, 403, 407):
        return _unreachable_hint(failure)
    return "The API is reachable, but busy or failing."


def _unreachable_hint(failure: CallFailed | None) -> str:
    host, url = "", None
    if failure is not None:
        url = failure.base_url
        host = urlsplit(url or "").hostname or ""
        if failure.code == "certificate_error":
            return _CERTIFICATE_HINT
        if failure.proxy is not None:
            return (
                f"Requests to {host} go through the proxy {failure.proxy}: check that it runs and "
                f"allows them, or add {host} to NO_PROXY. {ASK_FOR_NETWORK}"
            )
        if _NO_NAME.search(failure.message):
            name = f"The host name {host!r}" if host else "The host name"
            return (
                f"{name} (or that of a proxy) could not be resolved. Check OPENAI_BASE_URL, the "
                f"proxy variables and DNS. {ASK_FOR_NETWORK}"
            )
        if "WRONG_VERSION_NUMBER" in failure.message:
            return "The server does not use TLS. Check whether OPENAI_BASE_URL must use http://."
        if failure.code.startswith("connect") and _LOOPBACK.fullmatch(host):
            return f"Check that the local server is running, and that its URL is {url}."
    return (
        "Check OPENAI_BASE_URL, the proxy variables, and whether outbound HTTPS to the API's host "
        f"is allowed. {ASK_FOR_NETWORK}"
    )


def refusal_hint(
    failure: CallFailed,
    *,
    exhausted: bool = False,
    too_large: bool = False,
    region: bool = False,
    address: bool = False,
    in_run: bool = False,
) -> str | None:
    """The hint for a create that was refused.

    The flags say why, as far as it was judged: the quota is exhausted, the request alone exceeds
    the rate limit, the API does not serve the place, or the address has no Responses API. With
    `in_run`, --dry-run would show other requests than this one.
    """
    status = failure.http_status or 0
    if exhausted:
        return _QUOTA_HINT
    if too_large:
        return _TOO_LARGE_HINT
    if region:
        return REGION_HINT
    if address:
        return _address_hint(failure.base_url)
    if failure.code == "previous_response_not_found" or failure.param == "previous_response_id":
        return _PREVIOUS_HINT
    if failure.code == "model_not_found" or (status == 404 and "model" in failure.message.lower()):
        return _MODEL_HINT
    if 300 <= status < 400:
        return "The server redirects requests. Set OPENAI_BASE_URL to the new address."
    is_shown = status in (400, 422) and not in_run
    return _field_hint(failure) or (_DRY_RUN_HINT if is_shown else None)


_DRY_RUN_HINT = "To see the request, run the same command with --dry-run."


def _address_hint(url: str | None) -> str:
    hint = "Check that OPENAI_BASE_URL names a Responses API."
    path = urlsplit(url or "").path.rstrip("/")
    if path.endswith("/v1"):
        return f"{hint} The server at {url} has no /responses there."
    if path.endswith("/responses"):
        return f"{hint} Remove /responses from its end."
    return f"{hint} It usually ends in /v1."


_FIELD_HINTS: tuple[tuple[str, str], ...] = (
    (
        r"background_options(?:\..*)?|completion[ _]window",
        "The server has no completion windows. Leave out --completion-window.",
    ),
    (
        r"reasoning(?:[._]effort)?",
        "Use another --reasoning-effort that the model supports, or --reasoning-effort omit.",
    ),
    (
        r"(?:text\.)?verbosity",
        "Use another --verbosity that the model supports, or --verbosity omit.",
    ),
)
_UNFIT = (
    r"(?<![a-z])(?:un(?:known|supported|recogni[sz]ed|expected)|invalid|extra|must|not|should"
    r"|supported values are)(?![a-z])|n't\b"
)
_STRICT = re.compile(
    r"additionalProperties.{0,40}\b(?:false|missing|must|required)\b|'required' is required",
    re.IGNORECASE,
)
_SCHEMA = re.compile(r"\binvalid (?:json[_ ])?schema(?: for (\w+))?", re.IGNORECASE)


def _field_hint(failure: CallFailed) -> str | None:
    """The hint for a field that a default or an option of ours sent."""
    message, param = failure.message, (failure.param or "").removeprefix("body.")
    named = _SCHEMA.search(message)
    codes = ("invalid_json_schema", "invalid_function_parameters")
    if named is not None or _STRICT.search(message) or failure.code in codes:
        of_tool = named is not None and (named[1] or "").lower() in ("function", "tool")
        is_tool = of_tool or failure.code == codes[1] or param.startswith("tools")
        return _schema_hint(message, is_tool=is_tool)
    for field, hint in _FIELD_HINTS:
        if re.fullmatch(field, param):
            return hint
    for field, hint in _FIELD_HINTS:
        if re.search(_UNFIT, message, re.IGNORECASE) and _names(field, message):
            return hint
    return None


def _names(field: str, message: str) -> bool:
    """Whether a message names a field, also as a place: `["body","reasoning","effort"]`."""
    place = re.sub(r'","', ".", message)
    return re.search(rf"\b(?:{field})(?!\.?\w)", place, re.IGNORECASE) is not None


def _schema_hint(message: str, *, is_tool: bool) -> str:
    strict = '"additionalProperties": false and list all keys in `required`'
    mend = f"Add {strict} in each object" if _STRICT.search(message) else "Change the schema"
    if is_tool:
        return f'{mend}, or set "strict": false in the tool.'
    return f'{mend}, or give {{"name", "schema", "strict": false}} to --json-schema-file.'
