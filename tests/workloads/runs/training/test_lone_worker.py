"""A group of one worker runs in Ray Train's local mode, without a Ray cluster, and tells how it ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, RayActorError

from cluster.launching import LostError, NoRoomYetError
from cluster.sizing import Share
from tests.workloads.runs.scenes import BATCH, LENGTH, STEPS, Heard, Scene
from workloads.runs.attempt.run import Run
from workloads.runs.training import lone_worker, train_group
from workloads.runs.training.lone_worker import TrainingWorker
from workloads.runs.training.train import PendingSuperLM, _group_job, superlm_key
from workloads.runs.training.train_group import GroupJob, Progress, Started
from workloads.spec.errors import InputError


@pytest.fixture
def scene(tmp_path: Path, make_teacher: Callable[..., Path]) -> Scene:
    return Scene(tmp_path, make_teacher)


def _job(scene: Scene, **training: Any) -> GroupJob:
    request, space = scene.request(**training), scene.spaces[0]
    key = superlm_key(request, space, scene.fingerprint, scene.corpus.fingerprint)
    run = Run(scene.storage, "cmp_a-1", Heard(scene.storage, []))
    return _group_job(run, scene.inputs(request), [PendingSuperLM(space, key)], Share(1, 0, 1))


def test_it_trains_without_a_cluster_and_keeps_its_messages_until_they_are_read(scene: Scene) -> None:
    job, worker = _job(scene), TrainingWorker()
    before = ray.is_initialized()  # by another test of this process
    assert worker.run(job) is None
    assert ray.is_initialized() == before
    (name,) = job.names
    started, *progress = worker.read()
    assert started == Started((name,))
    assert all(isinstance(one, Progress) for one in progress)
    assert progress[-1].tokens == {name: STEPS * LENGTH * BATCH}
    assert worker.read() == []
    assert scene.storage.read_json(f"{job.outputs[name]}/summary.json")["steps"] == STEPS


def test_a_wrong_input_is_not_tried_again(scene: Scene) -> None:
    scene.storage.remove("teacher/tokenizer.json")
    end = TrainingWorker().run(_job(scene))
    assert isinstance(end, InputError)


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [(OSError(28, "full"), OSError, "full"), (RuntimeError("out of memory"), RuntimeError, "out of memory")],
)
def test_a_failure_may_be_mended_by_a_restart(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception], words: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(train_group, "_train", fail)
    end = TrainingWorker().run(_job(scene))
    assert isinstance(end, LostError)
    assert type(end.failure) is raised
    assert words in str(end.failure)


def test_a_worker_whose_node_left_as_planned_waits_for_room_again() -> None:
    left = ActorDiedError()
    left._preempted = True
    assert isinstance(lone_worker._failure_of(left), NoRoomYetError)
    for other in (ActorDiedError(), RayActorError()):
        assert isinstance(lone_worker._failure_of(other), LostError)
