"""Plans: which sub-spaces can meet the budgets, and what a compression would take, before any of it is done."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import ray
import torch

from cluster.sizing import Resources, cpus_per_worker, read_resources
from workloads import artifacts
from workloads.budgets import Budget
from workloads.choosing import misses
from workloads.craft.calibration import Calibration, calibrate
from workloads.craft.teacher import open_teacher
from workloads.job_folder import PlanBudgetDocument, PlanDocument, PlanStepDocument
from workloads.request import CompressionRequest
from workloads.runs.attempt import Attempt
from workloads.runs.placement import plan_placement
from workloads.runs.steps import CALIBRATION, CORPUS, STUDENTS, step_names, train_step
from workloads.runs.train import superlm_key
from workloads.runs.training_stages import StoredTraining
from workloads.spaces import SubSpace
from workloads.storage import Storage
from workloads.trained import TeacherStage

# Read off the events of a run of the demo on an idle machine of two cores (2026-11-21).
TRAIN_START_SECONDS = 26.0
"""A training's first step came 23 s after its placement (Ray Train's start, importance, the SuperLMs), and about
3 s passed from its last step to the search."""
SEARCH_START_SECONDS = 6.5
"""120 candidates took 12.2 s, of which their scoring was 11.5 CPU-seconds on two cores."""
STUDENT_SECONDS = 0.5
"""Three students took 1.6 s."""
CORPUS_BYTES_A_SECOND = 1.1e6
"""Text that one core tokenises and packs in a second: 12.2 MB came at 2.2 MB/s on two, with a WordPiece tokenizer."""


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
        calibrate_on_cluster(storage, request, teacher, spaces, resources),
        corpus_bytes=corpus.size,
        reused={name: artifacts.find(storage, key) is not None for name, key in keys.items()},
        not_estimated=[name for name in step_names(request, "selection") if name != STUDENTS],
    )
    attempt.progress.finish(CALIBRATION)
    return found


def calibrate_on_cluster(
    storage: Storage,
    request: CompressionRequest,
    teacher: TeacherStage,
    spaces: Sequence[SubSpace],
    resources: Resources,
) -> Calibration:
    """Run the calibration where a training worker would run, with what it would have.

    Args:
        storage: Where the teacher's files are; the node must reach it.
        request: Objective and training.
        teacher: Brought to the storage.
        spaces: The sub-spaces.
        resources: The cluster's.
    """
    groups = len(plan_placement(request.training, spaces, teacher.shape, resources).groups)
    cpus = cpus_per_worker(resources, runs_at_once=groups, workers=request.training.workers)
    gpus = 1 if resources.gpus else 0
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_calibrate)
    found: Calibration = ray.get(task.remote(storage.url, request, teacher.artifact.files, list(spaces), cpus, gpus))
    return found


def make_plan(
    request: CompressionRequest,
    teacher: TeacherStage,
    spaces: Sequence[SubSpace],
    resources: Resources,
    calibration: Calibration,
    *,
    corpus_bytes: int | None,
    reused: Mapping[str, bool],
    not_estimated: Sequence[str] = (),
) -> PlanDocument:
    """Put the estimate together.

    Args:
        request: What is asked for.
        teacher: The teacher.
        spaces: The sub-spaces.
        resources: The cluster's.
        calibration: Measured there.
        corpus_bytes: Text to read; None where it is not known (the hub).
        reused: By step, whether an earlier run has left its result.
        not_estimated: Further steps of the run, such as polishing.
    """
    training = request.training
    placement = plan_placement(training, spaces, teacher.shape, resources)
    steps = [
        _step("teacher", 0.0, reused, "copied before"),
        _step(
            "corpus",
            0.0 if corpus_bytes is None else corpus_bytes / CORPUS_BYTES_A_SECOND / max(1, resources.cluster_cpus),
            reused,
            "unknown size: not estimated" if corpus_bytes is None else f"{corpus_bytes:,} bytes of text",
        ),
    ]
    longest = device_seconds = 0.0
    by_name: dict[str, PlanStepDocument] = {}
    for group in placement.groups:
        todo = [name for name in group if not reused.get(f"train-{name}", False)]
        lengths = {name: training.steps_for(name) for name in todo}
        forward = calibration.teacher_seconds * max(lengths.values(), default=0)
        run = sum(calibration.step_seconds[name] * steps_ for name, steps_ in lengths.items()) + forward
        run += TRAIN_START_SECONDS if todo else 0.0
        for name in group:
            # SuperLMs of a group are trained side by side: each is done when the group is.
            basis = f"{training.steps_for(name)} steps, {calibration.step_seconds[name]:.3g} s a step of its own, "
            basis += f"{calibration.teacher_seconds:.3g} s of the teacher's for {', '.join(group)}"
            by_name[name] = _step(f"train-{name}", run, reused, basis)
        longest = max(longest, run)
        per_worker = 1 if resources.gpus else cpus_per_worker(resources, len(placement.groups), training.workers)
        device_seconds += run * training.workers * per_worker
    steps += [by_name[space.name] for space in spaces]
    rows = request.search.heldout_blocks
    scoring = sum(_candidates(request, space) * calibration.score_seconds[space.name] * rows for space in spaces)
    search = SEARCH_START_SECONDS + scoring
    steps.append(_step("search", search, reused, "every candidate on all rows; halving takes less"))
    # Said rather than left out: what these take depends on what the search finds.
    steps += [_step(name, 0.0, {}, "not estimated") for name in not_estimated]
    steps.append(_step("students", STUDENT_SECONDS * len(request.budgets), {}, "one a budget"))
    others = sum(step.seconds for step in steps if not step.name.startswith("train-"))
    cores = 1 if resources.gpus else resources.cluster_cpus
    return PlanDocument(
        candidates={space.name: len(space) for space in spaces},
        budgets=[_budget(budget, teacher, spaces) for budget in request.budgets],
        steps=steps,
        seconds=longest + others,
        device_hours=(device_seconds + others * cores) / 3600,
        device="GPU" if resources.gpus else "CPU core",
        calibration_seconds=calibration.seconds,
    )


def _candidates(request: CompressionRequest, space: SubSpace) -> int:
    return len(space) if request.search.candidates is None else min(len(space), request.search.candidates)


def _step(name: str, seconds: float, reused: Mapping[str, bool], basis: str) -> PlanStepDocument:
    is_reused = reused.get(name, False)
    return PlanStepDocument(name=name, seconds=0.0 if is_reused else seconds, reused=is_reused, basis=basis)


def _budget(budget: Budget, teacher: TeacherStage, spaces: Sequence[SubSpace]) -> PlanBudgetDocument:
    counted = budget.model_copy(update={"max_latency_ms": None, "latency_target": None})
    counts = {
        space.name: sum(
            not misses(teacher.cost(architecture, budget.sequence_length), counted)
            for architecture in space.architectures()
        )
        for space in spaces
    }
    note = None
    if budget.max_latency_ms is not None:
        note = f"max_latency_ms is measured on {budget.latency_target} by the run; the counts leave it out"
    return PlanBudgetDocument(budget=budget.name, candidates=counts, feasible=any(counts.values()), note=note)


def _calibrate(
    storage_url: str, request: CompressionRequest, teacher_files: str, spaces: list[SubSpace], cpus: int, gpus: int
) -> Calibration:
    torch.set_num_threads(cpus)
    device = torch.device("cuda") if gpus else torch.device("cpu")
    rows = request.training.batch_size // request.training.workers
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        teacher = open_teacher(Storage.open(storage_url).fetch(teacher_files, Path(temporary)))
        found = calibrate(teacher, spaces, request, rows=rows, device=device)
    return Calibration(found.teacher_seconds, found.step_seconds, found.score_seconds, time.monotonic() - began)
