"""The agent skill: its pages are valid, its statements are true, and its commands work."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent_shell import (
    BIN,
    BODY,
    FAST,
    LONG,
    MONITOR,
    PAGES,
    RUN,
    agent_shell,
    call,
    documented,
)
from oaibg.contract.errors import ExitCode
from oaibg.sandbox import Fault
from pages import relative_links
from places import EXAMPLES, SKILL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_shell import Shell
    from forkserver import ForkServer
    from harness import Result
    from oaibg.sandbox import Sandbox

pytestmark = pytest.mark.process

ANSWERS = PAGES["references/answers.md"]
NOTES = PAGES["references/background_mode_notes.md"]

SUBMIT = "oaibg submit --job-key review-1 "


@pytest.fixture
def shell(sandbox: Sandbox, state: Path, tmp_path: Path, forks: ForkServer) -> Iterator[Shell]:
    """An agent's shell."""
    with agent_shell(sandbox, state, tmp_path, forks) as shell:
        yield shell


def blocks(page: str, language: str) -> list[str]:
    """Return the examples of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


# The pages


def test_is_a_valid_skill() -> None:
    """The reference validator of the Agent Skills specification accepts the skill."""
    done = call(BIN / "agentskills", "validate", SKILL)
    assert (done.code, done.err) == (0, "")


def test_interface() -> None:
    """`agents/openai.yaml` names the skill for people, within the limits of its format."""
    text = (SKILL / "agents" / "openai.yaml").read_text()
    assert re.search(r"^interface:\n", text)
    found = dict(re.findall(r'^  (\w+): "(.*)"$', text, re.MULTILINE))
    assert set(found) == {"display_name", "short_description", "default_prompt"}
    assert 25 <= len(found["short_description"]) <= 64
    assert f"${SKILL.name}" in found["default_prompt"]


def test_is_small() -> None:
    """SKILL.md, which agents load whole, has at most 7 KB; no page has the 10 KB that they cut."""
    assert len(BODY.encode()) <= 7000
    assert all(len(text.encode()) < 10_000 for text in PAGES.values())


def test_options_exist() -> None:
    """Each option that the skill names is an option of `oaibg` or of the scripts."""
    offered = {"--response-id", "--text-markers"}
    for command in ("", "submit", "monitor", "cancel", "show"):
        argv = [sys.executable, "-m", "oaibg", *command.split(), "--help"]
        text = call(*argv, env=os.environ | {"COLUMNS": "200"}).out.decode()
        offered |= set(re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE))
    pages = "".join(PAGES.values()) + RUN.read_text() + MONITOR.read_text()
    for other in ("git rev-parse --show-toplevel", "such as `--prompt-f`"):
        pages = pages.replace(other, "")
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", pages)) - offered == set()


def test_exit_codes() -> None:
    """The table has every exit code of `oaibg`; the list below it has those of others."""
    table, below = re.split("<!-- generated: exit-codes short -->|<!-- end -->", BODY)[1:]
    cells = re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
    codes = [int(code) for cell in cells for code in cell.split(",")]
    assert sorted(codes) == sorted(map(int, ExitCode))
    listed = re.findall(r"^- ([\d, ]+)[:,]", below.split("\n## ")[0], re.MULTILINE)
    assert [code for codes in listed for code in codes.split(", ")] == ["127", "124", "137"]


def test_links() -> None:
    """The files that the pages link to or name exist."""
    for page, text in PAGES.items():
        links = [link.partition("#")[0] for link in relative_links(text)]
        assert all(((SKILL / page).parent / link).is_file() for link in links)
    assert set(PAGES) - {"SKILL.md"} == set(re.findall(r"\]\(([^)]+)\)", BODY))
    assert {RUN.name, MONITOR.name} <= {
        Path(name).name for name in re.findall(r"scripts/\S+py", BODY)
    }


def test_messages_file(shell: Shell) -> None:
    """The example of a messages file is sent unchanged."""
    example = blocks(ANSWERS, "json")[0]
    (shell.folder / "messages.json").write_text(example)
    result = shell.oaibg("submit", "--messages-json-file", "messages.json", "--dry-run")
    assert result.last["body"]["input"] == json.loads(example)


def test_allowlist(shell: Shell, sandbox: Sandbox) -> None:
    """The allowlist has each kind of request that `oaibg` sends, and no others."""
    job = shell.oaibg("submit", "--prompt", "x", "--detach", *LONG)
    shell.oaibg("show", job.id)
    shell.oaibg("cancel", job.id)
    folder = ("--artifacts-dir", str(shell.folder / "out"))
    shell.oaibg("submit", "--prompt", "x", "--metadata", "sandbox_outcome=file", *folder, *FAST)
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {"input": "x"}}
    (shell.folder / "jobs.jsonl").write_text(json.dumps(line))
    batch = ("submit", "--jobs-file", "jobs.jsonl", "--completion-window", "24h", *FAST)
    sandbox.script(Fault(on="batch_create", kind="reset_after"))
    found = shell.oaibg(*batch, "--results-file", "results.jsonl")
    shell.oaibg("cancel", found.id)
    sent = {
        f"{one.method} {re.sub('/[a-z]+[_-][^/]+', '/{id}', one.path)}" for one in sandbox.requests
    }
    assert set(re.findall(r"^\| `((?:GET|POST) [^`]+)`", NOTES, re.MULTILINE)) == sent


# The commands


def test_submit_and_again(shell: Shell, sandbox: Sandbox) -> None:
    """The submit command saves the answer; run again, it saves it without a second job."""
    command = f"{documented(SUBMIT)} {' '.join(FAST)}"
    first = shell.run("sh", "-c", command)
    assert first.code == 0
    answer = (shell.folder / "answer.md").read_text()
    assert "Review this." in answer
    (shell.folder / "answer.md").unlink()
    again = shell.run("sh", "-c", command)
    assert (again.code, again.id) == (0, first.id)
    assert (shell.folder / "answer.md").read_text() == answer
    assert len(sandbox.posts) == 1


def test_slices(shell: Shell, sandbox: Sandbox) -> None:
    """A wait that ends before the job is exit 3; `next` continues until the answer is saved."""
    job = shell.documented(SUBMIT, "--detach", *LONG)
    options = " ".join((*FAST, *LONG, "--max-wait-seconds", "0.3"))
    first = shell.run("sh", "-c", f"{documented(SUBMIT)} {options}")
    assert first.last["next"][:2] == ["oaibg", "monitor"]
    slices = [first, shell.oaibg(*first.last["next"][1:])]
    assert [(one.code, one.last["event"]) for one in slices] == [(3, "timeout")] * 2
    sandbox.jobs[job.id].seconds = 0
    while slices[-1].code == 3:
        slices.append(shell.run(*slices[-1].last["next"]))
    assert slices[-1].code == 0
    assert (shell.folder / "answer.md").exists()
    assert len(sandbox.posts) == 1


def test_lost_shell(shell: Shell) -> None:
    """A job whose lines were lost is found by its key, in the list, and by its ID."""
    job = shell.documented(SUBMIT, "--detach", *LONG)
    found = (
        shell.documented("oaibg show --job-key"),
        shell.documented("oaibg monitor --job-key", "--max-wait-seconds", "0.3"),
    )
    assert [(one.code, one.id) for one in found] == [(3, job.id)] * 2
    listed = shell.documented("oaibg show --list").lines[0]
    assert (listed["job_key"], listed["response_id"]) == ("review-1", job.id)


@pytest.mark.parametrize("status", ["failed", "incomplete"])
def test_without_success(shell: Shell, sandbox: Sandbox, status: str) -> None:
    """Exit 4 gives the reason and saves partial text; `show ID` saves the whole response."""
    result = shell.documented(SUBMIT, *FAST, "--metadata", f"sandbox_outcome={status}")
    assert (result.code, result.last["status"]) == (4, status)
    assert (shell.folder / "answer.md").exists() == (status == "incomplete")
    shown = shell.documented("oaibg show resp_", response_id=result.id)
    saved = json.loads((shell.folder / "response.json").read_text())
    assert (shown.code, saved["status"]) == (4, status)
    again = shell.documented(SUBMIT, *FAST, "--metadata", f"sandbox_outcome={status}")
    assert (again.code, len(sandbox.posts)) == (4, 1)


def test_cancel(shell: Shell, sandbox: Sandbox) -> None:
    """The cancel command cancels the job."""
    job = shell.documented(SUBMIT, "--detach", *LONG)
    result = shell.documented("oaibg cancel --job-key")
    assert (result.code, result.last["status"]) == (0, "cancelled")
    assert sandbox.jobs[job.id].cancelled is not None


def test_follow_up(shell: Shell, sandbox: Sandbox) -> None:
    """The command for a follow-up continues the first job under a key of its own."""
    first = shell.documented(SUBMIT, *FAST)
    second = shell.documented("oaibg submit --job-key review-2", *FAST)
    assert (second.code, (shell.folder / "errors.md").exists()) == (0, True)
    assert sandbox.posts[-1].body["previous_response_id"] == first.id


def test_tool_calls(shell: Shell, sandbox: Sandbox) -> None:
    """The results of `calls` go back in the documented form, and the answer is saved."""
    (shell.folder / "tools.json").write_text(
        '[{"type": "function", "name": "get_weather", "parameters": {"type": "object"}}]'
    )
    wanted = ("--tools-json-file", "tools.json", "--metadata", "sandbox_outcome=function_call")
    first = shell.documented(SUBMIT, *FAST, *wanted)
    assert (first.code, (shell.folder / "answer.md").exists()) == (10, False)
    (call_,) = first.last["calls"]
    answer = json.loads(blocks(ANSWERS, "json")[1])[0] | {"call_id": call_["id"]}
    (shell.folder / "results.json").write_text(json.dumps([answer]))
    second = shell.documented("oaibg submit --job-key review-1b", *FAST, response_id=first.id)
    assert (second.code, (shell.folder / "answer.md").exists()) == (0, True)
    assert sandbox.posts[-1].body["input"] == [answer]


def run_jobs(shell: Shell, *more: str) -> Result:
    """Run the command for many jobs, which prints only the last line."""
    (block,) = [block for block in blocks(BODY, "sh") if "--jobs-file" in block]
    options = " ".join(("--max-wait-seconds 110", "--poll-seconds 0.1", *more))
    block = block.replace("--max-wait-seconds 110", options)
    result = shell.run("bash", "-c", f"{block}exit $rc")
    assert result.events == ["summary"]
    return result


def test_many_jobs(shell: Shell, sandbox: Sandbox) -> None:
    """The command for many jobs runs them all; run again, it continues the same run."""
    shutil.copy(EXAMPLES / "jobs.jsonl", shell.folder)
    for _ in range(2):
        assert run_jobs(shell).last["exit_code"] == 0
    lines = (shell.folder / "jobs.jsonl").read_text().splitlines()
    assert len(sandbox.posts) == len(lines)


def test_refused_lines(shell: Shell, sandbox: Sandbox) -> None:
    """Refused lines are listed; corrected, they run with the same key and `--retry-failed`."""
    lines: list[dict[str, Any]] = [{"custom_id": one, "prompt": one} for one in ("a", "b", "bad")]
    lines[-1] = {"custom_id": "bad", "body": {"input": "bad", "max_output_tokens": 1}}
    file = shell.folder / "jobs.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    first = run_jobs(shell).last
    assert (first["exit_code"], first["next"]) == (1, None)
    assert [one["custom_id"] for one in first["unsuccessful"]] == ["bad"]
    lines[-1]["body"] = {"input": "bad"}
    file.write_text("\n".join(map(json.dumps, lines)))
    assert run_jobs(shell, "--retry-failed").last["exit_code"] == 0
    assert len({post.response_id for post in sandbox.posts} - {None}) == 3


def test_state_in_the_workspace(shell: Shell) -> None:
    """If the home directory can't be written, the two documented lines make job keys work."""
    shell.lose_home()
    refused = shell.documented(SUBMIT, *FAST)
    assert (refused.code, refused.last["code"]) == (2, "state_unwritable")
    (block,) = [block for block in blocks(BODY, "sh") if "OAIBG_STATE_DIR" in block]
    submit = "oaibg submit --job-key k --prompt x --poll-seconds 0.1"
    assert shell.run("sh", "-c", f"{block}{submit}").code == 0
    assert (shell.folder / ".oaibg" / ".gitignore").read_text() == "*\n"
    shell.states.append(shell.folder / ".oaibg")
