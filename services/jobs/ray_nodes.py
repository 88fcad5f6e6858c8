"""Nodes of a Ray cluster with their resources, from the summary of Ray's dashboard (``/nodes``).

Ray gives resources in use only as text, a line per resource: ``1.0/4.0 CPU (0.0 used of 2.0 reserved in placement
groups)``. The reserved part counts as used here, since other work cannot have it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_AMOUNT = r"([\d.]+(?:e[+-]?\d+)?)(B|KiB|MiB|GiB|TiB)?"
_LINE = re.compile(rf"{_AMOUNT}/{_AMOUNT} (\S+)(?: \({_AMOUNT} used of {_AMOUNT} reserved in placement groups\))?")


class _Raylet(BaseModel):
    node_id: str = Field(alias="nodeId")
    state: str
    is_head: bool = Field(False, alias="isHeadNode")
    total: dict[str, float] = Field({}, alias="resourcesTotal")


class _Node(BaseModel):
    raylet: _Raylet


class _Summary(BaseModel):
    nodes: list[_Node] = Field(alias="summary")
    used: dict[str, str] = Field({}, alias="nodeLogicalResources")


@dataclass(frozen=True, slots=True)
class Amount:
    """Amount of a resource; ``free`` is None if Ray does not give it."""

    total: float
    free: float | None


@dataclass(frozen=True, slots=True)
class RayNode:
    """A live node; memory is in bytes, and its free part is as rounded as in Ray's text."""

    id: str
    is_head: bool
    cpus: Amount
    gpus: Amount
    memory: Amount


def parse_nodes(data: Any) -> list[RayNode]:
    """Parse the summary; the head is first.

    Raises:
        ValidationError: The data has another form.
    """
    summary = _Summary.model_validate(data)
    alive = [node.raylet for node in summary.nodes if node.raylet.state == "ALIVE"]
    alive.sort(key=lambda one: (not one.is_head, one.node_id))
    return [_node(one, summary.used.get(one.node_id)) for one in alive]


def _node(raylet: _Raylet, used: str | None) -> RayNode:
    free = None if used is None else _free(used)

    def amount(name: str) -> Amount:
        total = raylet.total.get(name, 0.0)
        # The lines leave out resources that the node does not have.
        return Amount(total, 0.0 if total == 0 else None if free is None else free.get(name))

    return RayNode(raylet.node_id, raylet.is_head, amount("CPU"), amount("GPU"), amount("memory"))


def _free(text: str) -> dict[str, float]:
    found = (_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return {match[5]: _left(match) for match in found if match is not None}


def _left(match: re.Match[str]) -> float:
    used, total, taken, reserved = (
        float(match[at] or 0) * _UNITS[match[at + 1] or "B"] for at in (1, 3, 6, 8)
    )  # fmt: skip
    return max(0.0, total - used - (reserved - taken))
