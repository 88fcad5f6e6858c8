"""``stillroom whoami``: the caller's identity at a server."""

from __future__ import annotations

import typer

from services.cli.failures import reports_failures
from services.cli.options import DEFAULT_SERVER, Json, Server


@reports_failures
def whoami(server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Show the tenant, scopes, quotas and usage of STILLROOM_API_KEY."""
    from services.cli.tables import print_table
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        me = client.me()
    if json:
        typer.echo(me.model_dump_json(indent=1))
        return
    key = f"key {me.key_id}" if me.key_id else "no key"
    typer.echo(f"{me.tenant}, {key}: {', '.join(me.scopes)}", err=True)
    quotas, usage = me.quotas.model_dump(), me.usage.model_dump()
    rows = [
        (name, used, "none" if (most := quotas.get(f"max_{name}")) is None else most) for name, used in usage.items()
    ]
    print_table("Quotas", ("of", "used", "limit"), rows)
