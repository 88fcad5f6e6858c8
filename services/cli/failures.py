"""How verbs end when something is wrong: a sentence and a remedy on standard error, and exit code 1 or 2."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130


def told_plainly(verb: Callable[P, R]) -> Callable[P, R]:
    """Word the errors that users can do something about, instead of a traceback."""

    @wraps(verb)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        from services.client import ApiError, ServerUnreachableError
        from workloads.errors import InputError

        try:
            return verb(*args, **kwargs)
        except InputError as error:
            for finding in error.errors:
                typer.echo(f"error: {finding}", err=True)
            raise typer.Exit(BAD_INPUT) from error
        except ApiError as error:
            for entry in error.errors:
                typer.echo(f"error: {entry.field}: {entry.problem} {entry.remedy}", err=True)
            if not error.errors:
                typer.echo(f"error: {error}", err=True)
            raise typer.Exit(BAD_INPUT if error.problem.status == 422 else FAILED) from error
        except ServerUnreachableError as error:
            typer.echo(f"error: {error} Start it with `stillroom serve`, or name it with --server.", err=True)
            raise typer.Exit(FAILED) from error

    return wrapped
