"""The actors of the search: they score lots of candidates with the SuperLM that they hold."""

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
from workloads.craft.scoring import Heldout, Losses, score_rows
from workloads.craft.superlm import SuperLM, Wiring
from workloads.runs.attempt.room import most_at_once
from workloads.runs.search.board import Work

CPUS, ACTORS_OF_GPU = 1, 4
"""CPUs of an actor, which are its threads; and how many share a GPU, which one subnet at a time does not fill."""
LEAST_IDLE_SECONDS, MOST_IDLE_SECONDS, IDLE_SHARE = 0.01, 1.0, 0.05
"""An empty step, in which a lot waits for the others, takes this share of the wait so far, within these bounds."""
LOSSES, CPU_SECONDS = "losses", "cpu_seconds"


@dataclass(frozen=True)
class Actors:
    """The actors of a search.

    Attributes:
        count: How many may run side by side.
        needs: Of each.
    """

    count: int
    needs: dict[str, float]

    @property
    def device(self) -> str:
        """Where they score."""
        return "cuda" if "GPU" in self.needs else "cpu"


def actors_for(cluster: Cluster) -> Actors:
    """Give an actor a part of a GPU where some node has one and a CPU, else a CPU alone.

    Raises:
        InputError: No node that is up has a CPU.
    """
    with_gpu, without = worker_needs(CPUS, 1 / ACTORS_OF_GPU), worker_needs(CPUS)
    if count := cluster.holds(with_gpu):
        return Actors(count, with_gpu)
    return Actors(most_at_once("search", without, cluster), without)


@dataclass(frozen=True)
class Shared:
    """What the actors need; refs are to numpy arrays, which a node's actors read without copies.

    Attributes:
        weights: By sub-space, a ref to the SuperLM's weights by name.
        heldout: A ref to the :class:`Heldout` as arrays.
        head_orders: By sub-space, the head order of its SuperLM, None where it has none.
    """

    objective: Objective
    wiring: Wiring
    weights: dict[str, Any]
    heldout: Any
    head_orders: dict[str, tuple[int, ...] | None]


class Scorer:
    """Scores lot after lot, and keeps the SuperLM of the last one.

    Args:
        shared: What all actors need.
        device: Where to score.
        get: Gives what a ref is to.
    """

    def __init__(self, shared: Shared, device: torch.device, get: Callable[[Any], Any] = ray.get) -> None:
        torch.set_num_threads(CPUS)
        self._shared = shared
        self._device, self._get = device, get
        self._heldout: Heldout | None = None
        self._held: tuple[str, SuperLM] | None = None

    def score(self, work: Work) -> dict[int, Losses]:
        """Give the losses on the new rows of a rung, by the candidates' numbers."""
        if not work.candidates:
            return {}
        superlm, heldout = self._superlm(work.subspace), self._read().ordered(self._shared.head_orders[work.subspace])
        architectures = [one.architecture for _, one in work.candidates]
        losses = score_rows(superlm, architectures, self._shared.objective, heldout, range(work.start, work.stop))
        return dict(zip((number for number, _ in work.candidates), losses, strict=True))

    def _superlm(self, subspace: str) -> SuperLM:
        if self._held is None or self._held[0] != subspace:
            self._held = None  # not two at once in memory
            weights = convert(self._get(self._shared.weights[subspace]), np.ndarray, _as_tensor)
            self._held = (subspace, SuperLM(weights, self._shared.wiring).to(self._device))
        return self._held[1]

    def _read(self) -> Heldout:
        if self._heldout is None:
            self._heldout = convert(self._get(self._shared.heldout), np.ndarray, _as_tensor)
        return self._heldout


class ScoreLots(tune.Trainable):  # type: ignore[misc]
    """Scores a lot in one step, in an actor that is reused for lot after lot.

    A step gives the losses by the candidates' numbers, and the CPU-seconds of the actor's process since the step
    before. Steps after the first do nothing until the actor is given new work.
    """

    @override
    def setup(self, config: dict[str, Any], shared: Shared) -> None:
        """Make the scorer; it loads a SuperLM with the first work."""
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
        """Score what there is to score, or wait a little."""
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
    """Losses by the candidates' numbers; Tune takes a dict apart, and this not."""

    by_number: dict[int, Losses]


def device_of_actor() -> torch.device:
    """Give the device that Ray lent this actor: its GPU, or a share of one, where it has any."""
    return torch.device("cuda" if ray.get_gpu_ids() else "cpu")


def convert(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Rebuild nested dataclasses, tuples and dicts with every ``kind`` in them changed."""
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


def _as_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    with warnings.catch_warnings():
        # Arrays of the object store are read-only, and nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
