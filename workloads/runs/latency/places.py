"""Places: the nodes that can measure a latency target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.room import OnWait, reserved, start_in
from cluster.sizing import worker_needs
from workloads.craft.latency.cores import check_cores, device_name, usable_cores
from workloads.craft.latency.measure import library_versions
from workloads.craft.latency.runtimes import check_compiler
from workloads.spec.budgets import LatencyTarget
from workloads.spec.errors import InputError
from workloads.spec.request import CompressionRequest

_RESOURCE_SHARE = 0.001
"""Share of a target's custom resource that a measurement takes: the resource only selects the node."""


@dataclass(frozen=True)
class Place:
    """A node that can measure a target.

    Attributes:
        node: Ray's id of the node.
        device: Model of its CPU or GPU.
        cores: Number of cores that a process may use there.
        versions: Versions of the libraries that affect latency.
    """

    node: str
    device: str
    cores: int
    versions: Mapping[str, str]

    @property
    def conditions(self) -> dict[str, Any]:
        """Conditions of a latency besides its target; JSON-like."""
        return {"device": self.device, "cores": self.cores, "versions": dict(self.versions)}


@dataclass(frozen=True)
class Asked:
    """A latency target, and the request's field that asks for it.

    Attributes:
        field: The request's field that errors name.
        wait: Called with the reason of a wait, and with None at its end.
    """

    target: LatencyTarget
    field: str
    wait: OnWait

    @classmethod
    def by(cls, request: CompressionRequest, target: LatencyTarget, wait: OnWait) -> Asked:
        """Make it for a target of a request, with the field of the first budget that asks for the target."""
        return cls(target, target_field(request, target), wait)


def find_place(asked: Asked) -> Place:
    """Find the node that measures a target; the same node as long as it is alive.

    Raises:
        InputError: No node has its resource, device or CPUs, or the node has too few cores or no compiler.
        NotStartedError: The node does not start the process that inspects it.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    for resource, amount, problem, remedy in _needs(asked.target):
        nodes = [node for node in nodes if node["Resources"].get(resource, 0) >= amount]
        if not nodes:
            raise InputError.of(asked.field, problem, remedy)
    node = min(nodes, key=lambda node: (node["NodeName"], node["NodeID"]))["NodeID"]
    if (node, asked.target, asked.field) not in _looked:
        _looked[node, asked.target, asked.field] = _look_at(node, asked)
    return _looked[node, asked.target, asked.field]


def target_field(request: CompressionRequest, target: LatencyTarget) -> str:
    """Field that errors about a target name: that of the first budget that asks for it."""
    for index, budget in enumerate(request.budgets):
        if budget.latency_target == target.name:
            return f"budgets.{index}.latency_target"
    return f"latency_targets.{target.name}"


_looked: dict[tuple[str, LatencyTarget, str], Place] = {}
"""Inspected nodes; Ray gives an upgraded node a new id."""


def _look_at(node: str, asked: Asked) -> Place:
    """Inspect a node, and check that it can measure a target."""
    needs = {name: amount for name, amount in needs_of(asked.target).items() if name != "CPU"}
    if not needs:  # inspecting needs no CPU, so there is nothing to wait for
        at = NodeAffinitySchedulingStrategy(node, soft=False)
        look = ray.remote(_look).options(num_cpus=0, scheduling_strategy=at).remote(asked.target, asked.field)
        return Place(node, *result_of(look))
    with reserved([needs], asked.wait, node) as room:
        looker = start_in(room, needs, _Looker)
        return Place(node, *result_of(looker.look.remote(asked.target, asked.field)))


class _Looker:
    """Actor that inspects its node, with the target's GPU or resource."""

    def look(self, target: LatencyTarget, field: str) -> tuple[str, int, dict[str, str]]:
        return _look(target, field)


def _look(target: LatencyTarget, field: str) -> tuple[str, int, dict[str, str]]:
    check_cores(target, field)
    check_compiler(target, field)
    return device_name(target), len(usable_cores()), library_versions()


def needs_of(target: LatencyTarget) -> dict[str, float]:
    """Ray resources that a measurement on a target takes of its node."""
    needs = worker_needs(target.threads, 1 if target.device == "cuda" else 0)
    return needs if target.resource is None else needs | {target.resource: _RESOURCE_SHARE}


def result_of(reference: Any) -> Any:
    """Wait for a task's result; an :class:`InputError` raised there is raised here."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from error
        raise


def _needs(target: LatencyTarget) -> list[tuple[str, float, str, str]]:
    """Ray resources that a node must have, and the error if no node has them."""
    needs = []
    if target.resource is not None:
        needs.append(
            (
                target.resource,
                _RESOURCE_SHARE,
                f"No node of the cluster has the resource {target.resource!r}, which {target.name!r} is measured on.",
                f"Start a Ray node there with --resources='{{\"{target.resource}\": 1}}', or use another target.",
            )
        )
    on = f" with {target.resource!r}" if target.resource is not None else " of the cluster"
    if target.device == "cuda":
        needs.append(
            (
                "GPU",
                1,
                f"No node{on} has a GPU, which {target.name!r} is measured on.",
                "Add a node with a GPU, or use a target whose 'device' is cpu.",
            )
        )
    needs.append(
        (
            "CPU",
            target.threads,
            f"No node{on} has the {target.threads} CPUs that {target.name!r} is measured with.",
            "Use fewer 'threads', or add a node with that many CPUs.",
        )
    )
    return needs
