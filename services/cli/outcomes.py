"""Common parts of verbs: confirmation, the new state of a job, all pages of a list."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

import typer

if TYPE_CHECKING:
    from services.api.batch_schemas import BatchDocument
    from services.jobs.documents import EvaluationDocument, JobDocument


class Page(Protocol):
    """A page of a list."""

    @property
    def next(self) -> str | None:
        """Value of ``after`` for the next page; None at the end."""


P = TypeVar("P", bound=Page)


def following_pages(page: P, fetch: Callable[[str], P]) -> Iterator[P]:
    """Yield the pages after one, to the end.

    Raises:
        ApiError: The server repeats a cursor, so the pages would never end.
    """
    from services.client.errors import not_understood

    seen = set[str]()
    while page.next is not None:
        if page.next in seen:
            raise not_understood("The server", "GET", "a list", "its pages lead in a circle")
        seen.add(page.next)
        page = fetch(page.next)
        yield page


def sure(question: str, *, yes: bool) -> None:
    """Ask a person to confirm.

    Raises:
        InputError: There is no terminal for the question, and ``--yes`` is not given.
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
    """Print the state of a job or batch after a request for a change."""
    typer.echo(found.model_dump_json(indent=1) if json else f"{found.id} is {found.status}.")


def tell_forgotten(found_id: str, *, json: bool) -> None:
    """Print that a job or batch is deleted."""
    typer.echo(json_module.dumps({"deleted": found_id}) if json else f"{found_id} is deleted.")
