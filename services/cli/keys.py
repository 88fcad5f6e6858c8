"""``stillroom keys``: create, list and revoke API keys in the service's database."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.database import service_database
from services.cli.failures import reports_failures
from services.cli.options import Json, Storage, read_duration

if TYPE_CHECKING:
    from services.access.keys import ApiKey

app = typer.Typer(name="keys", help="Create, list and revoke API keys.", no_args_is_help=True)


class ScopeName(StrEnum):
    """Scopes of a key, equal to :class:`services.access.caller.Scope`, whose import would load SQLAlchemy."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


@app.command()
@reports_failures
def create(
    tenant: Annotated[str, typer.Option(help="Tenant that the key belongs to.")] = "local",
    scope: Annotated[
        list[ScopeName] | None,
        typer.Option(help="read, submit, or admin (all, of every tenant); several times. Default: read and submit."),
    ] = None,
    name: Annotated[str, typer.Option(help="A name for people.")] = "",
    expires: Annotated[str | None, typer.Option(help="Lifetime, such as 12h or 90d; default: unlimited.")] = None,
    storage: Storage = None,
    json: Json = False,
) -> None:
    """Create a key and print it; it cannot be shown again."""
    from services.access.caller import Scope
    from services.access.keys import KeyStore
    from services.jobs.rows import now

    scopes = [Scope(one) for one in scope or (ScopeName.READ, ScopeName.SUBMIT)]
    ends = None if expires is None else now() + read_duration("--expires", expires)
    with service_database(storage, make=True) as engine:
        key, text = KeyStore(engine).create(tenant, scopes, name=name, expires_at=ends)
    if json:
        _print_json({"key": text, **_document(key)})
        return
    typer.echo(text)
    typer.echo(
        f"Key {key.id} of {key.tenant}: {', '.join(sorted(key.scopes))}. It is shown only now. "
        "Programs take it from STILLROOM_API_KEY.",
        err=True,
    )


@app.command("list")
@reports_failures
def listing(
    tenant: Annotated[str | None, typer.Option(help="Only keys of this tenant.")] = None,
    storage: Storage = None,
    json: Json = False,
) -> None:
    """List the keys, without their secrets."""
    from services.access.keys import KeyStore
    from services.cli.tables import print_table, when

    with service_database(storage) as engine:
        found = KeyStore(engine).all(tenant)
    if json:
        _print_json([_document(key) for key in found])
        return
    rows = [
        [key.id, key.tenant, key.name or "-", ",".join(sorted(key.scopes)), key.state]
        + ["-" if at is None else when(at) for at in (key.expires_at, key.last_used_at)]
        for key in found
    ]
    print_table("Keys", ("id", "tenant", "name", "scopes", "state", "expires", "last used"), rows)


@app.command()
@reports_failures
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, the eight digits after srk_.")],
    storage: Storage = None,
    json: Json = False,
) -> None:
    """Revoke a key; running services refuse it within 5 s."""
    from services.access.keys import KeyStore, UnknownKeyError
    from workloads.spec.errors import InputError

    with service_database(storage) as engine:
        try:
            key = KeyStore(engine).revoke(key_id)
        except UnknownKeyError:
            raise InputError.of("ID", f"There is no key {key_id!r}.", "See `stillroom keys list`.") from None
    if json:
        _print_json(_document(key))
    else:
        typer.echo(f"Key {key.id} of {key.tenant} is revoked.", err=True)


def _document(key: ApiKey) -> dict[str, Any]:
    times = ("created_at", "expires_at", "revoked_at", "last_used_at")
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "state": key.state,
        **{name: None if (at := getattr(key, name)) is None else at.isoformat() for name in times},
    }


def _print_json(document: Any) -> None:
    import json

    typer.echo(json.dumps(document, indent=1))
