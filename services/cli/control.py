"""``stillroom cancel``, ``resume``, ``delete``: the change of anything that a server works on."""

from __future__ import annotations

from services.cli.failures import told_plainly
from services.cli.job_verbs import Yes, change_thing, delete_thing
from services.cli.options import DEFAULT_SERVER, Json, Server, ThingId


@told_plainly
def cancel(thing: ThingId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Ask for the end of a job or a batch; what it has finished is kept."""
    change_thing(thing, "cancel", server, json=json)


@told_plainly
def resume(thing: ThingId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Queue a failed or cancelled job again, or those of a batch; what they have finished is not done again."""
    change_thing(thing, "resume", server, json=json)


@told_plainly
def delete(thing: ThingId, server: Server = DEFAULT_SERVER, yes: Yes = False, json: Json = False) -> None:
    """Forget an ended job or batch, with all that was made from it; artefacts stay for others."""
    delete_thing(thing, server, yes=yes, json=json)
