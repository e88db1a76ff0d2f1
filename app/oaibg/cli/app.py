"""The Typer app: four thin commands. Each parses, builds what its job function needs, and runs it.

Importing this must stay cheap: the SDK, SQLite, asyncio and Rich are imported where they are used.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from oaibg import __version__
from oaibg.api.payload import is_batch_id
from oaibg.cli import environment
from oaibg.cli import options as o
from oaibg.cli.typer_classes import Command, Group
from oaibg.contract.errors import ExitCode, Internal, OaibgError, StdoutGone, UsageError
from oaibg.engine.job import Job, Output, Wait, program
from oaibg.process.lifecycle import Process, allow_connections

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterable

    from oaibg.api.calls import Calls
    from oaibg.api.client import Api
    from oaibg.base.clock import Clock
    from oaibg.contract.events import DryRun, Event
    from oaibg.engine.context import Tools
    from oaibg.many import in_background as runs
    from oaibg.request.attachments import Attachment
    from oaibg.request.body import Request, Settings
    from oaibg.request.jobs_file import JobsFile

DEFAULT_MODEL = "gpt-5.2"
MAX_IN_FLIGHT = 50

_NO_STREAM = "--stream is not possible for a job that may take its time (--completion-window)."

app = typer.Typer(
    name="oaibg",
    cls=Group,
    help="Run OpenAI Responses API jobs in background mode and follow them to their end, as JSON "
    "lines on stdout: no job is lost, and none is paid twice.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
)


def run_process(argv: list[str], started: float) -> NoReturn:
    """Run a command in a process of its own, and end it.

    Args:
        argv: what follows the program's name.
        started: `time.monotonic()` at the process's start, from which waits count.
    """
    process = Process(owned=True, started=started, job=_job_of(argv), argv=argv)
    process.end(_run(argv, process))


def main(argv: list[str]) -> int:
    """Run a command in a process that goes on afterwards; gives the exit code."""
    process = Process(owned=False, started=time.monotonic(), job=_job_of(argv), argv=argv)
    return _run(argv, process)


def _job_of(argv: list[str]) -> Job:
    """What is known before the options are read: whether an outcome is to be told."""
    return Job(submitting=argv[:1] == ["submit"])


def _run(argv: list[str], process: Process) -> int:
    """Every error becomes one closing `error` event and one exit code here."""
    try:
        code = app(args=argv, prog_name="oaibg", standalone_mode=False, obj=process)
    except StdoutGone as gone:
        return gone.exit_code
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            return ExitCode.STDOUT_CLOSED
        return ended.code if isinstance(ended.code, int) else ExitCode.OK
    except typer.Abort:
        return ExitCode.SIGINT
    except OaibgError as error:
        return _fail(error, argv, process)
    except OSError as error:
        if process.rendering:
            return _fail(Internal.from_bug(error), argv, process)
        return ExitCode.LOCAL_IO  # no command has begun: stdout could not take the help
    except Exception as error:  # noqa: BLE001 - the one place where a bug becomes an event
        return _fail(Internal.from_bug(error), argv, process)
    return code if isinstance(code, int) else ExitCode.OK


def _fail(error: OaibgError, argv: list[str], process: Process) -> int:
    if not process.rendering:
        # The options could not be read, but these two still say who reads.
        raw = argv[:1] == ["show"] and "--output-text" in argv
        process.render(human="--human" in argv, raw=raw)
    try:
        process.write(process.job.error(error))
    except StdoutGone as gone:
        return gone.exit_code
    return error.exit_code


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"oaibg {__version__}")
        raise typer.Exit


def _print_schema(wanted: bool) -> None:
    if wanted:
        import json

        from oaibg.contract.schema import event_schema

        typer.echo(json.dumps(event_schema(), indent=2))
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    _event_schema: Annotated[
        bool,
        typer.Option(
            "--event-schema",
            callback=_print_schema,
            is_eager=True,
            help="Print the JSON Schema of the lines on stdout.",
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(cls=Command)
def submit(
    context: typer.Context,
    prompt: o.Prompt = None,
    prompt_file: o.PromptFile = None,
    system_prompt: o.SystemPrompt = None,
    developer_prompt: o.DeveloperPrompt = None,
    attach: o.Attach = None,
    messages_json_file: o.MessagesFile = None,
    input_json_file: o.InputFile = None,
    model: o.Model = DEFAULT_MODEL,
    reasoning_effort: o.ReasoningEffort = "medium",
    verbosity: o.TextVerbosity = "medium",
    instructions: o.Instructions = None,
    max_output_tokens: o.MaxOutputTokens = None,
    completion_window: o.CompletionWindow = None,
    previous_response_id: o.PreviousResponseId = None,
    tools_json_file: o.ToolsFile = None,
    json_schema_file: o.SchemaFile = None,
    metadata: o.Metadata = None,
    body_json_file: o.BodyFile = None,
    dry_run: o.DryRunFlag = False,
    job_key: o.JobKey = None,
    resubmit_unknown: o.ResubmitUnknown = False,
    jobs_file: o.JobsFilePath = None,
    results_file: o.ResultsFilePath = None,
    max_in_flight: o.MaxInFlight = None,
    poll_seconds: o.PollSeconds = Wait.poll_seconds,
    max_wait_seconds: o.MaxWaitSeconds = None,
    detach: o.Detach = False,
    cancel_on_interrupt: o.CancelOnInterrupt = False,
    events: o.EventsChoice = None,
    stream: o.Stream = False,
    stream_text: o.StreamText = False,
    starting_after: o.StartingAfter = None,
    show_output_text: o.ShowOutputText = False,
    output_json_file: o.OutputJsonFile = None,
    output_text_file: o.OutputTextFile = None,
    human: o.HumanFlag = False,
) -> int:
    """Submit a job, or a file of them, and follow it to its end."""
    from oaibg.request import fields
    from oaibg.request.body import Settings, build_request
    from oaibg.request.sources import Sources, read_sources

    process: Process = context.obj
    process.render(human=human, several=jobs_file is not None)
    job = process.job = Job(
        wait=_wait(
            poll_seconds,
            max_wait_seconds,
            cancel_on_interrupt,
            events or (Wait.events if jobs_file is None else "changes"),
            stream,
            stream_text,
            starting_after,
        ),
        output=_output(
            output_json_file, output_text_file, show_output_text, human, jobs_file is not None
        ),
        submitting=True,
    )
    base_url = environment.base_url()
    sources = Sources(
        prompt=prompt,
        prompt_file=prompt_file,
        system_prompt=system_prompt,
        developer_prompt=developer_prompt,
        attach=tuple(attach or ()),
        messages_json_file=messages_json_file,
        input_json_file=input_json_file,
        jobs_file=jobs_file,
        others=(tools_json_file, json_schema_file, body_json_file),
    )
    given = read_sources(sources)
    batch = completion_window == "24h"
    settings = Settings(
        model=model,
        reasoning_effort=reasoning_effort,
        verbosity=verbosity,
        instructions=instructions,
        max_output_tokens=max_output_tokens,
        completion_window=None if batch else completion_window,
        previous_response_id=previous_response_id,
        tools=fields.read_tools(tools_json_file) if tools_json_file else None,
        text_format=fields.read_json_schema(json_schema_file) if json_schema_file else None,
        metadata=fields.parse_metadata(metadata or []),
        body=fields.read_object(body_json_file) if body_json_file else None,
    )
    if resubmit_unknown and job_key is None and jobs_file is None:
        raise UsageError("--resubmit-unknown needs --job-key: it decides for that key's job.")
    if jobs_file is not None:
        _check_file_options(job, results_file, completion_window, detach=detach, dry_run=dry_run)
        file = _read_jobs(jobs_file, settings, batch=batch)
        process.total = len(file.lines)
        context.call_on_close(file.close)
        if dry_run:
            return _dry_run_jobs(file, base_url, process, stream=job.wait.stream)
        _go_on_with(job, process)

        from oaibg.many import in_background as runs

        plan = runs.Plan(
            file=file,
            key=job_key or jobs_file,
            results_path=str(results_file),
            max_in_flight=max_in_flight or MAX_IN_FLIGHT,
            completion_window=completion_window,
            resubmit_unknown=resubmit_unknown,
        )
        if batch:
            return _run_batch(plan, job, process, base_url, detach=detach)
        rate = plan.max_in_flight / poll_seconds
        return _run_job(process, base_url, lambda tools: runs.submit_file(plan, job, tools), rate)
    if results_file is not None or max_in_flight is not None or batch:
        raise UsageError(
            "--results-file, --max-in-flight and --completion-window 24h go with --jobs-file."
        )
    request = build_request(given.input, settings)
    if job.wait.stream and "background_options" in request.body:
        raise UsageError(_NO_STREAM)
    if dry_run:
        process.write(_dry_run(request, base_url, given.attachments, stream=job.wait.stream))
        return ExitCode.OK
    process.write(job.submit_start(request, job_key))

    from oaibg.engine import commands as jobs
    from oaibg.engine.create import Submission

    submission = Submission(
        request=request,
        model=request.text_of("model"),
        completion_window=completion_window,
        job_key=job_key,
        resubmit_unknown=resubmit_unknown,
        detach=detach,
    )
    return _run_job(process, base_url, lambda tools: jobs.submit(submission, job, tools))


@app.command(cls=Command)
def monitor(
    context: typer.Context,
    response_ids: o.ResponseIds = None,
    job_key: o.KeyOfJob = None,
    poll_seconds: o.PollSeconds = Wait.poll_seconds,
    max_wait_seconds: o.MaxWaitSeconds = None,
    cancel_on_interrupt: o.CancelOnInterrupt = False,
    events: o.EventsChoice = None,
    stream: o.Stream = False,
    stream_text: o.StreamText = False,
    starting_after: o.StartingAfter = None,
    show_output_text: o.ShowOutputText = False,
    output_json_file: o.OutputJsonFile = None,
    output_text_file: o.OutputTextFile = None,
    results_file: o.BatchResultsFile = None,
    human: o.HumanFlag = False,
) -> int:
    """Follow jobs that were submitted before, to their end."""
    process: Process = context.obj
    ids = response_ids or []
    several = _is_several(ids, process)
    process.render(human=human, several=several or results_file is not None, waiting=True)
    process.total = len(ids)
    job = process.job = Job(
        ids[0] if ids and not several else None,
        wait=_wait(
            poll_seconds,
            max_wait_seconds,
            cancel_on_interrupt,
            events or Wait.events,
            stream,
            stream_text,
            starting_after,
        ),
        output=_output(output_json_file, output_text_file, show_output_text, human, several),
    )
    _check_one(ids, job_key)
    if several and (output_json_file or output_text_file):
        raise UsageError(
            "--output-json-file and --output-text-file are for one job.",
            hint="`oaibg show ID --output-text-file PATH` saves each; the results are kept.",
        )
    if several and starting_after is not None:
        raise UsageError("--starting-after is for one job: each has numbers of its own.")
    base_url = environment.base_url()
    if results_file is not None:
        if len(ids) != 1 or not is_batch_id(ids[0]) or output_json_file or output_text_file:
            raise UsageError(
                "--results-file is for the results of one batch: give its id (batch_…) alone."
            )
        _go_on_with(job, process)

        from oaibg.many import as_batch as batches

        return _run_job(
            process,
            base_url,
            lambda tools: batches.monitor_batch(ids[0], results_file, job, tools),
        )
    if several:
        from oaibg.many import side_by_side as many

        job.again = many.monitor_command(job, ids)
        rate = len(ids) / poll_seconds
        return _run_job(process, base_url, lambda tools: many.monitor(job, ids, tools), rate)

    from oaibg.engine import commands as jobs

    target = jobs.Target(response_id=job.response_id, job_key=job_key)
    return _run_job(process, base_url, lambda tools: jobs.monitor(target, job, tools))


@app.command(cls=Command)
def cancel(
    context: typer.Context,
    response_ids: o.ResponseIds = None,
    job_key: o.KeyOfJob = None,
    human: o.HumanFlag = False,
) -> int:
    """Cancel jobs that are queued or running."""
    process: Process = context.obj
    ids = response_ids or []
    several = _is_several(ids, process)
    process.render(human=human, several=several)
    process.total = len(ids)
    job = process.job = Job(
        ids[0] if ids and not several else None, output=_output(None, None, False, human)
    )
    _check_one(ids, job_key)
    base_url = environment.base_url()
    if several:
        from oaibg.many import side_by_side as many

        rate = float(len(ids))
        return _run_job(process, base_url, lambda tools: many.cancel(job, ids, tools), rate)

    from oaibg.engine import commands as jobs

    target = jobs.Target(response_id=job.response_id, job_key=job_key)
    return _run_job(process, base_url, lambda tools: jobs.cancel(target, job, tools))


@app.command(cls=Command)
def show(
    context: typer.Context,
    response_id: o.ResponseId = None,
    job_key: o.KeyOfJob = None,
    output_text: o.OutputTextFlag = False,
    output_json_file: o.OutputJsonFile = None,
    output_text_file: o.OutputTextFile = None,
    list_: o.ListFlag = False,
    limit: o.Limit = None,
    human: o.HumanFlag = False,
) -> int:
    """Look once at a job: of an id, or the newest one submitted here."""
    process: Process = context.obj
    process.render(human=human, raw=output_text, several=list_)
    if human and output_text:
        raise UsageError("--human and --output-text exclude each other.")
    job = process.job = Job(
        response_id, output=_output(output_json_file, output_text_file, output_text, human)
    )
    if response_id is not None and job_key is not None:
        _check_one([response_id], job_key)
    single = response_id or job_key or output_text or output_json_file or output_text_file
    if list_ and single:
        raise UsageError("--list is of all jobs; it goes with --limit and --human alone.")
    if limit is not None and not list_:
        raise UsageError("--limit goes with --list.")

    from oaibg.engine import commands as jobs

    target = jobs.Target(response_id=response_id, job_key=job_key)
    if list_:
        return _run_job(
            process, environment.base_url(), lambda tools: jobs.show_list(limit, job, tools)
        )
    return _run_job(process, environment.base_url(), lambda tools: jobs.show(target, job, tools))


def _wait(
    poll_seconds: float,
    max_wait_seconds: float | None,
    cancel_on_interrupt: bool,
    events: o.Events,
    stream: bool,
    stream_text: bool,
    starting_after: int | None,
) -> Wait:
    return Wait(
        poll_seconds=poll_seconds,
        max_wait_seconds=max_wait_seconds,
        cancel_on_interrupt=cancel_on_interrupt,
        events=events,
        # All of its options ask for the stream.
        stream=stream or stream_text or starting_after is not None,
        stream_text=stream_text,
        starting_after=starting_after,
    )


def _output(
    json_file: str | None,
    text_file: str | None,
    show_output_text: bool,
    human: bool,
    several: bool = False,
) -> Output:
    if json_file is not None and text_file is not None and o.is_same_file(json_file, text_file):
        raise UsageError("--output-json-file and --output-text-file name the same file.")
    return Output(
        show_output_text=show_output_text,
        json_file=json_file,
        text_file=text_file,
        human=human,
        several=several,
    )


def _check_one(response_ids: list[str], job_key: str | None) -> None:
    if bool(response_ids) == (job_key is not None):
        raise UsageError(
            "Give either a RESPONSE_ID or --job-key KEY.",
            hint="`oaibg show --list` has the jobs that were submitted here.",
        )


def _is_several(response_ids: list[str], process: Process) -> bool:
    """Whether the run is over several jobs; ids from stdin are, however many there are."""
    return len(response_ids) > 1 or (bool(response_ids) and "-" in process.argv)


def _check_file_options(
    job: Job,
    results_file: str | None,
    completion_window: o.Window | None,
    *,
    detach: bool,
    dry_run: bool,
) -> None:
    """Raise `UsageError` where an option does not go with a jobs file."""
    if results_file is None and not dry_run:
        raise UsageError("--jobs-file needs --results-file: there all results go.")
    if job.output.json_file or job.output.text_file:
        raise UsageError(
            "--output-json-file and --output-text-file are for one job; with --jobs-file all "
            "results go into --results-file."
        )
    if job.wait.starting_after is not None:
        raise UsageError("--starting-after is for one job: each has numbers of its own.")
    if detach and completion_window != "24h":
        raise UsageError("--detach with --jobs-file needs --completion-window 24h.")
    if job.wait.stream and completion_window is not None:
        raise UsageError(_NO_STREAM)


def _run_batch(plan: runs.Plan, job: Job, process: Process, base_url: str, *, detach: bool) -> int:
    from oaibg.many import as_batch as batches

    return _run_job(
        process, base_url, lambda tools: batches.submit_batch(plan, job, tools, detach=detach)
    )


def _dry_run(
    request: Request, base_url: str, files: Iterable[Attachment] = (), *, stream: bool
) -> DryRun:
    from oaibg.contract.events import AttachedFile, DryRun
    from oaibg.request.body import canonical_json

    body = request.sent_body(stream=stream)
    return DryRun(
        response_id=None,
        method="POST",
        url=f"{environment.without_credentials(base_url)}/responses",
        body=body,
        body_bytes=len(canonical_json(body)),
        attachments=[
            AttachedFile(path=file.path, type=file.part["type"], bytes=file.bytes) for file in files
        ],
        request_sha256=request.sha256,
        exit_code=0,
    )


def _read_jobs(path: str, settings: Settings, *, batch: bool) -> JobsFile:
    from oaibg.request.jobs_file import JobsFile

    return JobsFile(path, settings, background=not batch)


def _go_on_with(job: Job, process: Process) -> None:
    """Note the command that goes on with a run: the same, with absolute paths."""
    again: list[str] = []
    argv = iter(process.argv)
    for word in argv:
        flag, equals, value = word.partition("=")
        if word in ("--detach", "--resubmit-unknown"):
            continue  # what is left to do is to wait, and a decision is not made twice
        if flag == "--instructions":
            return  # no line has what the user has written
        if flag not in o.PATHS:
            again.append(word)
            continue
        path = value if equals else next(argv)
        if path == "-":
            return  # what stdin had is gone
        again += [flag, os.path.abspath(path)]  # noqa: PTH100
    job.again = [*program(), *again]


def _dry_run_jobs(file: JobsFile, base_url: str, process: Process, *, stream: bool) -> int:
    from oaibg.contract.events import Summary

    for line in file.lines:
        event = _dry_run(file.request(line), base_url, stream=stream)
        process.write(event.of_many(line.custom_id))
    summary = Summary(
        response_id=None,
        counts={"valid": len(file.lines)},
        elapsed_seconds=round(time.monotonic() - process.started, 3),
        exit_code=ExitCode.OK,
        next=None,
    )
    process.write(summary)
    return ExitCode.OK


def _run_job(
    process: Process,
    base_url: str,
    function: Callable[[Tools], AsyncIterator[Event]],
    rate: float | None = None,
) -> int:
    """Run a job function with the real clock, client and store.

    Args:
        process: the process that it runs in.
        base_url: where the API is.
        function: gives the events.
        rate: in a run over several jobs, which share what they work with, the reads a second that
            it is going to make.
    """
    from oaibg.base.clock import RealClock
    from oaibg.engine.context import Commits, Tools, event_loop
    from oaibg.state.store import open_store

    store, problem = open_store(environment.state_folder(), keep_days=environment.keep_days())
    clock = RealClock()
    clients: list[Api] = []
    shared: list[Calls] = []
    loading: list[asyncio.Task[Api]] = []

    async def connect() -> Calls:
        if shared:
            return shared[0]
        key = environment.api_key()
        await event_loop()

        import asyncio

        if not loading:
            # In a thread a signal is answered meanwhile. It is faster, too: deep in a stack CPython
            # may allocate and free a chunk of it with every call, and an import makes many.
            loading.append(asyncio.ensure_future(asyncio.to_thread(_load_api, base_url, key)))
        api = await asyncio.shield(loading[0])
        if not shared:
            clients.append(api)
            shared.append(_paced(api, clock, rate) if rate is not None else api)
        return shared[0]

    async def close() -> None:
        for client in clients:
            await client.close()
        store.close()

    tools = Tools(
        connect=connect,
        store=store,
        state_problem=problem,
        base_url=environment.without_credentials(base_url),
        clock=clock,
        started=process.started,
        signum=lambda: process.signum,
        commits=Commits() if rate is not None else None,
    )
    return process.run(function(tools), close)


def _paced(api: Api, clock: Clock, rate: float) -> Calls:
    from oaibg.many.pace import Paced

    allow_connections()
    return Paced(api, clock, rate)


def _load_api(base_url: str, key: str) -> Api:
    from oaibg.api.client import Api

    return Api(base_url, key)
