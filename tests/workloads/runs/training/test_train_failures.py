"""Failures of training on Ray: a worker that dies, an unusable teacher, weights that diverge."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from tests.workloads.runs.scenes import (
    BATCH,
    LENGTH,
    Scene,
    assert_same_weights,
    last_checkpoint,
    training_workers,
    watching_workers,
)
from workloads.runs.attempt.failures import error_document
from workloads.shapes import teacher_files
from workloads.spec.errors import InputError

pytestmark = pytest.mark.ray

_SECONDS = 120


@pytest.fixture
def scene(tmp_path: Path, make_teacher: Callable[..., Path], ray_cluster: str) -> Scene:
    return Scene(tmp_path, make_teacher)


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_goes_on_from_its_checkpoint_to_the_same_weights(scene: Scene) -> None:
    steps, every = 240, 20
    tokens = LENGTH * BATCH
    request = scene.request(tokens_per_superlm=steps * tokens, checkpoint_every_steps=every, max_failures=1)
    undisturbed = {name: scene.weights(artifact) for name, artifact in scene.train(request, "cmp_a-1")[0].items()}
    scene.forget(request)

    told: list[tuple[float, int]] = []
    killer = _Killer(scene)
    killer.start()
    superlms, _, _ = scene.train(request, "cmp_b-1", lambda _name, done, *_: told.append((time.monotonic(), done)))
    killer.join(_SECONDS)

    assert killer.victim is not None, "no worker was killed"
    assert not killer.victim.is_running()
    assert every <= killer.checkpoint < steps
    before = [done for at, done in told if at <= killer.at]
    assert max(before) < steps * tokens  # it was in mid-run
    # A second more than the driver takes to read what was reported before the kill, a new process takes longer.
    after = [done for at, done in told if at > killer.at + 1.5]
    assert killer.checkpoint * tokens < min(after) < max(after) == steps * tokens
    assert killer.successor is not None and killer.successor != killer.victim.pid
    for name, artifact in superlms.items():
        assert artifact.builder == "cmp_b-1"
        assert_same_weights(undisturbed[name], scene.weights(artifact))


class _Killer(threading.Thread):
    """Kills the training worker once there is a checkpoint, and waits for the one that follows it."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(daemon=True)
        self.scene = scene
        self.victim: psutil.Process | None = None
        self.successor: int | None = None
        self.checkpoint = 0
        self.at = 0.0

    def run(self) -> None:
        deadline = time.monotonic() + _SECONDS
        while not last_checkpoint(self.scene.storage) and time.monotonic() < deadline:
            time.sleep(0.05)
        (worker,) = training_workers()
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)
        self.victim, self.at = worker, time.monotonic()
        self.checkpoint = last_checkpoint(self.scene.storage)
        while self.successor is None and time.monotonic() < deadline:
            self.successor = next((process.pid for process in training_workers()), None)
            time.sleep(0.05)


@pytest.mark.slow
def test_a_teacher_that_only_a_worker_finds_unusable_is_told_at_once(scene: Scene) -> None:
    folder = Path(scene.storage.path("teacher"))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_tokens([f"strange{number}" for number in range(500)])  # more than the model has rows for
    tokenizer.save_pretrained(folder)
    error = _refused(scene, scene.request(max_failures=2))
    assert error.field == teacher_files.FIELD
    assert "tokens" in error.message and error.remedy


@pytest.mark.slow
def test_a_teacher_with_infinite_weights_is_told_at_once(scene: Scene) -> None:
    file = Path(scene.storage.path("teacher")) / teacher_files.WEIGHTS
    weights = load_file(file)
    name = "encoder.layer.3.attention.self.query.weight"
    weights[name] = torch.full_like(weights[name], torch.inf)
    save_file(weights, file, {"format": "pt"})
    error = _refused(scene, scene.request(max_failures=2))
    assert error.field == teacher_files.FIELD
    assert "not a finite number" in error.message


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_that_diverges_is_told_at_once(scene: Scene, workers: int) -> None:
    # Each step multiplies the weights by -1e29, which is past the largest float in two.
    request = scene.request(learning_rate=0.1, max_failures=2, workers=workers, warmup_fraction=0.0)
    training = request.training.model_copy(update={"weight_decay": 1e30})  # more than a request may ask for
    request = request.model_copy(update={"training": training})
    error = _refused(scene, request, workers)
    assert error.field == "training.learning_rate"
    assert "step 5" in error.message


def _refused(scene: Scene, request: Any, workers: int = 1) -> Any:
    """Train, and give what the user is told; Ray must not have restarted the workers."""
    with watching_workers() as watch, pytest.raises(InputError) as caught:
        scene.train(request, f"cmp_{os.getpid()}-1")
    assert len(watch.seen) == workers
    document = error_document(caught.value)
    assert document.code == "invalid_input"
    return document
