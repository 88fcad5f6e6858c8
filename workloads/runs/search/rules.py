"""Who goes after a rung: the two aims' rules, in plain functions.

A rung's losses are of the same rows for every candidate, one loss a row, so that candidates are compared by the
*paired* difference: most of the noise of a row is common to both. "Clearly better" means by more standard errors of the
mean difference than chance explains (:data:`ONE_BY_CHANCE`, :data:`ANY_BY_CHANCE`). How many that are depends on the
rows, since the error is estimated from them too (Student's t), and on the rivals, since the best of many is ahead of
its equals by more than one of them is (Bonferroni): 3 for many rows and a rival, 3.6 for 16 rows, 4.9 for 16 rows and a
hundred rivals, 22 for 4 rows and a hundred. A rung of few rows thus drops little rather than at random. Neighbouring
rows of packed text are not quite independent, so the error is somewhat larger than stated; that is one reason for so
small chances. A candidate that goes wrongly is one that could hardly be told from the one that outlives it.
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

ONE_BY_CHANCE, ANY_BY_CHANCE = 0.00135, 0.01
"""The chance that a candidate goes at a rung for a certain rival that is no better (of many rows, three standard
errors), and for any of its rivals."""
NEAREST = 3
"""So many candidates are kept for a budget that none meets: those that come nearest."""
OVER_BUDGET, WORSE_HALF = "over every budget", "worse half of every budget that it meets"

Axes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture of a sub-space."""

    subspace: str
    architecture: Architecture


def cost_axes(shape: TeacherShape, architecture: Architecture) -> Axes:
    """Give what every budget over costs grows with: no more in all of these is no more in any budget.

    The coefficients of FLOPs and activation bytes over the sequence length stand for these costs at every length;
    weight bytes are proportional to the parameters. The depth is among them for latency's sake, which is not counted
    but measured: of two students with as many operations the deeper is slower.
    """
    cost = cost_by_length(shape, architecture)
    lengthwise = itertools.chain(cost.flops, *cost.activation_bytes)
    return (cost.params, cost.params_without_embeddings, *lengthwise, len(architecture.layers))


def standard_error(losses: Losses) -> float:
    """Standard error of the mean; without end for a single row, which tells nothing of it."""
    return float(losses.std(ddof=1) / math.sqrt(len(losses))) if len(losses) > 1 else math.inf


def frontier_drops(alive: Sequence[int], axes: Mapping[int, Axes], losses: Mapping[int, Losses]) -> dict[int, int]:
    """Give who goes where the frontier is wanted, and who outdoes each.

    A candidate goes only when one that is still there costs no more along every axis and is clearly better. Each is
    looked at in turn against those left, so who outdoes one may go later itself, but then only for one that costs no
    more again: whoever meets a budget leaves a survivor that meets it.
    """
    table = np.array([axes[number] for number in alive]).reshape(len(alive), -1)
    rows = np.array([len(losses[number]) for number in alive], dtype=int)
    scores = np.full((len(alive), rows.max(initial=0)), np.nan)
    for at, number in enumerate(alive):
        scores[at, : rows[at]] = losses[number]
    left = np.ones(len(alive), dtype=bool)
    gone: dict[int, int] = {}
    # The dearest first, so that they are compared with as many as possible; the number decides between equals.
    for at in sorted(range(len(alive)), key=lambda at: (axes[alive[at]], alive[at]), reverse=True):
        rivals = np.flatnonzero(left & (table <= table[at]).all(1))
        common = np.minimum(rows[rivals], rows[at])
        lead = np.full(len(rivals), -np.inf)
        for length in np.unique(common):
            same = common == length
            lead[same] = _lead(scores[rivals[same], :length], scores[at, :length], len(rivals) - 1)
        best = int(np.argmax(lead))  # it is among its rivals itself
        if lead[best] > 1:
            left[at] = False
            gone[alive[at]] = alive[rivals[best]]
    return gone


def _lead(others: npt.NDArray[np.float64], one: Losses, rivals: int) -> npt.NDArray[np.float64]:
    """How far others are better than one, over the same rows: more than 1 is clearly, the best of ``rivals``."""
    differences = one - others
    rows = differences.shape[1]
    if rows < 2 or rivals < 1:
        return np.full(len(others), -np.inf)
    means, errors = differences.mean(1), differences.std(1, ddof=1) / math.sqrt(rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        ahead = np.where(means > 0, means / errors, -np.inf)  # no error at all: better without end
    return ahead / _errors_by_chance(min(ONE_BY_CHANCE, ANY_BY_CHANCE / rivals), rows - 1)


@functools.lru_cache(maxsize=65536)
def _errors_by_chance(chance: float, freedom: int) -> float:
    """Give how many standard errors a difference exceeds with this chance where there is none: Student's t."""
    return float(-stdtrit(freedom, chance))


@dataclass(frozen=True)
class Feasible:
    """The candidates that a budget is answered from.

    Attributes:
        members: Their numbers.
        halves: Whether its worse half may go; not where the budget limits a latency too, which is known only after
            the search, nor where these are but the nearest of a budget that none meets.
    """

    members: frozenset[int]
    halves: bool


def feasible_sets(
    candidates: Mapping[int, Candidate], shape: TeacherShape, budgets: Sequence[Budget]
) -> list[Feasible]:
    """Give the candidates, by number, that meet each budget by their costs; a cost equal to a limit meets it."""
    sets = []
    for budget in budgets:
        broken = {number: budget_misses(one, shape, budget) for number, one in candidates.items()}
        within = frozenset(number for number, over in broken.items() if not over)
        if within:
            sets.append(Feasible(within, halves=budget.max_latency_ms is None))
        else:
            nearest = sorted(broken, key=lambda number: (max(broken[number].values()), number))[:NEAREST]
            sets.append(Feasible(frozenset(nearest), halves=False))
    return sets


def budget_misses(candidate: Candidate, shape: TeacherShape, budget: Budget) -> dict[str, float]:
    """Give the limits that a candidate breaks, as far as they can be counted: all but that of latency.

    Nor is latency predicted here. A candidate that a prediction shuts out could not take the place of one that fails
    its budget when it is measured.
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
    """Give who goes where certain budgets are to be answered.

    A candidate goes when, for every budget that it meets, it is in the worse half or clearly worse than the best; of
    an odd number the larger half stays, and the best ``keep`` of a budget always. For a budget whose worse half must
    not go (:attr:`Feasible.halves`) the rule of the frontier holds. ``None`` stands for the worse half, a number for
    a candidate that is clearly better.
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
