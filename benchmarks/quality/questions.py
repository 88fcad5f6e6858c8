"""The questions about sharing, the score and the recipe, as lists of pieces. Light to import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.quality.pieces import Piece
from benchmarks.quality.plan import Entry, Planner, Predicted, RecipeLosses, Sharing
from benchmarks.quality.shapes import evenly, in_band, macs_of, spread
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import ListedSpace, Space
from workloads.shapes.spaces import relative_spaces

_TOGETHER = 4
"""Shapes that are distilled alone over one teacher's forward, so that a piece stays short."""


def add_sharing(planner: Planner) -> None:
    """Add the pieces of question 1, what sharing costs.

    They give losses of shapes inside the SuperLM and alone, at several lengths.

    The shapes of a sub-space alone are members of one training, which changes nothing but the teacher's forward.
    """
    question = planner.profile.sharing
    if question is None:
        return
    for tokens, count in question.lengths:
        superlms = _superlms(planner, tokens)
        for space in planner.spaces:
            for number, part in enumerate(_parts(planner, space, count)):
                title = f"{space.name}, part {number + 1} of its shapes, {tokens} tokens"
                inside = planner.inside(superlms, [(space.name, one) for one in part], f"inside: {title}")
                alone = _alone(planner, part, tokens, f"alone: {title}")
                found = Sharing(space.name, tokens, tuple(part), inside, alone, everywhere=number == 0)
                planner.plan.sharing.append(found)


def add_predicting(planner: Planner) -> None:
    """Add the pieces of question 2, whether the score predicts.

    They give the losses inside, the losses alone and the task averages within bands.
    """
    question = planner.profile.predicting
    if question is None:
        return
    superlms = _superlms(planner, question.tokens)
    whole = macs_of(planner.shape, planner.shape.architecture)
    for fraction in question.fractions:
        drawn = in_band(planner.shape, planner.spaces, fraction * whole, question.width, question.per_band)
        if not drawn:
            continue
        inside = planner.inside(superlms, drawn, f"inside: band {fraction:.3g}")
        for start in range(0, len(drawn), _TOGETHER):
            part = drawn[start : start + _TOGETHER]
            title = f"alone: band {fraction:.3g}, shapes {start + 1} to {start + len(part)}"
            alone = _alone(planner, [one for _, one in part], question.tokens, title)
            for place, (space, one) in enumerate(part, start=start):
                entry = _entry(planner, superlms, space, one, fraction)
                planner.plan.predicting.append(Predicted(fraction, entry, inside, place, alone))


def add_recipes(planner: Planner) -> None:
    """Add the pieces of question 4, what each part of the recipe brings: losses of the same shapes by each recipe."""
    question = planner.profile.recipes
    if question is None:
        return
    for variant in question.variants:
        spaces = relative_spaces(planner.shape, planner.profile.subspaces)
        chosen = [replace(one, layer_rule=variant.layer_rule) for one in spaces if one.name in question.subspaces]
        for seed in question.seeds:
            title = f"{variant.name}, seed {seed}"
            tokens = planner.profile.tokens
            superlms = planner.distil(f"recipe: {title}", chosen, tokens, seed=seed, training=variant.training)
            for space in chosen:
                shapes = spread(planner.shape, space, question.shapes)
                inside = planner.inside(
                    superlms, [(space.name, one) for one in shapes], f"inside {space.name}: {title}"
                )
                found = RecipeLosses(space.name, variant.name, seed, tuple(shapes), superlms, inside)
                planner.plan.recipes.append(found)


def _parts(planner: Planner, space: Space, count: int) -> list[list[Architecture]]:
    """Take shapes of a sub-space in parts; the first are those of every length, so that these share their trunks."""
    assert planner.profile.sharing is not None
    counts = [one for _, one in planner.profile.sharing.lengths]
    shapes = spread(planner.shape, space, max(counts))
    first = evenly(shapes, min(counts))
    others = [one for one in shapes if one not in first][: max(0, count - len(first))]
    return [first, *(others[start : start + _TOGETHER] for start in range(0, len(others), _TOGETHER))]


def member_of(one: Architecture) -> str:
    """Name of a shape among those that are distilled alone together."""
    return f"{one.describe()}, of {'-'.join(map(str, one.labels))}"


def _superlms(planner: Planner, tokens: int) -> Piece:
    decay = planner.profile.sharing.decay if planner.profile.sharing else 0.0
    return planner.distil(f"SuperLMs, {tokens} tokens", planner.spaces, tokens, decay=decay)


def _alone(planner: Planner, shapes: Sequence[Architecture], tokens: int, name: str) -> Piece:
    decay = planner.profile.sharing.decay if planner.profile.sharing else 0.0
    return planner.distil(name, [ListedSpace(member_of(one), (one,)) for one in shapes], tokens, decay=decay)


def _entry(planner: Planner, superlms: Piece, space: str, one: Architecture, fraction: float) -> Entry:
    return planner.entry(f"band: {one.describe()}", fraction, superlms, one, member=space, shown=False)
