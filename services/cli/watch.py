"""``stillroom watch``: live progress of a job or a batch."""

from __future__ import annotations

from services.cli.failures import reports_failures
from services.cli.job_verbs import After, watch_thing
from services.cli.options import DEFAULT_SERVER, Json, Patience, Server, ThingId


@reports_failures
def watch(
    thing: ThingId,
    server: Server = DEFAULT_SERVER,
    after: After = "0-0",
    patience: Patience = None,
    json: Json = False,
) -> None:
    """Show the progress of a compression, selection, plan, evaluation or batch until it ends.

    It continues after a restart of the server. With --json, each event is a line {"event": …}, and the last line has
    the document, such as {"compression": …}.
    """
    watch_thing(thing, server, after, patience, json=json)
