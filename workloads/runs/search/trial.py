"""Actors of the search: they score lots of candidates with the SuperLM that they hold."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from ray import tune
from torch import Tensor
from typing_extensions import override

from cluster.sizing import Cluster, worker_needs
from workloads.craft.objectives.objective import Objective
from workloads.craft.precision import set_up_torch
from workloads.craft.scoring import Heldout, Losses, TargetsCache, score_rows
from workloads.craft.superlm import SuperLM, Wiring
from workloads.runs.attempt.room import most_at_once
from workloads.runs.search.board import Work

CPUS, ACTORS_OF_GPU = 1, 4
"""CPUs (and threads) of an actor, and number of actors that share a GPU: one subnet is too small to use it fully."""
LEAST_IDLE_SECONDS, MOST_IDLE_SECONDS, IDLE_SHARE = 0.01, 1.0, 0.05
"""Length of an empty step, in which a lot waits for the others: this share of the wait so far, within these bounds."""
LOSSES, CPU_SECONDS = "losses", "cpu_seconds"


@dataclass(frozen=True)
class Actors:
    """The actors of a search.

    Attributes:
        count: Most actors that run side by side.
        needs: Ray resources of each actor.
    """

    count: int
    needs: dict[str, float]

    @property
    def device(self) -> str:
        """Device that they score on."""
        return "cuda" if "GPU" in self.needs else "cpu"


def actors_for(cluster: Cluster) -> Actors:
    """Size the actors: a share of a GPU and a CPU each if some node has both, else a CPU.

    Raises:
        InputError: No live node has a CPU.
    """
    with_gpu, without = worker_needs(CPUS, 1 / ACTORS_OF_GPU), worker_needs(CPUS)
    if count := cluster.holds(with_gpu):
        return Actors(count, with_gpu)
    return Actors(most_at_once("search", without, cluster), without)


@dataclass(frozen=True)
class Shared:
    """Inputs of the actors; refs are to numpy arrays, which the actors of a node read without copies.

    Attributes:
        weights: Map of sub-space to a ref to its SuperLM's weights by name.
        heldout: Ref to the :class:`Heldout` as arrays.
        head_orders: Map of sub-space to the head order of its SuperLM, None if it has none.
    """

    objective: Objective
    wiring: Wiring
    weights: dict[str, Any]
    heldout: Any
    head_orders: dict[str, tuple[int, ...] | None]


class Scorer:
    """Scorer of lots; it keeps the SuperLM of the last lot, and the targets of its rung.

    Args:
        shared: Inputs of all actors.
        device: Device to score on.
        get: Gives the object of a ref.
    """

    def __init__(self, shared: Shared, device: torch.device, get: Callable[[Any], Any] = ray.get) -> None:
        set_up_torch(CPUS)
        self._shared = shared
        self._device, self._get = device, get
        self._heldout: Heldout | None = None
        self._targets = TargetsCache()
        self._held: tuple[str, SuperLM] | None = None

    def score(self, work: Work) -> dict[int, Losses]:
        """Compute the losses on the new rows of a rung, by the candidates' numbers."""
        if not work.candidates:
            return {}
        superlm, heldout = self._superlm(work.subspace), self._read().ordered(self._shared.head_orders[work.subspace])
        architectures = [one.architecture for _, one in work.candidates]
        rows = range(work.start, work.stop)
        losses = score_rows(superlm, architectures, self._shared.objective, heldout, rows, self._targets)
        return dict(zip((number for number, _ in work.candidates), losses, strict=True))

    def _superlm(self, subspace: str) -> SuperLM:
        if self._held is None or self._held[0] != subspace:
            self._held = None  # free the old one first, so that only one is in memory
            weights = convert(self._get(self._shared.weights[subspace]), np.ndarray, as_tensor)
            self._held = (subspace, SuperLM(weights, self._shared.wiring).to(self._device))
        return self._held[1]

    def _read(self) -> Heldout:
        if self._heldout is None:
            self._heldout = convert(self._get(self._shared.heldout), np.ndarray, as_tensor)
        return self._heldout


class ScoreLots(tune.Trainable):  # type: ignore[misc]
    """Trainable that scores a lot in one step; its actor is reused for the next lot.

    A step reports the losses by the candidates' numbers, and the CPU-seconds of the actor's process since the previous
    step. Steps after the first do nothing until the actor gets new work.
    """

    @override
    def setup(self, config: dict[str, Any], shared: Shared) -> None:
        """Make the scorer; it loads a SuperLM when it gets work."""
        self._scorer = Scorer(shared, device_of_actor())
        self._work: Work | None = config["work"]
        self._cpu = time.process_time()
        self._idle_since = time.monotonic()

    @override
    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take new work."""
        self._work = new_config["work"]
        return True

    @override
    def step(self) -> dict[str, Any]:
        """Score the work if there is any, or else wait a little."""
        work, self._work = self._work, None
        losses: dict[int, Losses] = {}
        if work is None:
            waited = time.monotonic() - self._idle_since
            time.sleep(min(MOST_IDLE_SECONDS, max(LEAST_IDLE_SECONDS, IDLE_SHARE * waited)))
        else:
            losses = self._scorer.score(work)
            self._idle_since = time.monotonic()
        before, self._cpu = self._cpu, time.process_time()
        return {LOSSES: Reported(losses), CPU_SECONDS: self._cpu - before}


@dataclass(frozen=True)
class Reported:
    """Losses by the candidates' numbers, in a class since Tune flattens dicts."""

    by_number: dict[int, Losses]


def device_of_actor() -> torch.device:
    """Return the device that Ray assigned to this actor: a GPU or a share of one, else the CPU."""
    return torch.device("cuda" if ray.get_gpu_ids() else "cpu")


def convert(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Copy nested dataclasses, tuples and dicts with ``change`` applied to every instance of ``kind``."""
    if isinstance(value, kind):
        return change(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return dataclasses.replace(value, **{f.name: convert(getattr(value, f.name), kind, change) for f in fields})
    if isinstance(value, tuple):
        return tuple(convert(item, kind, change) for item in value)
    if isinstance(value, dict):
        return {name: convert(item, kind, change) for name, item in value.items()}
    return value


def as_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """Return a tensor that shares an array's memory."""
    with warnings.catch_warnings():
        # Arrays of the object store are read-only, and nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
