"""``stillroom watch``: live progress of a job or a batch."""

from __future__ import annotations

from services.cli.failures import told_plainly
from services.cli.job_verbs import After, watch_thing
from services.cli.options import DEFAULT_SERVER, Json, Patience, Server, ThingId


@told_plainly
def watch(
    thing: ThingId,
    server: Server = DEFAULT_SERVER,
    after: After = "0-0",
    patience: Patience = None,
    json: Json = False,
) -> None:
    """Show the progress of a compression, selection, plan, evaluation or batch until it ends.

    A restart of the server in between is waited out. JSON is a line {"event": …} for each event, and at the end one
    with the document, such as {"compression": …}.
    """
    watch_thing(thing, server, after, patience, json=json)
