"""Sizing a run to the cluster it is on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resources:
    """What a cluster has in all, free or not.

    Attributes:
        cluster_cpus: CPUs over all its nodes.
        gpus: GPUs over all its nodes.
    """

    cluster_cpus: int
    gpus: int


def read_resources() -> Resources:
    """Ask the cluster that this process has joined."""
    import ray

    found = ray.cluster_resources()
    return Resources(int(found.get("CPU", 0)), int(found.get("GPU", 0)))


def cpus_per_worker(resources: Resources, runs_at_once: int, workers: int) -> int:
    """Share the cluster's CPUs out evenly.

    Args:
        resources: Of the cluster.
        runs_at_once: Training runs that go on side by side.
        workers: Data-parallel workers of each.

    Returns:
        CPUs of one worker: its share, rounded down, and at least 1.
    """
    assert runs_at_once >= 1, runs_at_once
    assert workers >= 1, workers
    return max(1, resources.cluster_cpus // (runs_at_once * workers))
