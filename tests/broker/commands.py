"""The command line in this process, with what it prints and its exit code: starting Python takes a second."""

import contextlib
import io
from dataclasses import dataclass

from typer.testing import CliRunner

from cloister.cli.app import app
from cloister.cli.failures import NAMED, explain


@dataclass(frozen=True)
class Done:
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


def cloister(*words: str) -> Done:
    """Run one command, as `main` does."""
    result = CliRunner().invoke(app, words)
    if isinstance(result.exception, NAMED):
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = explain(result.exception)
        return Done(code, result.stdout, said.getvalue())
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)
