"""Settings of Ray Tune, which is used only for its scheduling."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator


@contextlib.contextmanager
def lean_tune(actors: int) -> Iterator[None]:
    """Run Tune without its own output, result files and snapshots, none of which is read.

    Args:
        actors: Number of actors to start at once.
    """
    settings = {
        "RAY_AIR_NEW_OUTPUT": "0",  # verbose=0 alone still prints the first table and some log lines
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "86400",
        "TUNE_MAX_PENDING_TRIALS_PG": str(actors),
    }
    before = {name: os.environ.get(name) for name in settings}
    loggers = {"ray.tune": logging.WARNING, "ray.tune.analysis": logging.ERROR}  # it warns of missing result files
    os.environ |= settings
    for name, level in loggers.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
