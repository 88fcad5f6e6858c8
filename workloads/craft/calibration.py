"""Calibration: timing of a few real steps, to estimate how long training, search and fine-tuning take here."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from typing_extensions import override

from workloads.craft.export import build_student
from workloads.craft.objectives.objective import Objective, objective_for
from workloads.craft.sandwich import sandwich, step_flops
from workloads.craft.scoring import Heldout, score_rows
from workloads.craft.signals import Batch, Signals, Wants
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import build_superlm, wiring_of
from workloads.craft.tasks.encoding import EncodedRows, EncodedTask
from workloads.craft.tasks.finetuning import FineTuning, classifier
from workloads.craft.teacher import Teacher
from workloads.craft.training import GroupTrainer, Member, Worker
from workloads.shapes.architecture import Architecture, TeacherShape
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import Space
from workloads.spec.request import CompressionRequest
from workloads.spec.search import TaskSpec

STEPS = 3
"""Timed steps of each SuperLM, after one that is not timed."""


@dataclass(frozen=True)
class Calibration:
    """Seconds of training, on one worker's device.

    Attributes:
        teacher_seconds: The teacher's forward over the rows of a step.
        step_seconds: By space, the step of its SuperLM without the teacher's forward: the sandwich and the optimiser.
    """

    teacher_seconds: float
    step_seconds: dict[str, float]


@dataclass(frozen=True)
class ScoringCalibration:
    """Seconds of scoring one row, where candidates are scored.

    Attributes:
        teacher_seconds: The teacher's forward, on a CPU.
        row_seconds: By space, forward and loss of a candidate of mean size.
    """

    teacher_seconds: float
    row_seconds: dict[str, float]


@dataclass(frozen=True)
class TaskCalibration:
    """Seconds of fine-tuning one candidate, where a candidate is fine-tuned.

    Attributes:
        architecture: The candidate.
        start_seconds: Cutting it out and adding the head.
        epoch_seconds: An epoch: the training rows forward and backward, the validation rows forward.
    """

    architecture: Architecture
    start_seconds: float
    epoch_seconds: float


def calibrate(
    teacher: Teacher, spaces: Sequence[Space], request: CompressionRequest, *, rows: int, device: torch.device
) -> Calibration:
    """Time the steps of every SuperLM alone, without the teacher's forward.

    The subnets that a step draws differ in size, so the measured time is scaled by FLOPs to that of a mean draw.

    Args:
        teacher: The opened teacher; it is moved to ``device``.
        spaces: The sub-spaces.
        request: Settings of objective and training.
        rows: Rows of a step on this worker.
        device: The device that trains.
    """
    training = request.training
    objective = objective_for(request.objective, teacher.shape)
    batch = _batch(teacher, objective, request, rows)
    teacher_seconds = _teacher_seconds(teacher, objective, batch, device)
    timed = _TimedTeacher(**{one.name: getattr(teacher, one.name) for one in dataclasses.fields(teacher)})
    steps: dict[str, float] = {}
    worker = Worker(device)
    for space in spaces:
        built = build_superlm(teacher, space, order=None, maps=objective.maps)
        member = Member(space, built.superlm.to(device), None, STEPS + 1)
        trainer = GroupTrainer(timed, {space.name: member}, objective, training, seed=request.seed, worker=worker)
        steps[space.name] = _step_seconds(trainer, timed, space, batch, request)
    return Calibration(teacher_seconds, steps)


def calibrate_scoring(
    teacher: Teacher, spaces: Sequence[Space], request: CompressionRequest, *, device: torch.device
) -> ScoringCalibration:
    """Time the scoring of a batch of held-out rows by a candidate of each space.

    Args:
        teacher: The opened teacher; it is moved to the CPU.
        spaces: The sub-spaces.
        request: Settings of the objective and of the batch size.
        device: The device that scores candidates.
    """
    objective = objective_for(request.objective, teacher.shape)
    rows = min(request.training.batch_size, request.heldout_rows)
    batch = _batch(teacher, objective, request, rows)
    # In a run the driver reads the teacher on the held-out rows, on a CPU.
    teacher_seconds = _teacher_seconds(teacher, objective, batch, torch.device("cpu"))
    heldout = Heldout.read(teacher, objective, [batch])
    scores = {}
    for space in spaces:
        built = build_superlm(teacher, space, order=None, maps=objective.maps)
        scores[space.name] = _score_seconds(built.superlm.to(device), space, objective, heldout)
    return ScoringCalibration(teacher_seconds / rows, scores)


def _batch(teacher: Teacher, objective: Objective, request: CompressionRequest, rows: int) -> Batch:
    ids_BL = torch.randint(0, teacher.shape.vocabulary.vocab_size, (rows, request.training.sequence_length))
    return Batch(ids_BL, None if objective.layout == "packed" else torch.ones_like(ids_BL, dtype=torch.bool))


def _teacher_seconds(teacher: Teacher, objective: Objective, batch: Batch, device: torch.device) -> float:
    """Time the teacher's forward; the teacher stays on the device."""
    teacher.model.to(device)
    on_device = batch.to(device)

    @torch.no_grad()
    def read() -> None:
        teacher.read(on_device, objective.teacher_wants)

    read()
    return min(_seconds(read, device) for _ in range(STEPS))


def calibrate_task(
    teacher: Teacher,
    candidate: tuple[Space, Architecture],
    task: EncodedTask,
    spec: TaskSpec,
    *,
    seed: int,
    device: torch.device,
) -> TaskCalibration:
    """Time a few steps of fine-tuning an untrained candidate on random rows of the task.

    Args:
        teacher: The opened teacher.
        candidate: Its sub-space and its architecture.
        task: Tokens and labels.
        spec: Settings of the task.
        seed: Seed of the random rows and of fine-tuning.
        device: The device that fine-tunes.
    """
    space, architecture = candidate
    draw = np.random.default_rng(seed)
    few = replace(
        task,
        train=_random_rows(task.train, (STEPS + 1) * spec.batch_size, draw),
        validation=_random_rows(task.validation, (STEPS + 1) * spec.batch_size, draw),
    )
    began = time.monotonic()
    superlm = SuperLM.from_teacher(teacher.weights, space, wiring_of(teacher))
    model = classifier(build_student(teacher, architecture, superlm.extract(architecture)), few, seed)
    stamps: list[float] = []

    def stepped() -> None:
        _synchronise(device)
        stamps.append(time.monotonic())

    tuning = FineTuning(model, few, spec, seed=seed, device=device, stepped=stepped)
    started = time.monotonic()
    tuning.run_epoch()
    ended = time.monotonic()
    # The first step is not counted, unless it is the only one.
    rows = len(few.train) - spec.batch_size if len(stamps) > 1 else len(few.train)
    stepping = stamps[-1] - (stamps[0] if len(stamps) > 1 else started)
    epoch = stepping / rows * len(task.train) + (ended - stamps[-1]) / len(few.validation) * len(task.validation)
    return TaskCalibration(architecture, started - began, epoch)


def _random_rows(rows: EncodedRows, count: int, draw: np.random.Generator) -> EncodedRows:
    chosen = draw.permutation(len(rows))[:count]
    places = [slice(*rows.starts_N1[row : row + 2]) for row in chosen]
    return EncodedRows(
        np.concatenate([rows.ids_T[place] for place in places]),
        None if rows.types_T is None else np.concatenate([rows.types_T[place] for place in places]),
        np.cumsum([0, *(place.stop - place.start for place in places)]),
        rows.labels_N[chosen],
    )


@dataclass(frozen=True)
class _TimedTeacher(Teacher):
    """A teacher that notes the seconds of each of its forwards.

    On a busy machine a forward that was timed before may have taken longer than a whole step takes now. So the
    forward of a step is timed in that step.
    """

    seconds: list[float] = field(default_factory=list, repr=False)

    @override
    def read(self, batch: Batch, wants: Wants) -> Signals:
        device = self.model.device
        _synchronise(device)
        started = time.monotonic()
        signals = super().read(batch, wants)
        _synchronise(device)
        self.seconds.append(time.monotonic() - started)
        return signals


def _step_seconds(
    trainer: GroupTrainer, teacher: _TimedTeacher, space: Space, batch: Batch, request: CompressionRequest
) -> float:
    """Time steps without the teacher's forward, and scale them by FLOPs to a step of mean draws."""
    shape = teacher.shape
    trainer.step(0, batch)
    ratios = []
    for step in range(1, STEPS + 1):
        teacher.seconds.clear()
        took = _seconds(functools.partial(trainer.step, step, batch), trainer.worker.device)
        ratios.append((took - sum(teacher.seconds)) / _drawn_flops(space, request, shape, step))
    return sum(ratios) / len(ratios) * step_flops(space, shape, request.training)


def _score_seconds(superlm: SuperLM, space: Space, objective: Objective, heldout: Heldout) -> float:
    """Time the scoring of candidates of a mean size together; return seconds per candidate and row."""
    candidates = [space.largest, space.smallest] * 2
    score = functools.partial(score_rows, superlm, candidates, objective, heldout)
    score()
    seconds = min(_seconds(score, superlm.flat.decay.device) for _ in range(STEPS))
    return seconds / len(candidates) / heldout.counts.rows


def _drawn_flops(space: Space, request: CompressionRequest, shape: TeacherShape, step: int) -> float:
    drawn = sandwich(space, request.training, seed=request.seed, step=step)
    return sum(student_cost(shape, one, request.training.sequence_length).flops for one in drawn)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    started = time.monotonic()
    work()
    _synchronise(device)
    return time.monotonic() - started


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
