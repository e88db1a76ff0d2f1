"""Reads what a server's words mean: whose fault an error is, and what is missing.

Servers differ in the form and the wording of their errors, so these are patterns. Where one of them
decides whether a job may exist, doubt counts as "it may".
"""

from __future__ import annotations

import re

_FIELDS = (
    "background|background_options|completion_window|context_management|conversation|input"
    "|input_file_id|instructions|json_schema|max_output_tokens|max_tool_calls|metadata|model"
    "|parallel_tool_calls|previous_response_id|prompt|prompt_cache_key|reasoning|reasoning_effort"
    "|response_format|safety_identifier|service_tier|temperature|tool_choice|tools|top_logprobs"
    "|top_p|truncation|verbosity"
)
"""The fields of a create, except those that are everyday words."""

_QUOTE = "[\"'`\u2018\u2019\u201c\u201d]"
_NOT = r"(?:\bnot|n't|\bno longer)"

_BLAMES_REQUEST = (
    # A field: in quotes, by a name that has no other meaning, or judged.
    rf"{_QUOTE}(?:body\.)?(?:{_FIELDS}|stream)(?:[.\[][^\"'`]*)?{_QUOTE}"
    r"|['`](?:include|store|text|user)(?:[.\[][^'`]*)?['`]"
    r"|\b(?:input|tools)\[\d+\]|\btext\.(?:format|verbosity)\b|\breasoning[._ ]effort\b"
    r"|\b(?:background_options|context_management|max_\w*tokens|max_tool_calls|parallel_tool_calls"
    r"|previous_response_id|previous response|tool_choice|top_logprobs|top_p|completion.window"
    r"|service.tier|response_format|json_schema|temperature|verbosity)\b"
    rf"|\b(?:{_FIELDS})\W{{1,3}}(?:field |parameter |value )?(?:must|should|exceeds"
    r"|(?:is|are) (?:required|missing|invalid|unsupported|too)"
    rf"|(?:is|are|may|can)?\W?{_NOT} (?:be|support|allow|permit|valid))"
    r"|\b(?:unknown|unsupported|unrecogni[sz]ed|invalid|missing|required)"
    r"(?: (?:request|required|fields?|parameters?|arguments?|properties|property|values?"
    r"|names?|keys?|supplied|provided|for|the|in))*"
    rf"\W{{1,3}}(?:{_FIELDS})\b(?!\W+(?:error|output|reply|response|result))"
    r'|"loc":\["(?:body|header|path|query)"|\(field: '
    # The model.
    rf"|\b(?:model|deployment)\b(?:(?!\.\s).){{0,80}}?{_NOT} (?:(?:be|have|currently|yet) )?"
    r"(?:access|allow|exist|found|permit|served|support|a valid model)"
    r"|\bno such (?:model|deployment)\b|\bnot a valid model\b|\bno longer available\b"
    r"|\bno models? (?:found|loaded|named|with)\b"
    # The request as a whole.
    r"|\b(?:unknown|unsupported|unrecogni[sz]ed|unexpected|invalid|extra|missing required)"
    r" (?:request )?(?:keyword )?(?:parameter|argument|field|propert(?:y|ie)|input)s?\b"
    r"|\bsupported values are\b|\brequest validation\b"
    r"|\bvalidation errors? for \w*(?:body|create|param|request)"
    r"|\b(?:bad|decod\w+|invalid|malformed|not|pars\w+|valid)\b.{0,40}\bjson\b"
    r"|\bjson\b.{0,40}\b(?:decod|error|invalid|malformed|pars)"
    r"|\bbody of (?:the|your) request\b|\brequest body\b"
    r"|\bcontext (?:length|window|size)\b|\btoo many tokens\b|\b(?:prompt|input) is too long\b"
    r"|\bfile with id\b|\bpurpose of (?:the )?file\b|\binvalid file format\b"
    rf"|\bstream(?:ing)?\b.{{0,20}}{_NOT} (?:currently |yet )?"
    rf"(?:allow|available|enabled|implement|permit|support)|{_NOT} (?:support )?stream"
    r"|\bno stream(?:s|ing)\b"
)

_MENTIONS_UPSTREAM = (
    r"\b(?:upstream|providers?|backend|gateway|origin)\b|\btimed?.?out\b|\binternal\b.{0,8}\berror\b"
    r"|\b(?:response|reply) from\b|\bfrom (?:the )?(?:model|server)\b"
    r"|\bjson\b.{0,30}\b(?:response|reply)\b|\b(?:response|reply)\b.{0,30}\bjson\b"
    r"|\bmodel (?:output|reply|response)\b|\bconnection (?:closed|error|refused|reset)\b"
)
_UPSTREAM_FAILED = (
    r"\b(?:upstream|providers?|backend)\b.{0,60}"
    r"\b(?:clos\w+|error|fail\w*|invalid|refused|reset|timed?.?out|unavailable|unreachable)\b"
    r"|\b(?:bad|error|fail\w*|invalid|no (?:healthy|reply|response)|timed?.?out)\b.{0,60}"
    r"\b(?:upstream|providers?|backend)\b"
)
_UPSTREAM_NAMES = (
    r"servererror|^internal|upstream|provider|gateway|^apierror|timeout|timedout|unavailable"
    r"|overload|badresponse|apiconnection|requestfailed"
)


def blames_request(text: str) -> bool:
    """Whether an error that is not in the API's envelope names the request's own fault."""
    text = re.sub(r'(?<=[{,])"(?!loc")\w+":', "", text)  # the keys of JSON that has no message
    return not _says(_MENTIONS_UPSTREAM, text) and _says(_BLAMES_REQUEST, text)


def blames_upstream(text: str) -> bool:
    """Whether an error's message says that a server behind this one failed."""
    return _says(_UPSTREAM_FAILED, text)


def names_upstream(*names: str | None) -> bool:
    """Whether an error's `code` or `type` says that a server, or one behind it, failed."""
    plain = (re.sub(r"[^a-z]", "", name.lower()) for name in names if name)
    return any(_says(_UPSTREAM_NAMES, name) for name in plain)


_PREFIX = r"\A(?:HTTP \d+: )?\W*"
_NO_API = (
    rf"{_PREFIX}(?:404\W+)?(?:(?:the )?(?:requested )?(?:page|path|route|url|uri|endpoint|resource"
    r"|file|method)\W+)?(?:was )?(?:not found|not allowed|could not be found)\W*\Z"
    r"|\bcannot (?:post|get)\b|\binvalid url\b|\bnothing was found at\b|\bnot allowed to post\b"
    r"|\bno (?:such )?(?:matching )?(?:static )?(?:route|resource|endpoint|path|handler)\b"
    r"|\b(?:unknown|invalid) (?:url|uri|path|route|endpoint|request url)\b"
    r"|\b(?:url|uri|path|route|endpoint)\b.{0,100}\b(?:not found|n[o']t exist|not supported)"
    r"|\AHTTP \d+\Z"
)


def says_no_api(text: str) -> bool:
    """Whether a 404 or 405 says that the server has no such path or method."""
    return _says(_NO_API, text)


_OPEN, _SHUT = "[\"'`\u2018\u201c(\\[]", "[\"'`\u2019\u201d)\\]]"
_THE_ID = rf"(?:{_OPEN}?(?=[\w.:=~+-]*[\d_])[\w.:=~+-]+{_SHUT}?|{_OPEN}[^\s\"'`]+{_SHUT})"
_THE_RESPONSE = (
    rf"\b(?:response|batch)(?: object)?(?: (?:with|for|of|having))?(?: (?:the|this|given))?"
    rf"(?:[ _]?id(?:entifier)?)?\W{{0,2}}(?:\s?{_THE_ID})?"
)
_ABSENT = r"(?:not found|not be found|n[o']t exist|no longer (?:exists?|available|retained|stored))"
_MISSING = (
    rf"{_THE_RESPONSE},?\s+(?:(?:was|is|were|has|could|can|does|do|did)\s?)?{_ABSENT}"
    rf"|\b(?:response|batch)\b[\w ]{{0,40}}{_THE_ID}\W+(?:has |is |was )?(?:been )?"
    r"(?:expired|deleted|unknown|invalid)\b"
    rf"|\bid\b\W{{0,2}}{_THE_ID}\W+(?:was |is |could |does |do )?{_ABSENT}"
    r"|\bno such (?:response|batch)(?! (?:code|status|format|type|body))\b"
    r"|\bno (?:response|batch) (?:was |could be )?found"
    r"(?=\W*\Z| (?:with|for|by|matching|under)\b)"
    r"|\bno (?:response|batch) (?:exists )?with (?:the |this |that )?id"
    r"|\b(?:unknown|invalid) \W?(?:response|batch)[ _]?id(?:entifier)?\b"
    rf"|\b(?:unknown|invalid) (?:response|batch):?\s{_THE_ID}|\bunknown (?:response|batch)\W*\Z"
    rf"|\b(?:no such|unknown|invalid) \W?id\b(?=\W*\Z|\W{{0,2}}\s?{_THE_ID}|[:.,;])"
    r"|\b(?:could not|couldn't|cannot|can't|unable to|failed to) (?:find|locate)"
    rf" (?:a |any |the |this )?(?:response|batch)"
    rf"(?=\W*\Z| (?:with|for|by)\b|:?\s{_THE_ID})"
)
_MISSING_NAMES = frozenset(
    {"response_not_found", "responsenotfound", "not_found_error", "notfounderror", "not_found"}
)


def says_missing(text: str, *names: str | None) -> bool:
    """Whether an error says that the response does not exist; `names` are its code and type.

    Keys, deployments and replies of other servers can be missing too.
    """
    if blames_upstream(text):
        return False
    named = any(name is not None and name.lower() in _MISSING_NAMES for name in names)
    return named or _says(_MISSING, text)


_NUMBER = r"\s*(?:is|of)?\s*[:=]?\s*(\d+(?:[,._'\u00a0\u202f]\d{3})*)"
_LIMIT = rf"\blimit{_NUMBER}"
_REQUESTED = rf"\brequest(?:ed)?{_NUMBER}"
_TOO_LARGE = r"\brequest too large\b"


def exceeds_limit(text: str) -> bool:
    """Whether a rate limit's message says that the request alone exceeds the limit."""
    limit, requested = _find(_LIMIT, text), _find(_REQUESTED, text)
    if limit is None or requested is None:
        return _says(_TOO_LARGE, text)
    return _whole(requested[1]) > _whole(limit[1])


def _whole(digits: str) -> int:
    return int(re.sub(r"\D", "", digits)[:15])


_RETRY = r"\b(?:retry|try again) (?:in (?:a few|a moment|\d)|shortly)"


def asks_to_retry(text: str) -> bool:
    """Whether a message asks for a retry within moments."""
    return _says(_RETRY, text)


_PAYMENT = r"\b(?:balance|billing|credits?|funds|payment|quota)\b"


def demands_payment(text: str) -> bool:
    """Whether a 402 says that an account has no credit."""
    return not _says(_MENTIONS_UPSTREAM, text) and _says(_PAYMENT, text)


_REGION = (
    r"\b(?:country|region|territory)\b.{0,60}\bnot supported\b"
    r"|\bunsupported_country_region_territory\b"
)


def refuses_region(text: str) -> bool:
    """Whether a message or a code says that the API does not serve the place of the request."""
    return _says(_REGION, text)


def _says(pattern: str, text: str) -> bool:
    return _find(pattern, text) is not None


def _find(pattern: str, text: str) -> re.Match[str] | None:
    """Search with a pattern that is compiled when it is first needed: that takes milliseconds."""
    return re.search(pattern, text, re.IGNORECASE | re.DOTALL)
