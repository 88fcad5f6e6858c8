from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.workloads.runs.scenes import Heard
from workloads.answers.latency_model import fit
from workloads.answers.trained import TeacherStage
from workloads.craft.cutting import cut_student
from workloads.craft.export import build_student
from workloads.craft.teacher import open_teacher
from workloads.runs.attempt.leases import lease
from workloads.runs.attempt.run import Run
from workloads.runs.latency.latency import (
    WAITING,
    Choice,
    SavedStudent,
    build_measure,
    build_samples,
    read_measure,
    read_samples,
    time_forwards,
)
from workloads.runs.latency.places import Asked, Place, find_place
from workloads.shapes import teacher_files
from workloads.shapes.architecture import Architecture, Layer
from workloads.shapes.search_space import ProductSpace
from workloads.spec.budgets import LatencyTarget
from workloads.spec.errors import InputError
from workloads.storage import artifacts
from workloads.storage.storage import Storage

pytestmark = pytest.mark.ray

EDGE = "edge-box"


def _asked(wait: Callable[[str | None], None] = lambda _: None, **settings: Any) -> Asked:
    target = _target(**settings)
    return Asked(target, f"latency_targets.{target.name}", wait)


def _target(**settings: Any) -> LatencyTarget:
    return LatencyTarget(**({"name": "t", "sequence_length": 32, "warm_ups": 2, "runs": 20} | settings))


@dataclass
class Home:
    storage: Storage
    fingerprint: str
    spaces: list[ProductSpace]

    @property
    def teacher(self) -> TeacherStage:
        shape = teacher_files.shape_of(Path(self.storage.path("teacher")))
        return TeacherStage(artifacts.Artifact("teacher", "t", "teacher", {}, {}), self.fingerprint, shape)

    def run(self, builder: str) -> Run:
        return Run(self.storage, builder, Heard(self.storage, []))

    def measure(self, asked: Asked, student: str = "student", builder: str = "cmp_a-1") -> artifacts.Artifact:
        return build_measure(self.run(builder), asked, self.teacher, SavedStudent(student, student))

    def samples(self, asked: Asked, progress: Callable[[int, int], None] = lambda *_: None) -> artifacts.Artifact:
        return build_samples(self.run("cmp_a-1"), asked, self.teacher, Choice(self.spaces, 0, 4), progress)


@pytest.fixture
def home(make_teacher: Callable[..., Path], tmp_path: Path) -> Home:
    """A storage with a teacher and a ragged student of one layer less."""
    folder = make_teacher(tmp_path / "teacher")
    teacher = open_teacher(folder)
    shape = Architecture(32, (Layer(2, 16, 32, 0), Layer(2, 16, 64, 2)))
    build_student(teacher, shape, cut_student(teacher.weights, shape)).save_pretrained(tmp_path / "student")
    storage = Storage.open(str(tmp_path / "storage"))
    storage.upload(folder, "teacher")
    storage.upload(tmp_path / "student", "student")
    spaces = [
        ProductSpace("thin", (1, 2), (16, 32), (2.0,), None, 16, 4),
        ProductSpace("wide", (3, 4), (48, 64), (4.0,), None, 16, 4),
    ]
    return Home(storage, teacher_files.fingerprint(folder), spaces)


@pytest.fixture(scope="module")
def edge(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A second node that has the resource; gives its id."""
    import ray

    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--block", f"--address={ray_cluster}", "--num-cpus=1",
        f"--resources={json.dumps({EDGE: 1})}", "--min-worker-port=21000", "--max-worker-port=21999",
    ]  # fmt: skip
    log = (tmp_path_factory.mktemp("edge") / "log").open("w")
    root = str(Path(__file__).parents[3])
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": root}, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not (nodes := [node for node in ray.nodes() if node["Alive"] and EDGE in node["Resources"]]):
            assert process.poll() is None, Path(log.name).read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield nodes[0]["NodeID"]
    finally:
        # Asked to end, `ray start --block` may wait longer than a test can for what it started.
        started = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        for one in psutil.wait_procs(started, timeout=30)[1]:
            one.kill()
        log.close()


@pytest.mark.parametrize(
    ("settings", "problem", "remedy"),
    [
        ({"resource": "no-such-box"}, "no-such-box", "--resources"),
        ({"device": "cuda"}, "GPU", "cpu"),
        ({"threads": 64}, "64 CPUs", "threads"),
    ],
    ids=["resource", "device", "threads"],
)
def test_a_target_that_no_node_can_serve_is_refused_by_its_field_with_the_remedy(
    ray_cluster: str, home: Home, settings: dict[str, Any], problem: str, remedy: str
) -> None:
    asked = _asked(name="far", **settings)
    for look in (find_place, home.measure, home.samples):
        with pytest.raises(InputError, match=problem) as caught:
            look(asked)
        assert caught.value.errors[0].field == "latency_targets.far"
        assert remedy in caught.value.errors[0].remedy
    assert not home.storage.exists("artifacts")


@pytest.mark.slow
def test_it_is_measured_on_the_node_that_has_the_resource_and_not_twice(
    edge: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _asked(resource=EDGE)
    assert find_place(asked).node == edge
    first = home.measure(asked)
    measured = read_measure(first)
    assert measured.target == asked.target
    assert 0 < measured.p50_ms <= measured.p95_ms
    assert measured.speed_up > 1
    assert measured.device == find_place(asked).device == first.device

    settle(home, first)
    again = home.measure(asked, builder="cmp_b-1")
    assert again.builder == "cmp_a-1"
    assert home.measure(_asked(resource=EDGE, runs=21), builder="cmp_b-1").builder == "cmp_b-1"

    # On another kind of node the same target is measured again.
    monkeypatch.setattr("workloads.runs.latency.latency.find_place", lambda *_: Place(edge, "another CPU", 1, {}))
    assert home.measure(asked, builder="cmp_c-1").builder == "cmp_c-1"


def settle(home: Home, artifact: artifacts.Artifact) -> None:
    """Make the repeats of a measure agree, however busy this machine was."""
    path = f"artifacts/latency/{artifact.fingerprint}/manifest.json"
    manifest = home.storage.read_json(path)
    manifest["summary"]["agrees"] = True
    home.storage.write_json(path, manifest)


@pytest.mark.slow
def test_candidates_are_measured_once_with_progress_and_a_predictor_can_be_fitted(ray_cluster: str, home: Home) -> None:
    told: list[tuple[int, int]] = []
    first = home.samples(_asked(), lambda *done: told.append(done))
    assert told[:9] == [(done, 8) for done in range(9)]  # more where repeats disagree
    samples = read_samples(home.samples(_asked()))
    assert samples.model_dump(mode="json") == first.summary
    assert [Architecture.from_json(one.architecture) for one in samples.samples] == [
        home.spaces[0].smallest, home.spaces[1].smallest, home.spaces[0].largest, home.spaces[1].largest,
    ]  # fmt: skip
    assert samples.device == find_place(_asked()).device
    model = fit(samples)
    assert model.predict(home.spaces[1].largest) > model.predict(home.spaces[0].smallest) > 0
    assert model.error is not None


@pytest.mark.slow
def test_a_few_forwards_tell_what_a_measurement_takes(ray_cluster: str, home: Home) -> None:
    asked = _asked(runs=1000)
    target, teacher = asked.target, home.teacher
    found = time_forwards(home.run("pln_a-1"), asked, teacher, home.spaces)
    ends = [home.spaces[0].smallest, home.spaces[1].largest]
    assert found.flops == tuple(teacher.cost(one, 32).flops for one in ends)
    assert found.start > 0 and min(one.forward for one in (found.teacher, found.small, found.large)) > 0
    assert found.small.seconds(target) == found.small.start + 1002 * found.small.forward
    assert [found.of(flops) for flops in found.flops] == [found.small, found.large]
    half = found.of(sum(found.flops) // 2).forward
    assert half == pytest.approx((found.small.forward + found.large.forward) / 2, rel=1e-3)
    assert not home.storage.exists("artifacts"), "nothing of it is kept"


@pytest.mark.slow
def test_what_is_wrong_on_the_node_is_an_input_error_here(ray_cluster: str, home: Home) -> None:
    home.storage.write_json("odd/config.json", {"model_type": "gpt2"})
    with pytest.raises(InputError, match="gpt2"):
        home.measure(_asked(), student="odd")


@pytest.mark.slow
def test_two_are_never_measured_on_a_node_at_once(ray_cluster: str, home: Home) -> None:
    waits, done = threading.Event(), threading.Event()
    place = find_place(_asked())

    def measure() -> None:
        home.measure(_asked(lambda why: waits.set() if why == WAITING else None))
        done.set()

    thread = threading.Thread(target=measure)
    # It also waits for another measurement of the same job.
    with lease(f"latency-on-{place.node}", "cmp_a-1"):
        thread.start()
        assert waits.wait(30)
        assert not done.wait(3)
        assert not home.storage.list("artifacts/latency", recursive=True)
    assert done.wait(60)
    thread.join()
