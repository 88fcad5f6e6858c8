"""Whole runs on small clusters: workers fit on a node, too large ones are refused, others wait for resources."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workloads.runs.scenes import ROOT, House
from workloads.documents.job_folder import JobFolder

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[str]:
    """A cluster of two nodes of one CPU each, by its address."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        settings = {"num_cpus": 1, "object_store_memory": 200_000_000, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=settings)
        try:
            cluster.add_node(num_cpus=1, object_store_memory=200_000_000)
            yield cluster.address
        finally:
            cluster.shutdown()


def _house(folder: Path, make_teacher: Callable[..., Path], address: str) -> House:
    return House.furnish(folder, str(folder / "storage"), make_teacher, address)


@pytest.mark.parametrize(("workers", "placement"), [(1, "together"), (2, "apart")])
def test_a_compression_runs_to_its_end_on_two_nodes_of_one_cpu(
    two_nodes: str, tmp_path: Path, make_teacher: Callable[..., Path], workers: int, placement: str
) -> None:
    house = _house(tmp_path, make_teacher, two_nodes)
    code, result = house.run("cmp_a", 1, house.longer_request(6, workers=workers, placement=placement))
    assert code == 0, result.error
    assert len(result.students) == 1
    assert all(step.note is None or "waiting" not in step.note for step in house.progress("cmp_a").steps)


def test_more_workers_than_the_nodes_hold_are_refused_before_any_work(
    two_nodes: str, tmp_path: Path, make_teacher: Callable[..., Path]
) -> None:
    house = _house(tmp_path, make_teacher, two_nodes)
    began = time.monotonic()
    code, result = house.run("cmp_a", 1, house.longer_request(6, workers=3, batch_size=6))
    assert code == 1 and time.monotonic() - began < 60
    assert result.error is not None
    assert (result.error.code, result.error.field) == ("invalid_input", "training.workers")
    assert "3 workers with 1 CPU each" in result.error.message and "hold 2" in result.error.message
    assert result.error.remedy is not None and "at most 2 workers" in result.error.remedy
    assert {step.name: step.status for step in house.progress("cmp_a").steps}["corpus"] == "pending"


def test_a_training_waits_for_what_others_hold_and_says_so(
    ray_cluster: str, tmp_path: Path, make_teacher: Callable[..., Path]
) -> None:
    from cluster.room import Reservation
    from cluster.sizing import worker_needs

    house = _house(tmp_path, make_teacher, ray_cluster)
    taken = Reservation([worker_needs(1)])
    assert taken.granted(10)
    try:
        process = house.start("cmp_a", 1, house.longer_request(200))
        note = house.wait(process, lambda: _wait(house), "waiting")
        assert "for 2 CPU, taken by other work" in note
        waited = time.monotonic() + 5
        house.wait(process, lambda: time.monotonic() > waited, "five seconds")
        assert not house.trained("cmp_a")
    finally:
        taken.release()
    house.wait(process, lambda: house.trained("cmp_a"), "training")
    rates = {step.rate for step in house.progress("cmp_a").steps if step.name.startswith("train")}
    code, result = house.end(process, "cmp_a", 1)
    assert (code, result.status) == (0, "succeeded")
    assert all(rate is None or rate > 4 * 32 for rate in rates), "a step takes much less than a second"


def _wait(house: House) -> str | None:
    document = JobFolder(house.storage, "cmp_a").read_progress(1)
    notes = [step.note for step in document.steps if step.note] if document else []
    return next((note for note in notes if note.startswith("waiting since")), None)
