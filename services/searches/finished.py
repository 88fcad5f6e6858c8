"""Finished searches in memory: candidates with costs, measured latencies and task scores."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import structlog
from pydantic import ValidationError

from services.jobs.records import Job
from workloads.answers.choosing import Scored
from workloads.answers.latency import LatencySamples
from workloads.answers.latency_model import LatencyModels
from workloads.answers.scores_table import Candidate, ScoredRow, choosable, read_scores, read_task_table
from workloads.answers.trained import TeacherStage, Trained, load_trained
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import Cost
from workloads.spec.errors import InputError
from workloads.storage import artifacts
from workloads.storage.storage import Storage

log = structlog.get_logger(__name__)

OTHER_AIM = (
    "This search had the aim 'budgets': candidates that it dropped early were scored on fewer rows, and those over all "
    "of its budgets were not scored. For reliable answers to other budgets, compress with search.aim 'frontier'."
)
KEPT = 16
"""Number of scores tables kept in memory; the least recently used goes first."""
LENGTHS = 8
"""Number of sequence lengths per table whose costs are kept in memory; the least recently used goes first."""


class Costs:
    """Costs of a search's candidates, computed once for each sequence length.

    Args:
        teacher: The teacher of the search.
        architectures: The candidates.
    """

    def __init__(self, teacher: TeacherStage, architectures: Sequence[Architecture]) -> None:
        self._teacher, self._architectures = teacher, tuple(architectures)
        self._at = functools.lru_cache(LENGTHS)(self._count)

    def __call__(self, architecture: Architecture, sequence_length: int) -> Cost:
        """Return the cost of a candidate at a length; see :data:`workloads.answers.choosing.CostOf`."""
        known = self._at(sequence_length).get(architecture)
        return self._teacher.cost(architecture, sequence_length) if known is None else known

    def _count(self, sequence_length: int) -> dict[Architecture, Cost]:
        return {one: self._teacher.cost(one, sequence_length) for one in self._architectures}


@dataclass(frozen=True)
class Known:
    """A finished search in memory.

    Attributes:
        trained: The compression up to its scores.
        rows: The whole scores table.
        choosable: The candidates that may be chosen as students.
        cost_of: Costs of the candidates.
    """

    trained: Trained
    rows: tuple[ScoredRow, ...]
    choosable: tuple[Scored, ...]
    cost_of: Costs

    @property
    def note(self) -> str | None:
        """Note on the limits of this search's answers, if any."""
        return None if self.trained.covers_any_budget else OTHER_AIM


@dataclass(frozen=True)
class Sampled:
    """Candidates measured on a target, and the predictor fitted on them."""

    samples: LatencySamples
    models: LatencyModels


class Searches:
    """Cache of finished searches, which are read from the storage.

    Args:
        storage: The storage of their artefacts.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._sampled: dict[str, Sampled] = {}
        self._lock = threading.Lock()

    def known(self, job: Job) -> Known:
        """Load the search of a compression.

        Raises:
            InputError: The compression has no scores, or not yet, or its artefacts were removed.
        """
        fingerprint = _scores_of(job)
        with self._lock:
            if fingerprint in self._known:
                self._known.move_to_end(fingerprint)
                return self._known[fingerprint]
        found = _read(self._storage, job, fingerprint)
        with self._lock:
            self._known[fingerprint] = found
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return found

    def sampled(self, jobs: Iterable[Job]) -> Iterator[Sampled]:
        """Yield the candidates that jobs have measured, by target, in the order of the jobs."""
        for job in jobs:
            for fingerprint in job.result.artifacts.get("latency-samples", []) if job.result else []:
                with self._lock:
                    found = self._sampled.get(fingerprint)
                if found is None:
                    # Removed artefacts, and those of another version, count as not measured.
                    with contextlib.suppress(FileNotFoundError, ValidationError):
                        artifact = artifacts.load(self._storage, "latency-samples", fingerprint)
                        samples = LatencySamples.model_validate(artifact.summary)
                        found = Sampled(samples, LatencyModels.fit(samples))
                        with self._lock:
                            self._sampled[fingerprint] = found
                if found is not None:
                    yield found

    def task_scores(self, job: Job) -> dict[Candidate, float]:
        """Return the candidates' scores on a compression's proxy task, in the order of their fine-tuning."""
        # The first table has the candidates of the search; later tables have polished ones.
        for fingerprint in job.result.artifacts.get("task-scores", [])[:1] if job.result else []:
            with contextlib.suppress(FileNotFoundError):
                return read_task_table(self._storage, artifacts.load(self._storage, "task-scores", fingerprint))
        return {}


def _read(storage: Storage, job: Job, fingerprint: str) -> Known:
    try:
        trained = load_trained(storage, fingerprint)
        rows = read_scores(storage, trained.scores)
        costs = Costs(trained.teacher, [row.scored.architecture for row in rows])
        return Known(trained, tuple(rows), tuple(choosable(trained, rows)), costs)
    except InputError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, pa.ArrowException) as error:
        log.warning("scores_not_read", job=job.id, scores=fingerprint, error=repr(error))
        raise InputError.of(
            "compression",
            f"Another version of stillroom wrote the scores of {job.id}, and this version cannot read them.",
            "Submit the compression again; its other artefacts are reused.",
        ) from error


def _scores_of(job: Job) -> str:
    """Return the fingerprint of a compression's scores table."""
    found = job.result.artifacts.get("scores", []) if job.result else []
    if not found:
        raise InputError.of(
            "compression",
            f"{job.id} is {job.status} and has no scores yet.",
            "Ask again once it has succeeded.",
        )
    return found[0]
