"""Training on Ray: groups, workers, restarts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workloads.runs.scenes import BATCH, LENGTH, STEPS, Scene, assert_same_weights
from workloads.runs.training.checkpoints import Checkpoints
from workloads.storage.storage import Storage

pytestmark = pytest.mark.ray


@pytest.fixture
def scene(tmp_path: Path, make_teacher: Callable[..., Path], ray_cluster: Any) -> Scene:
    return Scene(tmp_path, make_teacher)


@pytest.mark.slow
def test_apart_and_together_give_the_same_superlms_and_the_second_time_they_are_reused(scene: Scene) -> None:
    together = scene.request(placement="together")
    first, notes, reports = scene.train(together, "cmp_a-1")
    assert "small + base" in notes[0]
    assert {report[0] for report in reports} == {"train-small", "train-base"}
    assert all(report[1] <= report[2] == STEPS * LENGTH * BATCH for report in reports)
    kept = {name: scene.weights(artifact) for name, artifact in first.items()}

    again, notes, reports = scene.train(together, "cmp_b-1")
    assert again == first and not notes and not reports

    scene.forget(together)
    apart, notes, _ = scene.train(scene.request(placement="apart"), "cmp_c-1")
    assert "small | base" in notes[0]
    for name, artifact in apart.items():
        assert artifact.builder == "cmp_c-1"
        assert_same_weights(kept[name], scene.weights(artifact))


@pytest.mark.slow
def test_two_workers_give_the_weights_of_one(scene: Scene) -> None:
    one = {name: scene.weights(artifact) for name, artifact in scene.train(scene.request(), "cmp_a-1")[0].items()}
    two, _, _ = scene.train(scene.request(workers=2), "cmp_b-1")
    for name, artifact in two.items():
        assert_same_weights(one[name], scene.weights(artifact))


@pytest.mark.slow
def test_a_run_continued_from_a_checkpoint_ends_with_the_same_weights(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = scene.request(dropout=0.0)
    whole = {name: scene.weights(artifact) for name, artifact in scene.train(plain, "cmp_a-1")[0].items()}
    scene.forget(plain)
    # A storage whose checkpoints of a first attempt were kept: its end is taken away, as a kill would.
    request = scene.request(checkpoint_every_steps=4, dropout=0.0)
    cleared: list[str] = []
    real = Storage.remove
    monkeypatch.setattr(
        Storage, "remove", lambda self, path: cleared.append(path) if "artifacts/training" in path else real(self, path)
    )
    scene.train(request, "cmp_b-1")
    monkeypatch.undo()
    folder = next(path for path in cleared if "-ray" not in path)
    latest = Checkpoints(scene.storage, folder, "cmp_c-1").latest()
    assert latest is not None and latest[0] == 4
    scene.forget(request)
    continued, _, reports = scene.train(request, "cmp_c-1")
    assert min(report[1] for report in reports) > 4 * LENGTH * BATCH  # nothing was trained twice
    for name, artifact in continued.items():
        assert_same_weights(whole[name], scene.weights(artifact))
    assert not scene.storage.exists(folder)
