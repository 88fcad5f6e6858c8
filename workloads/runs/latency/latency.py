"""Latency on the cluster: a node that is as the target says, one measurement at a time on it, results kept.

What is measured depends on the device, the cores that a process may use and the libraries' versions, so these are part
of an artefact's key: on nodes of another kind, or after an upgrade, the same target is measured anew. The measuring
process is an actor of its own, fresh each time, with as many CPUs as the target has threads.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from workloads.answers.latency import LatencyMeasure, LatencySample, LatencySamples, settled, summarise_closest
from workloads.answers.latency_model import CANDIDATES, candidates_to_measure
from workloads.answers.trained import TeacherStage
from workloads.craft.export import build_student
from workloads.craft.latency import measure as craft
from workloads.craft.latency.cores import device_name
from workloads.craft.latency.runtimes import load_model
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import wiring_of
from workloads.craft.teacher import Teacher, open_teacher
from workloads.runs.attempt.leases import lease
from workloads.runs.latency.places import Place, find_place, options_on, result_of
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import Space
from workloads.spec.budgets import LatencyTarget
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage

MORE_REPEATS = 2
"""How often a candidate is timed again, at most, while no two of its repeats agree."""


@dataclass(frozen=True)
class Timed:
    """What timing a model once takes, in seconds.

    Attributes:
        start: Making it ready, and all else that the timed forwards are not.
        forward: One of these.
    """

    start: float
    forward: float

    def seconds(self, target: LatencyTarget) -> float:
        """What one repeat of a measurement on ``target`` takes."""
        return self.start + (target.warm_ups + target.runs) * self.forward


@dataclass(frozen=True)
class ForwardTimes:
    """A target's forwards as :func:`time_forwards` found them.

    Attributes:
        start: Seconds until the measuring process is there, with the teacher's files.
        small, large: The candidates at the ends.
        flops: Their FLOP counts at the target's length.
    """

    target: LatencyTarget
    start: float
    teacher: Timed
    small: Timed
    large: Timed
    flops: tuple[int, int]

    def of(self, flops: int) -> Timed:
        """What a candidate of so many FLOPs would take, on the line between the two."""
        (low, high), small, large = self.flops, self.small, self.large
        share = (flops - low) / (high - low) if high > low else 0.0
        return Timed(
            small.start + share * (large.start - small.start), small.forward + share * (large.forward - small.forward)
        )


def build_measure(
    storage: Storage,
    *,
    target: LatencyTarget,
    teacher_files: str,
    teacher_fingerprint: str,
    student_files: str,
    student_fingerprint: str,
    builder: str,
    field: str | None = None,
    waiting: Callable[[], None] | None = None,
) -> Artifact:
    """Give the artefact of a measure, made by this call or an earlier one (then ``builder`` is another).

    It is made again where its two repeats disagree, a few times; one whose repeats never agreed is used by its own
    builder only, and measured anew by others.

    Args:
        storage: Where artefacts are kept; the measuring node must reach it.
        target: Where and how.
        teacher_files: The teacher's folder, relative to the storage.
        teacher_fingerprint: Of the teacher.
        student_files: The exported student's folder, relative to the storage.
        student_fingerprint: Of the student.
        builder: Names the job and attempt.
        field: See :func:`find_place`.
        waiting: Called once if another measurement is going on on the node.

    Raises:
        InputError: The target cannot be measured here; see :func:`find_place`.
    """
    place = find_place(target, field)
    key = Key(
        "latency",
        {
            "teacher": teacher_fingerprint,
            "student": student_fingerprint,
            "target": target.model_dump(mode="json"),
            **place.conditions,
        },
    )

    def found() -> Artifact | None:
        artifact = artifacts.find(storage, key)
        usable = artifact is not None and (artifact.summary["agrees"] or artifact.builder == builder)
        return artifact if usable else None

    if (artifact := found()) is not None:
        return artifact
    with _alone_on(place, builder, waiting):
        if (artifact := found()) is not None:
            return artifact
        with _meter(storage, target, place, teacher_files) as meter:
            measured: LatencyMeasure = result_of(meter.measure.remote(student_files))
        return artifacts.commit(storage, key, builder, measured.model_dump(mode="json"), measured.device)


def read_measure(artifact: Artifact) -> LatencyMeasure:
    """Read the measure back."""
    return LatencyMeasure.model_validate(artifact.summary)


def build_samples(
    storage: Storage,
    *,
    target: LatencyTarget,
    teacher_files: str,
    teacher_fingerprint: str,
    spaces: Sequence[Space],
    seed: int,
    builder: str,
    progress: Callable[[int, int], None],
    count: int = CANDIDATES,
    field: str | None = None,
    waiting: Callable[[], None] | None = None,
) -> Artifact:
    """Give the artefact of measured candidates, made by this call or an earlier one.

    The candidates have the teacher's weights, sliced, for training changes no latency. Each is measured twice, the
    second time in the opposite order, so that a machine that grows slower or faster favours none; those whose repeats
    disagree are measured again. Where too few agree in the end they serve this builder only, under a key of its own.

    Args:
        storage: Where artefacts are kept.
        target: Where and how.
        teacher_files: The teacher's folder, relative to the storage.
        teacher_fingerprint: Of the teacher.
        spaces: The sub-spaces to choose from; see :func:`workloads.answers.latency_model.candidates_to_measure`.
        seed: Of the choice.
        builder: Names the job and attempt.
        progress: Called with measurements done and measurements in all, two a candidate and those made again.
        count: How many candidates.
        field: See :func:`find_place`.
        waiting: Called once if another measurement is going on on the node.

    Raises:
        InputError: The target cannot be measured here; see :func:`find_place`.
    """
    place = find_place(target, field)
    key = samples_key(target, place, teacher_fingerprint, spaces, seed, count)
    own = Key(key.stage, key.inputs | {"builder": builder})

    def found() -> Artifact | None:
        return artifacts.find(storage, key) or artifacts.find(storage, own)

    if (artifact := found()) is not None:
        return artifact
    with _alone_on(place, builder, waiting):
        if (artifact := found()) is not None:
            return artifact
        chosen = candidates_to_measure(spaces, seed, count)
        with _meter(storage, target, place, teacher_files) as meter:
            samples = _measure_all(lambda *one: result_of(meter.time.remote(*one)), spaces, chosen, progress)
            device, versions = result_of(meter.about.remote())
        document = LatencySamples(
            target=target, samples=samples, device=device, versions=versions, measured_at=craft.now()
        )
        kept = key if document.settled else own
        return artifacts.commit(storage, kept, builder, document.model_dump(mode="json"), device)


def samples_key(
    target: LatencyTarget,
    place: Place,
    teacher_fingerprint: str,
    spaces: Sequence[Space],
    seed: int,
    count: int = CANDIDATES,
) -> Key:
    """Name what decides the measured candidates; see :func:`build_samples`."""
    return Key(
        "latency-samples",
        {
            "teacher": teacher_fingerprint,
            "target": target.model_dump(mode="json"),
            **place.conditions,
            "spaces": [space.to_json() for space in spaces],
            "seed": seed,
            "count": count,
        },
    )


def time_forwards(
    storage: Storage,
    *,
    target: LatencyTarget,
    teacher: TeacherStage,
    spaces: Sequence[Space],
    builder: str,
    field: str | None = None,
) -> ForwardTimes:
    """Time a few forwards where ``target`` is measured, and what comes before them.

    Args:
        storage: Where the teacher's files are.
        target: Where and how.
        teacher: Timed beside the smallest and the largest candidate.
        spaces: Of the candidates.
        builder: Names the job and attempt.
        field: See :func:`find_place`.

    Raises:
        InputError: The target cannot be measured here; see :func:`find_place`.
    """

    def flops(end: tuple[Space, Architecture]) -> int:
        return teacher.cost(end[1], target.sequence_length).flops

    place = find_place(target, field)
    short = target.model_copy(update={"warm_ups": 2, "runs": 10})
    ends = sorted(((space, one) for space in spaces for one in (space.smallest, space.largest)), key=flops)
    low, high = ends[0], ends[-1]
    with _alone_on(place, builder, None):
        began = time.monotonic()
        with _meter(storage, short, place, teacher.artifact.files) as meter:
            result_of(meter.about.remote())
            start = time.monotonic() - began
            result_of(meter.time.remote(*high, 0))  # the first has the libraries to load
            small, large = (_timed(meter.time.remote(*end, number), short) for number, end in enumerate((low, high), 1))
            alone = _timed(meter.time_teacher.remote(), short)
    return ForwardTimes(target, start, alone, small, large, (flops(low), flops(high)))


def _timed(reference: Any, target: LatencyTarget) -> Timed:
    began = time.monotonic()
    runs = result_of(reference)
    forward = statistics.median(runs) / 1000
    return Timed(max(0.0, time.monotonic() - began - forward * (target.warm_ups + target.runs)), forward)


def read_samples(artifact: Artifact) -> LatencySamples:
    """Read the samples back."""
    return LatencySamples.model_validate(artifact.summary)


@contextlib.contextmanager
def _alone_on(place: Place, builder: str, waiting: Callable[[], None] | None) -> Iterator[None]:
    # Two threads of a job must not measure at once either, hence an owner of each call's own.
    with lease(f"latency-on-{place.node}", f"{builder}-{uuid.uuid4().hex}", waiting):
        yield


@contextlib.contextmanager
def _meter(storage: Storage, target: LatencyTarget, place: Place, teacher_files: str) -> Iterator[Any]:
    meter = ray.remote(_Meter).options(**options_on(place.node, target)).remote(storage.url, target, teacher_files)
    try:
        yield meter
    finally:
        meter.__ray_terminate__.remote()  # not killed, so that it removes its temporary files


def _measure_all(
    time_one: Callable[[Space, Architecture, int], list[float]],
    spaces: Sequence[Space],
    candidates: Sequence[Architecture],
    progress: Callable[[int, int], None],
) -> list[LatencySample]:
    home = {one: next(space for space in spaces if one in space) for one in candidates}
    numbers = range(len(candidates))
    repeats: list[list[list[float]]] = [[] for _ in numbers]
    done, total = 0, 2 * len(candidates)
    progress(done, total)
    turn = [*numbers, *reversed(numbers)]
    for _ in range(1 + MORE_REPEATS):
        for number in turn:
            candidate = candidates[number]
            repeats[number].append(time_one(home[candidate], candidate, number))
            done += 1
            progress(done, total)
        turn = [number for number in numbers if not summarise_closest(repeats[number]).agrees]
        total += len(turn)
    summaries = [summarise_closest(runs) for runs in repeats]
    return [
        LatencySample(architecture=candidate.to_json(), p50_ms=found.p50_ms, p95_ms=found.p95_ms, agrees=found.agrees)
        for candidate, found in zip(candidates, summaries, strict=True)
    ]


class _Meter:
    """Measures on its node; its process does nothing else."""

    def __init__(self, storage: str, target: LatencyTarget, teacher_files: str) -> None:
        self._storage = Storage.open(storage)
        self._target = target
        self._work = tempfile.TemporaryDirectory(prefix="stillroom-meter-")
        self._teacher_folder = self._fetch(teacher_files)
        self._held: tuple[Teacher, Space, SuperLM] | None = None

    def measure(self, student_files: str) -> LatencyMeasure:
        """Measure a student beside the teacher, again where the repeats disagree."""
        models = [functools.partial(load_model, one) for one in (self._teacher_folder, self._fetch(student_files))]
        return settled(lambda: craft.measure(self._target, *models))

    def time(self, space: Space, candidate: Architecture, number: int) -> list[float]:
        """Time an untrained candidate alone."""
        teacher, superlm = self._cut(space)
        return craft.time_alone(
            self._target,
            lambda: build_student(teacher, candidate, superlm.extract(candidate)),
            Path(self._work.name) / f"candidate-{number}",
        )

    def time_teacher(self) -> list[float]:
        """Time the teacher alone."""
        folder = Path(self._work.name) / "teacher-alone"
        return craft.time_alone(self._target, functools.partial(load_model, self._teacher_folder), folder)

    def about(self) -> tuple[str, dict[str, str]]:
        """Give the device and the libraries' versions."""
        return device_name(self._target), craft.library_versions()

    def _fetch(self, files: str) -> Path:
        return self._storage.fetch(files, Path(self._work.name))

    def _cut(self, space: Space) -> tuple[Teacher, SuperLM]:
        """What a sub-space's candidates are cut from; only the last one is kept."""
        if self._held is None or self._held[1] != space:
            teacher = open_teacher(self._teacher_folder) if self._held is None else self._held[0]
            self._held = (teacher, space, SuperLM.from_teacher(teacher.weights, space, wiring_of(teacher)))
        return self._held[0], self._held[2]
