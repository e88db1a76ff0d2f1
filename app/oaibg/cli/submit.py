"""`oaibg submit`: submits a job, or a jobs file as single jobs or as one batch."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from oaibg.cli import environment
from oaibg.cli.next_command import rerun_of
from oaibg.cli.option_checks import AUTO
from oaibg.cli.options import SubmitOptions, output_of, part_of, wait_of
from oaibg.cli.path_options import check_paths
from oaibg.cli.prompt import check_prompt
from oaibg.contract.errors import UsageError
from oaibg.engine import report
from oaibg.engine.end_hints import after_dry_run
from oaibg.engine.job import Job
from oaibg.request import fields
from oaibg.request.body import Request, Settings, build_request
from oaibg.request.checks import check_complete
from oaibg.request.json_files import reading
from oaibg.request.sources import Given, Sources, check_sources, read_sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import typer

    from oaibg.cli.session import Session
    from oaibg.contract.events import DryRun, Event
    from oaibg.engine.previous import Previous
    from oaibg.request.attachments import Attachment
    from oaibg.request.jobs_file import JobsFile

_SHOWN = 3
"""Number of requests of a jobs file that a dry run prints."""
_AUTO_POLLS = (
    "--poll-seconds auto works only with --jobs-file in background mode; otherwise, give a "
    "number of seconds."
)
_NO_STREAM = "--stream can't be combined with a completion window: the API can't stream such jobs."


def run(context: typer.Context, options: SubmitOptions) -> int:
    """Submit a job or a jobs file, follow it to its end, and return the exit code."""
    session: Session = context.obj
    many = options.jobs_file is not None
    wait = wait_of(options, "summary" if many else "all")
    session.process.render(human=options.human, several=many, brief=wait.events == "summary")
    job = Job(
        submitting=True,
        is_run=many,
        streams=wait.stream,
        last_number=wait.starting_after,
        known_as=options.job_key or options.label,
        job_key=options.job_key,
        alias=options.job_key,
    )
    session.begin(job, wait, output_of(options))
    environment.base_url()  # report an invalid value before reading any file
    files = (options.tools_json_file, options.json_schema_file, options.body_json_file)
    sources = part_of(
        options,
        Sources,
        attach=tuple(options.attach or ()),
        others=files,
        deadline=session.deadline,
    )
    check_sources(sources)
    check_prompt(options)
    body = options.body_json_file
    patch = fields.read_body(body, session.deadline) if body else None
    given = read_sources(sources, patch)
    check_paths(options, attached=[attachment.path for attachment in given.attachments])
    for message in given.left_out:
        session.process.write(report.warning(session.job, "files_left_out", message))
    previous = _previous(options, session)
    settings = _settings(options, previous, patch, session.deadline)
    for flag in ("resubmit_unknown", "retry_failed"):
        if options.values()[flag] and options.job_key is None and not many:
            raise UsageError(f"--{flag.replace('_', '-')} needs --job-key or --jobs-file.")
    if many:
        return _jobs_file(options, settings, context)
    return _one_job(options, given, settings, previous, session)


def _one_job(
    options: SubmitOptions,
    given: Given,
    settings: Settings,
    previous: Previous | None,
    session: Session,
) -> int:
    batch = options.completion_window == "24h"
    if options.results_file is not None or options.max_in_flight is not None or batch:
        raise UsageError(
            "--results-file, --max-in-flight and --completion-window 24h need --jobs-file.",
            hint="For a single job, use --output-text-file, or --completion-window 2h or 8h.",
        )
    if options.max_cost_usd is not None:
        raise UsageError(
            "--max-cost-usd needs --jobs-file: the cost of a single job is known only once it has "
            "ended.",
            hint="Use --max-output-tokens to limit a job.",
        )
    if options.poll_seconds == AUTO:
        raise UsageError(_AUTO_POLLS)
    request = build_request(given.input, settings)
    if previous is not None:
        previous.check_results(request.body.get("input"))
    with reading("The request can't be sent"):
        check_complete(request.body.get("input"))
    if session.wait.stream and "background_options" in request.body:
        raise UsageError(_NO_STREAM)
    if options.dry_run:
        return session.write([_dry_run(request, session, given.attachments)])
    session.process.write(report.submit_start(request, options.job_key, options.poll_seconds))

    from oaibg.engine import commands
    from oaibg.engine.claim import Submission

    job = session.job
    submission = part_of(options, Submission, request=request, model=request.text_of("model"))
    return session.run(lambda context: commands.submit(submission, job, context))


def _jobs_file(options: SubmitOptions, settings: Settings, context: typer.Context) -> int:
    from oaibg.request.jobs_file import JobsFile

    session: Session = context.obj
    _check_file_options(options, session)
    batch = options.completion_window == "24h"
    path = str(options.jobs_file and os.path.realpath(options.jobs_file))  # the run's default key
    own = session.job
    own.note_key(options.job_key or path)
    file = JobsFile(path, settings, name=options.jobs_file, background=not batch)
    context.call_on_close(file.close)
    session.process.total = len(file.lines)
    session.process.max_cost_usd = options.max_cost_usd
    if options.max_cost_usd is not None:
        _check_prices(file)
    if options.dry_run:
        return session.write(_dry_run_file(file, options.results_file, session))

    from oaibg.many.pacing.in_flight import FIRST, MOST, InFlight
    from oaibg.many.plan import Plan

    adapts = options.max_in_flight == AUTO
    in_flight = FIRST if adapts or options.max_in_flight is None else options.max_in_flight
    session.begin(own, session.wait, session.output, rerun_of(context))
    plan = part_of(
        options,
        Plan,
        file=file,
        key=str(own.job_key),
        results_path=str(options.results_file),
        max_in_flight=in_flight,
        slots=InFlight(FIRST, MOST) if adapts else None,
        learns_polls=options.poll_seconds == AUTO,
    )
    if batch:
        from oaibg.many.batch.run_as_batch import submit_batch

        return session.run(lambda context: submit_batch(plan, own, context, detach=options.detach))

    from oaibg.many.run_in_background import submit_file

    # `auto` may poll as often as every second.
    rate = (MOST if adapts else in_flight) / (1.0 if plan.learns_polls else options.poll_seconds)
    return session.run(lambda context: submit_file(plan, own, context), rate=rate, slots=plan.slots)


def _previous(options: SubmitOptions, session: Session) -> Previous | None:
    """Return the response that --continue names."""
    if options.continue_ is None:
        return None
    if options.previous_response_id is not None:
        raise UsageError("--continue and --previous-response-id can't be combined.")

    from contextlib import closing

    from oaibg.base.clock import RealClock
    from oaibg.engine.previous import find_previous

    base_url = environment.without_credentials(environment.base_url())
    store, problem = session.open_store()
    with closing(store):
        return find_previous(options.continue_, store, problem, base_url, RealClock())


def _settings(
    options: SubmitOptions, previous: Previous | None, body: dict[str, Any] | None, deadline: float
) -> Settings:
    """Return the fields of the request other than its input; reads the files they come from."""
    window, tools, schema = (
        options.completion_window,
        options.tools_json_file,
        options.json_schema_file,
    )
    return part_of(
        options,
        Settings,
        completion_window=None if window == "24h" else window,
        previous_response_id=previous.response_id if previous else options.previous_response_id,
        tools=fields.read_tools(tools, deadline) if tools else None,
        text_format=fields.read_json_schema(schema, deadline) if schema else None,
        metadata=fields.parse_metadata(list(options.metadata or [])),
        body=body,
    )


def _check_file_options(options: SubmitOptions, session: Session) -> None:
    if options.results_file is None and not options.dry_run:
        raise UsageError("--jobs-file needs --results-file PATH, the file for the results.")
    if options.output_json_file or options.output_text_file:
        raise UsageError(
            "--output-json-file and --output-text-file can only be used with one job; with "
            "--jobs-file, all results are written to --results-file."
        )
    if options.starting_after is not None:
        raise UsageError("--starting-after can only be used with one job.")
    if options.detach and options.completion_window != "24h":
        raise UsageError(
            "--detach with --jobs-file needs --completion-window 24h.",
            hint="Use --max-wait-seconds instead, and resume the run with the same command.",
        )
    if session.wait.stream and options.completion_window is not None:
        raise UsageError(_NO_STREAM)
    if options.max_cost_usd is not None and options.completion_window == "24h":
        raise UsageError(
            "--max-cost-usd can't be combined with --completion-window 24h: a batch is submitted "
            "as a whole.",
            hint="Split the jobs file, and run the parts one after the other.",
        )
    if options.poll_seconds == AUTO and options.completion_window == "24h":
        raise UsageError(_AUTO_POLLS)


def _check_prices(file: JobsFile) -> None:
    """Raise `UsageError` unless the cost of each job can be estimated."""
    from oaibg.engine.cost import has_prices, is_priced

    if not has_prices():
        raise UsageError(
            "--max-cost-usd needs the extra `cost`, which is not installed.",
            hint="Install oaibg as before, but '.[cost]' in place of '.': pip install '.[cost]'",
        )
    priced = {model for model in {line.model for line in file.lines} if is_priced(model)}
    line = next((line for line in file.lines if line.model not in priced), None)
    if line is not None:
        raise UsageError(
            f"{file.path}: line {line.number}: the price of the model {line.model!r} is unknown, "
            "so --max-cost-usd can't be enforced.",
            code="price_unknown",
            hint="Omit --max-cost-usd, or put jobs with such models into a file of their own. A "
            "newer price list may help: pip install --upgrade genai-prices.",
        )


def _dry_run(request: Request, session: Session, files: Iterable[Attachment] = ()) -> DryRun:
    from oaibg.contract.events import AttachedFile, DryRun
    from oaibg.request.body import canonical_json

    body = request.sent_body(stream=session.wait.stream)
    return DryRun(
        response_id=None,
        method="POST",
        url=f"{environment.without_credentials(environment.base_url())}/responses",
        body=body,
        body_bytes=len(canonical_json(body)),
        attachments=[
            AttachedFile(path=file.path, type=file.part["type"], bytes=file.bytes) for file in files
        ],
        request_sha256=request.sha256,
        job_key=session.job.job_key,
        hint=after_dry_run(),
        exit_code=0,
        next=None,
    )


def _dry_run_file(file: JobsFile, results_file: str | None, session: Session) -> Iterator[Event]:
    from oaibg.contract.events import Summary

    missing = None if results_file else "--results-file PATH"
    for line in file.lines[:_SHOWN]:
        yield _dry_run(file.request(line), session).of_many(line.custom_id)
    yield Summary(
        response_id=None,
        counts={"valid": len(file.lines)},
        elapsed_seconds=round(time.monotonic() - session.process.started, 3),
        results_file=results_file,
        job_key=session.job.job_key,
        hint=after_dry_run(len(file.lines), missing),
        exit_code=0,
        next=None,
    )
