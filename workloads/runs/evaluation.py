"""Evaluation of a model on a task with Ray: one Ray task per seed, in parallel; each score is saved at once.

The model and the tokenised rows are in the object store, one copy per node, so that workers need no storage. A seed
with a saved score, from an earlier attempt or another job, is not fine-tuned again.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import structlog
import torch
from transformers import PreTrainedModel

from cluster.launching import Launches, LostError
from cluster.room import Reservation, options_in
from workloads.craft.precision import set_up_torch
from workloads.craft.tasks.data import task_fingerprint
from workloads.craft.tasks.evaluating import EvaluationData, Reports, TaskModel, evaluate_seed, f1_average, prepare
from workloads.craft.teacher import fetch_teacher
from workloads.runs.attempt.leases import lease
from workloads.runs.attempt.progress import Progress
from workloads.runs.attempt.room import share_for
from workloads.runs.attempt.run import Run
from workloads.shapes import teacher_files
from workloads.spec.errors import InputError
from workloads.spec.evaluation import (
    TASK,
    AcceptedEvaluation,
    EvaluationRequest,
    EvaluationResult,
    SeedScore,
    renamed,
    with_fitting_length,
)
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.places import confined
from workloads.storage.storage import Storage

MODEL, ROWS = "model", "rows"
TELL_SECONDS = 0.5
"""Seconds between two progress reports of a worker."""

_log = structlog.get_logger(__name__)


def step_names(request: EvaluationRequest) -> list[str]:
    """Names of an evaluation's steps, in order."""
    return [MODEL, ROWS, *map(seed_step, request.seeds)]


def seed_step(seed: int) -> str:
    """Name of the step that fine-tunes and scores with one seed."""
    return f"seed-{seed}"


def evaluate(
    storage: Storage, request: AcceptedEvaluation, *, builder: str, progress: Progress, work: Path
) -> tuple[EvaluationResult, dict[str, list[str]]]:
    """Evaluate a model. The caller must have joined the Ray cluster and declared the steps.

    Args:
        storage: The storage of the student and of results.
        request: The evaluation's request.
        builder: Names the job and attempt.
        progress: Progress of the steps of :func:`step_names`.
        work: A local folder for temporary files.

    Returns:
        The result, and the fingerprints of its stages, by stage.

    Raises:
        InputError: The model or the task cannot be used, or fine-tuning diverged.
        OSError: The storage cannot be read or written.
    """
    assert ray.is_initialized(), "The caller connects to Ray."
    progress.start(MODEL)
    folder = _model_folder(storage, request, work)
    request = _with_length(request, folder)
    fingerprint = teacher_files.fingerprint(folder)
    keys, whole = _keys(request, fingerprint)
    progress.finish(MODEL)
    used = {whole.stage: [whole.fingerprint], "evaluation-seed": [key.fingerprint for key in keys.values()]}
    if (found := artifacts.find(storage, whole)) is None:
        waiting = "waiting for another job that evaluates this"
        with lease(whole.fingerprint, builder, lambda: progress.note(ROWS, waiting)):
            progress.note(ROWS, None)
            if (found := artifacts.find(storage, whole)) is None:
                result = _build(Run(storage, builder, progress), request, folder, fingerprint, keys)
                found = artifacts.commit(storage, whole, builder, result.model_dump(mode="json"))
    if found.builder != builder:
        for step in step_names(request)[1:]:
            progress.reuse(step)
    # The task's name is no part of the key, so another job may have built the artefact under another name.
    own = {"task": request.task.name, "scored_on": request.task.scored_on}
    return EvaluationResult.model_validate(found.summary | own), used


def _model_folder(storage: Storage, request: AcceptedEvaluation, work: Path) -> Path:
    """Return the model as a folder on this machine."""
    spec = request.model.teacher
    if spec is None:
        assert request.files is not None, request
        if not storage.exists(f"{request.files}/{teacher_files.CONFIG}"):
            raise InputError.of(
                "model.student",
                f"The files of {request.model.student} are no longer in the storage.",
                "Ask for the student's budget again by a selection, and evaluate the student of that.",
            )
        return storage.fetch(request.files, work)
    try:
        if teacher_files.is_path(spec.model) and "://" not in spec.model and confined().roots is None:
            teacher_files.check_teacher(spec)
            return Path(teacher_files.locate(spec))
        return fetch_teacher(spec, work / "model")
    except InputError as error:
        raise renamed(error, "teacher", "model.teacher") from error


def _with_length(request: AcceptedEvaluation, folder: Path) -> AcceptedEvaluation:
    """Set the length that the request left open, for the model in a folder."""
    try:
        longest = teacher_files.shape_of(folder).longest
    except InputError as error:
        raise renamed(error, "teacher", "model.teacher") from error
    return with_fitting_length(request, longest)


def _keys(request: AcceptedEvaluation, fingerprint: str) -> tuple[dict[int, Key], Key]:
    """Return the key of each seed's score, and the key of the whole result."""
    try:
        task = task_fingerprint(request.task_spec(), TASK)
    except InputError as error:
        raise renamed(error, f"{TASK}.validation", f"{TASK}.{request.task.scored_on}") from error
    inputs = {
        "model": fingerprint,
        "task": task | {"learning_rate": request.learning_rates},
        "set_aside": request.task.set_aside,
    }
    keys = {seed: Key("evaluation-seed", inputs | {"seed": seed}) for seed in request.seeds}
    return keys, Key("evaluation", inputs | {"seeds": request.seeds})


def _build(
    run: Run, request: AcceptedEvaluation, folder: Path, fingerprint: str, keys: Mapping[int, Key]
) -> EvaluationResult:
    progress = run.progress
    progress.start(ROWS)
    try:
        model = TaskModel.student(folder) if request.model.teacher is None else TaskModel.teacher(folder)
    except InputError as error:
        raise renamed(error, "teacher", "model.teacher") from error
    params = model.model.num_parameters()
    data = prepare(request, model)
    progress.finish(ROWS)
    done = {}
    for seed, key in keys.items():
        if (found := artifacts.find(run.storage, key)) is not None:
            done[seed] = SeedScore.model_validate(found.summary)
            progress.reuse(seed_step(seed))

    def keep(score: SeedScore) -> Artifact:
        summary = score.model_dump(mode="json")
        return artifacts.commit(run.storage, keys[score.seed], run.builder, summary, device=score.device)

    missing = [seed for seed in request.seeds if seed not in done]
    if missing:
        done |= {score.seed: score for score in _run(request, model.model, data, missing, keep, progress)}
    return _result(request, data, [done[seed] for seed in request.seeds], params, fingerprint)


def _result(
    request: AcceptedEvaluation, data: EvaluationData, seeds: Sequence[SeedScore], params: int, fingerprint: str
) -> EvaluationResult:
    values = [one.score for one in seeds]
    return EvaluationResult(
        task=request.task.name,
        metric=request.task.metric,
        average=f1_average(request, data.classes),
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        seeds=list(seeds),
        baseline=data.baseline,
        scored_on=request.task.scored_on,
        rows=len(data.scored),
        train_rows=len(data.task.train),
        set_aside_rows=len(data.task.validation),
        rows_in_training=data.rows_in_training,
        sequence_length=request.sequence_length,
        params=params,
        fingerprint=fingerprint,
        seconds=round(math.fsum(one.seconds for one in seeds), 3),
    )


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


class _SeedTasks:
    """Launcher of seeds on Ray, one task each.

    Args:
        arguments: Refs to the arguments of :func:`_evaluate_seed` before and after the seed.
        keep: Called with each score.
    """

    def __init__(self, arguments: tuple[Sequence[Any], Sequence[Any]], keep: Callable[[SeedScore], None]) -> None:
        self._before, self._after = arguments
        self._keep = keep

    def reserve(self, work: _Seed) -> Reservation:
        return Reservation([work.needs])

    def start(self, work: _Seed, room: Any) -> _SeedTask:
        task = ray.remote(max_retries=0)(_evaluate_seed).options(**options_in(room.group, work.needs))
        return _SeedTask(task.remote(*self._before, work.seed, *self._after), room, self._keep)


@dataclass(frozen=True)
class _SeedTask:
    """A running task of a seed, and the room that it runs in."""

    reference: Any
    room: Reservation
    keep: Callable[[SeedScore], None]

    def ended(self) -> tuple[bool, BaseException | None]:
        if not ray.wait([self.reference], timeout=0)[0]:
            return False, None
        self.room.release()
        try:
            self.keep(ray.get(self.reference))
        except ray.exceptions.RayTaskError as error:  # raised by the task
            return True, error
        except ray.exceptions.RayError as error:  # a loss of its worker or node
            return True, LostError(error)
        return True, None

    def cancel(self) -> None:
        ray.cancel(self.reference, force=True)
        self.room.release()


def _run(
    request: AcceptedEvaluation,
    model: PreTrainedModel,
    data: EvaluationData,
    seeds: Sequence[int],
    keep: Callable[[SeedScore], Any],
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

    def ended(score: SeedScore) -> None:
        keep(score)
        show_reports()  # all of the seed's have arrived, and later they would show its step as running for ever
        progress.finish(seed_step(score.seed))
        progress.event("seed", f"Seed {score.seed} scores {score.score:.4f}.", **score.model_dump())
        scores.append(score)

    def waiting(names: Sequence[str], why: str | None) -> None:
        for name in names:
            progress.wait(name, why)

    _log.info("fine_tuning", seeds=list(seeds), needs=share.needs)
    reports = ray.remote(num_cpus=0)(_Reports).remote()
    tasks = _SeedTasks(((shared, weights, ray.put(data)), (reports,)), ended)
    launches = Launches([_Seed(seed, share.needs) for seed in seeds], share.runs_at_once, tasks, waiting)
    try:
        while not launches.go_on():
            launches.works(show_reports())
            time.sleep(TELL_SECONDS)
    finally:
        launches.close()
        ray.kill(reports)
    return scores


class _Reports:
    """Actor that collects the workers' reports. Workers do not wait for it: a waiting task gives up its CPUs."""

    def __init__(self) -> None:
        self._reports: list[_Report] = []

    def add(self, report: _Report) -> None:
        """Add a report."""
        self._reports.append(report)

    def take(self) -> list[_Report]:
        """Remove and return all reports, oldest first."""
        taken, self._reports = self._reports, []
        return taken


def _show(report: _Report, progress: Progress) -> None:
    step = seed_step(report.seed)
    if report.done == 0:
        progress.start(step, report.total, "steps")
    progress.advance(step, report.done, report.total)
    if report.metrics is not None:
        progress.point(step, report.done, report.total, report.metrics)


def _evaluate_seed(
    shared: _Shared, weights: dict[str, Any], rows: EvaluationData, seed: int, reports: Any
) -> SeedScore:
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
    score = evaluate_seed(base, rows, shared.request, seed, device, Reports(report, epoch_report))
    ray.get(last)  # so that no report arrives after the end of its seed
    return score
