"""``stillroom tenants``: quotas of tenants, in the service's database."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated, Any

import typer

from services.cli.database import service_database
from services.cli.failures import reports_failures
from services.cli.options import Json, Storage

_NONE = "none"
Limit = Annotated[
    str | None, typer.Option(metavar="NUMBER|none", help="A number, or none for the default of the service's settings.")
]

app = typer.Typer(name="tenants", help="Set and list the tenants' limits.", no_args_is_help=True)


@app.command("set")
@reports_failures
def set_limits(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tenant; created if it does not exist.")],
    max_running: Limit = None,
    max_unfinished: Limit = None,
    max_tokens: Limit = None,
    max_stored_bytes: Limit = None,
    storage: Storage = None,
    json: Json = False,
) -> None:
    """Set limits of a tenant; limits left out stay."""
    from services.access.tenants import TenantStore

    given = {
        "max_running": max_running,
        "max_unfinished": max_unfinished,
        "max_tokens": max_tokens,
        "max_stored_bytes": max_stored_bytes,
    }
    limits = {quota: _number(quota, text) for quota, text in given.items() if text is not None}
    with service_database(storage, make=True) as engine:
        TenantStore(engine).set(name, limits)
        _print([one for one in _documents(engine) if one["name"] == name], json=json)


@app.command("list")
@reports_failures
def listing(storage: Storage = None, json: Json = False) -> None:
    """List the tenants, their own limits and their usage."""
    with service_database(storage) as engine:
        _print(_documents(engine), json=json)


def _number(quota: str, text: str) -> int | None:
    from workloads.spec.errors import InputError

    if text == _NONE:
        return None
    if not text.isascii() or not text.isdigit() or (quota == "max_running" and int(text) == 0):
        raise InputError.of(
            f"--{quota.replace('_', '-')}", f"{text!r} is not a limit.", "Give a whole number, or none for the default."
        )
    return int(text)


def _documents(engine: Any) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from services.access.quotas import Quotas
    from services.access.tenants import TenantStore
    from services.jobs.rows import Sessions

    with Sessions(engine).reading() as session:
        return [
            {"name": one.name, **asdict(one.own), "usage": asdict(Quotas().usage(session, one.name))}
            for one in TenantStore(engine).all()
        ]


def _print(documents: list[dict[str, Any]], *, json: bool) -> None:
    from services.access.tenants import QUOTAS
    from services.cli.tables import print_table

    if json:
        typer.echo(jsonlib.dumps(documents, indent=1))
        return
    rows = []
    for one in documents:
        limits = [_NONE if one[quota] is None else one[quota] for quota in QUOTAS]
        used = [one["usage"][quota.removeprefix("max_")] for quota in QUOTAS]
        rows.append([one["name"], *(cell for pair in zip(used, limits, strict=True) for cell in pair)])
    columns = [column for quota in QUOTAS for column in (quota.removeprefix("max_"), quota.replace("_", " "))]
    print_table("Tenants", ("name", *columns), rows)
