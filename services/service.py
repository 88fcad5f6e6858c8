"""The service: it opens and closes settings, storage, lock, database, Ray and controller together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from services.access.caller import LOCAL, Caller
from services.access.keys import KeyChecks, KeyStore
from services.access.limits import REFUSALS_PER_SECOND, RateLimit
from services.access.quotas import Quotas, Usage
from services.access.tenants import Quota
from services.embedded.cluster import EmbeddedRay, ExistingRay, RayCluster
from services.embedded.head import HeadOptions
from services.embedded.lock import ServiceLock
from services.intake.batch import BatchRequest, accept_batch, parse_batch
from services.intake.compression import AcceptedCompression, accept_compression
from services.intake.evaluation import accept_evaluation
from services.intake.selection import SelectionRequest, accept_selection, parse_selection
from services.jobs.batches import Batch, BatchStore, Order
from services.jobs.cluster_view import ClusterView
from services.jobs.controller import Controller
from services.jobs.database import migrate, open_database
from services.jobs.documents import JobDocument, job_document
from services.jobs.driver_log import read_log
from services.jobs.events import EventLog
from services.jobs.ray_jobs import RayUnreachableError
from services.jobs.records import Job, NewJob, RequestKey
from services.jobs.rows import Gate, Sessions
from services.jobs.runner import RetryPolicy, Runner
from services.jobs.store import JobStore
from services.jobs.work import Limits, WorkStore
from services.searches.finished import Searches
from services.searches.selections import Selections
from services.settings import Settings
from workloads.spec.errors import FieldError, InputError
from workloads.spec.evaluation import EvaluationRequest, parse_evaluation
from workloads.spec.part import Part, to_keep
from workloads.spec.request import CompressionRequest, parse_request
from workloads.storage.storage import Storage

DATABASE_FILE = "jobs.sqlite"
DRAIN_SECONDS = 10.0
"""Time that a stop waits for requests' unfinished changes; each is one short transaction."""
JsonObject = Mapping[str, Any]
_P = TypeVar("_P", bound=Part)

log = structlog.get_logger(__name__)


class Service:
    """Service on one storage. Opening needs no Ray; :meth:`start` starts the work on jobs.

    Args:
        settings: The service's settings.

    Raises:
        InputError: The storage or the state folder cannot be written, or another service uses the state folder.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.storage = Storage.open(settings.storage)
        self.storage.check_writable()
        self.state = settings.state_path(self.storage)
        make_state_folder(self.state)
        self._lock = ServiceLock(self.state)
        try:
            self.engine = ready_database(settings, self.state)
        except InputError:
            self._lock.release()
            raise
        self.quotas = Quotas(settings.quota)
        self._gate = Gate()
        self.store = JobStore(self.engine, self.quotas, self._gate)
        self.keys = KeyStore(self.engine)
        self.key_checks = KeyChecks(self.keys)
        self.rate = RateLimit(settings.requests_per_second)
        self.refusals = RateLimit(REFUSALS_PER_SECOND)
        self.work = WorkStore(self.engine, claim_seconds=settings.claim_seconds)
        self.events = EventLog(self.storage)
        self.searches = Searches(self.storage)
        self.selections = Selections(self.storage, self.searches)
        self.batches = BatchStore(self.engine, self.quotas, self._gate)
        self.cluster = self._make_cluster()
        self.cluster_view = ClusterView(self.cluster.jobs)
        self._controller: Controller | None = None

    def start(self, *, only: str | None = None) -> None:
        """Start to manage Ray and the jobs, or only the job ``only``, in the background."""
        settings = self.settings
        policy = RetryPolicy(settings.max_attempts, settings.backoff_seconds, settings.max_ray_losses)
        self._controller = Controller(
            self.work,
            Runner(self.work, self.storage, policy, settings.run_module, settings.places),
            self.cluster,
            limits=Limits(settings.max_running, settings.tenant_max_running),
            poll_seconds=settings.poll_seconds,
            only=only,
        )
        self.cluster.start()
        self._controller.start()
        log.info("service_started", storage=self.storage.url, state=str(self.state))

    def close(self) -> None:
        """Stop the service. An embedded Ray is ended with its runs; their jobs go back to the queue.

        Changes that requests have started are finished; later ones are refused.
        """
        embedded = self.settings.ray_address is None
        drained = self._gate.close(DRAIN_SECONDS)
        if self._controller is not None:
            self._controller.stop()
            self.cluster.close()
            self._controller.close(runs_have_ended=embedded)
        self.engine.dispose()
        if drained:
            self._lock.release()
        else:  # keep the lock until the process ends, and with it all changes
            log.warning("changes_not_finished", seconds=DRAIN_SECONDS)
        log.info("service_stopped")

    def submit(
        self, request: CompressionRequest | JsonObject, key: RequestKey | None = None, *, caller: Caller = LOCAL
    ) -> Job:
        """Check a request and queue it; for a key that was sent before, return the job of the first request.

        Args:
            request: The request, parsed or JSON-like.
            key: Idempotency key of the request, if it has one.
            caller: Sender of the request; the job belongs to the caller's tenant.

        Raises:
            InputError: The request is invalid.
            KeyReusedError: The key was sent before, with another request.
            QuotaExceededError: A quota of the tenant would be exceeded.
        """
        if (known := self._keyed(key)) is not None:
            return known
        order = self._order(self._accept(_parsed(request, parse_request)), caller)
        made = self.store.create(
            NewJob(order.request, tenant=caller.tenant, parent=order.plan, tokens=order.tokens), key=key
        )
        return self._queue(made)

    def plan(
        self, request: CompressionRequest | JsonObject, key: RequestKey | None = None, *, caller: Caller = LOCAL
    ) -> Job:
        """Check a request and queue a plan: an estimate of its time and resources; see :meth:`submit`."""
        if (known := self._keyed(key)) is not None:
            return known
        accepted = self._accept(_parsed(request, parse_request))
        kept = to_keep(accepted.request)
        return self._queue(self.store.create(NewJob(kept, "plan", tenant=caller.tenant), key=key))

    def evaluate(
        self, request: EvaluationRequest | JsonObject, key: RequestKey | None = None, *, caller: Caller = LOCAL
    ) -> Job:
        """Check an evaluation and queue it; see :meth:`submit`.

        An evaluation of a student belongs to the student's tenant, any other to the caller's.
        """
        if (known := self._keyed(key)) is not None:
            return known
        accepted = accept_evaluation(_parsed(request, parse_evaluation), self.store, self.settings.places, caller)
        made = self.store.create(
            NewJob(
                to_keep(accepted.request),
                "evaluation",
                tenant=accepted.tenant,
                parent=accepted.compression,
                tokens=accepted.tokens,
            ),
            key=key,
        )
        return self._queue(made)

    def select(
        self,
        compression: Job,
        request: SelectionRequest | JsonObject,
        key: RequestKey | None = None,
        *,
        caller: Caller = LOCAL,
    ) -> Job:
        """Answer new budgets on a finished compression, and queue a job if students' files are missing.

        Args:
            compression: A succeeded compression; the selection belongs to its tenant.
            request: The request, parsed or JSON-like.
            key: See :meth:`submit`.
            caller: Sender of the request.

        Raises:
            InputError: The budgets are invalid, or the compression has no scores.
            KeyReusedError: The key was sent before, with another request.
            QuotaExceededError: A quota of the tenant would be exceeded.
        """
        if (sent := self._keyed(key)) is not None:
            return sent
        asked = _parsed(request, parse_selection)
        teacher = self.searches.known(compression).trained.teacher.shape
        accepted = accept_selection(asked, compression, teacher, self.settings.latency_targets)
        answer = self.selections.answer(compression, accepted, self.with_selections(compression))
        made = self.store.create(
            NewJob(
                to_keep(accepted),
                "selection",
                tenant=compression.tenant,
                parent=compression.id,
                scores=answer.known.trained.scores.fingerprint,
                answer=answer.at_once,
                result=answer.result if answer.made is not None else None,
                tokens=accepted.polish_tokens if answer.made is None else 0,
            ),
            key=key,
        )
        return made if made.status.is_terminal else self._queue(made)

    def submit_batch(
        self, request: BatchRequest | JsonObject, key: RequestKey | None = None, *, caller: Caller = LOCAL
    ) -> Batch:
        """Check a batch and queue its compressions, all of them or none; see :meth:`submit`."""
        if key is not None and (known := self.batches.find_keyed(key)) is not None:
            return known
        accepted = accept_batch(_parsed(request, parse_batch), self._accept)
        asked = accepted.asked
        batch = self.batches.create(
            [self._order(one, caller) for one in accepted.compressions],
            tenant=caller.tenant,
            name=asked.name,
            labels=asked.labels,
            max_running=asked.max_running,
            key=key,
        )
        log.info("batch_queued", batch=batch.id, compressions=len(accepted.compressions))
        self._wake()
        return batch

    def cancel_batch(self, batch_id: str) -> Batch:
        """Cancel a batch's jobs; see :meth:`BatchStore.request_cancel`."""
        batch = self.batches.request_cancel(batch_id)
        self._wake()
        return batch

    def retry_batch(self, batch_id: str) -> Batch:
        """Queue a batch's failed and cancelled jobs again; see :meth:`BatchStore.retry`."""
        batch = self.batches.retry(batch_id)
        log.info("batch_queued", batch=batch_id)
        self._wake()
        return batch

    def delete_batch(self, batch_id: str) -> None:
        """Delete an ended batch, its compressions, all jobs made from them, and their folders; artefacts stay.

        Raises:
            TransitionError: One of these jobs has not ended.
        """
        self.batches.delete(batch_id, lambda job: self.storage.remove(f"jobs/{job}"))
        log.info("batch_deleted", batch=batch_id)

    def with_selections(self, compression: Job) -> Iterator[Job]:
        """Yield a compression, then its selections, newest first."""
        yield compression
        yield from self.store.selections(compression.id)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; see :meth:`JobStore.request_cancel`."""
        job = self.store.request_cancel(job_id)
        self._wake()
        return job

    def resume(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again; see :meth:`JobStore.resume`."""
        return self._queue(self.store.resume(job_id))

    def delete(self, job_id: str) -> None:
        """Delete an ended job, the jobs made from it, and their folders; artefacts stay.

        Raises:
            TransitionError: One of these jobs has not ended.
        """
        self.store.delete(job_id, lambda one: self.storage.remove(f"jobs/{one}"))
        log.info("job_deleted", job=job_id)

    def standing(self, tenant: str) -> tuple[Quota, Usage]:
        """Quota and usage of a tenant."""
        with Sessions(self.engine).reading() as session:
            return self.quotas.of(session, tenant), self.quotas.usage(session, tenant)

    def document(self, job: Job) -> JobDocument:
        """Make the document of a compression."""
        plan = self.store.get(job.parent) if job.parent is not None else None
        return job_document(job, self.storage, self.cluster.readiness(), plan)

    def log_of(self, job: Job, attempt: int | None, lines: int) -> str:
        """Read the last lines of the log of a job's run; see :func:`read_log`."""
        try:
            return read_log(job, attempt, lines, self.storage, self.cluster.jobs())
        except RayUnreachableError as error:
            readiness = self.cluster.readiness()
            raise error if readiness.ready else RayUnreachableError(f"{error} {readiness.note}") from None

    def _accept(self, asked: CompressionRequest) -> AcceptedCompression:
        return accept_compression(asked, self.settings.latency_targets, self.settings.places)

    def _order(self, accepted: AcceptedCompression, caller: Caller) -> Order:
        request = to_keep(accepted.request)
        plan = self.store.latest_plan(request, caller.tenant)
        return Order(request, None if plan is None else plan.id, accepted.tokens)

    def _keyed(self, key: RequestKey | None) -> Job | None:
        # Called before the request is checked, since its files may have been removed since it was accepted.
        return None if key is None else self.store.find_keyed(key)

    def _queue(self, job: Job) -> Job:
        log.info("job_queued", job=job.id)
        self._wake()
        return job

    def _wake(self) -> None:
        if self._controller is not None:
            self._controller.wake()

    def _make_cluster(self) -> RayCluster:
        settings = self.settings
        if settings.ray_address is not None:
            token = settings.ray_token.get_secret_value() if settings.ray_token else None
            return ExistingRay(settings.ray_address, token)
        size = settings.ray_cpus, settings.ray_object_store_bytes
        return EmbeddedRay(HeadOptions(self.state, *size, settings.ray_niceness))


def _parsed(request: _P | JsonObject, parse: Callable[[Any], _P]) -> _P:
    return request if isinstance(request, Part) else parse(request)


def ready_database(settings: Settings, state: Path) -> Engine:
    """Open the database, and migrate it to the newest schema.

    Raises:
        InputError: The database does not answer, or cannot be written.
    """
    if settings.database is None:
        engine = open_database(state / DATABASE_FILE)
        finding = FieldError(
            "state_folder",
            f"The database in {state} cannot be written",
            "Make room there, or set STILLROOM_STATE_FOLDER to a folder with room.",
        )
    else:
        try:
            engine = open_database(settings.database.get_secret_value())
        except ModuleNotFoundError as error:
            raise InputError.of(
                "database", f"PostgreSQL cannot be reached: {error}.", "Install stillroom with the extra 'postgres'."
            ) from error
        finding = FieldError(
            "database",
            "The database cannot be used",
            "Start it, or correct STILLROOM_DATABASE or the user's rights.",
        )
    try:
        migrate(engine)
    except OperationalError as error:
        engine.dispose()
        raise InputError.of(finding.field, f"{finding.problem}: {str(error.orig).strip()}.", finding.remedy) from error
    return engine


def make_state_folder(state: Path) -> None:
    """Create the state folder, accessible to its owner alone.

    Raises:
        InputError: The folder cannot be created.
    """
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError.of(
            "state_folder", f"{state} cannot be made: {error}.", "Set STILLROOM_STATE_FOLDER to a folder of your own."
        ) from error
