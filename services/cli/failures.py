"""Failures of verbs: a message on standard error, an exit code, and JSON if asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import typer

from services.cli.numbers import clean

P = ParamSpec("P")
R = TypeVar("R")

FAILED = 1
BAD_INPUT = 2
REFUSED = 3
UNREACHABLE = 4
INTERRUPTED = 130

EXIT_CODES = (
    "Exit codes: 0 done, 1 failed (the job, or the work here), 2 wrong usage or input, 3 refused by the server, "
    "4 the server does not answer, 130 interrupted."
)
_KINDS = {FAILED: "failed", BAD_INPUT: "bad_input", REFUSED: "refused", UNREACHABLE: "unreachable"}


@dataclass(frozen=True)
class Failure:
    """A failure, for people and for programs.

    Attributes:
        exit_code: Exit code of the process.
        message: The cause.
        remedy: Advice to the user.
        code: The problem's code, if the server gave one.
        errors: Findings about single fields.
    """

    exit_code: int
    message: str
    remedy: str = ""
    code: str | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)

    def tell(self, *, json: bool) -> None:
        """Print the failure on standard error, and with ``json`` also on standard output, in one line."""
        lines = [f"{error['field']}: {error['problem']} {error['remedy']}".rstrip() for error in self.errors]
        for line in lines or [f"{self.message} {self.remedy}".rstrip()]:
            typer.echo(clean(f"error: {line}"), err=True)
        if json:
            tell_json(self)


def tell_json(failure: Failure) -> None:
    """Print the failure on standard output, as the line ``{"error": …}``."""
    document = {
        "kind": _KINDS[failure.exit_code],
        "exit_code": failure.exit_code,
        "code": failure.code,
        "message": failure.message,
        "remedy": failure.remedy,
        "errors": failure.errors,
    }
    typer.echo(json.dumps({"error": document}, ensure_ascii=False))


def reports_failures(verb: Callable[P, R]) -> Callable[P, R]:
    """Report errors that users can fix as a message, without a traceback."""

    @wraps(verb)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except (RuntimeError, ValueError, OSError) as error:
            failure = _failure(error)
            if failure is None:
                raise
            failure.tell(json=bool(kwargs.get("json")))
            raise typer.Exit(failure.exit_code) from error

    return wrapped


def _failure(error: Exception) -> Failure | None:
    """Return the failure that an error is reported as; None for a programming error."""
    from services.client.errors import ApiError, ServerUnreachableError
    from workloads.spec.errors import InputError

    match error:
        case InputError():
            findings = [{"field": one.field, "problem": one.problem, "remedy": one.remedy} for one in error.errors]
            return Failure(BAD_INPUT, str(error), errors=findings)
        case ApiError(problem=problem):
            entries = [entry.model_dump() for entry in error.errors]
            remedy = "Set STILLROOM_API_KEY to a key of this server." if problem.status == 401 else ""
            return Failure(_exit_code(problem.status), str(error), remedy, problem.code, entries)
        case ServerUnreachableError():
            remedy = "Start it with `stillroom serve`, or name it with --server."
            return Failure(UNREACHABLE, str(error), remedy)
        case OSError(filename=str(), strerror=str()) if not isinstance(error, BrokenPipeError):
            return Failure(FAILED, f"{error.filename}: {error.strerror}.")
    return None


def _exit_code(status: int) -> int:
    if status in {429, 502, 503, 504}:
        return UNREACHABLE
    if status == 422:
        return BAD_INPUT
    return REFUSED if 400 <= status < 500 else FAILED
