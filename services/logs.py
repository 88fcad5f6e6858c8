"""Structured logs, on standard error: standard output belongs to results."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logs(*, verbose: bool = True) -> None:
    """Send logs to standard error: readable on a terminal, JSON lines elsewhere; quiet ones from warnings up."""
    level = logging.INFO if verbose else logging.WARNING
    terminal = sys.stderr.isatty()
    # A plain traceback: the default one shows local variables, secrets among them, and takes seconds to draw.
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer: structlog.typing.Processor = console if terminal else structlog.processors.JSONRenderer()
    formatting = [] if terminal else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *formatting,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # httpx and alembic tell of every call at INFO, uvicorn of every request.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
