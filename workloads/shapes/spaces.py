"""Sub-spaces of AutoDistil: products of ranges, one SuperLM each. Light to import.

The layers of a student are alike and start from evenly spread teacher layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from workloads.shapes.architecture import TeacherShape
from workloads.shapes.search_space import ProductSpace, exact_ratio
from workloads.spec.autodistil import SubspacesSpec
from workloads.spec.errors import FieldError, InputError

_HALVES = tuple(Fraction(halves, 2) for halves in range(4, 9))
_LOW_RATIOS, _HIGH_RATIOS = _HALVES[:-1], _HALVES[1:]
_WIDE_EIGHTHS, _NARROW_EIGHTHS = (1, 2, 3, 4, 5, 6), (2, 3, 4, 6, 8)
"""Feed-forward ratios in eighths of the teacher's own, of students as wide as the teacher and of narrower ones."""


def paper_spaces() -> list[ProductSpace]:
    """AutoDistil's three sub-spaces of 256 students each (arXiv 2201.12507, Table 1), for 12 x 768 teachers."""
    low, high = _LOW_RATIOS, _HIGH_RATIOS
    seven, nine = tuple(range(7, 11)), tuple(range(9, 13))
    return [
        ProductSpace("tiny", tuple(range(4, 8)), (128, 160, 192, 224), low, seven, 64, 12, "floor"),
        ProductSpace("small", nine, (256, 288, 320, 352), high, seven, 64, 12, "floor"),
        ProductSpace("base", nine, (544, 576, 608, 640), high, nine, 64, 12, "floor"),
    ]


def relative_spaces(shape: TeacherShape, count: int) -> list[ProductSpace]:
    """Lay out ``count`` compact sub-spaces of stock-loadable shapes relative to a teacher.

    The members of a sub-space differ in depth and neurons and have one width, since a SuperLM of one width loses the
    least by sharing. The last has the teacher's own width, since students that keep the teacher's embeddings have the
    lowest loss of all that cost as much, even with few layers and neurons (docs/results.md). The others are for
    budgets that it does not reach, such as few parameters: their widths are evenly spaced by ratio, from a quarter of
    the teacher's (half, of two sub-spaces), in whole heads. A single sub-space has half the teacher's width beside
    its own.

    Depths start at a third of the teacher's layers (a sixth in the last sub-space); those of the first reach two
    thirds, those of the last all. Feed-forward ratios are relative to the teacher's own.

    Raises:
        InputError: The teacher has too few heads for that many sub-spaces.
    """
    # A saved student that serves as the teacher may have more heads than fit in its hidden size.
    heads = min(shape.heads, shape.hidden_size // shape.head_width)
    widths = _widths(heads, count)
    own_ratio = Fraction(shape.intermediate_size, shape.hidden_size)
    spaces = []
    for index, (name, width) in enumerate(zip(SubspacesSpec(count=count).names, widths, strict=True)):
        last = index == count - 1
        units = sorted({max(1, width // 2), width}) if count == 1 else [width]
        eighths = _WIDE_EIGHTHS if last else _NARROW_EIGHTHS
        spaces.append(
            ProductSpace(
                name=name,
                layers=_depths(shape.layers, Fraction(index, count - 1) if count > 1 else Fraction(1), last=last),
                hidden_sizes=tuple(unit * shape.head_width for unit in units),
                mlp_ratios=tuple(own_ratio * each / 8 for each in eighths),
                heads=None,
                head_width=shape.head_width,
                teacher_layers=shape.layers,
            )
        )
    return spaces


def _widths(heads: int, count: int) -> list[int]:
    """Space widths evenly by ratio, in heads, each wider than the one before, up to the teacher's own."""
    least = 1 if count == 1 else 1 / 2 if count == 2 else 1 / 4
    widths: list[int] = []
    for index in range(count):
        wanted = round(heads * least ** ((count - 1 - index) / max(1, count - 1)))
        widths.append(max(wanted, widths[-1] + 1 if widths else 1))
    if widths[-1] > heads:  # too many to be even: all there are
        widths = list(range(heads - count + 1, heads + 1))
    if widths[0] < 1:
        raise InputError.of(
            "subspaces.count",
            f"A teacher of {heads} heads leaves room for at most {heads} sub-spaces, not {count}.",
            f"Use a count of at most {heads}.",
        )
    return widths


def spaces_for(spec: SubspacesSpec, shape: TeacherShape) -> list[ProductSpace]:
    """Lay out the sub-spaces that a request asks for.

    Raises:
        InputError: The preset does not fit the teacher, or hand-written ranges are impossible for it.
    """
    if spec.spaces is not None:
        spaces = [
            ProductSpace(
                one.name,
                tuple(sorted(set(one.layers))),
                tuple(sorted(set(one.hidden_sizes))),
                tuple(sorted({exact_ratio(ratio) for ratio in one.mlp_ratios})),
                None if one.heads is None else tuple(sorted(set(one.heads))),
                shape.head_width,
                shape.layers,
                spec.spread,
            )
            for one in spec.spaces
        ]
        findings = [
            FieldError(f"subspaces.spaces.{index}.{name}", problem, remedy)
            for index, space in enumerate(spaces)
            for name, problem, remedy in _misfits(space, shape)
        ]
        if findings:
            raise InputError(findings)
        return spaces
    paper = spec.preset == "autodistil-paper"
    remedy = "Use the preset 'relative'." if paper else "Write 'spaces' by hand."
    if paper and (shape.layers, shape.hidden_size, shape.head_width) != (12, 768, 64):
        raise InputError.of(
            "subspaces.preset",
            "The paper's spaces are for teachers of 12 layers x 768 with heads of width 64; this one is "
            f"{shape.layers} x {shape.hidden_size} with heads of width {shape.head_width}.",
            remedy,
        )
    spaces = paper_spaces() if paper else relative_spaces(shape, spec.count)
    spaces = [replace(one, layer_rule=spec.spread) for one in spaces]
    misfit = next((problem for space in spaces for _, problem, _ in _misfits(space, shape)), None)
    if misfit is not None:
        raise InputError.of("subspaces.preset", misfit, remedy)
    return spaces


def _depths(teacher_layers: int, place: Fraction, *, last: bool) -> tuple[int, ...]:
    low, high = max(1, round(teacher_layers / (6 if last else 3))), round(teacher_layers * (2 + place) / 3)
    step = max(1, math.ceil((high - low) / 5))
    return tuple(range(high, low - 1, -step))[::-1]


def _misfits(space: ProductSpace, shape: TeacherShape) -> Iterator[tuple[str, str, str]]:
    """Yield the ranges of a sub-space that the teacher cannot serve, each with the problem and the remedy."""
    inner = (int(end(space.hidden_sizes) * end(space.mlp_ratios)) for end in (min, max))
    limits = [
        ("layers", space.layers, shape.layers),
        ("hidden_sizes", space.hidden_sizes, shape.hidden_size),
        ("heads", space.heads or (1,), shape.heads),
        ("mlp_ratios", tuple(inner), shape.intermediate_size),
    ]
    for name, values, limit in limits:
        if min(values) < 1 or max(values) > limit:
            what = "feed-forward widths" if name == "mlp_ratios" else name.replace("_", " ")
            low, high = min(values), max(values)
            yield (
                name,
                f"The {what} {low} to {high} of {space.name!r} do not fit the teacher, which has {limit}.",
                f"Stay within 1 to {limit}.",
            )
    odd = [size for size in space.hidden_sizes if space.heads is None and size % space.head_width]
    if odd:
        yield (
            "hidden_sizes",
            f"{odd[0]} is not a multiple of the teacher's head width {space.head_width}.",
            f"Use multiples of {space.head_width}, or give 'heads' for shapes that need a modelling file.",
        )
