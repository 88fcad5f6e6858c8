"""Rules that decide which candidates are dropped after a rung, for each aim.

All candidates of a rung have one loss per row, on the same rows. So two candidates are compared by the *paired*
difference of their losses, in which most of a row's noise cancels. A candidate is *clearly better* than another if its
mean difference is more standard errors than chance explains (:data:`PAIR_CHANCE`, :data:`ANY_CHANCE`). The number of
standard errors depends on the number of rows, from which the error is estimated (Student's t), and on the number of
rivals, since the best of many equals is ahead by chance (Bonferroni). It is 3 for many rows and one rival, 3.6 for 16
rows and one rival, 4.9 for 16 rows and a hundred rivals, 22 for 4 rows and a hundred rivals. So a rung of few rows
drops few candidates, and none at random. Neighbouring rows of packed text are not fully independent, so the true error
is somewhat larger; the chances are small for that reason too. A candidate that is dropped by mistake is nearly as good
as the one that stays.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from workloads.answers.choosing import misses
from workloads.craft.scoring import Losses
from workloads.shapes.architecture import Architecture, TeacherShape
from workloads.shapes.costs import cost_by_length, student_cost
from workloads.spec.budgets import Budget

PAIR_CHANCE, ANY_CHANCE = 0.00135, 0.01
"""Most probable mistakes at a rung: the probability that a candidate is dropped for one given rival that is no better
(three standard errors, for many rows), and for any of its rivals."""
NEAREST = 3
"""Number of candidates that are kept for a budget that none meets: the nearest ones."""
OVER_BUDGET, WORSE_HALF = "over every budget", "worse half of every budget that it meets"

Axes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture of a sub-space."""

    subspace: str
    architecture: Architecture


def cost_axes(shape: TeacherShape, architecture: Architecture) -> Axes:
    """Return the costs of an architecture, such that a candidate no dearer in all of them is no dearer for any budget.

    FLOPs and activation bytes are given as coefficients of the sequence length, which cover every length. Weight bytes
    are proportional to the parameters. The depth stands for latency, which is measured: of two students with equal
    FLOPs, the deeper is slower.
    """
    cost = cost_by_length(shape, architecture)
    lengthwise = itertools.chain(cost.flops, *cost.activation_bytes)
    return (cost.params, cost.params_without_embeddings, *lengthwise, len(architecture.layers))


def standard_error(losses: Losses) -> float:
    """Standard error of the mean; infinite for a single row, which does not show it."""
    return float(losses.std(ddof=1) / math.sqrt(len(losses))) if len(losses) > 1 else math.inf


def frontier_drops(alive: Sequence[int], axes: Mapping[int, Axes], losses: Mapping[int, Losses]) -> dict[int, int]:
    """Return the candidates to drop if the frontier is the aim, each with the candidate that is better.

    A candidate is dropped only if a remaining one costs no more along every axis and is clearly better. Candidates are
    tested in turn. The better one may be dropped later, but again only for one that costs no more. So if a dropped
    candidate meets a budget, a survivor meets it too.
    """
    table = np.array([axes[number] for number in alive]).reshape(len(alive), -1)
    rows = np.array([len(losses[number]) for number in alive], dtype=int)
    scores = np.full((len(alive), rows.max(initial=0)), np.nan)
    for at, number in enumerate(alive):
        scores[at, : rows[at]] = losses[number]
    left = np.ones(len(alive), dtype=bool)
    gone: dict[int, int] = {}
    # The most expensive first, so that each is compared with as many as possible; the number breaks ties.
    for at in sorted(range(len(alive)), key=lambda at: (axes[alive[at]], alive[at]), reverse=True):
        rivals = np.flatnonzero(left & (table <= table[at]).all(1))
        common = np.minimum(rows[rivals], rows[at])
        lead = np.full(len(rivals), -np.inf)
        for length in np.unique(common):
            same = common == length
            lead[same] = _lead(scores[rivals[same], :length], scores[at, :length], len(rivals) - 1)
        best = int(np.argmax(lead))  # the rivals include the candidate itself, so there is always one
        if lead[best] > 1:
            left[at] = False
            gone[alive[at]] = alive[rivals[best]]
    return gone


def _lead(others: npt.NDArray[np.float64], one: Losses, rivals: int) -> npt.NDArray[np.float64]:
    """Return by how much others are better than one, on the same rows, as a multiple of what chance explains.

    More than 1 is clearly better. ``rivals`` is the number of candidates of which the best is taken.
    """
    differences = one - others
    rows = differences.shape[1]
    if rows < 2 or rivals < 1:
        return np.full(len(others), -np.inf)
    means, errors = differences.mean(1), differences.std(1, ddof=1) / math.sqrt(rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        ahead = np.where(means > 0, means / errors, -np.inf)  # an error of zero gives infinity
    return ahead / _errors_of_chance(min(PAIR_CHANCE, ANY_CHANCE / rivals), rows - 1)


@functools.lru_cache(maxsize=65536)
def _errors_of_chance(chance: float, freedom: int) -> float:
    """Return the number of standard errors that equal candidates exceed with this probability, by Student's t."""
    return float(-stdtrit(freedom, chance))


@dataclass(frozen=True)
class Feasible:
    """Candidates that may answer a budget.

    Attributes:
        members: Numbers of the candidates.
        halves: Whether the worse half may be dropped. False if the answer depends on latency or fidelity too, which
            are known only after the search, or if no candidate meets the budget and these are the nearest ones.
    """

    members: frozenset[int]
    halves: bool


def feasible_sets(
    candidates: Mapping[int, Candidate], shape: TeacherShape, budgets: Sequence[Budget]
) -> list[Feasible]:
    """Return the candidates whose costs meet each budget; a cost equal to a limit meets it."""
    sets = []
    for budget in budgets:
        broken = {number: budget_misses(one, shape, budget) for number, one in candidates.items()}
        within = frozenset(number for number, over in broken.items() if not over)
        if within:
            sets.append(Feasible(within, halves=not budget.needs_latency and not budget.floors))
        else:
            nearest = sorted(broken, key=lambda number: (max(broken[number].values()), number))[:NEAREST]
            sets.append(Feasible(frozenset(nearest), halves=False))
    return sets


def budget_misses(candidate: Candidate, shape: TeacherShape, budget: Budget) -> dict[str, float]:
    """Return the limits that a candidate exceeds, except those on latency and fidelity, which cannot be counted.

    Latency is not predicted here either. A prediction may be wrong, and a candidate that it excludes could not replace
    one that later measures too slow.
    """
    counted = budget if budget.max_latency_ms is None else budget.model_copy(update={"max_latency_ms": None})
    return misses(student_cost(shape, candidate.architecture, budget.sequence_length), counted)


def budget_drops(
    alive: Sequence[int],
    sets: Sequence[Feasible],
    axes: Mapping[int, Axes],
    losses: Mapping[int, Losses],
    keep: int = 1,
) -> dict[int, int | None]:
    """Return the candidates to drop if budgets are the aim, each with the reason.

    A candidate is dropped if, for every budget that it meets, it is in the worse half or clearly worse than the best.
    Of an odd number the larger half stays; the best ``keep`` candidates of a budget always stay. For a budget whose
    worse half must stay (:attr:`Feasible.halves`), the rule of the frontier applies.

    Returns:
        Map of the candidate's number to the number of the clearly better one, or None for the worse half.
    """
    means = {number: float(losses[number].mean()) for number in alive}
    outdone = frontier_drops(alive, axes, losses) if any(not one.halves for one in sets) else {}
    stays: set[int] = set()
    by: dict[int, int] = {}
    for one in sets:
        members = [number for number in alive if number in one.members]
        if not one.halves:
            stays.update(number for number in members if number not in outdone)
            by |= {number: outdone[number] for number in members if number in outdone}
            continue
        members.sort(key=lambda number: (means[number], axes[number], number))
        for place, number in enumerate(members[: max(keep, math.ceil(len(members) / 2))]):
            best = losses[members[0]]
            rows = min(len(best), len(losses[number]))
            if place >= keep and _lead(best[None, :rows], losses[number][:rows], len(members) - 1)[0] > 1:
                by[number] = members[0]
            else:
                stays.add(number)
    return {number: by.get(number) for number in alive if number not in stays}
