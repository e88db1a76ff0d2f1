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
    r"|\bno models? (?:found|loaded|named|with)\b|\bno endpoints found\b"
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
_BEHIND = (
    r"\b(?:upstream|providers?|backend|gateway|origin|proxy|relay|workers?|(?:inference|model|remote)"
    r" (?:server|host|service))\b"
)
_FAILED = (
    r"\b(?:clos\w+|crash\w*|did(?:n't| not)|disconnect\w*|down|error|exit\w*|fail\w*|invalid|lost"
    r"|never|not (?:answer|available|found|ready|reach|repl|respond)\w*|refused|reset|restart\w*"
    r"|returned|time.?out|timed.?out|unavailable|unreachable)\b"
)
_UPSTREAM_FAILED = (
    rf"{_BEHIND}.{{0,60}}{_FAILED}"
    r"|\b(?:bad|clos\w+|error|fail\w*|invalid|lost|reset|timed?.?out"
    rf"|no (?:answer|healthy|reply|response))\b.{{0,60}}{_BEHIND}"
    r"|\bstream\b.{0,20}\b(?:abort|broke|clos|cut|disconnect|ended|error|fail|interrupt|lost|reset)"
    r"|\b(?:could ?n[o']t|can(?:no|')t|fail\w* to|unable to) (?:connect to|contact|reach)\b"
    r"|\bfail\w* to (?:decode|parse|read) (?:the )?(?:answer|model|output|reply|response)\b"
    r"|\bmodel (?:has )?(?:crash\w*|exit\w*)|\bsocket (?:was )?closed\b"
    r"|\b(?:call|request|run) (?:was )?aborted\b"
    r"|\bfail\w* to stream\b|\bunexpected (?:eof|end of file)\b|\bbroken pipe\b"
    r"|\bsocket hang.?up\b|\beconn\w+"
    r"|\b(?:request|call|operation|connection|response) (?:has |was )?timed out\b"
    r"|\btimed out (?:after|waiting|while)\b|\bdeadline (?:exceeded|expired|passed|reached)\b"
    r"|\b(?:empty|malformed|unexpected|unparsable) (?:answer|reply|response)\b"
    r"|\bno (?:answer|reply|response) (?:was |has been |could be )?"
    r"(?:arrived|came|received|returned|within)\b"
    r"|\bconnection (?:was )?(?:aborted|closed|error|lost|re\w+)|\bclosed the connection\b"
    r"|\binternal (?:server )?error\b|\bservice (?:temporarily )?unavailable\b"
    r"|(?!\A)\b(?:code|error|http|response|status):?\s50[0-4]\b"
)
_UPSTREAM_NAMES = (
    r"servererror|^internal|upstream|provider|gateway|proxy|channel|^apierror|newapi|oneapi|timeout"
    r"|^model\w*error|inference|backend|worker|network|connection|timedout|unavailable|overload|(?:bad|empty)response|response\w*failed|read\w*failed"
    r"|apiconnection|requestfailed"
)


def blames_request(text: str) -> bool:
    """Whether an error that is not in the API's envelope names the request's own fault."""
    text = re.sub(r'(?<=[{,])"(?!loc")\w+":', "", text)  # the keys of JSON that has no message
    return not _says(_MENTIONS_UPSTREAM, text) and _says(_BLAMES_REQUEST, text)


def blames_upstream(text: str) -> bool:
    """Whether an error's message says that a server behind this one failed."""
    return _says(_UPSTREAM_FAILED, text)


def mentions_upstream(text: str) -> bool:
    """Whether an error's message speaks of a server behind this one, or asks for a retry."""
    return blames_upstream(text) or _says(_MENTIONS_UPSTREAM, text) or _says(_TRANSIENT, text)


def names_upstream(*names: str | None) -> bool:
    """Whether an error's `code` or `type` says that a server, or one behind it, failed."""
    plain = (re.sub(r"[^a-z]", "", name.lower()) for name in names if name)
    return any(_says(_UPSTREAM_NAMES, name) for name in plain)


_TRANSIENT = r"\b(?:retry\w*|try(?:ing)? (?:it )?again)\b|\byet\b|\bwarming\b|\bstill\b"


_PREFIX = r"\A(?:HTTP \d+: )?\W*"
_NO_ROUTE = (
    r"\bcannot (?:post|get)\b|\binvalid url\b|\bnot allowed to post\b"
    r"|\bno (?:such )?(?:matching )?(?:static )?(?:route|endpoint|path|handler)\b"
    r"|\b(?:unknown|invalid|unsupported) (?:url|uri|path|route|endpoint|request url)\b"
    r"|\b(?:url|uri|path|route|endpoint)\b.{0,100}\b(?:not found|n[o']t exist|not supported)"
)
_NO_API = (
    rf"{_PREFIX}(?:404\W+)?(?:(?:the )?(?:requested )?(?:page|path|route|url|uri|endpoint|resource"
    r"|file|method)\W+)?(?:was )?(?:not found|not allowed|could not be found)\W*\Z"
    r"|\bnothing was found at\b|\bno (?:such )?(?:matching )?(?:static )?resource\b|\AHTTP \d+\Z"
    rf"|{_NO_ROUTE}"
)


def says_no_api(text: str) -> bool:
    """Whether a 404 or 405 says that the server has no such path or method."""
    return not _says(_MENTIONS_UPSTREAM, text) and _says(_NO_API, text)


def says_no_route(text: str) -> bool:
    """Whether a 404 is about the path for certain, rather than about what it names."""
    return not blames_upstream(text) and _says(_NO_ROUTE, text)


_RETRIEVES = (
    r"(?:retriev\w+|fetching|polling|reading|get(?:ting)?|background(?: mode| responses?| jobs?)?"
    r"|stored responses?)"
)
_REFUSES = rf"{_NOT} (?:be )?(?:allow|available|enabled|implement|permit|support)"
_NO_RETRIEVE = (
    rf"\b{_RETRIEVES}\b[^.]{{0,60}}?{_REFUSES}|{_NOT} (?:support|implement|allow)\w* {_RETRIEVES}\b"
    rf"|\b(?:no support for|unsupported:?) {_RETRIEVES}\b"
)


def says_no_retrieve(text: str) -> bool:
    """Whether an error says that the server can't return a stored response."""
    return not mentions_upstream(text) and _says(_NO_RETRIEVE, text)


_OPEN, _SHUT = "[\"'`\u2018\u201c(\\[]", "[\"'`\u2019\u201d)\\]]"
_OTHER_ID = (
    r"(?:[1-5]\d\d(?![\w-])"  # an HTTP status
    r"|(?:asst|call|chatcmpl|conv|dep\w*|file|gen|http|key|msg|org|proj\w*|req\w*|run|sess\w*|thread"
    r"|tr(?:ace)?|user|vs)[_-])"
)
_THE_ID = (
    rf"(?:{_OPEN}?(?!{_OTHER_ID})(?=[\w.:=~+-]*[\d_])[\w.:=~+-]+{_SHUT}?"
    rf"|{_OPEN}(?!{_OTHER_ID})[^\s\"'`]+{_SHUT})"
)
_THE_RESPONSE = (
    r"\b(?:response|batch)(?: object)?(?: (?:with|for|of|having))?(?: (?:the|this|given))?"
    r"(?:[ _]?id(?:entifier)?)?\W{0,2}"
)
_ABSENT = r"(?:not found|not be found|n[o']t exist|no longer (?:exists?|available|retained|stored))"
_IS_ABSENT = rf",?\s+(?:(?:was|is|were|has|could|can|does|do|did)\s?)?{_ABSENT}"
_END = r"(?=\W*\Z|\s*[.,;:!)]|\s(?:for|or|with)\b)"
_WITH_ID = (
    r" (?:with|for|by|having|matching|under)(?: (?:the|this|that|given))?"
    rf"(?:(?: (?:response|batch))?[ _]?id(?:entifier)?(?:\W*\Z|\W{{0,3}}{_THE_ID})|\s{_THE_ID})"
)
_OWN_ID = r"[\"'`(]?(?:(?:resp|batch)\w*[_-]\w|[0-9a-f][0-9a-f-]{19})"
_MISSING = (
    rf"{_THE_RESPONSE}(?:\s?{_THE_ID}{_IS_ABSENT}|(?<=\w)\W{{0,2}}{_IS_ABSENT}{_END})"
    rf"|{_THE_RESPONSE}\s?{_THE_ID}\W+(?:has |is |was )?(?:been )?"
    r"(?:expired|deleted|unknown|invalid)\b"
    rf"|(?:{_PREFIX}(?:(?:the|this) )?id\b\W{{0,2}}{_THE_ID}"
    rf"|\bid\b\W{{0,2}}{_OWN_ID}[\w-]*[\"'`)]?)\W+(?:was |is |could |does |do )?{_ABSENT}"
    rf"|\bno such (?:response|batch)(?:\W*\Z|[.,;]|(?: id)?:?\s{_THE_ID}|{_WITH_ID})"
    rf"|\bno (?:response|batch) (?:was |could be )?found(?:\W*\Z|{_WITH_ID})"
    rf"|\bno (?:response|batch)(?: exists)?{_WITH_ID}"
    r"|\b(?:unknown|invalid) \W?(?:response|batch)[ _]?id(?:entifier)?\b"
    rf"|\b(?:unknown|invalid) (?:response|batch):?\s{_OWN_ID}|\bunknown (?:response|batch)\W*\Z"
    rf"|{_PREFIX}(?:no such|unknown|invalid) \W?id\b(?=\W*\Z|\W{{0,3}}\s?{_THE_ID})"
    r"|\b(?:could not|couldn't|cannot|can't|unable to|failed to) (?:find|locate)"
    rf" (?:a |any |the |this )?(?:response|batch)(?:\W*\Z|:?\s{_THE_ID}|{_WITH_ID})"
)
_MISSING_NAMES = frozenset({"response_not_found", "responsenotfound"})


def says_missing(text: str, *names: str | None) -> bool:
    """Whether an error says that the response does not exist; `names` are its code and type.

    Requests, sessions, deployments and replies of other servers can be missing too.
    """
    if mentions_upstream(text):
        return False
    named = any(name is not None and name.lower() in _MISSING_NAMES for name in names)
    return named or _says(_MISSING, text)


_NUMBER = r"[\s:=(]*(\d+(?:[,._' \u00a0\u202f]\d{3}(?!\d))*)(\.\d+)?(?:([km])\b)?"
_LIMIT = rf"\b(?:limit|maximum|allowed)(?: (?:is|was|of|set|to|at))*{_NUMBER}"
_REQUESTED = (
    r"\b(?:requested(?: tokens| is)*"
    rf"|request (?:contains|for|had|has|is|needs|of|requires|uses|with)){_NUMBER}"
)
_TOO_LARGE = r"\brequest too large\b"


def exceeds_limit(text: str) -> bool:
    """Whether a rate limit's message says that the request alone exceeds the limit."""
    limit, requested = _find(_LIMIT, text), _find(_REQUESTED, text)
    if limit is None or requested is None:
        return _says(_TOO_LARGE, text)
    return _amount(*requested.groups()) > _amount(*limit.groups())


def _amount(digits: str, fraction: str | None, unit: str | None) -> float:
    """The value of a number such as `30,000`, `10 000` or `1.5M`."""
    whole = re.sub(r"\D", "", digits)[:15]
    return float(whole + (fraction or "")[:15]) * _UNITS[(unit or "").lower()]


_UNITS = {"": 1, "k": 1e3, "m": 1e6}


_LOCKED_CODE = r"_locked\Z|\A(?:conversation|thread|session)_(?:busy|in_use)\Z"
_LOCKED = (
    r"\banother (?:process|request|response|run)\b.{0,60}\b(?:conversation|thread)\b"
    r"|\b(?:conversation|thread)\b.{0,40}\b(?:busy|locked|in use)\b"
)


def names_lock(code: str) -> bool:
    """Whether an error's code says that something is in use for a moment."""
    return _says(_LOCKED_CODE, code)


def says_locked(text: str) -> bool:
    """Whether an error's message says that a conversation is in use for a moment."""
    return _says(_LOCKED, text)


_PAYMENT = r"\b(?:balance|billing|credits?|funds|payment|quota)\b"


def demands_payment(text: str) -> bool:
    """Whether a 402 says that an account has no credit."""
    return not _says(_MENTIONS_UPSTREAM, text) and _says(_PAYMENT, text)


_PLACE = r"(?:country|region|territory|location|area)"
_UNSERVED = (
    rf"(?:{_NOT} (?:currently |yet |be )?"
    r"(?:accessible|allow|available|offer|permit|serv|support)\w*|blocked|restricted)"
)
_REGION = (
    rf"\b(?:country|region)(?:,? or |, )(?:region|territory)\b.{{0,60}}{_UNSERVED}"
    rf"|{_UNSERVED}.{{0,60}}\b(?:in|for|from|to)"
    rf" (?:(?:your|the current|the user's) {_PLACE}|this (?:country|region|territory))\b"
    rf"|\b(?:(?:your|user|client) {_PLACE}|this (?:country|region|territory))\b.{{0,30}}{_UNSERVED}"
    rf"|\bunsupported {_PLACE}\b(?! (?:code|name|value))"
    rf"|(?:unsupported|blocked|restricted)_?{_PLACE}"
    rf"|(?<![a-z]){_PLACE}_?(?:is_?)?(?:not_?(?:allowed|available|permitted|supported)|blocked"
    r"|restricted|unsupported)"
)


def refuses_region(text: str) -> bool:
    """Whether a message or a code says that the API does not serve the place of the request."""
    return _says(_REGION, text)


def _says(pattern: str, text: str) -> bool:
    return _find(pattern, text) is not None


def _find(pattern: str, text: str) -> re.Match[str] | None:
    """Search with a pattern that is compiled when it is first needed: that takes milliseconds."""
    return re.search(pattern, text, re.IGNORECASE | re.DOTALL)
