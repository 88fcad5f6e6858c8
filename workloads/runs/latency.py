"""Latency on the cluster: a node that is as the target says, one measurement at a time on it, results kept.

What is measured depends on the device, so its name is part of an artefact's key: the same target on nodes of another
kind is measured anew there. The measuring process is an actor of its own, fresh each time, with as many CPUs as the
target has threads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from workloads import artifacts
from workloads.architecture import Architecture
from workloads.artifacts import Artifact, Key
from workloads.budgets import LatencyTarget
from workloads.craft.export import build_student
from workloads.craft.latency import measure as craft
from workloads.craft.latency.cores import check_cores, device_name
from workloads.craft.latency.runtimes import check_compiler, load_model
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import wiring_of
from workloads.craft.teacher import Teacher, open_teacher
from workloads.errors import InputError
from workloads.latency import LatencyMeasure, LatencySample, LatencySamples, summarise
from workloads.latency_model import CANDIDATES, candidates_to_measure
from workloads.request import CompressionRequest
from workloads.runs.leases import lease
from workloads.spaces import SubSpace
from workloads.storage import Storage

_RESOURCE_SHARE = 0.001
"""How much of a target's resource a measurement takes: it only says where, not how many at once."""


@dataclass(frozen=True)
class Place:
    """Where a target is measured.

    Attributes:
        node: Ray's id of the node.
        device: Model of its CPU or GPU.
    """

    node: str
    device: str


def find_place(target: LatencyTarget, field: str | None = None) -> Place:
    """Find the node that ``target`` is measured on, the same one as long as it is there.

    Args:
        target: What the node must have.
        field: The request's field to name where none has it; ``latency_targets.<name>`` unless given.

    Raises:
        InputError: No node has its resource, device or CPUs, or the node has too few cores or no compiler.
    """
    field = field or f"latency_targets.{target.name}"
    nodes = [node for node in ray.nodes() if node["Alive"]]
    for resource, amount, problem, remedy in _needs(target):
        nodes = [node for node in nodes if node["Resources"].get(resource, 0) >= amount]
        if not nodes:
            raise InputError.of(field, problem, remedy)
    node = min(nodes, key=lambda node: (node["NodeName"], node["NodeID"]))
    return Place(node["NodeID"], _device_on(node["NodeID"], target, field))


def target_field(request: CompressionRequest, target: LatencyTarget) -> str:
    """The field of a request to name where a target cannot be measured: that of the first budget that asks for it."""
    for index, budget in enumerate(request.budgets):
        if budget.latency_target == target.name:
            return f"budgets.{index}.latency_target"
    return f"latency_targets.{target.name}"


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

    A measure whose two repeats disagreed is not used again: a later call measures anew.

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
            "device": place.device,
        },
    )

    def found() -> Artifact | None:
        artifact = artifacts.find(storage, key)
        return artifact if artifact is not None and artifact.summary["agrees"] else None

    if (artifact := found()) is not None:
        return artifact
    with _alone_on(place, builder, waiting):
        if (artifact := found()) is not None:
            return artifact
        with _meter(storage, target, place, teacher_files) as meter:
            measured: LatencyMeasure = _result(meter.measure.remote(student_files))
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
    spaces: Sequence[SubSpace],
    seed: int,
    builder: str,
    progress: Callable[[int, int], None],
    count: int = CANDIDATES,
    field: str | None = None,
    waiting: Callable[[], None] | None = None,
) -> Artifact:
    """Give the artefact of measured candidates, made by this call or an earlier one.

    The candidates have the teacher's weights, sliced, for training changes no latency. Each is measured twice, the
    second time in the opposite order, so that a machine that grows slower or faster favours none.

    Args:
        storage: Where artefacts are kept.
        target: Where and how.
        teacher_files: The teacher's folder, relative to the storage.
        teacher_fingerprint: Of the teacher.
        spaces: The sub-spaces to choose from; see :func:`workloads.latency_model.candidates_to_measure`.
        seed: Of the choice.
        builder: Names the job and attempt.
        progress: Called with measurements done and measurements in all, two a candidate.
        count: How many candidates.
        field: See :func:`find_place`.
        waiting: Called once if another measurement is going on on the node.

    Raises:
        InputError: The target cannot be measured here; see :func:`find_place`.
    """
    place = find_place(target, field)
    key = Key(
        "latency-samples",
        {
            "teacher": teacher_fingerprint,
            "target": target.model_dump(mode="json"),
            "device": place.device,
            "spaces": json.loads(json.dumps([dataclasses.asdict(space) for space in spaces])),
            "seed": seed,
            "count": count,
        },
    )
    if (artifact := artifacts.find(storage, key)) is not None:
        return artifact
    with _alone_on(place, builder, waiting):
        if (artifact := artifacts.find(storage, key)) is not None:
            return artifact
        chosen = candidates_to_measure(spaces, seed, count)
        with _meter(storage, target, place, teacher_files) as meter:
            samples = _measure_all(meter, list(spaces), chosen, progress)
            device, versions = _result(meter.about.remote())
        document = LatencySamples(
            target=target, samples=samples, device=device, versions=versions, measured_at=craft.now()
        )
        return artifacts.commit(storage, key, builder, document.model_dump(mode="json"), device)


def read_samples(artifact: Artifact) -> LatencySamples:
    """Read the samples back."""
    return LatencySamples.model_validate(artifact.summary)


def _needs(target: LatencyTarget) -> list[tuple[str, float, str, str]]:
    """What a node must have, as Ray counts it, and what to say where none has it."""
    needs = []
    if target.resource is not None:
        needs.append(
            (
                target.resource,
                _RESOURCE_SHARE,
                f"No node of the cluster has the resource {target.resource!r}, which {target.name!r} is measured on.",
                f"Start a Ray node there with --resources='{{\"{target.resource}\": 1}}', or use another target.",
            )
        )
    on = f" with {target.resource!r}" if target.resource is not None else " of the cluster"
    if target.device == "cuda":
        needs.append(
            (
                "GPU",
                1,
                f"No node{on} has a GPU, which {target.name!r} is measured on.",
                "Add a node with a GPU, or use a target whose 'device' is cpu.",
            )
        )
    needs.append(
        (
            "CPU",
            target.threads,
            f"No node{on} has the {target.threads} CPUs that {target.name!r} is measured with.",
            "Use fewer 'threads', or add a node with that many CPUs.",
        )
    )
    return needs


@functools.cache
def _device_on(node: str, target: LatencyTarget, field: str) -> str:
    """Ask a node for its device, and whether it can measure ``target``."""
    return str(_result(ray.remote(_look).options(num_cpus=0, **_on(node, target, cpus=False)).remote(target, field)))


def _look(target: LatencyTarget, field: str) -> str:
    check_cores(target, field)
    check_compiler(target, field)
    return device_name(target)


def _on(node: str, target: LatencyTarget, *, cpus: bool = True) -> dict[str, Any]:
    options: dict[str, Any] = {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}
    if cpus:
        options |= {"num_cpus": target.threads}
    if target.device == "cuda":
        options |= {"num_gpus": 1}
    if target.resource is not None:
        options |= {"resources": {target.resource: _RESOURCE_SHARE}}
    return options


@contextlib.contextmanager
def _alone_on(place: Place, builder: str, waiting: Callable[[], None] | None) -> Iterator[None]:
    # Two threads of a job must not measure at once either, hence an owner of each call's own.
    with lease(f"latency-on-{place.node}", f"{builder}-{uuid.uuid4().hex}", waiting):
        yield


@contextlib.contextmanager
def _meter(storage: Storage, target: LatencyTarget, place: Place, teacher_files: str) -> Iterator[Any]:
    meter = ray.remote(_Meter).options(**_on(place.node, target)).remote(storage.url, target, teacher_files)
    try:
        yield meter
    finally:
        meter.__ray_terminate__.remote()  # not killed, so that it removes its temporary files


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from error
        raise


def _measure_all(
    meter: Any, spaces: list[SubSpace], candidates: Sequence[Architecture], progress: Callable[[int, int], None]
) -> list[LatencySample]:
    numbers = range(len(candidates))
    repeats: list[list[list[float]]] = [[] for _ in numbers]
    total = 2 * len(candidates)
    progress(0, total)
    for done, number in enumerate((*numbers, *reversed(numbers)), start=1):
        candidate = candidates[number]
        space = next(space for space in spaces if candidate in set(space.architectures()))
        repeats[number].append(_result(meter.time.remote(space, candidate, number)))
        progress(done, total)
    samples = []
    for candidate, runs in zip(candidates, repeats, strict=True):
        summary = summarise(runs)
        samples.append(
            LatencySample(
                architecture=candidate.to_json(),
                p50_ms=summary.p50_ms,
                p95_ms=summary.p95_ms,
                agrees=summary.agrees,
            )
        )
    return samples


class _Meter:
    """Measures on its node; its process does nothing else."""

    def __init__(self, storage: str, target: LatencyTarget, teacher_files: str) -> None:
        self._storage = Storage.open(storage)
        self._target = target
        self._work = tempfile.TemporaryDirectory(prefix="stillroom-meter-")
        self._teacher_folder = self._fetch(teacher_files)
        self._held: tuple[Teacher, SubSpace, SuperLM] | None = None

    def measure(self, student_files: str) -> LatencyMeasure:
        """Measure a student beside the teacher."""
        student = self._fetch(student_files)
        return craft.measure(
            self._target, functools.partial(load_model, self._teacher_folder), functools.partial(load_model, student)
        )

    def time(self, space: SubSpace, candidate: Architecture, number: int) -> list[float]:
        """Time an untrained candidate alone."""
        teacher, superlm = self._cut(space)
        return craft.time_alone(
            self._target,
            lambda: build_student(teacher, candidate, superlm.extract(candidate)),
            Path(self._work.name) / f"candidate-{number}",
        )

    def about(self) -> tuple[str, dict[str, str]]:
        """Give the device and the libraries' versions."""
        return device_name(self._target), craft.library_versions()

    def _fetch(self, files: str) -> Path:
        return self._storage.fetch(files, Path(self._work.name))

    def _cut(self, space: SubSpace) -> tuple[Teacher, SuperLM]:
        """What a sub-space's candidates are cut from; only the last one is kept."""
        if self._held is None or self._held[1] != space:
            teacher = open_teacher(self._teacher_folder) if self._held is None else self._held[0]
            self._held = (teacher, space, SuperLM.from_teacher(teacher.weights, space, wiring_of(teacher)))
        return self._held[0], self._held[2]
