"""The last line alone says what happened, where the answer is, and what comes next."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from harness import await_line
from oaibg.api.payload import TERMINAL
from oaibg.contract.codes import LAST_LINES
from oaibg.contract.errors import ExitCode
from oaibg.sandbox import Fault
from oaibg.sandbox.job.metadata import OUTCOMES
from obedient_agent import MOST_STEPS, ObedientAgent, words
from runs import FAST, WINDOW, line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Command, Result
    from oaibg.sandbox import Sandbox
    from runs import Files

LONGEST = 1024
"""Maximum bytes of a last line, without folders, the response, the request and what is limited on
its own: `calls` and `unsuccessful`."""

SUBMIT = ("submit", "--prompt", "hi", *FAST)
KEYED = (*SUBMIT, "--job-key", "review-1")
NOWHERE = "http://127.0.0.1:9/v1"
LOST = Fault(on="create", kind="reset_after")
DENIED = {"error": {"code": "invalid_api_key", "message": "Bad key."}}


def meta(**entries: object) -> tuple[str, ...]:
    """Return the options for metadata of the sandbox."""
    pairs = (f"sandbox_{name}={value}" for name, value in entries.items())
    return tuple(word for pair in pairs for word in ("--metadata", pair))


TEXT = ("--metadata", "sandbox_text=It is fine.")


def fault(on: str, times: int = 1, **values: Any) -> Fault:
    """Return a fault that replaces a reply."""
    return Fault(on=on, kind="status", times=times, **values)


class World:
    """What surrounds the command: the sandbox, the environment and a folder."""

    def __init__(self, sandbox: Sandbox, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.sandbox, self.folder, self._patch = sandbox, folder, patch

    def set(self, name: str, value: str | None) -> None:
        """Set a variable of the environment, or remove it."""
        if value is None:
            self._patch.delenv(name)
        else:
            self._patch.setenv(name, value)

    def block(self) -> Callable[[], object]:
        """Make the API unreachable; return what makes it reachable again."""
        self.set("OPENAI_BASE_URL", NOWHERE)
        return lambda: self.set("OPENAI_BASE_URL", self.sandbox.base_url)

    def lose_key(self) -> Callable[[], object]:
        """Remove the API key; return what sets it again."""
        self.set("OPENAI_API_KEY", None)
        return lambda: self.set("OPENAI_API_KEY", "sk-again")

    def fill(self, path: Path) -> Callable[[], object]:
        """Make a file that can't be written; return what removes it."""
        path.symlink_to("/dev/full")
        return path.unlink


@pytest.fixture
def world(
    sandbox: Sandbox, run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> World:
    """The world of the command."""
    del run  # it sets the environment first
    return World(sandbox, tmp_path, monkeypatch)


def check(line: dict[str, Any], code: int) -> None:
    """Check what every last line has."""
    assert line["event"] in LAST_LINES[ExitCode(code)][0]
    assert list(line)[-4:] == ["job_key", "hint", "exit_code", "next"]
    assert line["hint"]
    own = {key: line[key] for key in line.keys() - {"response", "body", "calls", "unsuccessful"}}
    text = json.dumps(own, separators=(",", ":"))
    assert len(re.sub(r"/[\w./-]+/", "/", text)) <= LONGEST


STORIES: dict[str, tuple[tuple[str, ...], list[Fault], list[int], int]] = {
    "an answer in a file": ((*KEYED, *TEXT, "--output-text-file", "FILE"), [], [0], 1),
    "an answer without a file": ((*KEYED, *TEXT), [], [0, 0], 1),
    "a job that runs on": ((*KEYED, *TEXT, *meta(seconds=0.4), "--detach"), [], [0, 0, 0], 1),
    "a refused request": ((*KEYED, "--max-output-tokens", "1"), [], [1], 0),
    "a wrong option": ((*KEYED, "--max-wait-seconds", "soon"), [], [2], 0),
    "a job that fails once": ((*KEYED, *TEXT, *meta(failures=1)), [], [4, 0, 0], 2),
    "a job that always fails": ((*KEYED, *meta(outcome="failed")), [], [4, 4], 2),
    "a job that is cut off": (
        (*KEYED, *TEXT, *meta(outcome="incomplete"), "--output-text-file", "FILE"),
        [],
        [4],
        1,
    ),
    "an unknown ID": (("show", "resp_unknown"), [], [5], 0),
    "an unknown key": (("monitor", "--job-key", "other", *FAST), [], [5], 0),
    "a lost reply": (KEYED, [LOST], [6], 1),
    "a refused key": (
        (*KEYED, *TEXT),
        [fault("create", status=401, body=DENIED)],
        [8, 0, 0],
        1,
    ),
    "a key that is refused later": (
        (*KEYED, *TEXT),
        [fault("retrieve", times=2, status=401, body=DENIED)],
        [8, 0, 0],
        1,
    ),
    "a proxy in the way": (
        (*KEYED, *TEXT),
        [fault("create", status=407, body="no")],
        [7, 0, 0],
        1,
    ),
    "a tool call": (
        (*KEYED, *meta(outcome="function_call"), "--output-text-file", "FILE"),
        [],
        [10, 0, 0],
        2,
    ),
    "an image": ((*KEYED, *meta(outcome="image"), "--output-text-file", "FILE"), [], [10, 0], 1),
    "a refusal": ((*KEYED, *meta(outcome="refusal")), [], [10], 1),
    "a dry run": ((*KEYED, "--dry-run"), [], [0], 0),
}
"""A command, the faults of the server, the exit codes of an agent that obeys the last lines, and
the number of jobs that exist then."""


@pytest.mark.parametrize("story", STORIES)
def test_an_agent_that_reads_only_the_last_line(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path, story: str
) -> None:
    """An agent that reads only the last line gets to the answer, or stops, and pays once."""
    argv, faults, codes, jobs = STORIES[story]
    sandbox.script(*faults)
    agent = ObedientAgent(run, tmp_path)
    agent.work(*(str(tmp_path / "answer.md") if word == "FILE" else word for word in argv))
    assert agent.codes == codes
    assert len({post.response_id for post in sandbox.posts} - {None}) == jobs
    for last, code in zip(agent.lines, codes, strict=False):
        check(last, code)
    given = argv[argv.index("--job-key") + 1] if "--job-key" in argv else None
    assert agent.lines[0]["job_key"] == given
    if "sandbox_text=It is fine." in argv and codes[-1] == 0:
        assert agent.answer == "It is fine."


@pytest.mark.parametrize("way", ["detached", "shown", "sliced", "jobs file", "batch"])
def test_next_leads_to_the_end(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, way: str
) -> None:
    """While `next` is not null, it is run; then every job has ended, and was submitted once."""
    ends = [one for one in OUTCOMES if one != "stuck"]
    more = [(*meta(outcome=one, seconds=0.2), "--job-key", one) for one in ends]
    if way in ("jobs file", "batch"):
        bodies = [{"sandbox_outcome": one, "sandbox_seconds": "0.2"} for one in ends]
        files.write(*(line(one, metadata=body) for one, body in zip(ends, bodies, strict=True)))
        window = (*WINDOW, "--detach") if way == "batch" else ("--max-wait-seconds", "0.3")
        commands = [files.argv(*window)]
    elif way == "sliced":
        commands = [(*SUBMIT, *options, "--max-wait-seconds", "0.15") for options in more]
    else:
        commands = [(*SUBMIT, *options, "--detach") for options in more]
    for argv in commands:
        last = run(*argv).last
        if way == "shown":
            last = run("show", str(last["job_key"])).last
            if last["next"] is not None:
                last["next"] += FAST  # `show` has no --poll-seconds to repeat
        for _ in range(MOST_STEPS):
            if last["next"] is not None:
                last = run(*words(last["next"])).last
            elif last["exit_code"] == ExitCode.UNAVAILABLE:
                last = run(*argv).last  # on a busy machine, the wait was too short for the create
            else:
                break
        assert (last["next"], last["exit_code"] in (0, 4, 10)) == (None, True)
        check(last, last["exit_code"])
    posts = [post for post in sandbox.posts if post.response_id is not None]
    assert len(posts) == (0 if way == "batch" else len(ends))
    assert all(job.status(time.time()) in TERMINAL for job in sandbox.jobs.values())


def test_every_code_has_its_last_line() -> None:
    """The guide's table has every exit code."""
    assert set(LAST_LINES) == set(ExitCode)


def test_the_wait_limit(run: Callable[..., Result], world: World) -> None:
    """After exit 3, the agent continues with `next`; the hint says if no request succeeded."""
    identifier = run(*KEYED, *TEXT, "--detach").id
    mend = world.block()
    first = run("monitor", identifier, *FAST, "--max-wait-seconds", "1")
    mend()
    check(first.last, 3)
    assert (first.last["status"], first.last["next"][1]) == (None, "monitor")
    assert "No request succeeded" in first.last["hint"]
    agent = ObedientAgent(run, world.folder)
    agent.work(*words(first.last["next"]))
    assert (agent.codes, agent.answer) == ([0, 0], "It is fine.")


@pytest.mark.parametrize("what", ["block", "lose_key"])
def test_nothing_was_created(run: Callable[..., Result], world: World, what: str) -> None:
    """After exit 7 or 8, the agent runs the same command again once the cause is gone."""
    mend = world.block() if what == "block" else world.lose_key()
    agent = ObedientAgent(run, world.folder, mend)
    agent.work(*KEYED, *TEXT, "--max-wait-seconds", "3")
    assert (agent.codes[1:], agent.answer) == ([0, 0], "It is fine.")
    check(agent.lines[0], 7 if what == "block" else 8)
    assert agent.lines[0]["outcome"] == "not_created"
    assert len(world.sandbox.posts) == 1


def test_a_file_that_is_not_written(run: Callable[..., Result], world: World) -> None:
    """After exit 9, the hint names the file and the cause; `next` writes it, without a new job."""
    path = world.folder / "answer.md"
    agent = ObedientAgent(run, world.folder, world.fill(path))
    agent.work(*KEYED, *TEXT, "--output-text-file", str(path))
    assert (agent.codes, agent.answer) == ([9, 0], "It is fine.")
    first, second = agent.lines
    check(first, 9)
    assert str(path) in first["hint"]
    assert (first["files"], second["files"]) == ([], [str(path)])
    assert len(world.sandbox.posts) == 1


def test_a_person_decides_to_submit_again(
    run: Callable[..., Result], sandbox: Sandbox, tmp_path: Path
) -> None:
    """After exit 6, the hint says to ask, and names the option that submits again."""
    sandbox.script(LOST)
    agent = ObedientAgent(run, tmp_path, may_pay_twice=True)
    agent.work(*KEYED, *TEXT)
    assert (agent.codes, agent.answer) == ([6, 0, 0], "It is fine.")
    assert len(sandbox.posts) == 2


@pytest.mark.parametrize("options", [(), WINDOW])
def test_a_run_over_a_jobs_file(
    run: Callable[..., Result], sandbox: Sandbox, files: Files, options: tuple[str, ...]
) -> None:
    """An agent that reads only the summary continues a run, retries it and finds its results.

    A batch does not know the number of failures, so its retry fails again.
    """
    files.write(line("a"), line("b", metadata={"sandbox_failures": "1"}))
    if options:
        files.write(line("a"), line("b", metadata={"sandbox_outcome": "failed"}))
    agent = ObedientAgent(run, files.folder)
    agent.work(*files.argv("--job-key", "run-1", *options, *(("--detach",) if options else ())))
    assert agent.codes == ([0, 4, 4] if options else [4, 0])
    for last, code in zip(agent.lines, agent.codes, strict=True):
        check(last, code)
        assert last["job_key"] == "run-1"
    assert str(files.results) in agent.lines[-1]["hint"]
    del sandbox


def test_a_run_that_can_not_continue(
    run: Callable[..., Result], world: World, files: Files
) -> None:
    """A run without a key ends with 8; once there is one, `next` completes it."""
    files.add(2)
    agent = ObedientAgent(run, files.folder, world.lose_key())
    agent.work(*files.argv())
    assert agent.codes == [8, 0]
    check(agent.lines[0], 8)
    files.check(world.sandbox, 2)


def test_cancel(run: Callable[..., Result], tmp_path: Path) -> None:
    """A cancel says how the job ended, and where the answer is if it had completed."""
    running = run(*KEYED, *meta(seconds=600), "--detach").id
    check(run("cancel", running).last, 0)
    ended = run(*SUBMIT, *TEXT).id
    last = run("cancel", ended).last
    check(last, 4)
    assert f"oaibg show {ended} --output-text" in last["hint"]
    agent = ObedientAgent(run, tmp_path)
    agent.work("show", ended)
    assert (agent.codes, agent.answer) == ([0, 0], "It is fine.")


def test_an_empty_list(run: Callable[..., Result]) -> None:
    """The summary of a list without jobs says which local state it is of."""
    last = run("show", "--list").last
    check(last, 0)
    assert "There are no jobs yet in /" in last["hint"]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("cancels", [False, True])
def test_signals(
    command: Command, tmp_path: Path, number: signal.Signals, *, cancels: bool
) -> None:
    """After a signal the agent continues with the same job, unless the signal cancelled it."""
    more = ("--cancel-on-interrupt",) if cancels else ()
    process = command.start(*KEYED, *TEXT, *meta(seconds=1), *more)
    await_line(process, "submitted")
    process.send_signal(number)
    result = command.end(process)
    assert result.code == 128 + number
    last = json.loads(result.out.splitlines()[-1])
    check(last, result.code)
    assert (last["job_key"], last["job_cancelled"]) == ("review-1", cancels)
    if cancels:
        assert last["next"] is None
        return
    agent = ObedientAgent(command.run, tmp_path)
    agent.work(*words(last["next"]))
    assert (agent.codes, agent.answer) == ([0, 0], "It is fine.")


def test_signal_while_the_answer_is_written(command: Command, tmp_path: Path) -> None:
    """The hint does not say that a job keeps running if it has ended; `next` gets its result."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    process = command.start(*SUBMIT, *TEXT, "--output-text-file", str(path))
    while await_line(process, "poll")[0]["status"] != "completed":
        pass
    process.send_signal(signal.SIGTERM)
    last = command.end(process).last
    assert (last["exit_code"], last["status"]) == (143, "completed")
    assert last["hint"].startswith("The job has ended (completed). Run `next` to get its result")
    assert last["next"] is not None


def test_a_long_line_ends_with_what_matters(run: Callable[..., Result], files: Files) -> None:
    """The last 2 KB of a long summary or response say how it ended, and what to do."""
    files.add(30, sandbox_outcome="failed")
    summary = run(*files.argv())
    assert len(summary.out.splitlines()[-1]) > 2048
    shown = run("show", str(summary.last["unsuccessful"][0]["response_id"]))
    for result, keys in ((summary, ("counts", "usage")), (shown, ("status", "error"))):
        tail = result.out.decode()[-2048:]
        for key in (*keys, "job_key", "hint", "exit_code", "next"):
            assert f'"{key}":' in tail


@pytest.mark.parametrize("more", [(), ("--detach",)])
def test_a_state_that_can_not_be_written(
    run: Callable[..., Result], world: World, more: tuple[str, ...]
) -> None:
    """If nothing was stored, the last line says to keep the ID."""
    world.set("OAIBG_STATE_DIR", "/dev/null/state")
    last = run(*SUBMIT, *TEXT, *more).last
    check(last, 0)
    assert last["hint"].endswith("The local state can't be written, so keep the response ID.")
    world.set("OAIBG_STATE_DIR", str(world.folder / "other"))
    assert "keep the response ID" not in run(*SUBMIT, *TEXT, *more).last["hint"]
