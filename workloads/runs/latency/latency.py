"""Latency on the cluster: on a node that suits the target, one measurement at a time, with results saved.

A latency depends on the device, the cores that a process may use and the libraries' versions. So these are part of an
artefact's key: another kind of node, or an upgrade, leads to a new measurement. The measuring process is a fresh
actor with as many CPUs as the target has threads.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from cluster.room import reserved, start_in
from workloads.answers.latency import LatencyMeasure, LatencySample, LatencySamples, settled, summarise_closest
from workloads.answers.latency_model import CANDIDATES, candidates_to_measure
from workloads.answers.trained import TeacherStage
from workloads.craft.latency import measure as craft
from workloads.craft.latency.cores import device_name
from workloads.craft.latency.runtimes import load_student, load_teacher
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import build_superlm
from workloads.craft.teacher import Teacher, open_teacher
from workloads.craft.whole import build_whole
from workloads.runs.attempt.leases import lease
from workloads.runs.attempt.run import Run
from workloads.runs.latency.places import Asked, Place, find_place, needs_of, result_of
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import Space
from workloads.spec.budgets import LatencyTarget
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage

MORE_REPEATS = 2
"""Most additional timings of a candidate while no two of its repeats agree."""
WAITING = "waiting for another measurement on the node"


@dataclass(frozen=True)
class Timed:
    """Seconds that timing a model once takes.

    Attributes:
        start: All but the timed forwards, such as loading the model.
        forward: One timed forward.
    """

    start: float
    forward: float

    def seconds(self, target: LatencyTarget) -> float:
        """Seconds of one repeat of a measurement on ``target``."""
        return self.start + (target.warm_ups + target.runs) * self.forward


@dataclass(frozen=True)
class ForwardTimes:
    """Times of a target's forwards, from :func:`time_forwards`.

    Attributes:
        start: Seconds until the measuring process is ready, with the teacher's files.
        small, large: Times of the smallest and the largest candidate.
        flops: Their FLOP counts at the target's length.
    """

    target: LatencyTarget
    start: float
    teacher: Timed
    small: Timed
    large: Timed
    flops: tuple[int, int]

    def of(self, flops: int) -> Timed:
        """Interpolate the times of a candidate by its FLOPs, on the line through the two."""
        (low, high), small, large = self.flops, self.small, self.large
        share = (flops - low) / (high - low) if high > low else 0.0
        return Timed(
            small.start + share * (large.start - small.start), small.forward + share * (large.forward - small.forward)
        )


@dataclass(frozen=True)
class SavedStudent:
    """An exported student in the storage.

    Attributes:
        files: The student's folder, relative to the storage.
    """

    files: str
    fingerprint: str


@dataclass(frozen=True)
class Choice:
    """Choice of candidates to measure for a predictor; see :func:`candidates_to_measure`.

    Attributes:
        seed: Seed of the draw.
        count: Most candidates.
    """

    spaces: Sequence[Space]
    seed: int
    count: int = CANDIDATES


def build_measure(run: Run, asked: Asked, teacher: TeacherStage, student: SavedStudent) -> Artifact:
    """Return the artefact of a measure, made by this call or an earlier one (then its builder differs).

    If its two repeats disagree, it is measured again a few times. A measure whose repeats never agreed is used only by
    its own builder; others measure anew.

    Raises:
        InputError: The target cannot be measured here; see :func:`find_place`.
        NotStartedError: The measuring process does not start.
    """
    place = find_place(asked)
    key = Key(
        "latency",
        {
            "teacher": teacher.fingerprint,
            "student": student.fingerprint,
            "target": asked.target.model_dump(mode="json"),
            **place.conditions,
        },
    )

    def found() -> Artifact | None:
        artifact = artifacts.find(run.storage, key)
        usable = artifact is not None and (artifact.summary["agrees"] or artifact.builder == run.builder)
        return artifact if usable else None

    if (artifact := found()) is not None:
        return artifact
    with _alone_on(place, run, asked):
        if (artifact := found()) is not None:
            return artifact
        with _room(asked, place) as room, _meter(room, run, asked, teacher) as meter:
            measured: LatencyMeasure = result_of(meter.measure.remote(student.files))
        return artifacts.commit(run.storage, key, run.builder, measured.model_dump(mode="json"), measured.device)


def read_measure(artifact: Artifact) -> LatencyMeasure:
    """Read a measure from its artefact."""
    return LatencyMeasure.model_validate(artifact.summary)


def build_samples(
    run: Run, asked: Asked, teacher: TeacherStage, choice: Choice, progress: Callable[[int, int], None]
) -> Artifact:
    """Return the artefact of measured candidates, made by this call or an earlier one.

    The candidates have slices of the teacher's weights, since training does not change latency. Each is measured twice,
    the second time in the opposite order, so that a change of the machine's speed favours none. Those whose repeats
    disagree are measured again. If too few agree in the end, only this builder uses them, under a key of its own.

    Args:
        run: The storage of artefacts, and the builder; the measuring node must reach the storage.
        asked: The target and its request.
        teacher: The candidates' teacher.
        choice: The choice of candidates.
        progress: Called with measurements done and in all: two per candidate, and those repeated.

    Raises:
        InputError: The target cannot be measured here; see :func:`find_place`.
        NotStartedError: The measuring process does not start.
    """
    place = find_place(asked)
    key = samples_key(asked.target, place, teacher.fingerprint, choice)
    own = Key(key.stage, key.inputs | {"builder": run.builder})

    def found() -> Artifact | None:
        return artifacts.find(run.storage, key) or artifacts.find(run.storage, own)

    if (artifact := found()) is not None:
        return artifact
    with _alone_on(place, run, asked):
        if (artifact := found()) is not None:
            return artifact
        chosen = candidates_to_measure(choice.spaces, choice.seed, choice.count)
        with _room(asked, place) as room, _meter(room, run, asked, teacher) as meter:
            samples = _measure_all(lambda *one: result_of(meter.time.remote(*one)), choice.spaces, chosen, progress)
            device, versions = result_of(meter.about.remote())
        document = LatencySamples(
            target=asked.target, samples=samples, device=device, versions=versions, measured_at=craft.now()
        )
        kept = key if document.settled else own
        return artifacts.commit(run.storage, kept, run.builder, document.model_dump(mode="json"), device)


def samples_key(target: LatencyTarget, place: Place, teacher_fingerprint: str, choice: Choice) -> Key:
    """Make the key of the measured candidates; see :func:`build_samples`."""
    return Key(
        "latency-samples",
        {
            "teacher": teacher_fingerprint,
            "target": target.model_dump(mode="json"),
            **place.conditions,
            "spaces": [space.to_json() for space in choice.spaces],
            "seed": choice.seed,
            "count": choice.count,
        },
    )


def time_forwards(run: Run, asked: Asked, teacher: TeacherStage, spaces: Sequence[Space]) -> ForwardTimes:
    """Time a few forwards on the target's node, and the start of the measuring process.

    Args:
        run: The storage of the teacher's files, and the builder.
        asked: The target and its request.
        teacher: The teacher, timed beside the smallest and the largest candidate.
        spaces: The candidates' sub-spaces.

    Raises:
        InputError: The target cannot be measured here; see :func:`find_place`.
        NotStartedError: The measuring process does not start.
    """

    def flops(end: tuple[Space, Architecture]) -> int:
        return teacher.cost(end[1], asked.target.sequence_length).flops

    place = find_place(asked)
    short = replace(asked, target=asked.target.model_copy(update={"warm_ups": 2, "runs": 10}))
    ends = sorted(((space, one) for space in spaces for one in (space.smallest, space.largest)), key=flops)
    low, high = ends[0], ends[-1]
    with _alone_on(place, run, asked), _room(asked, place) as room:
        began = time.monotonic()
        with _meter(room, run, short, teacher) as meter:
            start = time.monotonic() - began
            result_of(meter.time.remote(*high, 0))  # the first call also loads the libraries
            small, large = (
                _timed(meter.time.remote(*end, number), short.target) for number, end in enumerate((low, high), 1)
            )
            alone = _timed(meter.time_teacher.remote(), short.target)
    return ForwardTimes(asked.target, start, alone, small, large, (flops(low), flops(high)))


def _timed(reference: Any, target: LatencyTarget) -> Timed:
    began = time.monotonic()
    runs = result_of(reference)
    forward = statistics.median(runs) / 1000
    return Timed(max(0.0, time.monotonic() - began - forward * (target.warm_ups + target.runs)), forward)


def read_samples(artifact: Artifact) -> LatencySamples:
    """Read samples from their artefact."""
    return LatencySamples.model_validate(artifact.summary)


@contextlib.contextmanager
def _alone_on(place: Place, run: Run, asked: Asked) -> Iterator[None]:
    """Hold the lease for measuring on a node."""
    # The owner is unique per call, so that two threads of one job do not measure at once either.
    with lease(f"latency-on-{place.node}", f"{run.builder}-{uuid.uuid4().hex}", lambda: asked.wait(WAITING)):
        asked.wait(None)
        yield


@contextlib.contextmanager
def _room(asked: Asked, place: Place) -> Iterator[Any]:
    """Hold the resources of a measurement on the target's node."""
    with reserved([needs_of(asked.target)], asked.wait, place.node) as room:
        yield room


@contextlib.contextmanager
def _meter(room: Any, run: Run, asked: Asked, teacher: TeacherStage) -> Iterator[Any]:
    """Run a measuring process in a room; it ends with the context."""
    files = teacher.artifact.files
    meter = start_in(room, needs_of(asked.target), _Meter, run.storage.url, asked.target, files)
    try:
        yield meter
    finally:
        with contextlib.suppress(
            ray.exceptions.RayError
        ):  # it may have died, and its files with the node's work folder
            ray.get(meter.close.remote())


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
    """Actor that measures on its node, in a process of its own."""

    def __init__(self, storage: str, target: LatencyTarget, teacher_files: str) -> None:
        self._storage = Storage.open(storage)
        self._target = target
        self._work = tempfile.TemporaryDirectory(prefix="stillroom-meter-")
        self._teacher_folder = self._fetch(teacher_files)
        self._held: tuple[Teacher, Space, SuperLM] | None = None

    def measure(self, student_files: str) -> LatencyMeasure:
        """Measure a student beside the teacher, again if the repeats disagree."""
        teacher = functools.partial(load_teacher, self._teacher_folder)
        student = functools.partial(load_student, self._fetch(student_files))
        return settled(lambda: craft.measure(self._target, teacher, student))

    def time(self, space: Space, candidate: Architecture, number: int) -> list[float]:
        """Time an untrained candidate alone."""
        teacher, superlm = self._cut(space)
        return craft.time_alone(
            self._target,
            lambda: build_whole(teacher, candidate, superlm.extract(candidate)),
            Path(self._work.name) / f"candidate-{number}",
        )

    def time_teacher(self) -> list[float]:
        """Time the teacher alone."""
        folder = Path(self._work.name) / "teacher-alone"
        return craft.time_alone(self._target, functools.partial(load_teacher, self._teacher_folder), folder)

    def about(self) -> tuple[str, dict[str, str]]:
        """Return the device's name and the libraries' versions."""
        return device_name(self._target), craft.library_versions()

    def close(self) -> None:
        """Remove the temporary files."""
        self._work.cleanup()

    def _fetch(self, files: str) -> Path:
        return self._storage.fetch(files, Path(self._work.name))

    def _cut(self, space: Space) -> tuple[Teacher, SuperLM]:
        """Return the source of a sub-space's candidates; only the last one is cached."""
        if self._held is None or self._held[1] != space:
            teacher = open_teacher(self._teacher_folder) if self._held is None else self._held[0]
            self._held = (teacher, space, build_superlm(teacher, space, order=None).superlm)
        return self._held[0], self._held[2]
