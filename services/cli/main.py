"""``stillroom``: the verbs, a module each. A verb's imports are inside its function, so that help is fast."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from services.cli import (
    batch,
    cluster,
    compress,
    control,
    cost,
    download,
    evaluate,
    events,
    keys,
    listing,
    log,
    plan,
    prune,
    results,
    score,
    select,
    serve,
    show,
    students,
    submit,
    tenants,
    watch,
    whoami,
)
from services.cli.failures import BAD_INPUT, EXIT_CODES, Failure, tell_json

_UsageError: Any = typer.BadParameter.__mro__[1]  # typer does not export this class


class _Verbs(TyperGroup):
    """Group of verbs that reports wrong usage also as JSON if ``--json`` is given."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            if "--json" in sys.argv:
                tell_json(Failure(BAD_INPUT, error.format_message()))
            raise


app = typer.Typer(
    name="stillroom",
    help="Compress Transformer language models: a teacher and a budget in, small students out.",
    epilog=EXIT_CODES,
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"stillroom {version('stillroom')}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Stand before all verbs."""


_VERBS: dict[str, dict[str, Callable[..., None]]] = {
    "Compress": {
        "submit": submit.submit,
        "plan": plan.plan,
        "select": select.select,
        "compress": compress.compress,
        "cost": cost.cost,
    },
    "Follow": {
        "list": listing.list_compressions,
        "show": show.show,
        "watch": watch.watch,
        "events": events.events,
        "log": log.log,
        "cancel": control.cancel,
        "resume": control.resume,
        "delete": control.delete,
    },
    "Results": {
        "students": students.students,
        "download": download.download,
        "score": score.score,
        "selections": results.selections,
        "frontier": results.frontier,
        "candidates": results.candidates,
        "targets": results.targets,
    },
    "Service": {
        "serve": serve.serve,
        "cluster": cluster.cluster,
        "prune": prune.prune,
        "whoami": whoami.whoami,
    },
}
for panel, verbs in _VERBS.items():
    for name, verb in verbs.items():
        app.command(name, rich_help_panel=panel)(verb)
_GROUPS = {"Compress": [batch.app], "Results": [evaluate.app], "Service": [keys.app, tenants.app]}
for panel, groups in _GROUPS.items():
    for group in groups:
        app.add_typer(group, rich_help_panel=panel)
