"""Structured logs on standard error; standard output is for results."""

from __future__ import annotations

import logging
import sys

import structlog

from workloads.storage.masking import mask, mask_event


def configure_logs(*, verbose: bool = True) -> None:
    """Send logs to standard error: plain text on a terminal, else JSON; only warnings and errors unless ``verbose``."""
    level = logging.INFO if verbose else logging.WARNING
    terminal = sys.stderr.isatty()
    console = structlog.dev.ConsoleRenderer()
    renderer: structlog.typing.Processor = console if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,  # plain, without local variables; text before it is masked
            mask_event,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # httpx and alembic log every call at INFO, uvicorn every request.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Masked("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


class _Masked(logging.Formatter):
    """Formats log records of libraries, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the line, and the traceback if there is one."""
        return mask(super().format(record))
