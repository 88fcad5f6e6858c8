"""``stillroom prune``: remove artefacts that no job needs."""

from __future__ import annotations

import json as json_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.database import service_database
from services.cli.failures import reports_failures
from services.cli.options import Json, Storage, read_duration

if TYPE_CHECKING:
    from services.jobs.sweep import Pruned


@reports_failures
def prune(
    storage: Storage = None,
    older_than: Annotated[
        str, typer.Option(help="Age, such as 12h or 7d, at least 15m; artefacts used more recently stay.")
    ] = "1d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    json: Json = False,
) -> None:
    """Remove artefacts that no job needs any more, and lower their tenants' stored bytes.

    This works on the service's database and storage; the service may be running.
    """
    from services.jobs.sweep import prune
    from services.settings import load_settings
    from workloads.spec.errors import InputError
    from workloads.storage.storage import Storage

    since = read_duration("--older-than", older_than)
    with service_database(storage) as engine:
        settings = load_settings(storage=storage)
        place = Storage.open(settings.storage)
        # With a database elsewhere, a mistyped storage would seem to have no artefacts.
        if settings.database is not None and not place.exists("jobs"):
            raise InputError.of("--storage", f"{place.url} holds no jobs.", "Give the storage of this database.")
        found = prune(engine, place, since, dry_run=dry_run)
    if json:
        typer.echo(json_module.dumps(_document(found, dry_run=dry_run), indent=1))
    else:
        _tell(found, dry_run=dry_run)


def _document(found: Pruned, *, dry_run: bool) -> dict[str, Any]:
    removed = [
        {"path": one.path, "bytes": one.bytes, "used_at": one.used.isoformat(), "artifact": one.committed}
        for one in found.removed
    ]
    return {
        "dry_run": dry_run,
        "unused_since": found.unused_since.isoformat(),
        "removed": removed,
        "removed_bytes": found.bytes,
        "kept": found.kept,
        "given_back": found.given_back,
    }


def _tell(found: Pruned, *, dry_run: bool) -> None:
    from services.cli.tables import print_table, when

    if found.removed:
        rows = [(one.path, one.bytes, when(one.used)) for one in found.removed]
        print_table("Would go" if dry_run else "Removed", ("path", "bytes", "last used"), rows)
    artefacts = sum(one.committed for one in found.removed)
    verb = "would go" if dry_run else "removed"
    typer.echo(
        f"{artefacts} artefacts and {len(found.removed) - artefacts} leftovers {verb}, {found.bytes:,} bytes; "
        f"{found.kept} artefacts stay.",
        err=True,
    )
    for tenant, amount in sorted(found.given_back.items()):
        typer.echo(f"{tenant}: {amount:,} bytes {'would be ' if dry_run else ''}given back.", err=True)
