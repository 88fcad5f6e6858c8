"""Joining the running Ray cluster as a driver."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import structlog

NAMESPACE = "stillroom"
_DEFAULTS = {
    "RAY_AUTH_MODE": "token",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # the default of 2 s loses a checkpoint written just before a kill
    "TOKENIZERS_PARALLELISM": "false",  # Ray forks, which is unsafe with its threads
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # transformers reads it too
}
# Verbose at INFO; the job's folder holds the same facts.
_QUIET = ("ray.train", "ray.tune", "ray.data")


def connect(**options: Any) -> None:
    """Join the cluster at ``RAY_ADDRESS``, or the one on this machine.

    Call it before anything imports Ray: it sets environment variables that Ray reads at import.

    Args:
        options: Further arguments of ``ray.init``.

    Raises:
        ConnectionError: There is no cluster.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    import ray

    ray.init(
        address=os.environ.get("RAY_ADDRESS") or "auto",
        namespace=NAMESPACE,
        log_to_driver=False,
        logging_level=logging.WARNING,
        **options,
    )
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def configure_driver_logs(*processors: structlog.typing.Processor) -> None:
    """Write the driver's structured logs as JSON lines to standard error, which Ray keeps as the job's log.

    Args:
        processors: The last structlog processors before an event is written.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *processors,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
