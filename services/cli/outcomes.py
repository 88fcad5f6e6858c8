"""What verbs that change something ask before, and say after."""

from __future__ import annotations

import json as json_module
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from services.api.batch_schemas import BatchDocument
    from services.jobs.documents import EvaluationDocument, JobDocument


def sure(question: str, *, yes: bool) -> None:
    """Have a person say yes, where there is one.

    Raises:
        InputError: There is none, and ``--yes`` is not given.
    """
    import sys

    from workloads.spec.errors import InputError

    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError.of("--yes", "It cannot be undone, and nobody can be asked.", "Give --yes.")
    if not typer.confirm(question, err=True):
        raise typer.Exit(0)


def tell_state(found: JobDocument | BatchDocument | EvaluationDocument, *, json: bool) -> None:
    """Say how something stands that was just asked to change."""
    typer.echo(found.model_dump_json(indent=1) if json else f"{found.id} is {found.status}.")


def tell_forgotten(found_id: str, *, json: bool) -> None:
    """Say that something is deleted."""
    typer.echo(json_module.dumps({"deleted": found_id}) if json else f"{found_id} is forgotten.")
