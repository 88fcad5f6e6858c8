"""The plan of a profile, from the rows that are there. Light to import."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.quality.grouping import GroupedPlanner
from benchmarks.quality.pieces import Piece
from benchmarks.quality.plan import Plan, Planner
from benchmarks.quality.profiles import Profile
from benchmarks.quality.questions import add_predicting, add_recipes, add_shapes, add_sharing
from benchmarks.quality.rows import Rows
from benchmarks.quality.students import add_students


def plan_of(profile: Profile, rows: Rows) -> Plan:
    """Make the plan: every piece whose inputs are known, and the names of what depends on rows to come."""
    planner = GroupedPlanner(profile, rows) if profile.grouped else Planner(profile, rows)
    if planner.row(planner.scene) is None:
        planner.plan.later.append("everything that depends on the teacher's shape")
        return planner.plan
    add_students(planner)
    add_sharing(planner)
    add_predicting(planner)
    add_shapes(planner)
    add_recipes(planner)
    return planner.plan


def only_named(pieces: Iterable[Piece], name: str | None) -> list[Piece]:
    """Keep the pieces whose names contain ``name``, and all that they need."""
    pieces = list(pieces)
    if name is None:
        return pieces
    kept = _with_needs(piece for piece in pieces if name.lower() in piece.name.lower())
    return [piece for piece in pieces if piece.fingerprint in kept]


def deciding(pieces: Iterable[Piece]) -> list[Piece]:
    """Keep the pieces that decide which others there are, and all that they need."""
    pieces = list(pieces)
    kept = _with_needs(piece for piece in pieces if piece.kind in {"scene", "search"})
    return [piece for piece in pieces if piece.fingerprint in kept]


def _with_needs(pieces: Iterable[Piece]) -> set[str]:
    found: set[str] = set()
    for piece in pieces:
        found |= {piece.fingerprint, *_with_needs(piece.needs)}
    return found
