"""Reuse of measured latencies across runs, with a scripted meter."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workloads.answers.latency import LatencyMeasure
from workloads.answers.latency_model import LatencyModels
from workloads.answers.trained import TeacherStage
from workloads.documents.job_folder import JobFolder
from workloads.runs.attempt.progress import Progress
from workloads.runs.attempt.run import Run
from workloads.runs.latency import latency
from workloads.runs.latency.latency import Choice, SavedStudent, build_measure, build_samples, read_samples
from workloads.runs.latency.places import Asked, Place
from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.shapes.search_space import ProductSpace
from workloads.spec.budgets import LatencyTarget
from workloads.storage.artifacts import Artifact
from workloads.storage.storage import Storage

TARGET = LatencyTarget(name="t", sequence_length=32)
ASKED = Asked(TARGET, "latency_targets.t", lambda _: None)
SPACES = [
    ProductSpace("thin", (1, 2), (16, 32), (2.0,), None, 16, 4),
    ProductSpace("wide", (3, 4), (48, 64), (4.0,), None, 16, 4),
]


class Bench:
    """Simulated node: ``noise`` gives the time of a candidate's n-th repeat, and ``agrees`` whether measures agree."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.storage = Storage.open(str(folder))
        shape = TeacherShape(Architecture.of_teacher(4, 64, 4, 256), Vocabulary("bert", 100, 64, 2))
        self.teacher = TeacherStage(Artifact("teacher", "t", "teacher", {}, {}), "t", shape)
        self.place = Place("node", "a CPU", 2, {"torch": "2.9.0", "onnxruntime": "1.22.0"})
        self.noise: Callable[[int, int], float] = lambda number, repeat: 1.0
        self.agrees = True
        self.timed: list[tuple[str, int]] = []
        self.measured = 0
        monkeypatch.setattr(latency, "find_place", lambda *_: self.place)
        monkeypatch.setattr(latency, "result_of", lambda value: value)
        monkeypatch.setattr(latency, "_alone_on", lambda *_: contextlib.nullcontext())
        monkeypatch.setattr(latency, "_room", lambda *_: contextlib.nullcontext())
        monkeypatch.setattr(latency, "_meter", self._meter)

    @contextlib.contextmanager
    def _meter(self, *_: Any) -> Iterator[Any]:
        calls = {"time": self._time, "measure": self.measure_of, "about": lambda: ("a CPU", {})}
        yield SimpleNamespace(**{name: SimpleNamespace(remote=call) for name, call in calls.items()})

    def _time(self, space: ProductSpace, candidate: Architecture, number: int) -> list[float]:
        repeat = sum(one == number for _, one in self.timed)
        self.timed.append((space.name, number))
        return [(number + 1) * self.noise(number, repeat)] * 10

    def measure_of(self, files: str) -> LatencyMeasure:
        self.measured += 1
        return LatencyMeasure(
            target=TARGET, p50_ms=1.0, p95_ms=1.0, spread=0.0, repeats_p50_ms=[1.0, 1.0], agrees=self.agrees,
            teacher_p50_ms=2.0, teacher_repeats_p50_ms=[2.0, 2.0], speed_up=2.0, device="a CPU", versions={},
            measured_at="now",
        )  # fmt: skip

    def samples(self, builder: str = "cmp_a-1", progress: Callable[[int, int], None] = lambda *_: None) -> Artifact:
        return build_samples(self.run(builder), ASKED, self.teacher, Choice(SPACES, 0, 8), progress)

    def run(self, builder: str) -> Run:
        return Run(self.storage, builder, Progress(JobFolder(self.storage, "cmp_a"), 1))

    def measure(self, builder: str = "cmp_a-1") -> Artifact:
        return build_measure(self.run(builder), ASKED, self.teacher, SavedStudent("s", "s"))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_each_candidate_is_timed_twice_in_its_own_sub_space_and_not_again(bench: Bench) -> None:
    told: list[tuple[int, int]] = []
    first = bench.samples(progress=lambda *done: told.append(done))
    assert told == [(done, 16) for done in range(17)]
    assert [number for _, number in bench.timed] == [*range(8), *reversed(range(8))]
    homes = {number: name for name, number in bench.timed}
    for number, one in enumerate(read_samples(first).samples):
        shape = Architecture.from_json(one.architecture)
        assert shape in set(next(space for space in SPACES if space.name == homes[number]))
        assert one.p50_ms == number + 1 and one.agrees
    assert bench.samples("cmp_b-1") == first


def test_candidates_whose_repeats_disagree_are_timed_again_and_progress_counts_it(bench: Bench) -> None:
    bench.noise = lambda number, repeat: 3.0 if (number, repeat) in {(1, 0), (2, 1)} else 1.0
    told: list[tuple[int, int]] = []
    samples = read_samples(bench.samples(progress=lambda *done: told.append(done))).samples
    assert [number for _, number in bench.timed][16:] == [1, 2]
    assert told[-1] == (18, 18) and (17, 18) in told
    assert [(one.p50_ms, one.agrees) for one in samples] == [(number + 1, True) for number in range(8)]


def test_samples_of_which_too_few_agree_serve_only_the_attempt_that_measured_them(bench: Bench) -> None:
    bench.noise = lambda number, repeat: 1.5**repeat if number < 3 else 1.0
    noisy = bench.samples()
    assert [number for _, number in bench.timed][16:] == [0, 1, 2] * 2, "measured again, but not for ever"
    models = LatencyModels.fit(read_samples(noisy))
    assert (models.p50.samples, models.p50.doubtful) == (8, 3)
    assert bench.samples() == noisy
    bench.timed.clear()
    bench.noise = lambda number, repeat: 1.0
    good = bench.samples("cmp_b-1")
    assert bench.timed and good.fingerprint != noisy.fingerprint
    assert bench.samples("cmp_c-1") == bench.samples() == good


@pytest.mark.parametrize(
    "other",
    [{"device": "another CPU"}, {"cores": 1}, {"versions": {"torch": "2.10.0", "onnxruntime": "1.22.0"}}],
    ids=lambda other: next(iter(other)),
)
def test_on_another_device_on_fewer_cores_and_after_an_upgrade_all_is_measured_anew(
    bench: Bench, other: dict[str, Any]
) -> None:
    first = bench.samples(), bench.measure()
    assert (bench.samples("cmp_b-1"), bench.measure("cmp_b-1")) == first
    bench.place = replace(bench.place, **other)
    anew = bench.samples("cmp_b-1"), bench.measure("cmp_b-1")
    assert [one.builder for one in anew] == ["cmp_b-1"] * 2
    assert not {one.fingerprint for one in anew} & {one.fingerprint for one in first}


def test_a_measure_that_disagrees_is_told_by_its_own_attempt_as_it_was_and_made_anew_by_others(bench: Bench) -> None:
    bench.agrees = False
    first = bench.measure()
    assert bench.measure() == first and bench.measured == 1
    assert bench.measure("cmp_b-1").builder == "cmp_b-1"


def test_a_student_is_measured_again_where_its_repeats_disagree(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, True])

    def measure(*_: Any) -> LatencyMeasure:
        bench.agrees = next(answers)
        return bench.measure_of("s")

    monkeypatch.setattr(latency.craft, "measure", measure)
    found = latency._Meter(bench.storage.url, TARGET, "teacher").measure("s")
    assert (found.agrees, found.tries) == (True, 2)
