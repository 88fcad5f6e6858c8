"""The HTTP application; its caller opens and closes the service."""

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
    kept_models,
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
    """Build the application with its routes, without a service."""
    app = FastAPI(
        title="stillroom",
        summary="Compress Transformer language models to any budget.",
        version=version("stillroom"),
        docs_url=None,  # FastAPI's pages run scripts of other sites; our page shows the API
        redoc_url=None,
        redirect_slashes=False,  # behind a TLS proxy it would redirect to http
    )
    app.openapi = partial(describe, app)  # type: ignore[method-assign]
    add_problem_handlers(app)
    app.add_middleware(Heads)
    # Before the routes of compressions, which would take "plan" for an id.
    app.include_router(plans.asking, dependencies=[CALLER])
    for module in (
        batches, plans, compressions, selections, students, evaluations, kept_models, latency_targets, me, cluster,
    ):  # fmt: skip
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
    app.add_middleware(Measured, metrics=metrics)  # the outermost, so that it also sees answers to errors
    return app
