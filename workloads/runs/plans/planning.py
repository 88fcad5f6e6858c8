"""Plans: which sub-spaces can meet the budgets, and what a compression would take, before any of it is done."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import ray
import torch

from cluster.sizing import Resources, cpus_per_worker, read_resources
from workloads.answers.latency import known_targets
from workloads.answers.trained import TeacherStage
from workloads.craft.calibration import Calibration, TaskCalibration, calibrate, calibrate_task
from workloads.craft.polishing import single_student_space
from workloads.craft.tasks.data import read_task
from workloads.craft.tasks.encoding import encode_task
from workloads.craft.teacher import open_teacher
from workloads.documents.job_folder import PlanDocument
from workloads.runs.attempt.attempt import Attempt
from workloads.runs.attempt.steps import CALIBRATION, CORPUS, train_step
from workloads.runs.latency.latency import samples_key, time_forwards
from workloads.runs.latency.places import find_place, target_field
from workloads.runs.plans.estimates import Candidate, Measured, each_once, finalists, make_plan
from workloads.runs.proxy import CPUS
from workloads.runs.stages.training import StoredTraining
from workloads.runs.training.placement import plan_placement
from workloads.runs.training.train import superlm_key
from workloads.shapes.search_space import Space
from workloads.spec.request import CompressionRequest
from workloads.storage import artifacts
from workloads.storage.storage import Storage


def plan(attempt: Attempt) -> PlanDocument:
    """Estimate a compression, after a short calibration on the cluster.

    Raises:
        InputError: The request, or what it points to, cannot be worked with.
    """
    stages = StoredTraining(attempt)
    teacher = stages.teacher()
    spaces = stages.spaces(teacher)
    attempt.progress.start(CALIBRATION)
    storage, request, resources = attempt.storage, attempt.request, read_resources()
    corpus = stages.corpus_plan(teacher)
    keys = {
        train_step(space.name): superlm_key(request, space, teacher.fingerprint, corpus.key.fingerprint)
        for space in spaces
    } | {CORPUS: corpus.key}
    found = make_plan(
        request,
        teacher,
        spaces,
        resources,
        _measure(attempt, teacher, spaces, resources),
        corpus_bytes=corpus.size,
        reused={name: artifacts.find(storage, key) is not None for name, key in keys.items()},
    )
    attempt.progress.finish(CALIBRATION)
    return found


def _measure(attempt: Attempt, teacher: TeacherStage, spaces: Sequence[Space], resources: Resources) -> Measured:
    """Time what each step of the compression does much of, where it would do it."""
    storage, request, began = attempt.storage, attempt.request, time.monotonic()
    targets = known_targets(request.latency_targets)
    forwards, sampled = {}, set()
    for name in sorted({budget.latency_target for budget in request.budgets if budget.latency_target is not None}):
        target, where = targets[name], target_field(request, targets[name])
        forwards[name] = time_forwards(
            storage, target=target, teacher=teacher, spaces=spaces, builder=attempt.builder, field=where
        )
        samples = samples_key(target, find_place(target, where), teacher.fingerprint, spaces, request.seed)
        if artifacts.find(storage, samples) is not None:
            sampled.add(name)
    largest_first = functools.partial(finalists, request, teacher, spaces, forwards)
    polished = each_once(largest_first(request.polish.top_k)) if request.polish is not None else []
    alones: dict[str, Space] = {space.name: single_student_space(space, one) for space, one in reversed(polished)}
    task = None
    if request.proxy_task is not None and (tuned := each_once(largest_first(request.proxy_task.candidates))):
        task = _calibrate_task_on_cluster(storage, request, teacher, tuned[len(tuned) // 2], resources)
    return Measured(
        calibrate_on_cluster(storage, request, teacher, spaces, resources, [*alones.values()]),
        forwards,
        frozenset(sampled),
        task,
        alones,
        time.monotonic() - began,
    )


def calibrate_on_cluster(
    storage: Storage,
    request: CompressionRequest,
    teacher: TeacherStage,
    spaces: Sequence[Space],
    resources: Resources,
    alones: Sequence[Space] = (),
) -> Calibration:
    """Run the calibration where a training worker would run, with what it would have.

    Args:
        storage: Where the teacher's files are; the node must reach it.
        request: Objective and training.
        teacher: Brought to the storage.
        spaces: The sub-spaces.
        resources: The cluster's.
        alones: Sub-spaces of one candidate each, trained as it would be polished.
    """
    groups = len(plan_placement(request.training, spaces, teacher.shape, resources).groups)
    cpus = cpus_per_worker(resources, runs_at_once=groups, workers=request.training.workers)
    gpus = 1 if resources.gpus else 0
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_calibrate)
    found: Calibration = ray.get(
        task.remote(storage.url, request, teacher.artifact.files, [*spaces, *alones], cpus, gpus)
    )
    return found


def _calibrate_task_on_cluster(
    storage: Storage, request: CompressionRequest, teacher: TeacherStage, candidate: Candidate, resources: Resources
) -> TaskCalibration:
    """Run the calibration of the proxy task where a candidate would be fine-tuned, with what it would have."""
    gpus = 1 if resources.gpus else 0
    task = ray.remote(num_cpus=CPUS, num_gpus=gpus, max_retries=0)(_calibrate_task)
    found: TaskCalibration = ray.get(task.remote(storage.url, request, teacher.artifact.files, candidate, gpus))
    return found


def _calibrate(
    storage_url: str, request: CompressionRequest, teacher_files: str, spaces: list[Space], cpus: int, gpus: int
) -> Calibration:
    torch.set_num_threads(cpus)
    device = torch.device("cuda") if gpus else torch.device("cpu")
    rows = request.training.batch_size // request.training.workers
    with tempfile.TemporaryDirectory() as temporary:
        teacher = open_teacher(Storage.open(storage_url).fetch(teacher_files, Path(temporary)))
        return calibrate(teacher, spaces, request, rows=rows, device=device)


def _calibrate_task(
    storage_url: str, request: CompressionRequest, teacher_files: str, candidate: Candidate, gpus: int
) -> TaskCalibration:
    assert request.proxy_task is not None
    torch.set_num_threads(CPUS)
    device = torch.device("cuda") if gpus else torch.device("cpu")
    with tempfile.TemporaryDirectory() as temporary:
        teacher = open_teacher(Storage.open(storage_url).fetch(teacher_files, Path(temporary)))
        spec = request.proxy_task
        task = encode_task(read_task(spec), spec, teacher.tokenizer, teacher.shape)
        return calibrate_task(teacher, *candidate, task, spec, seed=request.seed, device=device)
