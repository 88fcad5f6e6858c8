"""Fine-tuning with several seeds on Ray: one task per seed, as many at once as fit on the cluster.

The model and the tokenised rows are in the object store, one copy per node, so that workers need no storage. A model
that is to be kept comes back through the object store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import ray
import structlog
import torch
from transformers import PreTrainedModel

from cluster.launching import Launches
from workloads.craft.precision import set_up_torch
from workloads.craft.tasks.evaluating import EvaluationData, fine_tune
from workloads.craft.tasks.evaluating import Reports as Listeners
from workloads.runs.attempt.progress import Progress
from workloads.runs.attempt.room import share_for
from workloads.runs.attempt.tasks import Reports, TaskLauncher
from workloads.spec.evaluation import EvaluationRequest, SeedScore

TELL_SECONDS = 0.5
"""Seconds between two progress reports of a worker."""

_log = structlog.get_logger(__name__)


def seed_step(seed: int) -> str:
    """Name of the step that fine-tunes and scores with one seed."""
    return f"seed-{seed}"


@dataclass(frozen=True)
class Outcome:
    """What a worker gives: a seed's score, and its model's weights if they are to be kept."""

    score: SeedScore
    weights: dict[str, npt.NDArray[Any]] | None


@dataclass(frozen=True)
class _Report:
    """Progress report of a seed, with ``metrics`` at the end of an epoch."""

    seed: int
    done: int
    total: int
    metrics: dict[str, float] | None = None


@dataclass(frozen=True)
class _Shared:
    """Inputs of every worker except the weights: the model without weights, and how to run it."""

    model: PreTrainedModel
    request: EvaluationRequest
    cpus: int
    gpu: bool


@dataclass(frozen=True)
class _Seed:
    """A seed to fine-tune with, and the resources that its worker needs."""

    seed: int
    needs: dict[str, float]
    retries: int = 1

    @property
    def names(self) -> tuple[str]:
        """Name of its step."""
        return (seed_step(self.seed),)


def run_seeds(
    request: EvaluationRequest,
    model: PreTrainedModel,
    data: EvaluationData,
    seeds: Sequence[int],
    keep: Callable[[Outcome], None],
    progress: Progress,
) -> list[SeedScore]:
    """Fine-tune with these seeds, as many at a time as fit on the cluster."""
    # The share is computed for all seeds, so that seeds left after a restart give the same scores.
    share = share_for("seeds", runs=len(request.seeds))
    # Read-only in the workers; workers of one node share one copy.
    weights = ray.put({name: tensor.numpy() for name, tensor in model.state_dict().items()})
    shared = ray.put(_Shared(model.to("meta"), request, share.cpus, share.gpus > 0))
    scores: list[SeedScore] = []

    def show_reports() -> list[str]:
        """Show what the workers have reported since the last call, and return the names of their steps."""
        taken: list[_Report] = ray.get(reports.take.remote())
        for report in taken:
            _show(report, progress)
        return [seed_step(report.seed) for report in taken]

    def ended(outcome: Outcome) -> None:
        score = outcome.score
        keep(outcome)
        show_reports()  # all of the seed's have arrived, and later they would show its step as running for ever
        progress.finish(seed_step(score.seed))
        progress.event("seed", f"Seed {score.seed} scores {score.score:.4f}.", **score.model_dump())
        scores.append(score)

    def waiting(names: Sequence[str], why: str | None) -> None:
        for name in names:
            progress.wait(name, why)

    _log.info("fine_tuning", seeds=list(seeds), needs=share.needs)
    reports = ray.remote(num_cpus=0)(Reports).remote()
    rows = ray.put(data)
    task = ray.remote(max_retries=0)(_evaluate_seed)
    tasks = TaskLauncher(
        lambda work, options: task.options(**options).remote(shared, weights, rows, work.seed, reports), ended
    )
    launches = Launches([_Seed(seed, share.needs) for seed in seeds], share.runs_at_once, tasks, waiting)
    try:
        while not launches.go_on():
            launches.works(show_reports())
            time.sleep(TELL_SECONDS)
    finally:
        launches.close()
        ray.kill(reports)
    return scores


def _show(report: _Report, progress: Progress) -> None:
    step = seed_step(report.seed)
    if report.done == 0:
        progress.start(step, report.total, "steps")
    progress.advance(step, report.done, report.total)
    if report.metrics is not None:
        progress.point(step, report.done, report.total, report.metrics)


def _evaluate_seed(shared: _Shared, weights: dict[str, Any], rows: EvaluationData, seed: int, reports: Any) -> Outcome:
    set_up_torch(shared.cpus)
    base = shared.model
    base.load_state_dict({name: torch.tensor(array) for name, array in weights.items()}, assign=True)
    told, last = 0.0, None

    def report(done: int, total: int) -> None:
        nonlocal told, last
        if time.monotonic() - told >= TELL_SECONDS or done == total:
            told = time.monotonic()
            last = reports.add.remote(_Report(seed, done, total))

    def epoch_report(done: int, total: int, metrics: dict[str, float]) -> None:
        nonlocal last
        last = reports.add.remote(_Report(seed, done, total, metrics))

    device = torch.device("cuda" if shared.gpu else "cpu")
    found = fine_tune(base, rows, shared.request, seed, device, Listeners(report, epoch_report))
    ray.get(last)  # so that no report arrives after the end of its seed
    state = found.model.state_dict() if shared.request.keep_model else None
    return Outcome(found.score, state and {name: tensor.cpu().numpy() for name, tensor in state.items()})
