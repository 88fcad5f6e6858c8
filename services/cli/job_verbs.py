"""Verbs that all kinds share, as functions of a kind: show, watch, events, cancel, resume, delete."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.cli.failures import reports_failures
from services.cli.kinds import BATCH, Kind, kind_of
from services.cli.options import DEFAULT_SERVER, Json, Patience, Server
from services.cli.outcomes import sure, tell_forgotten, tell_state

After = Annotated[str, typer.Option(metavar="EVENT", help="Only events after this one, such as 1-12.")]
Yes = Annotated[bool, typer.Option("--yes", help="Delete without asking.")]


def add_job_verbs(app: typer.Typer, kind: Kind) -> None:
    """Add the verbs that all kinds share to the group of one kind."""
    # As a default value: an annotation could not be evaluated outside of this function.
    thing: Any = typer.Argument(
        ..., metavar="ID", help=f"Id of the {kind.name}, {kind.prefix}_….", autocompletion=kind.complete
    )

    @app.command("show", help=f"Show where the {kind.name} stands, and what it gave.")
    @reports_failures
    def show(thing_id: str = thing, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
        show_thing(thing_id, server, kind, json=json)

    @app.command("cancel", help=f"Ask for the end of the {kind.name}; what it has finished is kept.")
    @reports_failures
    def cancel(thing_id: str = thing, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
        change_thing(thing_id, "cancel", server, kind, json=json)

    resume_help = "Queue again what has failed or was cancelled; what it has finished is not done again."

    @app.command(kind.resume, help=resume_help)
    @reports_failures
    def resume(thing_id: str = thing, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
        change_thing(thing_id, "resume", server, kind, json=json)

    @app.command("delete", help=f"Forget the ended {kind.name}{kind.forgets}; artefacts stay for others to use.")
    @reports_failures
    def delete(thing_id: str = thing, server: Server = DEFAULT_SERVER, yes: Yes = False, json: Json = False) -> None:
        delete_thing(thing_id, server, kind, yes=yes, json=json)

    @app.command("watch", help=f"Show the {kind.name}'s progress until it ends; see `stillroom watch`.")
    @reports_failures
    def watch(
        thing_id: str = thing,
        server: Server = DEFAULT_SERVER,
        after: After = "0-0",
        patience: Patience = None,
        json: Json = False,
    ) -> None:
        watch_thing(thing_id, server, after, patience, json=json)

    if kind is not BATCH:  # a batch has no events of its own

        @app.command("events", help="List what happened; JSON is one event a line.")
        @reports_failures
        def events(
            thing_id: str = thing,
            server: Server = DEFAULT_SERVER,
            after: After = "0-0",
            follow: Annotated[bool, typer.Option("--follow", help="As they come, until the end.")] = False,
            patience: Patience = None,
            json: Json = False,
        ) -> None:
            from services.cli.following import show_events

            show_events(server, thing_id, after, follow=follow, patience=patience, json=json)


def show_thing(thing: str, server: str, kind: Kind | None = None, *, json: bool) -> None:
    """Show one job or batch; without a kind, its id gives the kind."""
    from services.cli.reports import show_document
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        found = (kind or kind_of(thing)).call(client, "read", thing)
    if json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        show_document(found)


def change_thing(thing: str, verb: str, server: str, kind: Kind | None = None, *, json: bool) -> None:
    """Cancel or resume one job or batch, and print its state."""
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        found = (kind or kind_of(thing)).call(client, verb, thing)
    tell_state(found, json=json)


def delete_thing(thing: str, server: str, kind: Kind | None = None, *, yes: bool, json: bool) -> None:
    """Delete one job or batch after confirmation."""
    from services.client import StillroomClient

    kind = kind or kind_of(thing)
    sure(f"Forget {thing}{kind.forgets}?", yes=yes)
    with StillroomClient(server) as client:
        kind.call(client, "delete", thing)
    tell_forgotten(thing, json=json)


def watch_thing(thing: str, server: str, after: str, patience: float | None, *, json: bool) -> None:
    """Watch one job or batch until it ends, and exit with its outcome."""
    from services.cli.following import watch

    raise typer.Exit(watch(server, thing, after=after, patience=patience, json=json))
