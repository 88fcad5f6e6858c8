"""Evaluation of a model on a task: each seed's score is saved when the seed ends.

A seed with a saved score, from an earlier attempt or another job, is not fine-tuned again. If models are to be kept, a
seed's model is an artefact that has the seed's score as its summary.
"""

from __future__ import annotations

import functools
import math
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
import torch

from workloads.craft.tasks.data import task_fingerprint
from workloads.craft.tasks.evaluating import EvaluationData, TaskModel, f1_average, prepare
from workloads.craft.tasks.finetuning import head_config
from workloads.craft.tasks.kept_model import ModelKeeper
from workloads.craft.teacher import fetch_teacher
from workloads.runs.attempt.leases import lease
from workloads.runs.attempt.run import JobAttempt
from workloads.runs.evaluation_seeds import Outcome, run_seeds, seed_step
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


def step_names(request: EvaluationRequest) -> list[str]:
    """Names of an evaluation's steps, in order."""
    return [MODEL, ROWS, *map(seed_step, request.seeds)]


@dataclass(frozen=True)
class _Keys:
    """Keys of an evaluation's results.

    Attributes:
        scores: The key of each seed's score.
        models: The key of each seed's model; empty if models are not to be kept.
        whole: The key of the whole result.
    """

    scores: dict[int, Key]
    models: dict[int, Key]
    whole: Key

    @property
    def by_seed(self) -> dict[int, Key]:
        """The key of the artefact with each seed's score: that of its model, if it is to be kept."""
        return self.models or self.scores

    @property
    def used(self) -> dict[str, list[str]]:
        """Fingerprints of all of them, by stage."""
        seeds = list(self.by_seed.values())
        return {self.whole.stage: [self.whole.fingerprint], seeds[0].stage: [key.fingerprint for key in seeds]}


def evaluate(
    attempt: JobAttempt, request: AcceptedEvaluation, work: Path
) -> tuple[EvaluationResult, dict[str, list[str]]]:
    """Evaluate a model. The caller must have joined the Ray cluster and declared the steps.

    Args:
        attempt: The attempt, with the steps of :func:`step_names`.
        request: The evaluation's request.
        work: A local folder for temporary files.

    Returns:
        The result, and the fingerprints of its stages, by stage.

    Raises:
        InputError: The model or the task cannot be used, or fine-tuning diverged.
        OSError: The storage cannot be read or written.
    """
    assert ray.is_initialized(), "The caller connects to Ray."
    run, progress = attempt.run, attempt.progress
    storage, builder = run.storage, run.builder
    progress.start(MODEL)
    folder = _model_folder(storage, request, work)
    request = _with_length(request, folder)
    fingerprint = teacher_files.fingerprint(folder)
    keys = _keys(request, fingerprint)
    progress.finish(MODEL)
    if (found := _find_whole(storage, keys)) is None:
        waiting = "waiting for another job that evaluates this"
        with lease(keys.whole.fingerprint, builder, lambda: progress.note(ROWS, waiting)):
            progress.note(ROWS, None)
            if (found := _find_whole(storage, keys)) is None:
                result = _Building(attempt, request, folder, fingerprint, keys, work).build()
                found = artifacts.commit(storage, keys.whole, builder, result.model_dump(mode="json"))
    attempt.log.record_fingerprints(keys.used)
    if found.builder != builder:
        for step in step_names(request)[1:]:
            progress.reuse(step)
    # The task's name is no part of the key, so another job may have built the artefact under another name.
    own = {"task": request.task.name, "scored_on": request.task.scored_on}
    result = EvaluationResult.model_validate(found.summary | own)
    if keys.models:  # another job may have built them again since the result was written
        files = {seed: artifacts.load(storage, key.stage, key.fingerprint).files for seed, key in keys.models.items()}
        seeds = [one.model_copy(update={"files": files[one.seed]}) for one in result.seeds]
        result = result.model_copy(update={"seeds": seeds})
    return result, keys.used


def _find_whole(storage: Storage, keys: _Keys) -> Artifact | None:
    """Find the whole result; one without all of its models counts as missing."""
    found = artifacts.find(storage, keys.whole)
    # All are looked up, since that marks them as used.
    there = [artifacts.find(storage, key) is not None for key in keys.models.values()]
    return found if all(there) else None


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


def _keys(request: AcceptedEvaluation, fingerprint: str) -> _Keys:
    try:
        task = task_fingerprint(request.task_spec(), TASK)
    except InputError as error:
        raise renamed(error, f"{TASK}.validation", f"{TASK}.{request.task.scored_on}") from error
    inputs = {
        "model": fingerprint,
        "task": task | {"learning_rate": request.learning_rates},
        "set_aside": request.task.set_aside,
    }

    def by_seed(stage: str) -> dict[int, Key]:
        return {seed: Key(stage, inputs | {"seed": seed}) for seed in request.seeds}

    keep = {"keep_model": True} if request.keep_model else {}  # keys of requests without models stay as they were
    return _Keys(
        by_seed("evaluation-seed"),
        by_seed("evaluation-model") if request.keep_model else {},
        Key("evaluation", inputs | {"seeds": request.seeds} | keep),
    )


@dataclass(frozen=True)
class _Building:
    """The building of a result.

    Attributes:
        attempt: Names the storage, the builder and the progress.
        folder: Folder of the model.
        fingerprint: Hash of the model's files.
        work: A local folder for temporary files.
    """

    attempt: JobAttempt
    request: AcceptedEvaluation
    folder: Path
    fingerprint: str
    keys: _Keys
    work: Path

    def build(self) -> EvaluationResult:
        """Fine-tune with the seeds that have no saved score, and sum up all."""
        request, progress = self.request, self.attempt.progress
        progress.start(ROWS)
        try:
            model = TaskModel.student(self.folder) if request.model.teacher is None else TaskModel.teacher(self.folder)
        except InputError as error:
            raise renamed(error, "teacher", "model.teacher") from error
        params = model.model.num_parameters()
        data = prepare(request, model)
        progress.finish(ROWS)
        done = {}
        for seed in request.seeds:
            if (found := self._find_seed(seed)) is not None:
                self._record(found)
                done[seed] = SeedScore.model_validate(found.summary)
                progress.reuse(seed_step(seed))
        missing = [seed for seed in request.seeds if seed not in done]
        if missing:
            keeper = ModelKeeper(self.folder, head_config(model.model.config, data.task), data.classes, request)
            keep = functools.partial(self._keep, keeper)
            done |= {score.seed: score for score in run_seeds(request, model.model, data, missing, keep, progress)}
        return _result(request, data, [done[seed] for seed in request.seeds], params, self.fingerprint)

    def _find_seed(self, seed: int) -> Artifact | None:
        storage, key = self.attempt.run.storage, self.keys.by_seed[seed]
        if (found := artifacts.find(storage, key)) is not None or self.keys.models:
            return found
        # An evaluation that has kept its models has the score of this one.
        other = artifacts.find(storage, Key("evaluation-model", key.inputs))
        return None if other is None else artifacts.commit(
            storage, key, self.attempt.run.builder, other.summary, device=other.device
        )  # fmt: skip

    def _keep(self, keeper: ModelKeeper, outcome: Outcome) -> None:
        """Save a seed's score, and its model if it is to be kept."""
        run, score = self.attempt.run, outcome.score
        key = self.keys.by_seed[score.seed]
        if outcome.weights is not None:
            folder = self.work / seed_step(score.seed)
            weights = {name: torch.tensor(array) for name, array in outcome.weights.items()}
            keeper.save(folder, weights, score)
            run.storage.upload(folder, artifacts.build_folder(key, run.builder))
            shutil.rmtree(folder)
        self._record(artifacts.commit(run.storage, key, run.builder, score.model_dump(mode="json"), score.device))

    def _record(self, made: Artifact) -> None:
        """Count what is stored now, so that an attempt that does not end has it counted too."""
        log, progress = self.attempt.log, self.attempt.progress
        log.record(made)
        if (stored := log.bytes_built()) is not None:
            progress.stored(stored)


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
