"""``stillroom``: the verbs, a module each. What a verb needs is imported when it runs, so that help is instant."""

from __future__ import annotations

import typer

from services.cli import compress, cost, keys, plan, select, serve, students, submit, tenants, watch

app = typer.Typer(
    name="stillroom",
    help="Compress Transformer language models: a teacher and a budget in, small students out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_VERBS = (
    serve.serve,
    plan.plan,
    submit.submit,
    watch.watch,
    students.students,
    select.select,
    compress.compress,
    cost.cost,
)
for verb in _VERBS:
    app.command()(verb)
for group in (keys.app, tenants.app):
    app.add_typer(group)
