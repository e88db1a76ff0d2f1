"""The agent skill: what it says is true, its scripts are the command, and it installs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command

from harness import Result, await_line, default_signals, environment
from ledger import audit
from oaibg.cli.app import app
from oaibg.contract.errors import ExitCode
from oaibg.sandbox import Fault
from places import ROOT, SKILL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process

BODY = (SKILL / "SKILL.md").read_text()
NOTES = (SKILL / "references" / "background_mode_notes.md").read_text()
SCRIPTS = SKILL / "scripts"
RUN, MONITOR = SCRIPTS / "run_background_response.py", SCRIPTS / "monitor_background_response.py"
BIN = Path(sys.executable).parent
FAST = ("--poll-seconds", "0.1")


def call(*argv: object, stdin: bytes | None = None, **options: Any) -> Result:
    """Run any program to its end; without a stdin unless it is given."""
    process = subprocess.Popen(
        [str(word) for word in argv],
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
    out, err = process.communicate(stdin, timeout=60)
    return Result(process.returncode, out, err.decode())


class Shell:
    """An agent's shell: an empty folder, `oaibg` on PATH, the sandbox as the API."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self.variables = variables
        self.states = [Path(variables["OAIBG_STATE_DIR"])]
        self.decided = 0

    def run(self, *argv: object, **options: Any) -> Result:
        """Run a command to its end."""
        return call(*argv, **{"cwd": self.folder, "env": self.variables, **options})

    def lose_home(self) -> None:
        """Let the default folder of the state be one that can't be made."""
        self.variables.pop("OAIBG_STATE_DIR")
        self.variables |= {"HOME": os.devnull, "XDG_CONFIG_HOME": os.devnull}

    def interrupt(self, event: str, number: signal.Signals, *argv: object) -> Result:
        """Run a command, and send it a signal at the first line of an event."""
        process = subprocess.Popen(
            [str(word) for word in argv],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=default_signals,  # noqa: PLW1509 - as for all processes of the tests
        )
        _, read = await_line(process, event)
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
        return Result(process.returncode, read + out, "")

    def documented(self, begin: str, *more: str, response_id: str = "resp_123") -> Result:
        """Run the one command of SKILL.md that begins so, with more options."""
        found = [command for command in commands(BODY) if command.startswith(begin)]
        assert len(found) == 1, f"{begin!r} is there once"
        command = found[0].replace("resp_123", response_id)
        return self.run("sh", "-c", f'{command} "$@"', "sh", *more)


@pytest.fixture
def shell(sandbox: Sandbox, state: Path, tmp_path: Path) -> Iterator[Shell]:
    """An agent's shell, with a prompt file; in the end no job was lost or paid twice."""
    folder = tmp_path / "work space"
    folder.mkdir()
    (folder / "prompt.md").write_text("Review this.")
    variables = environment(sandbox.base_url, state)
    shell = Shell(folder, variables | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"})
    yield shell
    if sandbox.posts:
        audit(sandbox, *shell.states, decided=shell.decided)


def commands(text: str) -> list[str]:
    """The commands in the `sh` blocks of a page, one line each, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+#.*", "", line) for line in lines if line]


def options_of(command: str, help_texts: dict[str, str]) -> set[str]:
    """The options that a command's help lists."""
    return set(re.findall(r"^  (--[a-z-]+)", help_texts[command], re.MULTILINE))


@pytest.fixture(scope="module")
def help_texts() -> dict[str, str]:
    """The help of each command; of the program itself under an empty name."""
    variables = os.environ | {"COLUMNS": "200"}
    texts = {}
    for name in ("", "submit", "monitor", "cancel", "show"):
        argv = [sys.executable, "-m", "oaibg", *name.split(), "--help"]
        texts[name] = call(*argv, env=variables).out.decode()
    return texts


# What the skill says


def test_is_a_valid_skill() -> None:
    """The reference validator of the Agent Skills specification accepts it."""
    done = call(BIN / "agentskills", "validate", SKILL)
    assert (done.code, done.err) == (0, "")


def test_is_small() -> None:
    """Agents load all of SKILL.md: below 250 lines, and far below 5,000 tokens."""
    assert len(BODY.splitlines()) < 250
    assert len(BODY) / 3 < 5000  # a token of English and of options has more than three characters


def test_its_options_exist(help_texts: dict[str, str]) -> None:
    """Each option that the skill names is one of the command's, or of its monitor script."""
    offered = {"--response-id"}
    for command in help_texts:
        offered |= options_of(command, help_texts)
    pages = BODY + NOTES + RUN.read_text() + MONITOR.read_text()
    pages = pages.replace("git rev-parse --show-toplevel", "")
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", pages)) - offered == set()


def test_its_exit_codes() -> None:
    """Its table has the exit codes of the command, all of them, and the scripts' 127."""
    table = BODY.split("| exit |", 1)[1].split("\n\n", 1)[0]
    cells = re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
    codes = [int(code) for cell in cells for code in cell.split(",")]
    assert sorted(codes) == sorted([*map(int, ExitCode), 127])


def test_its_links() -> None:
    """The files that its pages name are there."""
    for page, text in ((SKILL / "SKILL.md", BODY), (SKILL / "references" / "x", NOTES)):
        links = re.findall(r"\]\(([^)]+)\)", text)
        assert links
        assert all((page.parent / link).is_file() for link in links)
    assert {RUN.name, MONITOR.name} <= {
        Path(name).name for name in re.findall(r"scripts/\S+py", BODY)
    }


def test_its_messages_file(shell: Shell) -> None:
    """The example of a messages file goes out as it stands."""
    example = re.findall(r"^```json\n(.*?)^```", BODY, re.MULTILINE | re.DOTALL)[0]
    (shell.folder / "messages.json").write_text(example)
    result = shell.run("oaibg", "submit", "--messages-json-file", "messages.json", "--dry-run")
    assert result.last["body"]["input"] == json.loads(example)


def test_its_allowlist(shell: Shell, sandbox: Sandbox) -> None:
    """Its table has each kind of request that the command makes, and no others."""
    long = ("--metadata", "sandbox_seconds=60")
    job = shell.run("oaibg", "submit", "--prompt", "x", "--detach", *long)
    shell.run("oaibg", "show", job.id)
    shell.run("oaibg", "cancel", job.id)
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {"input": "x"}}
    (shell.folder / "jobs.jsonl").write_text(json.dumps(line))
    batch = ("oaibg", "submit", "--jobs-file", "jobs.jsonl", "--completion-window", "24h", *FAST)
    sandbox.script(Fault(on="batch_create", kind="reset_after"))
    found = shell.run(*batch, "--results-file", "results.jsonl")
    shell.run("oaibg", "cancel", found.id)
    made = {
        f"{one.method} {re.sub('/[a-z]+[_-][^/]+', '/{id}', one.path)}" for one in sandbox.requests
    }
    assert set(re.findall(r"^\| `((?:GET|POST) [^`]+)`", NOTES, re.MULTILINE)) == made


# What it tells an agent to run


def test_submit_and_again(shell: Shell, sandbox: Sandbox) -> None:
    """The one command saves the answer; run again, it does so without a second job."""
    first = shell.documented("oaibg submit", *FAST)
    assert first.code == 0
    answer = (shell.folder / "answer.md").read_text()
    assert "Review this." in answer
    (shell.folder / "answer.md").unlink()
    again = shell.documented("oaibg submit", *FAST)
    assert (again.code, again.id) == (0, first.id)
    assert (shell.folder / "answer.md").read_text() == answer
    assert len(sandbox.posts) == 1


def test_slices(shell: Shell, sandbox: Sandbox) -> None:
    """A wait that ends before the job is exit 3; `next`, as it stands, goes on to the answer."""
    slow = ("--metadata", "sandbox_seconds=600")
    job = shell.documented("oaibg submit", *slow, "--detach")
    slices = [shell.documented("oaibg submit", *FAST, *slow, "--max-wait-seconds", "0.3")]
    slices.append(shell.run(*slices[0].last["next"]))
    assert [(one.code, one.last["event"]) for one in slices] == [(3, "timeout")] * 2
    assert slices[0].last["next"][:2] == ["oaibg", "monitor"]
    sandbox.jobs[job.id].seconds = 0
    while slices[-1].code == 3:
        slices.append(shell.run(*slices[-1].last["next"]))
    assert slices[-1].code == 0
    assert (shell.folder / "answer.md").exists()
    assert len(sandbox.posts) == 1


def test_lost_shell(shell: Shell) -> None:
    """A job whose lines were lost is found by its key, by the list, and by its id."""
    job = shell.documented("oaibg submit", "--detach", "--metadata", "sandbox_seconds=600")
    found = (
        shell.documented("oaibg show --job-key"),
        shell.documented("oaibg monitor --job-key", "--max-wait-seconds", "0.3"),
        shell.documented("oaibg monitor resp_", "--max-wait-seconds", "0.3", response_id=job.id),
    )
    assert [(one.code, one.id) for one in found] == [(3, job.id)] * 3
    listed = shell.documented("oaibg show --list").lines[0]
    assert (listed["job_key"], listed["response_id"]) == ("review-1", job.id)


@pytest.mark.parametrize("status", ["failed", "incomplete"])
def test_without_success(shell: Shell, sandbox: Sandbox, status: str) -> None:
    """Exit 4 says why, saves what text there is, and `show ID` has the whole payload."""
    result = shell.documented("oaibg submit", *FAST, "--metadata", f"sandbox_outcome={status}")
    assert (result.code, result.last["status"]) == (4, status)
    assert (shell.folder / "answer.md").exists() == (status == "incomplete")
    shown = shell.documented("oaibg show resp_", response_id=result.id)
    assert (shown.code, shown.last["response"]["status"]) == (4, status)
    again = shell.documented("oaibg submit", *FAST, "--metadata", f"sandbox_outcome={status}")
    assert (again.code, len(sandbox.posts)) == (4, 1)


@pytest.mark.parametrize("way", ["resp_", "--job-key"])
def test_cancel(shell: Shell, sandbox: Sandbox, way: str) -> None:
    """Either of its two commands cancels the job."""
    job = shell.documented("oaibg submit", "--detach", "--metadata", "sandbox_seconds=600")
    result = shell.documented(f"oaibg cancel {way}", response_id=job.id)
    assert (result.code, result.last["status"]) == (0, "cancelled")
    assert sandbox.jobs[job.id].cancelled is not None


def test_many_jobs(shell: Shell, sandbox: Sandbox) -> None:
    """The command for many jobs runs them, and goes on with the same run."""
    inline = re.findall(r"`(oaibg submit --jobs-file [^`]+)`", BODY)
    shutil.copy(ROOT / "examples" / "jobs.jsonl", shell.folder)
    for _ in range(2):
        result = shell.run("sh", "-c", f"{inline[0]} --poll-seconds 0.1")
        assert result.code == 0
    lines = (shell.folder / "jobs.jsonl").read_text().splitlines()
    assert len(sandbox.posts) == len(lines)


def test_state_in_the_workspace(shell: Shell) -> None:
    """Where the home folder can't be written, its two lines make job keys work."""
    shell.lose_home()
    refused = shell.documented("oaibg submit", *FAST)
    assert (refused.code, refused.last["code"]) == (2, "state_unwritable")
    (block,) = re.findall(r"^```sh\n(.*?OAIBG_STATE_DIR.*?)^```", BODY, re.MULTILINE | re.DOTALL)
    told = shell.run("sh", "-c", f"{block}oaibg submit --job-key k --prompt x --poll-seconds 0.1")
    assert told.code == 0
    assert (shell.folder / ".oaibg" / ".gitignore").read_text() == "*\n"
    shell.states.append(shell.folder / ".oaibg")


# Its scripts


def record_oaibg(shell: Shell) -> Callable[[], list[str]]:
    """Put another `oaibg` on PATH that notes its arguments; gives what reads them."""
    (shell.folder / "bin").mkdir()
    stub = shell.folder / "bin" / "oaibg"
    stub.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"json.dump(sys.argv[1:], open({str(shell.folder / 'argv')!r}, 'w'))\n"
    )
    stub.chmod(0o755)
    shell.variables["PATH"] = f"{stub.parent}{os.pathsep}{os.environ['PATH']}"

    def read() -> list[str]:
        found: list[str] = json.loads((shell.folder / "argv").read_text())
        return found

    return read


def test_run_hands_every_option_on(shell: Shell) -> None:
    """What the run script is given reaches `oaibg submit` word by word."""
    argv = (
        *("--model", "m", "--reasoning-effort", "high", "--verbosity=low", "--prompt", "-x"),
        *("--prompt=-y", "--prompt-file", "a b", "--messages-json-file", "-", "--attach", "*.py"),
        *("--input-json-file", "i", "--system-prompt", "", "--developer-prompt", "'\"$x\n"),
        *("--poll-seconds", "1", "--max-wait-seconds", "2", "--show-output-text", "--job-key", "k"),
        *("--output-json-file", "j", "--output-text-file", "t", "--attach", "b", "--unknown", "1"),
    )
    read = record_oaibg(shell)
    assert shell.run(RUN, *argv).code == 0
    assert read() == ["submit", *argv]


def test_monitor_hands_every_option_on(shell: Shell) -> None:
    """The monitor script's id becomes an argument, also where it looks like an option."""
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
    """The request is that of `oaibg submit`, and a key is derived from it."""
    ours = shell.run(RUN, *argv, "--dry-run")
    assert ours.last["body"] == shell.run("oaibg", "submit", *argv, "--dry-run").last["body"]
    assert ours.last["request_sha256"][:32] in ours.err


def test_run_pays_once(shell: Shell, sandbox: Sandbox) -> None:
    """The same request is one job, however it is waited for; another request is another job."""
    shell.variables["OAIBG_MODEL"] = "m"
    prompt = ("--prompt-file", "prompt.md")
    first = shell.run(RUN, *prompt, "--max-wait-seconds", "60", *FAST)
    (key,) = re.findall(r"the job key is (skill-\w+)", first.err)
    again = shell.run(RUN, *prompt, "--output-text-file", "answer.md", "--stream", *FAST)
    assert (again.code, again.id, len(sandbox.posts)) == (0, first.id, 1)
    assert shell.run("oaibg", "show", "--job-key", key).id == first.id
    (shell.folder / "prompt.md").write_text("Something else.")
    other = shell.run(RUN, *prompt, *FAST)
    assert (other.code, len(sandbox.posts)) == (0, 2)


def test_run_takes_the_callers_key(shell: Shell, sandbox: Sandbox) -> None:
    """A key that is given is the key, and none is derived."""
    for flag in (("--job-key", "k"), ("--job-key=k",)):
        result = shell.run(RUN, *flag, "--prompt", "x", *FAST)
        assert (result.code, result.err) == (0, "")
    assert len(sandbox.posts) == 1
    assert shell.run("oaibg", "show", "--job-key", "k").code == 0


def test_run_keeps_an_unknown_outcome(shell: Shell, sandbox: Sandbox) -> None:
    """After a lost answer the same request is not sent again, unless the user decides so."""
    sandbox.script(Fault(on="create", kind="reset_after"))
    assert [shell.run(RUN, "--prompt", "x", *FAST).code for _ in range(2)] == [6, 6]
    assert len(sandbox.posts) == 1
    assert shell.run(RUN, "--prompt", "x", *FAST, "--resubmit-unknown").code == 0
    shell.decided = 1


def test_run_reads_stdin(shell: Shell, sandbox: Sandbox) -> None:
    """A prompt on stdin gives a key, too, and is sent whole."""
    text = "é" * 100_000
    for _ in range(2):
        result = shell.run(RUN, "--prompt-file", "-", *FAST, stdin=text.encode())
        assert result.code == 0
    (post,) = sandbox.posts
    assert post.body["input"][0]["content"][0]["text"] == text


def test_run_is_clear_about_bad_options(shell: Shell, sandbox: Sandbox) -> None:
    """What is wrong is told by the command's own lines and code, and nothing is sent."""
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
    """`--human` is handed on, and has a derived key, too."""
    for _ in range(2):
        result = shell.run(RUN, "--prompt", "x", "--human", *FAST)
        assert result.code == 0
        assert b"The sandbox" in result.out
    assert len(sandbox.posts) == 1


def test_scripts_end_as_the_command_ends(shell: Shell) -> None:
    """Last lines and exit codes are the command's."""
    failed = shell.run(RUN, "--prompt", "x", "--metadata", "sandbox_outcome=failed", *FAST)
    assert (failed.code, failed.last["event"]) == (4, "final")
    long = ("--prompt", "x", "--metadata", "sandbox_seconds=600")
    assert shell.run(RUN, *long, "--detach").code == 0
    assert shell.run(RUN, *long, "--max-wait-seconds", "0.3").code == 3
    seen = shell.run(MONITOR, "--response-id", failed.id, "--output-json-file", "j.json")
    assert (seen.code, seen.last["event"]) == (4, "final")
    assert json.loads((shell.folder / "j.json").read_text())["id"] == failed.id
    assert shell.run(MONITOR, "--job-key", "none").code == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_command(shell: Shell, sandbox: Sandbox, number: signal.Signals) -> None:
    """A signal to the script's process is one to the command: it detaches, and says so."""
    long = ("--prompt", "x", "--metadata", "sandbox_seconds=600")
    submitted = shell.interrupt("submitted", number, RUN, *long)
    followed = shell.interrupt("poll", number, MONITOR, "--response-id", submitted.id)
    for result in (submitted, followed):
        assert (result.code, result.last["event"]) == (128 + number, "interrupted")
    assert sandbox.jobs[submitted.id].cancelled is None


def test_without_oaibg(shell: Shell) -> None:
    """Where there is no `oaibg`, the scripts say how to install it, and end with 127."""
    shell.variables["PATH"] = ""
    for argv in ((RUN, "--prompt", "x"), (MONITOR, "--response-id", "resp_1")):
        result = shell.run(sys.executable, *argv)
        assert (result.code, result.out) == (127, b"")
        assert "pipx install ." in result.err


def test_scripts_have_help(shell: Shell) -> None:
    """`--help` names the options, also without `oaibg`."""
    shell.variables["PATH"] = ""
    for script, flag in ((RUN, "--prompt-file"), (MONITOR, "--response-id")):
        result = shell.run(sys.executable, script, "--help")
        assert (result.code, result.err) == (0, "")
        assert flag in result.out.decode()


def script_says(code: str, **variables: str) -> str:
    """What a Python that imports the scripts prints."""
    path = {"PYTHONPATH": str(SCRIPTS), "PYTHONDONTWRITEBYTECODE": "1"}
    return call(sys.executable, "-c", code, env=os.environ | path | variables).out.decode().strip()


def test_run_knows_the_flags() -> None:
    """The run script knows which options take no value: the next word is another option."""
    program: Any = get_command(app)
    options = program.commands["submit"].params
    flags = {name for one in options if getattr(one, "is_flag", False) for name in one.opts}
    told = script_says("import run_background_response as r; print(*r.FLAGS)")
    assert set(told.split()) == flags | {"--help"}


@pytest.mark.parametrize("variables", [{}, {"XDG_CONFIG_HOME": "/x"}], ids=str)
def test_scripts_know_the_state_folder(variables: dict[str, str]) -> None:
    """The scripts look where the command keeps its state."""
    told = script_says("import launcher; print(launcher._default_state())", **variables)
    assert told == script_says("import typer; print(typer.get_app_dir('oaibg'))", **variables)


@pytest.mark.parametrize("repository", [True, False])
def test_state_falls_back_to_the_workspace(
    shell: Shell, sandbox: Sandbox, repository: bool
) -> None:
    """Where the home folder can't be written the scripts keep the state here, and say so."""
    shell.lose_home()
    inner = shell.folder / "inner"
    inner.mkdir()
    if repository:
        (shell.folder / ".git").mkdir()
    first = shell.run(RUN, "--prompt", "x", *FAST, cwd=inner)
    assert first.code == 0
    folder = (shell.folder if repository else inner) / ".oaibg"
    assert f"OAIBG_STATE_DIR='{folder}'" in first.err
    assert (folder / ".gitignore").read_text() == "*\n"
    (inner / "below").mkdir()
    for place in (inner / "below", shell.folder if repository else inner):
        again = shell.run(RUN, "--prompt", "x", *FAST, cwd=place)
        assert (again.id, len(sandbox.posts)) == (first.id, 1)
    shell.states.append(folder)


def test_state_in_the_workspace_is_found_again(shell: Shell, sandbox: Sandbox) -> None:
    """Also when the home folder can be written by then: the job keys are in the workspace."""
    home = {name: shell.variables.get(name) for name in ("HOME", "XDG_CONFIG_HOME")}
    shell.lose_home()
    first = shell.run(RUN, "--prompt", "x", *FAST)
    shell.variables.pop("XDG_CONFIG_HOME")
    shell.variables["HOME"] = str(shell.folder / "home")
    again = shell.run(RUN, "--prompt", "x", *FAST)
    assert (again.id, len(sandbox.posts)) == (first.id, 1)
    assert not (shell.folder / "home").exists(), home
    shell.states.append(shell.folder / ".oaibg")


def test_run_refuses_what_is_read_once(shell: Shell, sandbox: Sandbox) -> None:
    """A pipe has nothing the second time: nothing hangs, and nothing is sent."""
    os.mkfifo(shell.folder / "pipe")
    result = shell.run(RUN, "--prompt-file", "pipe")
    assert (result.code, sandbox.posts) == (2, [])
    assert "use - for stdin" in result.err


def test_monitor_takes_a_guard(shell: Shell) -> None:
    """`next` has one before ids that begin with a hyphen."""
    job = shell.run("oaibg", "submit", "--prompt", "x", "--detach")
    result = shell.run(MONITOR, *FAST, "--", job.id)
    assert (result.code, result.id) == (0, job.id)


def test_state_stays_where_it_can_be_written(shell: Shell, sandbox: Sandbox) -> None:
    """A state that is set, or a home folder that takes it, is used as it is."""
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


# Its installer


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A copy of the skill and its installer, to make another version of it."""
    copy = tmp_path / "version"
    shutil.copytree(ROOT / "examples" / "skill", copy)
    return copy


def install(source: Path, dest: Path) -> Result:
    """Run an installer."""
    return call(sys.executable, source / "install.py", dest)


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder, by relative paths."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("dest", ["{}/a b/'$skills", "~/.agents/skills", "link"])
def test_make_install_skill(tmp_path: Path, dest: str) -> None:
    """`make install-skill` copies all of the skill, with any Python, wherever DEST says."""
    (tmp_path / "real").mkdir()
    if dest == "link":
        (tmp_path / "link").symlink_to(tmp_path / "real")
        dest = f"{tmp_path}/link"
    place = dest.format(tmp_path)
    escaped = place.replace("$", "$$")  # as make reads it
    argv = ["make", "-s", "install-skill", f"DEST={escaped}", f"PYTHON={sys.executable} -S"]
    done = call(*argv, cwd=ROOT, env=os.environ | {"HOME": str(tmp_path)})
    assert (done.code, done.err) == (0, "")
    installed = Path(place.replace("~", str(tmp_path))) / SKILL.name
    assert str(installed) in done.out.decode()
    found = files(installed)
    record = found.pop(".installed.sha256").decode()
    assert found == files(SKILL)
    assert os.access(installed / "scripts" / RUN.name, os.X_OK)
    for line in record.splitlines():
        digest, path = line.split("  ")
        assert hashlib.sha256(found[path]).hexdigest() == digest


def test_install_needs_a_destination() -> None:
    """Without DEST nothing is copied, and it is said how to give it."""
    variables = {name: value for name, value in os.environ.items() if name != "DEST"}
    done = call("make", "-s", "install-skill", cwd=ROOT, env=variables)
    assert done.code != 0
    assert "DEST=~/.agents/skills" in done.err


def test_install_twice(version: Path, tmp_path: Path) -> None:
    """Where the same is installed there is nothing to do."""
    assert install(version, tmp_path).code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / SKILL.name).rglob("*")}
    again = install(version, tmp_path)
    assert (again.code, b"up to date" in again.out) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / SKILL.name).rglob("*")} == before


def test_install_updates(version: Path, tmp_path: Path) -> None:
    """A new version replaces what was not edited, drops what it no longer has, keeps the user's."""
    installed = tmp_path / SKILL.name
    assert install(version, tmp_path).code == 0
    (installed / "scripts" / "mine.py").write_text("mine")
    (installed / "references" / "background_mode_notes.md").unlink()
    new = version / SKILL.name
    (new / "SKILL.md").write_text("new")
    (new / "scripts" / "launcher.py").unlink()
    (new / "assets").mkdir()
    (new / "assets" / "more.txt").write_text("more")
    assert install(version, tmp_path).code == 0
    found = files(installed)
    assert found.pop("scripts/mine.py") == b"mine"
    assert found.pop(".installed.sha256")
    assert found == files(new)
    assert b"up to date" in install(version, tmp_path).out


def test_install_goes_on_after_a_break(version: Path, tmp_path: Path) -> None:
    """An update that was killed between two files is completed by the next one."""
    assert install(version, tmp_path).code == 0
    for path in ("SKILL.md", "scripts/launcher.py"):
        (version / SKILL.name / path).write_text("new")
    (tmp_path / SKILL.name / "SKILL.md").write_text("new")
    assert install(version, tmp_path).code == 0
    found = files(tmp_path / SKILL.name)
    assert found.pop(".installed.sha256")
    assert found == files(version / SKILL.name)


@pytest.mark.parametrize("gone", [True, False])
def test_install_refuses_over_edits(version: Path, tmp_path: Path, gone: bool) -> None:
    """Edited files are named, and nothing at all is changed, whether the new version has them."""
    installed = tmp_path / SKILL.name
    assert install(version, tmp_path).code == 0
    (installed / "SKILL.md").write_text("edited")
    (version / SKILL.name / "scripts" / "launcher.py").write_text("new")
    if gone:
        (version / SKILL.name / "SKILL.md").unlink()
    before = files(installed)
    result = install(version, tmp_path)
    assert (result.code, result.out) == (1, b"")
    assert "  SKILL.md\n" in result.err
    assert "launcher.py" not in result.err
    assert files(installed) == before


def test_install_refuses_over_other_files(version: Path, tmp_path: Path) -> None:
    """A folder of the user's own of that name is left alone."""
    installed = tmp_path / SKILL.name
    installed.mkdir()
    (installed / "SKILL.md").write_text("mine")
    result = install(version, tmp_path)
    assert result.code == 1
    assert "  SKILL.md\n" in result.err
    assert files(installed) == {"SKILL.md": b"mine"}


def test_install_adopts_a_plain_copy(version: Path, tmp_path: Path) -> None:
    """The same files, copied by hand, count as installed, and can be updated later."""
    shutil.copytree(SKILL, tmp_path / SKILL.name)
    assert install(version, tmp_path).code == 0
    (version / SKILL.name / "SKILL.md").write_text("new")
    assert install(version, tmp_path).code == 0
    assert (tmp_path / SKILL.name / "SKILL.md").read_text() == "new"


@pytest.mark.parametrize("link", ["", "SKILL.md", "scripts", ".installed.sha256"])
def test_install_does_not_write_through_links(version: Path, tmp_path: Path, link: str) -> None:
    """What a symbolic link leads to is not touched, be it the folder or something in it."""
    elsewhere, installed = tmp_path / "elsewhere", tmp_path / "skills" / SKILL.name
    shutil.copytree(SKILL, elsewhere)
    (elsewhere / ".installed.sha256").write_text("")
    if link:
        installed.mkdir(parents=True)
    else:
        installed.parent.mkdir()
    (installed / link).symlink_to(elsewhere / link)
    before = files(elsewhere)
    (version / SKILL.name / "SKILL.md").write_text("new")
    result = install(version, tmp_path / "skills")
    assert result.code == 1
    assert "symbolic link" in result.err
    assert files(elsewhere) == before


@pytest.mark.parametrize("place", ["SKILL.md", "scripts", ""])
def test_install_refuses_what_is_of_another_kind(version: Path, tmp_path: Path, place: str) -> None:
    """A folder in a file's place, or the reverse, is named, and nothing is changed."""
    target = tmp_path / SKILL.name / place
    target.parent.mkdir(parents=True, exist_ok=True)
    if place == "SKILL.md":
        target.mkdir()
    else:
        target.write_text("mine")
    before = files(tmp_path)
    result = install(version, tmp_path)
    assert result.code == 1
    assert str(target) in result.err
    assert files(tmp_path) == before


def test_install_trusts_no_record(version: Path, tmp_path: Path) -> None:
    """A record that names files outside of the folder removes none of them."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    assert install(version, tmp_path).code == 0
    record = tmp_path / SKILL.name / ".installed.sha256"
    digest = hashlib.sha256(b"mine").hexdigest()
    record.write_text(f"{record.read_text()}{digest}  ../mine\n{digest}  {mine}\n")
    assert install(version, tmp_path).code == 0
    assert mine.read_text() == "mine"


def test_install_not_into_itself(version: Path) -> None:
    """The folder that is copied is no destination."""
    result = install(version, version)
    assert result.code == 1
    assert not (version / SKILL.name / ".installed.sha256").exists()


def test_install_is_whole_or_not_at_all(version: Path, tmp_path: Path) -> None:
    """Where the new files can't be written, the installed ones are still those of before."""
    assert install(version, tmp_path).code == 0
    before = files(tmp_path / SKILL.name)
    big = version / SKILL.name / "scripts" / "zz.bin"
    big.write_bytes(b"x" * 100_000)
    (version / SKILL.name / "SKILL.md").write_text("new")
    limited = ("sh", "-c", 'ulimit -f 20; exec "$@"', "sh")
    done = call(*limited, sys.executable, version / "install.py", tmp_path)
    assert done.code == 1
    assert done.err.startswith("Not installed:")
    assert files(tmp_path / SKILL.name) == before
    assert not list(tmp_path.glob(f".{SKILL.name}*"))
