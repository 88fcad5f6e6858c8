"""The order of pieces on a GPU that is at hand for minutes: what is worth most comes first. Light to import."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.quality.pieces import Piece
from benchmarks.quality.plan import Plan

_TRIED = "hand-made"
_ROLES = ("chosen", "teacher", _TRIED, "alone")
"""Roles whose tasks come first; further roles follow."""


def by_worth(plan: Plan) -> list[Piece]:
    """Order the pieces of a plan, each after those that it needs.

    The SuperLMs and their search come first, since all else depends on them. Then come the tasks with the first seed of
    fine-tuning, by role, and those with the next seeds; each brings along the training that it needs.
    """
    ordered: dict[str, Piece] = {}
    pieces = list(plan.pieces.values())
    for piece in pieces:
        if piece.kind in {"scene", "search"}:
            _add(piece, ordered)
    roles = {piece.fingerprint: entry.role for entry in plan.entries for piece in entry.tasks}
    untuned = {entry.untuned.fingerprint: entry.role for entry in plan.entries if entry.untuned is not None}
    tasks = [piece for piece in pieces if piece.kind in {"task", "untuned"}]
    seeds = list(dict.fromkeys(piece.inputs["seed"] for piece in tasks if piece.kind == "task"))

    def rank(piece: Piece) -> tuple[int, int]:
        role = (roles | untuned).get(piece.fingerprint, _TRIED)
        place = next((number for number, one in enumerate(_ROLES) if role.startswith(one)), len(_ROLES))
        return (seeds.index(piece.inputs["seed"]) if piece.kind == "task" else 0), place

    for piece in sorted(tasks, key=rank):
        _add(piece, ordered)
    return list(ordered.values())


def _add(piece: Piece, ordered: dict[str, Piece]) -> None:
    _add_all(piece.needs, ordered)
    ordered.setdefault(piece.fingerprint, piece)


def _add_all(pieces: Iterable[Piece], ordered: dict[str, Piece]) -> None:
    for piece in pieces:
        _add(piece, ordered)
