"""A group that loses its room between the reservation and Ray Train's start reports it, and retries are limited."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.launching import NoRoomYetError
from cluster.room import Reservation
from cluster.sizing import Share, worker_needs
from tests.workloads.runs.scenes import Heard, Scene
from workloads.runs.attempt.run import Run
from workloads.runs.training.train import PendingSuperLM, _group_job, superlm_key
from workloads.runs.training.train_group import run_group

pytestmark = pytest.mark.ray


def test_ray_train_gives_up_a_group_that_finds_no_room(
    tmp_path: Path, make_teacher: Callable[..., Path], ray_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "1")
    scene = Scene(tmp_path, make_teacher)
    request, space = scene.request(max_failures=3), scene.spaces[0]
    key = superlm_key(request, space, scene.fingerprint, scene.corpus.fingerprint)
    run = Run(scene.storage, "cmp_a-1", Heard(scene.storage, []))
    job = _group_job(run, scene.inputs(request), [PendingSuperLM(space, key)], Share(2, 0, 1))
    taken = Reservation([worker_needs(1)])
    assert taken.granted(10)
    try:
        assert isinstance(run_group(job, None), NoRoomYetError)
    finally:
        taken.release()
