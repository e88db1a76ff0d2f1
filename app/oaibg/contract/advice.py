"""Sentences that are written for agents, and what people read in their place."""

from __future__ import annotations

import re

ASK_FIRST = "Ask the person who pays before you submit again: the job may then be billed twice."
ASK_FOR_NETWORK = (
    "In a restricted environment, ask the user for network access first: repeating doesn't help."
)
FIX_AND_RERUN = "Fix what the message names, and run the command again."
FIRST_JOB = 'To submit the first one: `oaibg submit "PROMPT"`.'
OTHER_STATE = (
    "If the submit used another OAIBG_STATE_DIR, set the same one: each directory has its own jobs."
)

_FOR_PEOPLE = {
    ASK_FIRST: "If you submit again, you may pay twice.",
    ASK_FOR_NETWORK: "",
    FIX_AND_RERUN: "",
    f"{FIRST_JOB} {OTHER_STATE}": FIRST_JOB,
}

_CODES = re.compile(r"\[Errno -?\d+\] | \([A-Z]\w+(?:Error|Timeout)\)")
"""What Python adds to the words of the system: `[Errno 104] …` and `… (ReadError)`."""


def for_people(text: str) -> str:
    """Return a message or a hint without what only helps agents and developers."""
    for sentence, words in _FOR_PEOPLE.items():
        text = text.replace(sentence, words)
    return _CODES.sub("", text).replace("  ", " ").strip()
