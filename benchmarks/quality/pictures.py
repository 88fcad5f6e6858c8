"""Pictures of the bench, drawn by the product's own plot of losses against costs."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.quality.plan import Entry
from workloads.craft.pictures import Panel, Picture, Point, frontier_picture


def quality_picture(models: Sequence[tuple[Entry, int, float]], teacher_macs: int, teacher_score: float) -> Picture:
    """Draw how many points models lie below the teacher against their multiply-accumulates.

    Args:
        models: Each with its multiply-accumulates and its task average.
        teacher_macs: Of the teacher.
        teacher_score: The teacher's task average.
    """
    drawn = tuple(
        Point(macs, teacher_score - score, f"{entry.fraction:.3g}" if entry.role == "chosen" else "", _kind(entry.role))
        for entry, macs, score in models
    )
    panel = Panel("MACs of 128 tokens", drawn, teacher=teacher_macs)
    return frontier_picture([panel], loss="points below the teacher's task average", title="Quality against size")


def loss_picture(losses: Sequence[tuple[str, int, float]]) -> Picture:
    """Draw held-out losses against tokens; each comes with its kind, ``inside`` a SuperLM or ``alone``."""
    drawn = tuple(Point(tokens, loss, subspace=kind) for kind, tokens, loss in losses)
    return frontier_picture([Panel("training tokens", drawn)], title="Loss against length")


def _kind(role: str) -> str:
    for kind in ("random choice", "random weights", "hand-made", "alone"):
        if role.startswith(kind):
            return kind
    return role
