"""Runs argv, and turns every error into one closing `error` event and one exit code."""

from __future__ import annotations

import os
import time
from typing import Any, NoReturn

import typer
from typer.main import get_command

from oaibg.cli.app import app
from oaibg.cli.session import Session
from oaibg.contract.errors import ExitCode, Internal, OaibgError, StdoutGone, UsageError


def run_process(argv: list[str], started: float) -> NoReturn:
    """Run a command, and end the process, which began at `started`."""
    session = Session(argv, owned=True, started=started)
    session.process.end(_run(session))


def main(argv: list[str]) -> int:
    """Run a command in a process that continues afterwards, and return the exit code."""
    return _run(Session(argv, owned=False, started=time.monotonic()))


def _run(session: Session) -> int:
    command, argv = get_command(app), session.argv
    if "_OAIBG_COMPLETE" in os.environ:
        from oaibg.cli.completion import enable

        enable()
    try:
        code = command(args=argv, prog_name="oaibg", standalone_mode=False, obj=session)
    except StdoutGone as gone:
        return gone.exit_code
    except SystemExit as ended:
        broken = isinstance(ended.__context__, BrokenPipeError)
        code = ExitCode.STDOUT_CLOSED if broken else ended.code
    except typer.TyperException as error:
        from oaibg.cli.suggestions import usage_error

        return _refuse(session, usage_error(error, command, argv), command)
    except typer.Abort:
        return ExitCode.SIGINT
    except UsageError as error:
        return _refuse(session, error, command)
    except OaibgError as error:
        return session.fail(error)
    except OSError as error:
        if session.process.rendering:
            return session.fail(Internal.from_bug(error))
        return ExitCode.LOCAL_IO  # no command has started: stdout failed while the help was printed
    except Exception as error:  # noqa: BLE001 - the only place that turns a bug into an event
        return session.fail(Internal.from_bug(error))
    return code if isinstance(code, int) else ExitCode.OK


def _refuse(session: Session, error: UsageError, program: Any) -> int:
    """End with a usage error; it names the job, and does not repeat a prompt."""
    from oaibg.cli.named_job import note_named
    from oaibg.cli.texts import without_texts

    error.reword(without_texts(error.message, session.argv))
    note_named(session.job, program, session.argv)
    return session.fail(error)
