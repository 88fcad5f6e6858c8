"""Helpers of the tests of the command line: verbs as processes, and in this process."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import structlog
from typer.testing import CliRunner

from services.cli.main import app

STILLROOM = str(Path(sys.executable).parent / "stillroom")


@dataclass(frozen=True)
class Done:
    """A verb that has ended, as :class:`subprocess.CompletedProcess` describes one."""

    returncode: int
    stdout: str
    stderr: str


def run_process(*arguments, timeout=120, **environment):
    """Run ``stillroom`` as a process."""
    return subprocess.run(
        [STILLROOM, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        env=os.environ | environment,
    )


def run_here(*arguments, **environment):
    """Run ``stillroom`` in this process, which starts none and imports nothing anew; an error of ours is raised."""
    with patch.object(sys, "argv", [STILLROOM, *arguments]), _logs():
        done = CliRunner().invoke(app, list(arguments), env=environment)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


def on_server(run, server, **environment):
    """`run(*arguments)` runs a verb on a server."""

    def verb(*arguments, server=server):
        return run(*arguments, STILLROOM_SERVER=server, **environment)

    return verb


@contextmanager
def _logs():
    """Keep the logs of a service in this process out of the verb's output."""
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
    try:
        yield
    finally:
        structlog.configure(**before)  # a verb may have changed it


def json_lines(text):
    """Parse JSON lines."""
    return [json.loads(line) for line in text.splitlines()]
