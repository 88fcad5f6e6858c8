"""``stillroom frontier``, ``candidates``, ``selections``, ``targets``: results of a finished compression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.failures import reports_failures
from services.cli.options import DEFAULT_SERVER, After, All, JobId, Json, SequenceLength, Server
from services.cli.outcomes import following_pages

if TYPE_CHECKING:
    from services.api.schemas import CandidatePage

COSTS = "params, params_without_embeddings, flops, weight_bytes, activation_bytes or latency"


@reports_failures
def frontier(
    job_id: JobId,
    server: Server = DEFAULT_SERVER,
    cost: Annotated[list[str] | None, typer.Option(help=f"{COSTS}; up to two.", show_default="flops")] = None,
    sequence_length: SequenceLength = None,
    latency_target: Annotated[
        str | None, typer.Option(help="Latency target; optional if latency was measured on only one.")
    ] = None,
    latency_percentile: Annotated[str, typer.Option(help="p50 or p95.")] = "p50",
    json: Json = False,
) -> None:
    """Show the candidates that no other beats in held-out loss and costs at once."""
    from services.cli.tables import print_frontier
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        found = client.frontier(
            job_id,
            cost or ["flops"],
            sequence_length,
            latency_target=latency_target,
            latency_percentile=latency_percentile,
        )
    if json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        print_frontier(found)


@reports_failures
def candidates(
    job_id: JobId,
    server: Server = DEFAULT_SERVER,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Entries of a page.")] = 200,
    after: After = None,
    all_pages: All = False,
    sequence_length: SequenceLength = None,
    json: Json = False,
) -> None:
    """List the scored candidates, and why some were dropped."""
    from services.cli.tables import print_candidates
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        page = client.candidates(job_id, limit=limit, after=after or "0", sequence_length=sequence_length)

        def fetch(after: str) -> CandidatePage:
            return client.candidates(job_id, limit=limit, after=after, sequence_length=sequence_length)

        for more in following_pages(page, fetch) if all_pages else ():
            page = more.model_copy(update={"candidates": page.candidates + more.candidates})
    if json:
        typer.echo(page.model_dump_json(indent=1))
        return
    print_candidates(page.candidates)
    if page.next is not None:
        typer.echo(f"There are more: --after {page.next}, or --all.", err=True)


@reports_failures
def selections(
    job_id: JobId,
    selection: Annotated[str | None, typer.Argument(metavar="SELECTION", help="Show only this one, sel_….")] = None,
    server: Server = DEFAULT_SERVER,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Entries of a page.")] = 50,
    after: After = None,
    json: Json = False,
) -> None:
    """List the selections made on a compression, newest first, or show one."""
    from services.cli.tables import budgets_of, print_selection, print_table, when
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        if selection is not None:
            one = client.selection(selection)
            if json:
                typer.echo(one.model_dump_json(indent=1))
            else:
                typer.echo(f"{one.id} is {one.status}.", err=True)
                print_selection(one)
            return
        page = client.selections(job_id, limit=limit, after=after)
    if json:
        typer.echo(page.model_dump_json(indent=1))
        return
    rows = [[one.id, one.status.value, budgets_of(one.budgets), when(one.created_at)] for one in page.selections]
    print_table("Selections", ("id", "status", "budgets", "created"), rows)
    if page.next is not None:
        typer.echo(f"There are more: --after {page.next}.", err=True)


@reports_failures
def targets(server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """List the latency targets."""
    import json as json_module

    from services.cli.tables import print_table
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        found = client.latency_targets()
    documents = [target.model_dump(mode="json") for target in found]
    if json:
        typer.echo(json_module.dumps({"latency_targets": documents}, indent=1))
        return
    columns = list(documents[0]) if documents else []
    rows = [["" if one[column] is None else str(one[column]) for column in columns] for one in documents]
    print_table("Latency targets", columns, rows)
