"""The fault table: each fault, and what happens then. The guide prints it, and tests prove it.

A test names the row that it proves with the `row` marker. A whole run fails if a row has no test
that passed.
"""

from __future__ import annotations

ROWS: dict[str, str] = {
    # Create
    "`kill -9` before the create is sent": "A rerun with the same job key submits the job.",
    "`kill -9` after the create is sent, before its reply is stored": (
        "A rerun with the same job key ends with exit 6 (`outcome_unknown`) and sends nothing."
    ),
    "`kill -9` after the response ID is stored": (
        "A rerun with the same job key continues with the same job. Only one create is sent."
    ),
    "`kill -9` at any moment of a retry (`--retry-failed`)": (
        "A rerun without the option finishes the retry if it had begun. Each job is submitted at "
        "most once more."
    ),
    "Create: connection refused, or the DNS lookup fails": (
        "Retries for a minute, then ends with exit 7 (`not_created`)."
    ),
    "Create: reset, timeout, 408, 500, 502, 504, or a reply without a valid ID": (
        "Sends no second create. Exit 6; the local state records the job's outcome as unknown."
    ),
    "Create: the reply breaks off, never ends or is an unrequested stream, but has the ID": (
        "Uses the ID, and follows the job as usual. No second create is sent."
    ),
    "Create: the reply has the ID of another job": (
        "Exit 6 (`outcome_unknown`); the other job's answer is not used. In the reply to a "
        "retrieve, such an ID counts as a failed poll."
    ),
    "Create: 429 with or without `Retry-After`, or 503 `server_is_overloaded`": (
        "Waits, then retries. One job is created."
    ),
    "Create: 429 because the quota or a spend limit is exhausted": (
        "Exit 1 at once, with the API's code and a hint."
    ),
    "Create: 400, or 404 `model_not_found`": "Exit 1, with the API's message and the field.",
    "Create: a 4xx that is not the API's own error": (
        "Exit 1 if its words blame the request (a field, the model). Otherwise it may come from a "
        "gateway whose upstream accepted the request: exit 6, with the server's words."
    ),
    "Create: 200 or a stream with an error and no response": (
        "As the API's code says: retries, or exit 1 or 8. Otherwise exit 6. In each case with the "
        "server's words."
    ),
    "Create: 429 for a request that alone exceeds the rate limit": "Exit 1 at once, with a hint.",
    "Create: 400 or 409 because something is locked for a moment": (
        "Waits, then retries. One job is created."
    ),
    "Create: the server doesn't support background mode": (
        "Delivers the answer, with a `no_background` warning. If the job takes longer than two "
        "minutes: exit 6, with a hint that says why."
    ),
    "403 because of the country or region": (
        "Exit 1 with a hint. A monitor ends only after the second refusal in a row."
    ),
    "The server's certificate can't be verified": (
        "Exit 7 at once with the reason and a hint about `SSL_CERT_FILE`; a monitor tries three "
        "times. After a successful poll it is only a `poll_error`."
    ),
    "401, 403, or no API key": (
        "Exit 8, without a retry. A monitor ends only after the second refusal in a row."
    ),
    "Several processes submit the same job key at once": (
        "One create is sent. All processes follow the same job."
    ),
    "The process that submits the same job key is suspended": (
        "Warns after 5 s. Exit 7 (`job_key_busy`) at the wait limit, or after 150 s; nothing is "
        "sent."
    ),
    "File locks don't work, or the lock files are removed": (
        "The local state itself decides which process sends. One create is sent, and all "
        "processes follow the same job."
    ),
    "A job key is used again for a different request": "Exit 2. Nothing is sent.",
    # Poll
    "Poll: any number of 4xx, 5xx, resets, truncated replies or HTML pages in a row": (
        "Emits a `poll_error` for each, and keeps polling to `final`."
    ),
    "Poll: a redirect": (
        "Follows up to five within the same scheme, host and port. A create or cancel is never "
        "sent again."
    ),
    "Poll: bytes that are not UTF-8": (
        "The text has U+FFFD in their place, with the warning `text_replaced`. Saved JSON has the "
        "server's bytes."
    ),
    "Poll: `Retry-After` in seconds, as a date, missing, malformed or huge": (
        "Waits for that time, but at most ten minutes and not past the wait limit."
    ),
    "Poll: 404": (
        "Keeps polling. Exit 5 after at least three 404s in a row over at least 15 s, or at the "
        "wait limit if that is earlier and the local state doesn't know the ID."
    ),
    "Poll: a gateway's 404 or 410 pages, for a job that the API had before": (
        "Keeps polling. Exit 5 after at least ten in a row over at least five minutes; if no poll "
        "of the command succeeded, exit 7 after a minute."
    ),
    "Retrieve: the result has less output than before": (
        "Delivers the local copy, which is not replaced, and emits a `local_copy` warning."
    ),
    "Poll: 405, 501 or a 404 about the route each time": (
        "Exit 1 (`no_retrieve`) after at least three in a row over at least 15 s: the server can't "
        "return background jobs."
    ),
    "Poll: the server refuses every retrieve of a job (400, 422 and the like)": (
        "Exit 1 with the server's message after at least three in a row over at least 15 s. After "
        "a successful poll, each refusal is only a `poll_error`."
    ),
    "404 for a job with a local copy of its result": (
        "Returns the local copy, and reports its source."
    ),
    "The server has lost a job that it had before": (
        "Exit 5 without `next`. The local state lists it as `not_found`; a server that has it "
        "again is believed."
    ),
    "A server was down, and its job then keeps running forever": (
        "Emits one `may_be_lost` warning, which says that the job may be lost, and what to do."
    ),
    "Poll: a request hangs": (
        "The request times out well before the wait limit, and polling continues."
    ),
    "No successful reply in the first 60 s of a monitor or a rerun": (
        "Exit 7 with `next`, so a blocked network does not hang the command."
    ),
    # Stream
    "Stream: cut, reset or truncated": (
        "Resumes after the last event. No text is lost, and none is repeated."
    ),
    "Stream: connections without events": (
        "Retrieves the job after each. After three, emits `stream_lost` and polls to `final`."
    ),
    "Stream: silent for a while, or until the job ends": (
        "Polls after each interval while it listens. Emits `stream_lost` if the job ends first."
    ),
    "Stream: the server ignores `stream` and returns plain JSON": (
        "Emits `stream_unavailable`, uses the reply, and polls to `final`."
    ),
    "Stream: refused on create or later": (
        "Emits `stream_unavailable`, and polls to `final`. One job is created."
    ),
    "Stream: events repeated or missing": (
        "Drops repeated events and requests missing ones again. If they stay missing, emits "
        "`stream_gap` and retrieves the whole result."
    ),
    "Stream: its end lacks output that it sent before": (
        "Retrieves the job. If that result lacks the output, too, emits `output_from_stream` and "
        "uses the streamed output."
    ),
    "Stream: text that comes without deltas": (
        "Emits the missing text as a delta. If the whole text contradicts its deltas, emits "
        "`stream_gap`."
    ),
    "Poll: 404 while the job's stream is open": (
        "Keeps polling as long as anything arrives on the stream, even comments."
    ),
    "Stream: malformed events, `error`, `keepalive` or unknown events": (
        "Skips them. If they end the stream, retrieves the job."
    ),
    "Stream: the create's stream fails before its first event": (
        "Sends no second create. Exit 6; the local state records the job's outcome as unknown."
    ),
    # The end of a job
    "The job ends as failed, incomplete, cancelled or expired": (
        "Exit 4, with the reason in `final`. Partial output is saved."
    ),
    "The job completes without the text that was asked for": (
        "Emits `output_text_missing` with the reason. Exit 10; an existing file stays as it was."
    ),
    "The wait limit is reached": (
        "Exit 3 with `next`, within a second of the limit. The job keeps running."
    ),
    # Signals
    "SIGHUP, SIGINT or SIGTERM while the command sleeps, polls or saves": (
        "Emits `interrupted` and exits with 129, 130 or 143 within a second. The job keeps running."
    ),
    "A signal while the create is in flight": (
        "Waits up to 5 s for the reply, then stores and reports its ID. "
        "Without a reply, the outcome is unknown."
    ),
    "A signal with `--cancel-on-interrupt`": "Cancels the job and confirms that within 5 s.",
    # The local machine
    "stdout is closed early (`| head -1`)": (
        "Exits with 141 and no message. The local state keeps the response ID; if it can't, stderr "
        "prints the ID."
    ),
    "stdout is full (`/dev/full`)": (
        "Exits with 9 and no message. The local state keeps what was submitted."
    ),
    "Nobody reads stderr, and its pipe is full": (
        "The text is dropped. The job is followed as usual, and the last line is printed."
    ),
    "The disk fills up, or the output directory becomes unwritable, during the wait": (
        "Exit 9. `next` saves the result later. (At the start: exit 2, nothing is sent.)"
    ),
    "An output file can be written, but not replaced": (
        "Its content is overwritten in place, with a `written_in_place` warning."
    ),
    "The results file is removed, renamed, replaced or truncated during a run": (
        "At its end, the run writes the lost results again, and emits `results_changed`. If the "
        "path now has a file with other content, that file stays unchanged: exit 9."
    ),
    "An output file is a named pipe that nobody reads": (
        "Waits for a reader until the wait limit, then ends with exit 9. `next` saves the result."
    ),
    "An image or a file of the job can't be saved": (
        "Emits `write_failed` for it, and saves the others. Exit 9; `next` tries again. In a run, "
        "the job's result is added to the results file after that."
    ),
    "An image or a file of the job is lost: its container has expired, or it can't be read": (
        "Emits `write_failed` for it, and saves the others. Exit 9; `next` is null."
    ),
    "The local state is read-only, corrupt, or from a newer version": (
        "Emits a warning and continues; a corrupt file is kept under another name. With a job "
        "key, or if the state is from a newer version, nothing is sent."
    ),
    "The directory of the local state is a relative path, or unknown": (
        "Exit 2 with a hint on what to set; nothing is sent. The directory never depends on the "
        "working directory."
    ),
    "The limit of open files is low (`ulimit -n`)": (
        "The requests of a run share the connections that the limit allows. Exit 2 "
        "(`too_few_files`) if even one job needs more; nothing is sent."
    ),
    "The process can't start threads": "Works without them, but a slow disk then delays all jobs.",
    "The computer's clock jumps": (
        "No stored result is lost: only several runs, over days, can remove one."
    ),
    "Several processes use the same local state at once": "All succeed. No job is lost.",
    # Input
    "Malicious response IDs (`../x`, line breaks, 100 KB)": "Exit 2. Nothing is sent.",
    "Malicious text (escape sequences, bidi, Rich markup, lone surrogates)": (
        "Harmless with `--human`, escaped in JSON lines, unchanged in saved files."
    ),
    "An output text of 100 MB": "Succeeds. Memory use is a small multiple of the text's size.",
    # Batches
    "Batch: `kill -9` around its create": (
        "The same command continues with the batch, or creates it. Only one batch is created."
    ),
    "Batch: the reply to its create is lost": (
        "Finds the batch in the API's list by its metadata. Exit 6 if it is not listed."
    ),
    "Batch: one of its files can't be downloaded": (
        "Retries for at least 15 s, then delivers the other file. The rest counts as `missing`."
    ),
    "The results file contains the results of another batch": (
        "Exit 2, even if both batches have the same custom_ids. The file is unchanged."
    ),
    "Batch: its ID or its result lines don't have the API's format": (
        "Retrieves the batch, and reads the lines. If some can't be read, the file is saved."
    ),
    "Batch: it expires": (
        "Exit 4. Finished jobs keep their results, and the end of every job is reported."
    ),
}
"""From a fault to what happens. Both are Markdown; `|` is not escaped."""
