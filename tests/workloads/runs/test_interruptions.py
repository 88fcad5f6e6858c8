"""Whole runs that are interrupted: stopped, killed, and continued."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workloads.runs.scenes import (
    House,
    assert_same_weights,
    last_checkpoint,
    superlm_weights,
    training_workers,
    until,
)
from workloads.documents.job_folder import JobFolder
from workloads.runs.attempt.leases import BEAT_SECONDS, EXPIRY_SECONDS
from workloads.runs.attempt.stage_cache import WAITING
from workloads.storage.artifacts import Artifact

pytestmark = pytest.mark.ray

_FOREVER = 10_000
_TERMINATED = 143


@pytest.fixture
def house(tmp_path: Path, make_teacher: Callable[..., Path], ray_cluster: str) -> House:
    return House.furnish(tmp_path, str(tmp_path / "storage"), make_teacher, ray_cluster)


@pytest.mark.slow
def test_a_run_that_is_asked_to_end_does_so_at_once_and_the_job_that_waits_goes_on(house: House) -> None:
    request = house.longer_request(_FOREVER)
    first = house.start("cmp_end", 1, request)
    house.wait(first, lambda: house.trained("cmp_end"), "the first job's training")
    second = house.start("cmp_waits", 1, request)
    try:
        house.wait(second, lambda: _notes(house, "cmp_waits") == {WAITING}, "the second job's waiting")

        first.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        output, _ = first.communicate(timeout=10)
        assert first.returncode == _TERMINATED, output
        assert time.monotonic() - begun < 4
        assert JobFolder(house.storage, "cmp_end").read_result(1) is None

        house.wait(second, lambda: _notes(house, "cmp_waits") != {WAITING}, "the second job's turn")
        taken = time.monotonic() - begun
        assert taken < EXPIRY_SECONDS - BEAT_SECONDS - 4, taken  # had it not been given back: from 12 s on
    finally:
        second.terminate()
        second.communicate(timeout=10)
    assert second.returncode == _TERMINATED


def _notes(house: House, job: str) -> set[str | None]:
    """Notes on the running steps of training."""
    document = JobFolder(house.storage, job).read_progress(1)
    steps = document.steps if document else []
    return {step.note for step in steps if step.name.startswith("train") and step.note}


@pytest.mark.slow
def test_a_job_whose_driver_is_killed_goes_on_from_its_checkpoint_to_the_same_superlms(house: House) -> None:
    steps, every, per_step = 120, 20, 4 * 32
    request = house.longer_request(steps, checkpoint_every_steps=every)
    killed = house.start("cmp_killed", 1, request)
    house.wait(killed, lambda: last_checkpoint(house.storage), "the first checkpoint")
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=10)
    assert killed.returncode == -signal.SIGKILL
    assert JobFolder(house.storage, "cmp_killed").read_result(1) is None
    until(lambda: not training_workers(), "the end of the killed driver's workers")
    kept = last_checkpoint(house.storage)
    assert every <= kept < steps

    code, result = house.run("cmp_killed", 2, request)
    assert (code, result.status) == (0, "succeeded")
    events = JobFolder(house.storage, "cmp_killed").read_events(2)
    drawn = [event.data["done"] for event in events if event.type == "metrics"]
    assert kept * per_step < min(drawn) < max(drawn) == steps * per_step  # nothing was trained twice
    assert not last_checkpoint(house.storage)

    found = _superlms(house, result.artifacts["superlm"])
    assert {artifact.builder for artifact in found.values()} == {"cmp_killed-2"}
    weights = {name: superlm_weights(house.storage, artifact.files) for name, artifact in found.items()}
    house.storage.remove("artifacts")
    code, undisturbed = house.run("cmp_whole", 1, request)
    assert code == 0
    assert undisturbed.artifacts["superlm"] == result.artifacts["superlm"]
    for name, artifact in _superlms(house, undisturbed.artifacts["superlm"]).items():
        assert artifact.builder == "cmp_whole-1"
        assert_same_weights(weights[name], superlm_weights(house.storage, artifact.files))


def _superlms(house: House, fingerprints: list[str]) -> dict[str, Artifact]:
    manifests = [house.storage.read_json(f"artifacts/superlm/{one}/manifest.json") for one in fingerprints]
    return {manifest["fingerprint"]: Artifact(**manifest) for manifest in manifests}
