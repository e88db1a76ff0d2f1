"""What the help says besides the options: usage, examples, common options, exit codes and notes."""

from __future__ import annotations

from oaibg.contract.errors import ExitCode

USAGE = {
    "oaibg": ["oaibg COMMAND [OPTIONS]"],
    "submit": [
        'oaibg submit [OPTIONS] "PROMPT"',
        "oaibg submit [OPTIONS] --prompt-file PATH",
        "oaibg submit [OPTIONS] --jobs-file PATH --results-file PATH",
    ],
    "monitor": ["oaibg monitor [OPTIONS] [ID|KEY...]"],
    "cancel": ["oaibg cancel [OPTIONS] ID|KEY..."],
    "show": ["oaibg show [OPTIONS] [ID|KEY]", "oaibg show --list [--status STATUS] [--limit N]"],
}
"""The forms of each command, most common first."""

EXAMPLES = {
    "oaibg": [
        'oaibg submit "Name three rivers." --human',
        "oaibg submit --prompt-file task.md --output-text-file report.md",
        "oaibg submit --jobs-file jobs.jsonl --results-file results.jsonl",
    ],
    "submit": [
        'oaibg submit "Name three rivers."',
        "oaibg submit --prompt-file task.md --output-text-file report.md",
        "oaibg submit --job-key report-7 --prompt-file task.md --max-wait-seconds 540",
        "oaibg submit --jobs-file jobs.jsonl --results-file results.jsonl",
    ],
    "monitor": [
        "oaibg monitor",
        "oaibg monitor report-7 --output-text-file report.md",
        "oaibg monitor resp_123 resp_456 --max-wait-seconds 540 --events changes",
        "oaibg monitor batch_123 --results-file results.jsonl",
    ],
    "cancel": [
        "oaibg cancel resp_123",
        "oaibg cancel report-7",
        "oaibg cancel resp_123 resp_456",
    ],
    "show": [
        "oaibg show",
        "oaibg show report-7",
        "oaibg show --output-text > answer.md",
        "oaibg show --list --limit 10",
    ],
}
"""Examples by command, most common first. A test runs each as written."""

MORE_EXAMPLES = {
    "submit": [
        "oaibg submit --prompt-file task.md --json-schema-file schema.json",
        'oaibg submit --continue resp_123 "Say it in one sentence."',
        "oaibg submit --prompt-file task.md --dry-run",
    ],
    "show": [
        "oaibg show resp_123 --output-json-file response.json",
        "oaibg show resp_123 --artifacts-dir images",
    ],
}
"""Examples for the end of the help."""

COMMON = {
    "submit": (
        *("PROMPT", "--model", "--reasoning-effort", "--attach", "--job-key", "--detach"),
        *("--max-wait-seconds", "--output-text-file", "--human"),
    ),
    "monitor": (
        *("ID|KEY...", "--max-wait-seconds", "--events", "--stream-text", "--show-output-text"),
        *("--output-text-file", "--human"),
    ),
    "cancel": ("ID|KEY...", "--job-key", "--human"),
    "show": (
        *("ID|KEY", "--list", "--status", "--output-text", "--output-text-file"),
        *("--output-json-file", "--human"),
    ),
}
"""The arguments and options on the first screen."""

_ID_NOTES = [
    "KEY is the key of a job or a run; the path of a run's jobs file works, too.",
    "If an ID or key begins with a hyphen, put -- before it.",
]

NOTES = {
    "oaibg": ["oaibg COMMAND --help lists the command's options, examples and exit codes."],
    "submit": [
        "Give exactly one input: a prompt, messages, the whole `input`, or a jobs file.",
        "EFFORT is none, minimal, low, medium, high, xhigh, max, or omit (not sent).",
        "WINDOW is soonest (the API's default), 2h, 8h, or 24h (needs --jobs-file).",
        "With --jobs-file, --events defaults to summary.",
    ],
    "monitor": _ID_NOTES,
    "cancel": _ID_NOTES,
    "show": _ID_NOTES,
}
"""Notes below the options, by command."""

NEVER = {"cancel": (ExitCode.NEEDS_ACTION,)}
"""The exit codes that a command never has; every other command has them all."""

_OF_EARLIER_JOBS = {
    ExitCode.USAGE: "an option or the local state is invalid; nothing was sent",
    ExitCode.UNSUCCESSFUL: "the job ended without success",
    ExitCode.OUTCOME_UNKNOWN: "the job may have been submitted, but its ID is unknown",
}

_WITHOUT_WAITING = _OF_EARLIER_JOBS | {
    ExitCode.SIGHUP: "ended by SIGHUP",
    ExitCode.SIGINT: "ended by SIGINT (Ctrl-C)",
    ExitCode.STDOUT_CLOSED: "the program that reads stdout closed it",
    ExitCode.SIGTERM: "ended by SIGTERM",
}

MEANINGS: dict[str, dict[ExitCode, str]] = {
    "submit": {
        ExitCode.OK: "the job completed; with --detach, it was submitted",
        ExitCode.UNSUCCESSFUL: "the job ended without success",
    },
    "monitor": _OF_EARLIER_JOBS | {ExitCode.OK: "the job completed"},
    "cancel": _WITHOUT_WAITING
    | {
        ExitCode.OK: "the job is cancelled",
        ExitCode.ERROR: "the server refused to cancel the job, or oaibg has a bug",
        ExitCode.STILL_RUNNING: "the server has not cancelled the job yet; it may keep running",
        ExitCode.UNSUCCESSFUL: "the job had already ended, and was not cancelled",
        ExitCode.LOCAL_IO: "stdout is full",
    },
    "show": _WITHOUT_WAITING
    | {
        ExitCode.OK: "the job completed; with --list, the list was printed",
        ExitCode.STILL_RUNNING: "the job is queued or running",
    },
}
"""What an exit code means for a command, where the general meaning is too wide."""
