"""Planning: which sub-spaces can meet the budgets, and the estimated time of a compression that has not run yet."""

from __future__ import annotations

import contextlib
import functools
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from cluster.room import reserved, run_in
from cluster.sizing import Needs, Share, read_cluster
from workloads.answers.latency import known_targets
from workloads.answers.trained import TeacherStage
from workloads.craft.calibration import (
    Calibration,
    ScoringCalibration,
    TaskCalibration,
    calibrate,
    calibrate_scoring,
    calibrate_task,
)
from workloads.craft.polishing import single_student_space
from workloads.craft.precision import set_up_torch
from workloads.craft.tasks.data import read_task
from workloads.craft.tasks.encoding import encode_task
from workloads.craft.teacher import Teacher, open_teacher
from workloads.documents.job_folder import PlanDocument
from workloads.methods.steps import CALIBRATION, CORPUS, train_step
from workloads.runs.attempt.attempt import Attempt
from workloads.runs.attempt.run import Run
from workloads.runs.latency.latency import Choice, samples_key, time_forwards
from workloads.runs.latency.places import Asked, find_place
from workloads.runs.plans.estimates import Measured, Subject, make_plan
from workloads.runs.plans.shortlist import Candidate, each_once
from workloads.runs.stages.training import StoredTraining
from workloads.runs.training.train import superlm_key
from workloads.shapes.search_space import Space
from workloads.spec.autodistil import AutoDistilRequest
from workloads.storage import artifacts
from workloads.storage.storage import Storage


def plan(attempt: Attempt) -> PlanDocument:
    """Estimate a compression, after a short calibration on the cluster.

    Raises:
        InputError: The request, its teacher or its corpus cannot be used.
    """
    stages = StoredTraining(attempt)
    teacher = stages.teacher()
    spaces = stages.spaces(teacher)
    attempt.progress.start(CALIBRATION)
    request, corpus = stages.request, stages.corpus_plan(teacher)
    keys = {
        train_step(space.name): superlm_key(request, space, teacher.fingerprint, corpus.key.fingerprint)
        for space in spaces
    } | {CORPUS: corpus.key}
    reused = {name: artifacts.find(attempt.storage, key) is not None for name, key in keys.items()}
    subject = Subject(request, teacher, spaces, read_cluster(), corpus.size, reused)
    found = make_plan(subject, _measure(attempt, subject))
    attempt.progress.finish(CALIBRATION)
    return found


def _measure(attempt: Attempt, subject: Subject) -> Measured:
    """Time the repeated work of each step, on a worker like the one that the step would use."""
    request, teacher, began = subject.request, subject.teacher, time.monotonic()
    targets = known_targets(request.latency_targets)
    forwards, sampled = {}, set()
    for name in sorted({budget.latency_target for budget in request.budgets if budget.latency_target is not None}):
        asked = Asked.by(request, targets[name], functools.partial(attempt.progress.wait, CALIBRATION))
        forwards[name] = time_forwards(attempt.run, asked, teacher, subject.spaces)
        choice = Choice(subject.spaces, request.seed)
        samples = samples_key(targets[name], find_place(asked), teacher.fingerprint, choice)
        if artifacts.find(attempt.storage, samples) is not None:
            sampled.add(name)
    polished = each_once(subject.finalists(forwards, request.polish.top_k)) if request.polish is not None else []
    single: dict[str, Space] = {space.name: single_student_space(space, one) for space, one in reversed(polished)}
    task = None
    if request.proxy_task is not None:
        tuned = each_once(subject.finalists(forwards, request.proxy_task.candidates))
        task = _calibrate_task_on_cluster(attempt, subject, tuned[len(tuned) // 2]) if tuned else None
    run, scored = attempt.run, [*subject.spaces, *single.values()]
    return Measured(
        calibrate_on_cluster(run, request, teacher, subject.spaces, subject.share(len(subject.placement.groups))),
        _calibrate_scoring_on_cluster(run, subject, scored),
        calibrate_on_cluster(run, request, teacher, [*single.values()], subject.share(1)) if single else None,
        forwards,
        frozenset(sampled),
        task,
        single,
        time.monotonic() - began,
    )


def calibrate_on_cluster(
    run: Run, request: AutoDistilRequest, teacher: TeacherStage, spaces: Sequence[Space], share: Share
) -> Calibration:
    """Calibrate the training on the cluster, with the resources of a training worker.

    Args:
        run: The storage with the teacher's files; its progress has the step :data:`CALIBRATION`.
        request: The objective and the settings of the training.
        teacher: The teacher, saved in the storage.
        spaces: The sub-spaces; for polishing, sub-spaces of one candidate each.
        share: Resources of a worker.
    """
    found: Calibration = _on_worker(
        run, share.needs, _calibrate, run.storage.url, request, teacher.artifact.files, list(spaces), share.needs
    )
    return found


def _calibrate_scoring_on_cluster(run: Run, subject: Subject, spaces: Sequence[Space]) -> ScoringCalibration:
    """Calibrate the scoring on the cluster, with the resources of a search actor."""
    needs, url = subject.search_needs, run.storage.url
    found: ScoringCalibration = _on_worker(
        run, needs, _calibrate_scoring, url, subject.request, subject.teacher.artifact.files, list(spaces), needs
    )
    return found


def _calibrate_task_on_cluster(attempt: Attempt, subject: Subject, candidate: Candidate) -> TaskCalibration:
    """Calibrate the proxy task on the cluster, with the resources for fine-tuning one candidate."""
    needs, url = subject.task_needs, attempt.storage.url
    found: TaskCalibration = _on_worker(
        attempt.run, needs, _calibrate_task, url, attempt.request, subject.teacher.artifact.files, candidate, needs
    )
    return found


def _on_worker(run: Run, needs: Needs, function: Callable[..., Any], *args: Any) -> Any:
    """Run a function on a worker with these resources, as soon as they are free."""
    with reserved([needs], functools.partial(run.progress.wait, CALIBRATION)) as room:
        return run_in(room, needs, function, *args)


def _calibrate(
    storage_url: str, request: AutoDistilRequest, teacher_files: str, spaces: list[Space], needs: Needs
) -> Calibration:
    device = _take(needs)
    rows = math.ceil(request.training.batch_size / request.training.workers)
    with _opened(storage_url, teacher_files) as teacher:
        return calibrate(teacher, spaces, request, rows=rows, device=device)


def _calibrate_scoring(
    storage_url: str, request: AutoDistilRequest, teacher_files: str, spaces: list[Space], needs: Needs
) -> ScoringCalibration:
    device = _take(needs)
    with _opened(storage_url, teacher_files) as teacher:
        return calibrate_scoring(teacher, spaces, request, device=device)


def _calibrate_task(
    storage_url: str, request: AutoDistilRequest, teacher_files: str, candidate: Candidate, needs: Needs
) -> TaskCalibration:
    spec, device = request.proxy_task, _take(needs)
    assert spec is not None
    with _opened(storage_url, teacher_files) as teacher:
        task = encode_task(read_task(spec), spec, teacher.tokenizer, teacher.shape)
        return calibrate_task(teacher, candidate, task, spec, seed=request.seed, device=device)


def _take(needs: Needs) -> torch.device:
    """Set PyTorch up for the worker's CPUs, and give its device."""
    set_up_torch(int(needs["CPU"]))
    return torch.device("cuda") if needs.get("GPU") else torch.device("cpu")


@contextlib.contextmanager
def _opened(storage_url: str, teacher_files: str) -> Iterator[Teacher]:
    with tempfile.TemporaryDirectory() as temporary:
        yield open_teacher(Storage.open(storage_url).fetch(teacher_files, Path(temporary)))
