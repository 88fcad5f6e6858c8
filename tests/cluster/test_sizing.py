"""Sizing: the cluster's CPUs shared out."""

from __future__ import annotations

import pytest

from cluster.sizing import Resources, cpus_per_worker


@pytest.mark.parametrize(
    ("cpus", "runs", "workers", "each"),
    [(8, 1, 1, 8), (8, 2, 2, 2), (8, 3, 1, 2), (7, 2, 1, 3), (2, 3, 1, 1), (1, 1, 4, 1), (0, 1, 1, 1)],
)
def test_a_worker_gets_its_share_of_the_cpus_rounded_down_and_at_least_one(
    cpus: int, runs: int, workers: int, each: int
) -> None:
    assert cpus_per_worker(Resources(cpus, 0), runs, workers) == each


def test_the_gpus_do_not_change_the_share_of_the_cpus() -> None:
    assert cpus_per_worker(Resources(8, 4), 2, 1) == cpus_per_worker(Resources(8, 0), 2, 1)


@pytest.mark.parametrize(("runs", "workers"), [(0, 1), (1, 0)])
def test_nothing_to_share_among_is_a_bug(runs: int, workers: int) -> None:
    with pytest.raises(AssertionError):
        cpus_per_worker(Resources(8, 0), runs, workers)
