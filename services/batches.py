"""Batches as the service offers them: checked as single compressions are, then kept, ended and forgotten as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from services.access.caller import LOCAL, Caller
from services.jobs.batch_requests import accept_batch
from services.jobs.batches import Batch, BatchStore, Order
from services.jobs.intake import accept_request
from services.jobs.records import RequestKey
from services.jobs.store import JobStore
from workloads.shapes.spaces import training_tokens
from workloads.spec.budgets import LatencyTarget
from workloads.spec.request import CompressionRequest
from workloads.storage.places import Places
from workloads.storage.storage import Storage

log = structlog.get_logger(__name__)


class Batches:
    """The batches of one service.

    Args:
        store: Where they are kept.
        jobs: Where their jobs are.
        storage: Where the jobs' folders are.
        targets: The service's latency targets.
        places: Where requests may read.
        wake: Has the controller look at the jobs.
    """

    def __init__(
        self,
        store: BatchStore,
        jobs: JobStore,
        storage: Storage,
        targets: Sequence[LatencyTarget],
        places: Places,
        wake: Callable[[], None],
    ) -> None:
        self.store = store
        self._jobs = jobs
        self._storage = storage
        self._targets = targets
        self._places = places
        self._wake = wake

    def submit(self, data: Any, key: RequestKey | None = None, *, caller: Caller = LOCAL) -> Batch:
        """Check a batch and queue its compressions; one whose key was sent before gives the batch that was made then.

        Args:
            data: JSON-like.
            key: Of the request, if it has one.
            caller: Who asks; the batch is their tenant's.

        Raises:
            InputError: One of the compressions cannot be worked with; none is queued.
            KeyReusedError: Its key was sent before, with another request.
            QuotaExceededError: The tenant may not have them all; none is queued.
        """
        # Looked for before the requests are checked: what they point to may have gone since they were accepted.
        if key is not None and (known := self.store.find_keyed(key)) is not None:
            return known
        accepted = accept_batch(data, lambda one: accept_request(one, self._targets, self._places))
        batch = self.store.create(
            [self._order(request, caller) for request in accepted.requests],
            tenant=caller.tenant,
            name=accepted.asked.name,
            labels=accepted.asked.labels,
            max_running=accepted.asked.max_running,
            key=key,
        )
        log.info("batch_queued", batch=batch.id, compressions=len(accepted.requests))
        self._wake()
        return batch

    def cancel(self, batch_id: str) -> Batch:
        """Ask for the end of its jobs; see :meth:`BatchStore.request_cancel`."""
        batch = self.store.request_cancel(batch_id)
        self._wake()
        return batch

    def retry(self, batch_id: str) -> Batch:
        """Queue its failed and cancelled jobs again; see :meth:`BatchStore.retry`."""
        batch = self.store.retry(batch_id)
        log.info("batch_queued", batch=batch_id)
        self._wake()
        return batch

    def delete(self, batch_id: str) -> None:
        """Forget an ended batch, its compressions and all that was made from them, with their folders; artefacts stay.

        Raises:
            TransitionError: One of them has not ended.
        """
        self.store.delete(batch_id, lambda job: self._storage.remove(f"jobs/{job}"))
        log.info("batch_deleted", batch=batch_id)

    def _order(self, request: dict[str, Any], caller: Caller) -> Order:
        plan = self._jobs.latest_plan(request, caller.tenant)
        tokens = training_tokens(CompressionRequest.model_validate(request))
        return Order(request, None if plan is None else plan.id, tokens)
