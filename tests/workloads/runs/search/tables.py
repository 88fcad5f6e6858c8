"""Synthetic searches: costs and losses by a formula, scored in a loop without Ray."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from workloads.craft.scoring import Losses
from workloads.runs.search.board import Aim, Board, Known
from workloads.runs.search.proposals import Proposer
from workloads.runs.search.rules import Candidate
from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ProductSpace
from workloads.spec.budgets import Budget
from workloads.spec.search import SearchSpec

SHAPE = TeacherShape(Architecture.of_teacher(12, 768, 12, 3072), Vocabulary("bert", 1000, 64, 2))
ROWS = 32
SPACES = [
    ProductSpace("tiny", (2, 3, 4), (64, 128), (2.0, 3.0, 4.0), None, 64, 12),
    ProductSpace("base", (4, 5, 6, 7, 8), (192, 256, 384), (2.0, 3.0, 4.0), None, 64, 12),
]
_ROW_NOISE = np.random.default_rng(0).normal(1.0, 0.2, 4096)

LossOf = Callable[[Candidate], float]


def quality(candidate: Candidate) -> float:
    """Quality grows with size, but falls at odd depths and the widest feed-forward: many are dominated."""
    one = candidate.architecture
    width, inner, depth = one.hidden_size, one.layers[0].intermediate_size, len(one.layers)
    bad = (0.8 if depth % 2 else 0.0) + (0.3 if inner >= 4 * width else 0.0)
    return 10 / width**0.5 + 3 / depth + 200 / (200 + inner) + bad


def losses(candidate: Candidate, start: int, stop: int, loss_of: LossOf = quality, noise: float = 0.0) -> Losses:
    """Losses by row: a difficulty of each row, common to all candidates, and ``noise`` of each candidate."""
    draw = np.random.default_rng([zlib.crc32(repr(candidate).encode()), start])
    return loss_of(candidate) * _ROW_NOISE[start:stop] + noise * draw.normal(size=stop - start)


def spec(**fields: Any) -> SearchSpec:
    return SearchSpec.model_validate({"heldout_blocks": ROWS, "first_rung_blocks": 4} | fields)


def aim(search: SearchSpec, budgets: Sequence[Budget] = (), keep: int = 1) -> Aim:
    return Aim(search, SHAPE, budgets, keep)


def play(
    proposer: Proposer,
    what: Aim,
    *,
    loss_of: LossOf = quality,
    noise: float = 0.0,
    known: Known | None = None,
    actors: int = 2,
    order: random.Random | None = None,
    scored: list[tuple[Candidate, int]] | None = None,
) -> Board:
    """Search in a loop; ``scored`` receives every scored candidate with the first row of its rung."""
    board = Board(what, rows=ROWS, actors=actors, known=known, on_progress=lambda: None)
    while proposed := proposer.propose(board.history()):
        board.begin(proposed)
        while board.waiting:
            lots = sorted(board.waiting)
            lot = order.choice(lots) if order else lots[0]
            work = board.work(lot)
            if scored is not None:
                scored.extend((one, work.start) for _, one in work.candidates)
            board.report(
                lot, {number: losses(one, work.start, work.stop, loss_of, noise) for number, one in work.candidates}
            )
    board.end()
    return board


def random_budget(draw: random.Random, shape: TeacherShape, candidates: Sequence[Candidate]) -> Budget:
    """Draw a budget: one or two limits around, or exactly at, the costs of a drawn candidate."""
    length = draw.choice([1, 16, 64, 128, 512, 4096])
    cost = student_cost(shape, draw.choice(candidates).architecture, length)
    limits = {
        "max_params": cost.params,
        "max_params_without_embeddings": cost.params_without_embeddings,
        "max_flops": cost.flops,
        "max_weight_bytes": cost.weight_bytes("float32"),
        "max_activation_bytes": cost.activation_bytes,
    }
    names = draw.sample(sorted(limits), draw.choice([1, 2]))
    factor = draw.choice([1.0, draw.uniform(0.5, 2.0)])
    return Budget.model_validate(
        {"name": "drawn", "sequence_length": length} | {name: max(1, int(limits[name] * factor)) for name in names}
    )
