"""``stillroom cancel``, ``resume``, ``delete``: changes of a job or batch of any kind."""

from __future__ import annotations

from services.cli.failures import reports_failures
from services.cli.job_verbs import Yes, change_thing, delete_thing
from services.cli.options import DEFAULT_SERVER, Json, Server, ThingId


@reports_failures
def cancel(thing: ThingId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Cancel a job or a batch; finished steps are kept."""
    change_thing(thing, "cancel", server, json=json)


@reports_failures
def resume(thing: ThingId, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Queue a failed or cancelled job again, or those of a batch; finished steps are not repeated."""
    change_thing(thing, "resume", server, json=json)


@reports_failures
def delete(thing: ThingId, server: Server = DEFAULT_SERVER, yes: Yes = False, json: Json = False) -> None:
    """Delete an ended job or batch, with all jobs made from it; artefacts stay for other jobs."""
    delete_thing(thing, server, yes=yes, json=json)
