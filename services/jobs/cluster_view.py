"""Nodes and resources of Ray, cached for a few seconds, so that many callers cause one request to Ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from services.jobs.ray_jobs import RayJobs, RayUnreachableError
from services.jobs.ray_nodes import RayNode

FRESH_SECONDS = 3.0


class ClusterView:
    """Cached nodes of the cluster of the runs; several threads may use it.

    Args:
        jobs: Gives the cluster's client, None while the cluster does not answer.
    """

    def __init__(self, jobs: Callable[[], RayJobs | None]) -> None:
        self._jobs = jobs
        self._lock = threading.Lock()
        self._until = 0.0
        self._nodes: Sequence[RayNode] = ()
        self._trouble: str | None = None

    def nodes(self) -> Sequence[RayNode] | None:
        """List the live nodes; None while Ray does not answer.

        Raises:
            RayUnreachableError: Ray counts as ready, but did not answer.
        """
        with self._lock:
            ray = self._jobs()
            if ray is None:
                self._until = 0.0
                return None
            if time.monotonic() >= self._until:
                self._ask(ray)
            if self._trouble is not None:
                raise RayUnreachableError(self._trouble)
            return self._nodes

    def _ask(self, ray: RayJobs) -> None:
        try:
            self._nodes, self._trouble = ray.nodes(), None
        except RayUnreachableError as error:
            self._trouble = str(error)
        self._until = time.monotonic() + FRESH_SECONDS
