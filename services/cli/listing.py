"""``stillroom list``: the compressions of a server."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from services.cli.failures import reports_failures
from services.cli.options import DEFAULT_SERVER, After, All, Json, Labels, Server, read_labels
from services.cli.outcomes import following_pages

STATES = "queued, running, succeeded, failed, cancelling or cancelled"


@reports_failures
def list_compressions(
    server: Server = DEFAULT_SERVER,
    status: Annotated[str | None, typer.Option(help=f"Only those in this state: {STATES}.")] = None,
    teacher: Annotated[str | None, typer.Option(help="Only those of this teacher, as in their requests.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only those of this batch, bat_….")] = None,
    label: Labels = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Entries of a page.")] = 50,
    after: After = None,
    all_pages: All = False,
    json: Json = False,
) -> None:
    """List compressions, newest first."""
    from services.cli.tables import print_compressions
    from services.client import StillroomClient
    from services.jobs.states import JobStatus
    from workloads.spec.errors import InputError

    if status is not None and status not in set(JobStatus):
        raise InputError.of("--status", f"{status!r} is not a state.", f"Give {STATES}.")
    state, labels = JobStatus(status) if status else None, read_labels(label)
    with StillroomClient(server) as client:
        wanted = partial(client.page, status=state, batch=batch, teacher=teacher, labels=labels, limit=limit)
        page = wanted(after=after)
        for more in following_pages(page, lambda after: wanted(after=after)) if all_pages else ():
            page = more.model_copy(update={"compressions": page.compressions + more.compressions})
    if json:
        typer.echo(page.model_dump_json(indent=1))
        return
    print_compressions(page.compressions)
    if page.next is not None:
        typer.echo(f"There are more: --after {page.next}, or --all.", err=True)
