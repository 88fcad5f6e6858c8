"""Fidelity of a search's survivors inside their SuperLMs: tasks on the cluster, some candidates each.

The work is one forward of every survivor on the probe's rows, and one of the teacher. It is done after the search, when
most candidates have been dropped.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import structlog
import torch

from cluster.launching import FOLLOWS, Launches
from cluster.sizing import read_cluster
from workloads.craft.fidelity.probe import Probe
from workloads.craft.precision import set_up_torch
from workloads.craft.superlm import SuperLM
from workloads.runs.attempt.run import News
from workloads.runs.attempt.tasks import Reports, TaskLauncher
from workloads.runs.search.rules import Candidate
from workloads.runs.search.trial import CPUS, Shared, actors_for, as_tensor, convert, device_of_actor

LOTS_OF_ACTOR = 3
"""Lots of candidates for each worker that runs at once, so that all end at about the same time."""
_LOOK_SECONDS = 0.2

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Lot:
    """Candidates of one sub-space, by their numbers."""

    name: str
    subspace: str
    candidates: tuple[tuple[int, Candidate], ...]
    needs: dict[str, float]
    retries: int = 1

    @property
    def names(self) -> tuple[str]:
        """Its name."""
        return (self.name,)


def measure_candidates(
    candidates: Mapping[int, Candidate], probe: Probe, shared: Shared, news: News
) -> dict[int, dict[str, float]]:
    """Measure the fidelity of candidates in their SuperLMs.

    Args:
        candidates: The candidates by number.
        probe: The rows, with the teacher's outputs.
        shared: The weights of the SuperLMs, as the search's actors have them.
        news: Receives the number of candidates done and in all, and the reason of a wait.

    Returns:
        The figures of each candidate, by name.

    Raises:
        InputError: No live node has a CPU.
    """
    actors = actors_for(read_cluster())
    lots = _lots(candidates, LOTS_OF_ACTOR * actors.count, actors.needs)
    given, rows = ray.put(shared), ray.put(probe)
    task = ray.remote(max_retries=0)(_measure_lot)
    reports = ray.remote(num_cpus=0)(Reports).remote()
    found: dict[int, dict[str, float]] = {}
    done = 0
    launcher = TaskLauncher(
        lambda lot, options: task.options(**options).remote(given, rows, lot, reports), found.update
    )
    launches = Launches(lots, actors.count, launcher, _waiting(news.wait))
    _log.info("measuring_fidelity", candidates=len(candidates), workers=actors.count)
    try:
        while not launches.go_on():
            names: list[str] = ray.get(reports.take.remote())
            launches.works(names)
            if names:
                done = min(done + len(names), len(candidates))
                news.advance(done, len(candidates))
            time.sleep(_LOOK_SECONDS)
    finally:
        launches.close()
        ray.kill(reports)
    return found


def _lots(candidates: Mapping[int, Candidate], count: int, needs: dict[str, float]) -> list[_Lot]:
    """Cut candidates into about ``count`` lots, each of one sub-space."""
    by_space: dict[str, list[tuple[int, Candidate]]] = defaultdict(list)
    for number, one in candidates.items():
        by_space[one.subspace].append((number, one))
    size = max(1, -(-len(candidates) // count))
    return [
        _Lot(f"fidelity-{subspace}-{start}", subspace, tuple(members[start : start + size]), needs)
        for subspace, members in by_space.items()
        for start in range(0, len(members), size)
    ]


def _waiting(wait: Callable[[str | None], None]) -> Callable[[Sequence[str], str | None], None]:
    """Make a callback for launches: lots that follow others are not waiting for the cluster."""
    waiting: dict[str, str] = {}

    def tell(names: Sequence[str], why: str | None) -> None:
        for name in names:
            waiting.pop(name, None)
            if why is not None and why != FOLLOWS:
                waiting[name] = why
        wait(next(iter(waiting.values()), None))

    return tell


def _measure_lot(shared: Shared, probe: Probe, lot: _Lot, reports: Any) -> dict[int, dict[str, float]]:
    set_up_torch(CPUS)
    device = device_of_actor()
    weights = convert(ray.get(shared.weights[lot.subspace]), np.ndarray, as_tensor)
    superlm = SuperLM(weights, shared.wiring).to(device).eval()
    reports.add.remote(lot.name)
    found = {}
    with torch.inference_mode():
        for place, (number, one) in enumerate(lot.candidates):
            found[number] = dict(probe.of_subnet(superlm, one.architecture).figures)
            if place:  # the first report told that the lot has begun
                reports.add.remote(lot.name)
    return found
