"""Sizes of a run: the full ones, and tiny ones that try every line on a CPU. Light to import."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.quality.profiles import PROFILES, Profile
from workloads.shapes.architecture import Architecture


@dataclass(frozen=True)
class Sizes:
    """Sizes of a run.

    Attributes:
        profile: Settings of the pieces.
        larger: The second teacher, of random weights, that the utilisation is measured with.
        batches: Rows of a step that the utilisation is measured with, the most telling first.
        length: Tokens of these rows.
        least_steps: Fewest steps of a measure.
        seconds: Seconds of a measure, if that gives more steps.
        matrix: Side of the square matrices whose product shows what the card can reach.
        check_rows: Rows of a step of the checks.
    """

    profile: Profile
    larger: Architecture
    batches: tuple[int, ...]
    length: int
    least_steps: int
    seconds: float
    matrix: int
    check_rows: int


FULL = Sizes(
    profile=PROFILES["gpu"],
    larger=Architecture.of_teacher(12, 768, 12, 3072),
    batches=(64, 256, 512, 128),
    length=128,
    least_steps=4,
    seconds=1.5,
    matrix=8192,
    check_rows=16,
)
TINY = Sizes(
    profile=replace(
        PROFILES["smoke"],
        name="gpu-tiny",
        what="the GPU kit's pieces with a tiny random teacher; its figures mean nothing",
        roles=FULL.profile.roles,
        tasks=("rte", "stsb"),
        seeds=(0, 1),
        grouped=True,
        sharing=None,
        predicting=None,
        shapes=None,
        recipes=None,
    ),
    larger=Architecture.of_teacher(3, 48, 3, 96),
    batches=(4, 2),
    length=16,
    least_steps=1,
    seconds=0.0,
    matrix=64,
    check_rows=4,
)
SIZES = {one.profile.name: one for one in (FULL, TINY)}
"""Sizes by the name of their profile."""
