"""The application; its caller opens and closes the service."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version

from fastapi import FastAPI

from services.api import (
    batches,
    cluster,
    compressions,
    evaluations,
    health,
    latency_targets,
    me,
    page,
    plans,
    selections,
    students,
)
from services.api.dependencies import CALLER
from services.api.event_stream import EventStreams
from services.api.metrics import Metrics
from services.api.middleware import Heads, LocalOnly, Measured, UnexpectedErrors
from services.api.openapi import describe
from services.api.problems import add_problem_handlers
from services.service import Service


def bare_app() -> FastAPI:
    """Build the application's routes, without a service to answer from."""
    app = FastAPI(
        title="stillroom",
        summary="Compress Transformer language models to any budget.",
        version=version("stillroom"),
        docs_url=None,  # those of FastAPI run scripts of other sites; the page has its own
        redoc_url=None,
        redirect_slashes=False,  # behind TLS it would lead to http
    )
    app.openapi = partial(describe, app)  # type: ignore[method-assign]
    add_problem_handlers(app)
    app.add_middleware(Heads)
    # Before the compressions, of which "plan" would be taken for one.
    app.include_router(plans.asking, dependencies=[CALLER])
    for module in (batches, plans, compressions, selections, students, evaluations, latency_targets, me, cluster):
        app.include_router(module.router, dependencies=[CALLER])
    app.include_router(health.router)
    app.include_router(page.router)
    return app


def create_app(service: Service) -> FastAPI:
    """Build the application on an open service."""
    app = bare_app()
    app.state.service = service
    app.state.metrics = metrics = Metrics(service.store, service.batches)
    app.state.event_streams = EventStreams(service)
    app.add_middleware(UnexpectedErrors)
    if service.settings.insecure_local:
        app.add_middleware(LocalOnly)
    app.add_middleware(Measured, metrics=metrics)  # outside, so that it sees the answers to errors too
    return app
