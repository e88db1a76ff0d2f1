"""The skill's scripts run `oaibg` with the caller's options and a job key."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command

from agent_shell import FAST, LONG, MONITOR, RUN, SCRIPTS, agent_shell, call
from oaibg.cli.app import app
from oaibg.contract.errors import ExitCode
from oaibg.sandbox import Fault
from outputs import bring, completed, message, refusal
from places import SKILL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent_shell import Shell
    from forkserver import ForkServer
    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process


@pytest.fixture
def shell(sandbox: Sandbox, state: Path, tmp_path: Path, forks: ForkServer) -> Iterator[Shell]:
    """An agent's shell."""
    with agent_shell(sandbox, state, tmp_path, forks) as shell:
        yield shell


def stub_oaibg(shell: Shell, code: str) -> None:
    """Put a program of this Python code on PATH as `oaibg`."""
    stub = shell.folder / "bin" / "oaibg"
    stub.parent.mkdir()
    stub.write_text(f"#!{sys.executable} -S\n{code}\n")
    stub.chmod(0o755)
    shell.variables["PATH"] = f"{stub.parent}{os.pathsep}{os.environ['PATH']}"


def record_oaibg(shell: Shell) -> Callable[[], list[str]]:
    """Put a stub `oaibg` on PATH that records its arguments; return a function that reads them."""
    record = shell.folder / "argv"
    stub_oaibg(shell, f"import json, sys; json.dump(sys.argv[1:], open({str(record)!r}, 'w'))")

    def read() -> list[str]:
        found: list[str] = json.loads(record.read_text())
        return found

    return read


def test_run_passes_all_options_on(shell: Shell) -> None:
    """The run script passes its arguments on to `oaibg submit` unchanged."""
    argv = (
        *("--model", "m", "--reasoning-effort", "high", "--verbosity=low", "--prompt", "-x"),
        *("--prompt=-y", "--prompt-file", "a b", "--attach", "*.py"),
        *("--system-prompt", "--text-markers", "--developer-prompt", "'\"$x\n"),
        *("--poll-seconds", "1", "--max-wait-seconds", "2", "--show-output-text", "--job-key", "k"),
        *("--output-json-file", "j", "--output-text-file", "t", "--attach", "b", "--unknown", "1"),
    )
    read = record_oaibg(shell)
    assert shell.run(RUN, *argv).code == 0
    assert read() == ["submit", *argv]


def test_monitor_passes_all_options_on(shell: Shell) -> None:
    """The monitor script turns its ID into an argument, even an ID that resembles an option."""
    argv = (
        *("--poll-seconds", "1", "--max-wait-seconds=2", "--show-output-text", "--events", "all"),
        *("--output-json-file", "j", "--output-text-file", "t"),
    )
    read = record_oaibg(shell)
    for given in (("--response-id", "--x"), ("--response-id=--x",)):
        assert shell.run(MONITOR, *given, *argv).code == 0
        assert read() == ["monitor", *argv, "--", "--x"]
    shell.run(MONITOR, "--job-key", "k")
    assert read() == ["monitor", "--job-key", "k", "--"]


@pytest.mark.parametrize(
    "argv",
    [
        ("--prompt", "-x"),
        ("--prompt=--help", "--system-prompt", "--job-key"),
        ("--prompt", "--job-key=k", "--model", "m", "--reasoning-effort", "high"),
        ("--prompt-file", "prompt.md", "--verbosity", "low", "--metadata", "a=b"),
    ],
    ids=str,
)
def test_run_sends_the_same_request(shell: Shell, argv: tuple[str, ...]) -> None:
    """The run script sends the request of `oaibg submit`, and derives the key from it."""
    ours = shell.run(RUN, *argv, "--dry-run")
    assert ours.last["body"] == shell.oaibg("submit", *argv, "--dry-run").last["body"]
    assert ours.last["request_sha256"][:32] in ours.err


def test_run_ignores_prompts_beside_messages(shell: Shell) -> None:
    """As in the originals, a file of messages makes the scripts ignore the prompt options."""
    (shell.folder / "messages.json").write_text(json.dumps([{"role": "user", "content": "x"}]))
    for option in ("--messages-json-file", "--input-json-file"):
        prompts = ("--system-prompt", "s", "--developer-prompt=d")
        result = shell.run(RUN, option, "messages.json", *prompts, "--dry-run")
        assert result.code == 0
        assert result.last["body"]["input"] == [{"role": "user", "content": "x"}]
        assert "are ignored" in result.err


def test_run_retries_a_failed_job(shell: Shell, sandbox: Sandbox) -> None:
    """The same request is a new attempt after its job failed, but not while a job runs."""
    failing = ("--prompt", "x", "--metadata", "sandbox_failures=2", *FAST)
    codes = [shell.run(RUN, *failing).code for _ in range(4)]
    assert (codes, len(sandbox.posts)) == ([4, 4, 0, 0], 3)
    running = [shell.run(RUN, "--prompt", "x", "--detach", *LONG).id for _ in range(2)]
    assert (len(set(running)), len(sandbox.posts)) == (1, 4)
    shell.decided = 2


def test_a_callers_key_is_not_retried(shell: Shell, sandbox: Sandbox) -> None:
    """With the caller's own key, only `--retry-failed` makes a new attempt."""
    failed = ("--prompt", "x", "--job-key", "k", "--metadata", "sandbox_outcome=failed", *FAST)
    assert [shell.run(RUN, *failed).code for _ in range(2)] == [4, 4]
    assert len(sandbox.posts) == 1
    assert shell.run(RUN, *failed, "--retry-failed").code == 4
    assert len(sandbox.posts) == 2
    shell.decided = 1


def test_run_pays_once(shell: Shell, sandbox: Sandbox) -> None:
    """The same request is one job, whatever the wait options; another request is another job."""
    shell.variables["OAIBG_MODEL"] = "m"
    prompt = ("--prompt-file", "prompt.md")
    first = shell.run(RUN, *prompt, "--max-wait-seconds", "60", *FAST)
    (key,) = re.findall(r"The job key is (skill-\w+)\.", first.err)
    again = shell.run(RUN, *prompt, "--output-text-file", "answer.md", "--stream", *FAST)
    assert (again.code, again.id, len(sandbox.posts)) == (0, first.id, 1)
    assert shell.oaibg("show", "--job-key", key).id == first.id
    (shell.folder / "prompt.md").write_text("Something else.")
    other = shell.run(RUN, *prompt, *FAST)
    assert (other.code, len(sandbox.posts)) == (0, 2)


def test_run_takes_the_callers_key(shell: Shell, sandbox: Sandbox) -> None:
    """The run script uses the caller's key, and derives none."""
    for flag in (("--job-key", "k"), ("--job-key=k",)):
        result = shell.run(RUN, *flag, "--prompt", "x", *FAST)
        assert (result.code, result.err) == (0, "")
    assert len(sandbox.posts) == 1
    assert shell.oaibg("show", "--job-key", "k").code == 0


def test_run_keeps_an_unknown_outcome(shell: Shell, sandbox: Sandbox) -> None:
    """If the reply was lost, the request is sent again only with `--resubmit-unknown`."""
    sandbox.script(Fault(on="create", kind="reset_after"))
    assert [shell.run(RUN, "--prompt", "x", *FAST).code for _ in range(2)] == [6, 6]
    assert len(sandbox.posts) == 1
    assert shell.run(RUN, "--prompt", "x", *FAST, "--resubmit-unknown").code == 0
    shell.decided = 1


def test_run_reads_stdin(shell: Shell, sandbox: Sandbox) -> None:
    """A key is derived from a prompt on stdin as well, and the whole prompt is sent."""
    text = "é" * 100_000
    for _ in range(2):
        result = shell.run(RUN, "--prompt-file", "-", *FAST, stdin=text.encode())
        assert result.code == 0
    (post,) = sandbox.posts
    assert post.body["input"][0]["content"][0]["text"] == text


def test_run_is_clear_about_bad_options(shell: Shell, sandbox: Sandbox) -> None:
    """Bad options are reported by the lines and exit code of `oaibg`; nothing is sent."""
    for argv in (("--prompt", "x", "--nonsense"), ("--prompt-fil", "prompt.md"), ()):
        result = shell.run(RUN, *argv)
        assert (result.code, result.last["code"]) == (2, "usage")
    (shell.folder / "jobs.jsonl").write_text(
        '{"custom_id":"a","method":"POST","url":"/v1/responses","body":{"input":"x"}}'
    )
    result = shell.run(RUN, "--jobs-file", "jobs.jsonl", "--results-file", "results.jsonl")
    assert result.code == 2
    assert "--job-key" in result.err
    assert not sandbox.posts


def test_run_for_people(shell: Shell, sandbox: Sandbox) -> None:
    """The run script passes `--human` on, and derives a key as well."""
    for _ in range(2):
        result = shell.run(RUN, "--prompt", "x", "--human", *FAST)
        assert result.code == 0
        assert b"The sandbox" in result.out
    assert len(sandbox.posts) == 1


def test_scripts_end_as_oaibg_ends(shell: Shell) -> None:
    """The last line and the exit code of a script are those of `oaibg`."""
    outcome = ("--metadata", "sandbox_outcome=failed")
    failed = shell.run(RUN, "--prompt", "x", "--job-key", "k", *outcome, *FAST)
    assert (failed.code, failed.last["event"]) == (4, "final")
    seen = shell.run(MONITOR, "--response-id", failed.id, "--output-json-file", "j.json")
    assert (seen.code, seen.last["event"]) == (4, "final")
    assert json.loads((shell.folder / "j.json").read_text())["id"] == failed.id


@pytest.mark.parametrize("script", [RUN, MONITOR], ids=lambda path: path.name)
def test_scripts_pass_exit_codes_on(shell: Shell, script: Path) -> None:
    """A script prints what `oaibg` prints, and ends with its exit code."""
    stub_oaibg(shell, "import sys; print('line'); sys.exit(int(sys.argv[-1]))")
    for code in (ExitCode.OK, ExitCode.STILL_RUNNING, ExitCode.NOT_FOUND, ExitCode.SIGTERM):
        result = shell.run(script, "--job-key", "k", "--", int(code))
        assert (result.code, result.out, result.err) == (code, b"line\n", "")


@pytest.mark.parametrize("more", [(), ("--text-markers",)], ids=str)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_command(
    shell: Shell, sandbox: Sandbox, number: signal.Signals, more: tuple[str, ...]
) -> None:
    """A signal to the script reaches `oaibg`, which detaches and emits `interrupted`."""
    submitted = shell.interrupt("submitted", number, RUN, "--prompt", "x", *LONG, *more)
    followed = shell.interrupt("poll", number, MONITOR, "--response-id", submitted.id, *more)
    for result in (submitted, followed):
        assert (result.code, result.last["event"]) == (128 + number, "interrupted")
    assert sandbox.jobs[submitted.id].cancelled is None


def test_without_oaibg(shell: Shell) -> None:
    """If `oaibg` is not on PATH, the scripts say how to install it and end with 127."""
    shell.variables["PATH"] = ""
    for argv in ((RUN, "--prompt", "x"), (MONITOR, "--response-id", "resp_1")):
        result = shell.run(sys.executable, *argv)
        assert (result.code, result.out) == (127, b"")
        assert "pipx install ." in result.err
        assert result.err.count("\n") == 1


def test_scripts_have_help(shell: Shell) -> None:
    """`--help` lists the options, even if `oaibg` is not on PATH."""
    shell.variables["PATH"] = ""
    for script, flag in ((RUN, "--prompt-file"), (MONITOR, "--response-id")):
        result = shell.run(sys.executable, script, "--help")
        assert (result.code, result.err) == (0, "")
        assert flag in result.out.decode()


def script_says(code: str, **variables: str) -> str:
    """Return what a Python process that can import the scripts prints."""
    path = {"PYTHONPATH": str(SCRIPTS), "PYTHONDONTWRITEBYTECODE": "1"}
    return call(sys.executable, "-c", code, env=os.environ | path | variables).out.decode().strip()


def test_scripts_know_the_flags() -> None:
    """The scripts' list of options without a value is that of `oaibg`, and `--text-markers`."""
    program: Any = get_command(app)
    options = [one for name in ("submit", "monitor") for one in program.commands[name].params]
    flags = {name for one in options if getattr(one, "is_flag", False) for name in one.opts}
    known = script_says("import launcher; print(*launcher.FLAGS)")
    assert set(known.split()) == flags | {"--help", "--text-markers"}


@pytest.mark.parametrize("variables", [{}, {"XDG_CONFIG_HOME": "/x"}], ids=str)
def test_scripts_know_the_default_state(variables: dict[str, str]) -> None:
    """The scripts check the directory in which `oaibg` keeps its state by default."""
    known = script_says("import launcher; print(launcher._default_state())", **variables)
    ours = "from oaibg.cli.environment import state_folder; print(state_folder())"
    assert known == script_says(ours, OAIBG_STATE_DIR="", **variables)


@pytest.mark.parametrize("config", [os.devnull, "relative"])
def test_state_falls_back_to_the_workspace(shell: Shell, sandbox: Sandbox, config: str) -> None:
    """If the home directory can't be written, the state is in the workspace, as stderr says.

    Every directory of the workspace shares it. A relative XDG_CONFIG_HOME is never followed.
    """
    shell.lose_home()
    shell.variables["XDG_CONFIG_HOME"] = config
    inner = shell.folder / "inner"
    (inner / "below").mkdir(parents=True)
    (shell.folder / ".git").mkdir()
    first = shell.run(RUN, "--prompt", "x", *FAST, cwd=inner)
    assert first.code == 0
    folder = shell.folder / ".oaibg"
    assert f"OAIBG_STATE_DIR='{folder}'" in first.err
    assert (folder / ".gitignore").read_text() == "*\n"
    for place in (inner / "below", shell.folder):
        again = shell.run(RUN, "--prompt", "x", *FAST, cwd=place)
        assert (again.id, len(sandbox.posts)) == (first.id, 1)
    assert not list(shell.folder.rglob("relative"))
    shell.states.append(folder)


def test_state_is_never_in_the_working_directory(shell: Shell, sandbox: Sandbox) -> None:
    """Without a workspace and a home directory, nothing is sent: the state has no lasting place."""
    shell.lose_home()
    before = sorted(shell.folder.iterdir())
    result = shell.run(RUN, "--prompt", "x", *FAST)
    assert (result.code, result.last["code"]) == (2, "state_unwritable")
    assert "OAIBG_STATE_DIR" in result.last["hint"]
    assert (sorted(shell.folder.iterdir()), sandbox.posts) == (before, [])


@pytest.mark.parametrize("below", [".", "scripts", "references"])
def test_scripts_are_refused_in_the_skills_folder(
    shell: Shell, sandbox: Sandbox, tmp_path: Path, below: str
) -> None:
    """In the skill's own folder, also by a link, the scripts end with 2 and leave no state."""
    shell.lose_home()
    skill = tmp_path / "skills" / SKILL.name
    shutil.copytree(SKILL, skill)
    (tmp_path / "skills" / ".git").mkdir()
    (tmp_path / "link").symlink_to(skill)
    before = sorted(tmp_path.rglob("*"))
    for script, argv in ((RUN, ("--prompt", "x")), (MONITOR, ("--response-id", "resp_1"))):
        path = skill / "scripts" / script.name
        for place in (skill, tmp_path / "link"):
            result = shell.run(path, *argv, cwd=place / below)
            assert (result.code, result.out) == (2, b"")
            assert f"Run {path} from your workspace" in result.err
    assert (sorted(tmp_path.rglob("*")), sandbox.posts) == (before, [])


def test_state_in_the_workspace_is_found_again(shell: Shell, sandbox: Sandbox) -> None:
    """A state in the workspace is used even if the home directory can be written by then."""
    shell.lose_home()
    (shell.folder / ".git").mkdir()
    first = shell.run(RUN, "--prompt", "x", *FAST)
    shell.variables.pop("XDG_CONFIG_HOME")
    shell.variables["HOME"] = str(shell.folder / "home")
    again = shell.run(RUN, "--prompt", "x", *FAST)
    assert (again.id, len(sandbox.posts)) == (first.id, 1)
    assert not (shell.folder / "home").exists()
    shell.states.append(shell.folder / ".oaibg")


def test_run_refuses_a_pipe(shell: Shell, sandbox: Sandbox) -> None:
    """A pipe, which can be read only once, is refused: nothing hangs, and nothing is sent."""
    os.mkfifo(shell.folder / "pipe")
    result = shell.run(RUN, "--prompt-file", "pipe")
    assert (result.code, sandbox.posts) == (2, [])
    assert "Use - for stdin" in result.err


def test_monitor_takes_a_guard(shell: Shell) -> None:
    """The monitor script accepts `--` before an ID, as `next` has it if the ID needs it."""
    job = shell.oaibg("submit", "--prompt", "x", "--detach")
    result = shell.run(MONITOR, *FAST, "--", job.id)
    assert (result.code, result.id) == (0, job.id)


def test_state_stays_in_a_writable_directory(shell: Shell, sandbox: Sandbox) -> None:
    """A state directory that is set, or a writable home directory, is used unchanged."""
    assert shell.run(RUN, "--prompt", "x", *FAST).code == 0
    shell.variables.pop("OAIBG_STATE_DIR")
    home = shell.folder / "home"
    home.mkdir()
    shell.variables |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
    assert shell.run(RUN, "--prompt", "y", *FAST).code == 0
    assert not (shell.folder / ".oaibg").exists()
    (database,) = home.rglob("state.sqlite3")
    assert not list(home.rglob(".probe-*"))
    shell.states.append(database.parent)


@pytest.mark.parametrize("outcome", ["empty", "refusal"])
def test_a_completed_job_without_text(shell: Shell, sandbox: Sandbox, outcome: str) -> None:
    """With only the scripts' old options, a completed job gives 0; with newer ones, 10."""
    bring(sandbox, completed(refusal() if outcome == "refusal" else message()))
    old = shell.run(RUN, "--prompt", "x", "--show-output-text", *FAST)
    assert (old.code, json.loads(old.out.splitlines()[-1])["exit_code"]) == (0, 10)
    identifier = json.loads(old.out.splitlines()[-1])["response_id"]
    followed = shell.run(MONITOR, "--response-id", identifier, "--show-output-text")
    assert followed.code == 0
    text = ("--output-text-file", "answer.md")
    assert shell.run(RUN, "--prompt", "x", *text, *FAST).code == 10
    assert shell.run(MONITOR, f"--response-id={identifier}", *text).code == 10
