"""Whole runs that are cut off: asked to end, killed, and gone on with."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workloads.runs.scenes import House
from workloads.job_folder import JobFolder
from workloads.runs.leases import BEAT_SECONDS, EXPIRY_SECONDS
from workloads.runs.stages import WAITING

pytestmark = pytest.mark.ray

_FOREVER = 10_000
_TERMINATED = 143


@pytest.fixture
def house(tmp_path: Path, make_teacher: Callable[..., Path], ray_cluster: str) -> House:
    return House.furnish(tmp_path, str(tmp_path / "storage"), make_teacher, ray_cluster)


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
    """What is noted on the steps of training that are under way."""
    document = JobFolder(house.storage, job).read_progress(1)
    steps = document.steps if document else []
    return {step.note for step in steps if step.name.startswith("train") and step.note}
