"""Scoring of candidates: the product's search, and subnets by name.

The search runs in this process: the product's board, rules and proposer with a plain loop in place of Ray Tune. Its
decisions depend on the losses alone, so the result is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.quality.distil import Model, Report
from benchmarks.quality.scene import Scene
from workloads.craft.scoring import Losses, score_rows
from workloads.runs.search.board import Aim, Board
from workloads.runs.search.proposals import Exhaustive
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import Space
from workloads.spec.search import SearchSpec


def search(scene: Scene, models: Mapping[str, Model], spaces: Sequence[Space], report: Report) -> dict[str, Any]:
    """Score all candidates in rungs, with the product's defaults, and return the survivors.

    Args:
        scene: Teacher and held-out text.
        models: SuperLMs by sub-space.
        spaces: The sub-spaces.
        report: Callback with the candidates that are scored.
    """
    rows = scene.heldout_count
    spec = SearchSpec(heldout_blocks=rows, first_rung_blocks=min(16, rows))
    board = Board(
        Aim(spec, scene.teacher.shape), rows=rows, group=scene.objective.group, actors=1, on_progress=lambda: None
    )
    heldout = scene.heldout_in_rungs(board.rungs)
    board.begin(Exhaustive(spaces).propose([]))
    while board.waiting:
        for lot in sorted(board.waiting):
            work = board.work(lot)
            model = models[work.subspace]
            losses = score_rows(
                model.superlm.to(scene.device),
                [candidate.architecture for _, candidate in work.candidates],
                scene.objective,
                heldout.ordered(model.head_order),
                range(work.start, work.stop),
            )
            board.report(lot, dict(zip((number for number, _ in work.candidates), losses, strict=True)))
            report(board.done, len(board.entries), "candidates")
        if board.diverged is not None:
            raise ArithmeticError(f"The held-out loss of {board.diverged.architecture.describe()} is not finite.")
    survivors = [entry for entry in board.entries if entry.dropped is None]
    return {
        "candidates": len(board.entries),
        "survivors": [
            {
                "subspace": entry.candidate.subspace,
                "architecture": entry.candidate.architecture.to_json(),
                "heldout_loss": float(entry.losses.mean()),
            }
            for entry in survivors
        ],
    }


def inside(
    scene: Scene, models: Mapping[str, Model], subnets: Sequence[tuple[str, Architecture]], report: Report
) -> list[float]:
    """Score subnets of SuperLMs, each given by its sub-space, on all held-out rows; the losses come in their order."""
    losses: dict[tuple[str, Architecture], Losses] = {}
    for name, model in models.items():
        own = [one for space, one in subnets if space == name]
        if own:
            heldout = scene.heldout.ordered(model.head_order)
            found = score_rows(model.superlm.to(scene.device), own, scene.objective, heldout)
            losses |= {(name, one): rows for one, rows in zip(own, found, strict=True)}
        report(len(losses), len(subnets), "subnets")
    return [float(losses[subnet].mean()) for subnet in subnets]
