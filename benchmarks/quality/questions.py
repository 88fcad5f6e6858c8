"""The questions about sharing, the score, shapes and the recipe, as lists of pieces. Light to import."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from benchmarks.quality.pieces import Piece
from benchmarks.quality.plan import Entry, Planner, Predicted, RecipeLosses, ShapeLosses, Sharing
from benchmarks.quality.profiles import Recipes, Variant
from benchmarks.quality.shapes import evenly, fitted_to, in_band, macs_of, spread
from workloads.shapes.architecture import Architecture, TeacherShape
from workloads.shapes.search_space import ListedSpace, ProductSpace, Space

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


def add_shapes(planner: Planner) -> None:
    """Add the pieces of question 3, which shapes of equal cost are best: the losses of each, distilled alone."""
    question = planner.profile.shapes
    if question is None:
        return
    whole = macs_of(planner.shape, planner.shape.architecture)
    for fraction, grid in question.grids:
        fitted = [fitted_to(planner.shape, layers, heads, round(fraction * whole)) for layers, heads in grid]
        found = [one for one in fitted if one is not None]
        for start in range(0, len(found), _TOGETHER):
            part = tuple(found[start : start + _TOGETHER])
            title = f"shapes at {fraction:.3g}, {start + 1} to {start + len(part)}"
            alone = _alone(planner, part, planner.profile.tokens, title)
            planner.plan.shapes.append(ShapeLosses(fraction, part, alone))


def add_recipes(planner: Planner) -> None:
    """Add the pieces of question 4, what each part of the recipe brings: losses of the same shapes by each recipe."""
    question = planner.profile.recipes
    if question is None:
        return
    for variant in question.variants:
        space = _space_of(planner.shape, question, variant, variant.widths or question.widths)
        scored = spread(planner.shape, _space_of(planner.shape, question, variant, question.widths), question.shapes)
        for seed in question.seeds:
            title = f"{variant.name}, seed {seed}"
            superlm = planner.distil(
                f"recipe: {title}", [space], planner.profile.tokens, seed=seed, training=variant.training
            )
            inside = planner.inside(superlm, [(space.name, one) for one in scored], f"inside {space.name}: {title}")
            found = RecipeLosses(space.name, variant.name, seed, tuple(scored), superlm, inside)
            planner.plan.recipes.append(found)


def _space_of(shape: TeacherShape, question: Recipes, variant: Variant, widths: Sequence[int]) -> ProductSpace:
    """Lay out the sub-space that a recipe trains."""

    def share(whole: int, parts: Sequence[int], of: int) -> list[int]:
        return sorted({max(1, round(whole * part / of)) for part in parts})

    return ProductSpace(
        name="small",
        layers=tuple(share(shape.layers, question.depths, 6)),
        hidden_sizes=tuple(heads * shape.head_width for heads in share(shape.heads, widths, 12)),
        mlp_ratios=tuple(Fraction(shape.intermediate_size * part, shape.hidden_size * 8) for part in question.ratios),
        heads=None,
        head_width=shape.head_width,
        teacher_layers=shape.layers,
        layer_rule=variant.layer_rule,
    )


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
