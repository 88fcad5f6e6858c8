"""``stillroom plan``: what a compression would take, before any of it is done."""

from __future__ import annotations

import typer

from services.cli.failures import FAILED, told_plainly
from services.cli.options import DEFAULT_SERVER, Json, RequestFile, Server, read_request


@told_plainly
def plan(file: RequestFile, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """Say which sub-spaces can meet the budgets, and estimate time and device-hours by a short calibration."""
    from services.cli.progress import wait_for
    from services.client import StillroomClient

    with StillroomClient(server) as client:
        queued = client.plan(read_request(file))
        done = wait_for(lambda: client.planned(queued.id))
    if json:
        typer.echo(done.model_dump_json(indent=1))
    elif done.plan is not None:
        for budget in done.plan.budgets:
            counts = ", ".join(f"{name} {count}" for name, count in budget.candidates.items())
            note = f" ({budget.note})" if budget.note else ""
            typer.echo(f"budget {budget.budget}: {counts if budget.feasible else 'no candidate'}{note}")
        for step in done.plan.steps:
            typer.echo(f"{step.name:<14} {'reused' if step.reused else f'{step.seconds:.0f} s':>8}  {step.basis}")
        typer.echo(f"in all {done.plan.seconds:.0f} s, {done.plan.device_hours:.3g} {done.plan.device} hours")
    if done.error is not None:
        field = f"{done.error.field}: " if done.error.field else ""
        typer.echo(f"error: {field}{done.error.message} {done.error.remedy or ''}".rstrip(), err=True)
        raise typer.Exit(FAILED)
