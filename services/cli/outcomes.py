"""What several verbs ask and say: whether a person is sure, how something stands now, and all pages of a list."""

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
        """What to give as ``after`` for the next page; None at the end."""


P = TypeVar("P", bound=Page)


def following_pages(page: P, fetch: Callable[[str], P]) -> Iterator[P]:
    """Give the pages after one, to the end.

    Raises:
        ApiError: They lead in a circle.
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
