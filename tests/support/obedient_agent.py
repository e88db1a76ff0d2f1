"""An agent that sees only the last line of each command, and does what it says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oaibg.contract.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result

MOST_STEPS = 20
"""More commands than any of these stories needs."""

_COMMAND = re.compile(r"`(oaibg [^`]+)`|: (oaibg \S.*)$")
_OPTION = re.compile(r"--job-key (\S+), and add (--[a-z-]+)")
_PLACE = re.compile(r"[Tt]he (?:partial )?answer is in (.+?)\.(?: |$)")


def words(argv: list[str]) -> list[str]:
    """Return the words of `next` after the program, which may be `python -m oaibg`."""
    (program,) = (number for number, word in enumerate(argv) if Path(word).name == "oaibg")
    return argv[program + 1 :]


class ObedientAgent:
    """Runs a command, and then what its last line says, until nothing is left to do.

    `mend` removes the cause of a failure, once: what a person or another tool does.
    """

    def __init__(
        self,
        run: Callable[..., Result],
        folder: Path,
        mend: Callable[[], object] = lambda: None,
        *,
        may_pay_twice: bool = False,
    ) -> None:
        self._run, self._folder, self._mend = run, folder, mend
        self._may_pay_twice, self._mended, self._keys = may_pay_twice, False, 0
        self.codes: list[int] = []
        self.lines: list[dict[str, Any]] = []
        self.answer: str | None = None
        """The text of the answer, or None if the last line did not say where it is."""

    def work(self, *argv: str) -> None:
        """Run a command and all that follow from it."""
        following: list[str] | None = list(argv)
        while following is not None:
            assert len(self.codes) < MOST_STEPS, self.codes
            argv = tuple(following)
            result = self._run(*argv)
            self.codes.append(result.code)
            if "--output-text" in argv:
                self.answer = result.out.decode()
                return
            self.lines.append(result.last)
            following = self._decide(result.last, list(argv))

    def _decide(self, line: dict[str, Any], argv: list[str]) -> list[str] | None:
        """Return the command to run after this line; None if there is none."""
        code, hint = line["exit_code"], str(line["hint"])
        if line["next"] is not None:
            if code in (ExitCode.AUTH, ExitCode.UNAVAILABLE, ExitCode.LOCAL_IO, ExitCode.ERROR):
                self._mend_once()
            return words(line["next"])
        if "run the same command again" in hint.lower():
            self._mend_once()
            return argv
        if code == ExitCode.OUTCOME_UNKNOWN:
            assert "Ask the person who pays" in hint or "ask the person who pays" in hint
            return self._again(argv, hint) if self._may_pay_twice else None
        is_asked = "Only if the user asks" in hint or "only if the user asks" in hint
        may_help = not is_asked and ("may be temporary" in hint or line["event"] == "summary")
        if code == ExitCode.UNSUCCESSFUL and may_help:
            return self._again(argv, hint)
        if place := _PLACE.search(hint):
            self.answer = Path(place[1]).read_text()
            return None
        if code in (ExitCode.OK, ExitCode.NEEDS_ACTION) and (found := _COMMAND.search(hint)):
            return self._fill_in(shlex.split(found[1] or found[2])[1:], line)
        return None

    def _again(self, argv: list[str], hint: str) -> list[str] | None:
        """Return the command with the option that the hint names; None if it names none."""
        if (found := _OPTION.search(hint)) is None:
            return None
        argv = [word for word in argv if word != found[2]]
        assert argv[argv.index("--job-key") + 1] == found[1]
        return [*argv, found[2]]

    def _fill_in(self, argv: list[str], line: dict[str, Any]) -> list[str]:
        outputs = [
            {"type": "function_call_output", "call_id": call["id"], "output": "21 degrees"}
            for call in line.get("calls", [])
        ]
        results = self._folder / "results.json"
        results.write_text(json.dumps(outputs))
        self._keys += 1
        key = f"answer-{self._keys}"
        places = {"PATH": str(results), "DIR": str(self._folder / "made"), "KEY": key}
        more = ["--poll-seconds", "0.05"] if argv[0] == "submit" else []
        return [places.get(word, word) for word in argv] + more

    def _mend_once(self) -> None:
        if not self._mended:
            self._mended = True
            self._mend()
