"""Sizing of a run: capacities of the nodes, and the resources of each worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Needs = Mapping[str, float]
"""Amounts by Ray resource (``CPU``, ``GPU``, custom ones) that a task, an actor or a bundle requests."""

_PARTS = 10_000  # Ray counts resources in parts of 1/10,000


class NoRoomError(Exception):
    """The live nodes can never hold the request.

    Attributes:
        resource: The resource that is short.
        problem: The request and the available amount.
        remedy: Advice to the user.
    """

    def __init__(self, resource: str, problem: str, remedy: str) -> None:
        super().__init__(resource, problem, remedy)
        self.resource, self.problem, self.remedy = resource, problem, remedy


@dataclass(frozen=True, slots=True)
class Node:
    """A node with its total resources, free or taken.

    Attributes:
        id: Ray's id.
        resources: Amounts by Ray resource.
    """

    id: str
    resources: Needs

    @property
    def cpus(self) -> int:
        """Whole CPUs."""
        return int(self.resources.get("CPU", 0))

    @property
    def gpus(self) -> int:
        """Whole GPUs."""
        return int(self.resources.get("GPU", 0))

    def holds(self, needs: Needs) -> int:
        """Number of tasks of these needs that fit on the empty node side by side."""
        assert any(needs.values()), needs
        have = self.resources
        return min(_parts(have.get(name, 0)) // _parts(amount) for name, amount in needs.items() if amount)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The nodes that are up."""

    nodes: tuple[Node, ...]

    @property
    def cpus(self) -> int:
        """CPUs over all nodes."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> int:
        """GPUs over all nodes."""
        return sum(node.gpus for node in self.nodes)

    def holds(self, needs: Needs) -> int:
        """Number of tasks of these needs that fit on the empty nodes side by side."""
        return sum(node.holds(needs) for node in self.nodes)


@dataclass(frozen=True, slots=True)
class Share:
    """Resources of each worker of equal runs.

    Attributes:
        cpus: CPUs of a worker, and its number of threads.
        gpus: GPUs of a worker: 1 if the cluster has any, else 0.
        runs_at_once: Number of runs that fit side by side; the others follow.
    """

    cpus: int
    gpus: int
    runs_at_once: int

    @property
    def needs(self) -> dict[str, float]:
        """A worker's needs."""
        return worker_needs(self.cpus, self.gpus)


def read_cluster() -> Cluster:
    """Ask Ray for the nodes of the cluster that this process has joined."""
    import ray

    return Cluster(tuple(Node(node["NodeID"], node["Resources"]) for node in ray.nodes() if node["Alive"]))


def share_out(cluster: Cluster, *, runs: int = 1, workers: int = 1) -> Share:
    """Share the cluster evenly among runs of ``workers`` workers each.

    All workers that run at once fit on the nodes together. If the cluster has GPUs, each worker gets one, and only
    nodes with GPUs are used.

    Args:
        cluster: The cluster's nodes.
        runs: Number of runs that could go side by side.
        workers: Workers of each run.

    Raises:
        NoRoomError: The workers of one run do not fit, with one CPU each.
    """
    assert runs >= 1, runs
    assert workers >= 1, workers
    gpus = 1 if cluster.gpus else 0
    room = cluster.holds(worker_needs(1, gpus))
    if room < workers:
        raise _too_many(cluster, workers, gpus, room)
    at_once = min(runs, room // workers)
    largest = max(node.cpus for node in cluster.nodes)
    cpus = max(each for each in range(1, largest + 1) if cluster.holds(worker_needs(each, gpus)) >= at_once * workers)
    return Share(cpus, gpus, at_once)


def worker_needs(cpus: int, gpus: float = 0) -> dict[str, float]:
    """Ray resources of a worker."""
    return {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})


def describe_needs(needs: Needs) -> str:
    """Put needs into words, such as ``2 CPU, 1 GPU``."""
    return ", ".join(f"{amount:g} {name}" for name, amount in needs.items() if amount)


def _too_many(cluster: Cluster, workers: int, gpus: int, room: int) -> NoRoomError:
    if room:
        resource = "GPU" if gpus else "CPU"
        return NoRoomError(
            resource,
            f"{workers} workers with {describe_needs(worker_needs(1, gpus))} each do not fit on the nodes that are up, "
            f"which hold {room}.",
            f"Use at most {room} workers, or add nodes with a {resource}.",
        )
    if gpus:
        return NoRoomError(
            "CPU",
            "No node that is up and has a GPU has a CPU for a worker.",
            "Start the GPU's node with a CPU or more.",
        )
    return NoRoomError("CPU", "No node that is up has a CPU for a worker.", "Start a Ray node with a CPU or more.")


def _parts(amount: float) -> int:
    return round(amount * _PARTS)
