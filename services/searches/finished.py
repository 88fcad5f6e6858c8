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
    "The search's aim was its own budgets: candidates that it left early were scored on fewer rows, and those over all "
    "of its budgets on none. Compress with search.aim 'frontier' for an answer to any budget."
)
KEPT = 16
"""Scores tables kept in memory, the last used ones."""
LENGTHS = 8
"""Sequence lengths whose costs are kept in memory for each table, the last used ones."""


class Costs:
    """Costs of the candidates of a search, counted once for each sequence length.

    Args:
        teacher: The teacher of the search.
        architectures: Shapes of the candidates.
    """

    def __init__(self, teacher: TeacherStage, architectures: Sequence[Architecture]) -> None:
        self._teacher, self._architectures = teacher, tuple(architectures)
        self._at = functools.lru_cache(LENGTHS)(self._count)

    def __call__(self, architecture: Architecture, sequence_length: int) -> Cost:
        """See :data:`workloads.answers.choosing.CostOf`."""
        known = self._at(sequence_length).get(architecture)
        return self._teacher.cost(architecture, sequence_length) if known is None else known

    def _count(self, sequence_length: int) -> dict[Architecture, Cost]:
        return {one: self._teacher.cost(one, sequence_length) for one in self._architectures}


@dataclass(frozen=True)
class Known:
    """A finished search in memory.

    Attributes:
        rows: The whole scores table.
        choosable: The candidates that a student may be chosen from.
        cost_of: What they cost.
    """

    trained: Trained
    rows: tuple[ScoredRow, ...]
    choosable: tuple[Scored, ...]
    cost_of: Costs

    @property
    def note(self) -> str | None:
        """A note on what limits answers from this search."""
        return None if self.trained.covers_any_budget else OTHER_AIM


@dataclass(frozen=True)
class Sampled:
    """Candidates measured on a target, and the predictor fitted on them."""

    samples: LatencySamples
    models: LatencyModels


class Searches:
    """Finished searches, read from the storage where they are not in memory.

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
            InputError: It has none, or not yet, or its artefacts have been removed.
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
        """The candidates that jobs have measured, by target, in the order of the jobs."""
        for job in jobs:
            for fingerprint in job.result.artifacts.get("latency-samples", []) if job.result else []:
                with self._lock:
                    found = self._sampled.get(fingerprint)
                if found is None:
                    # Artefacts that are gone or of another version count as not measured.
                    with contextlib.suppress(FileNotFoundError, ValidationError):
                        artifact = artifacts.load(self._storage, "latency-samples", fingerprint)
                        samples = LatencySamples.model_validate(artifact.summary)
                        found = Sampled(samples, LatencyModels.fit(samples))
                        with self._lock:
                            self._sampled[fingerprint] = found
                if found is not None:
                    yield found

    def task_scores(self, job: Job) -> dict[Candidate, float]:
        """Scores of candidates on the proxy task of a compression, in the order of their fine-tuning."""
        # The first table holds the candidates as the search left them; later tables hold polished ones.
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
            f"Another version of stillroom wrote the scores of {job.id}, and this one cannot read them.",
            "Submit the compression again; what is there of its artefacts is used.",
        ) from error


def _scores_of(job: Job) -> str:
    """The fingerprint of a compression's scores table."""
    found = job.result.artifacts.get("scores", []) if job.result else []
    if not found:
        raise InputError.of(
            "compression",
            f"{job.id} is {job.status} and has no scores yet.",
            "Ask again once it has succeeded.",
        )
    return found[0]
