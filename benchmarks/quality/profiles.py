"""Profiles: the settings of the bench, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.quality.statistics import AVERAGED
from workloads.spec.autodistil import LayerRule

STUDENTS = ("chosen", "alone", "hand-made", "truncated", "random")
BASELINES = (*STUDENTS, "polished", "random weights", "autotinybert", "equal bill", "distillation seeds")


@dataclass(frozen=True)
class Sharing:
    """Question 1: the loss inside a SuperLM over the loss alone, by length.

    Attributes:
        lengths: Lengths in tokens, each with the number of shapes of a sub-space.
        decay: Share of each length in which the rate falls to zero; before it is constant, so that lengths share it.
    """

    lengths: tuple[tuple[int, int], ...]
    decay: float = 0.2


@dataclass(frozen=True)
class Predicting:
    """Question 2: whether the score inside a SuperLM predicts the loss alone and the task average.

    Attributes:
        tokens: Length of the SuperLMs and of the students alone; one of the lengths of question 1.
        fractions: Centres of the bands, as shares of the teacher's multiply-accumulates.
        width: Half the width of a band, as a share of its centre.
        per_band: Shapes of a band, at most.
    """

    tokens: int
    fractions: tuple[float, ...]
    width: float = 0.15
    per_band: int = 14


@dataclass(frozen=True)
class Variant:
    """A recipe that differs from the product's defaults.

    Attributes:
        name: Name in the report.
        layer_rule: Rule that spreads a student's layers over the teacher's.
        widths: Widths of the sub-space, in twelfths of the teacher's; those of the question if empty.
        training: Fields of :class:`TrainingSpec`, over those of the profile.
    """

    name: str
    layer_rule: LayerRule = "to-last"
    widths: tuple[int, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipes:
    """Question 4: what each part of the recipe brings, by the held-out losses of the same shapes.

    All recipes train the same sub-space, relative to the teacher's shape, unless a recipe has widths of its own.

    Attributes:
        variants: The recipes; the others are compared with the first.
        depths: Depths in sixths of the teacher's.
        widths: Widths in twelfths of the teacher's; all shapes that are scored have one of them.
        ratios: Feed-forward ratios in eighths of the teacher's.
        shapes: Shapes of the sub-space that are scored, at most.
        seeds: Seeds of distillation.
    """

    variants: tuple[Variant, ...]
    depths: tuple[int, ...] = (3, 4, 5, 6)
    widths: tuple[int, ...] = (5, 6, 7)
    ratios: tuple[int, ...] = (5, 6, 7, 8)
    shapes: int = 48
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Shapes:
    """Question 3: which shapes of equal cost have the lowest loss when they are distilled alone.

    Attributes:
        grids: By share of the teacher's multiply-accumulates, depths and heads; the feed-forward width makes the cost
            equal. Shapes that the teacher has no room for are left out.
    """

    grids: tuple[tuple[float, tuple[tuple[int, int], ...]], ...]


@dataclass(frozen=True)
class Profile:
    """Settings of a run of the bench.

    Attributes:
        name: Name on the command line.
        what: Purpose of the profile.
        teacher: Name of the teacher.
        data: Name of the data; made-up tasks are no rows of the real ones.
        corpus: File of the corpus, in the data's folder ``corpus``.
        sequence_length: Tokens of a row of text.
        batch_size: Rows of a step.
        heldout_rows: Held-out rows that losses are measured on.
        objective: Fields of :class:`ObjectiveSpec`.
        training: Fields of :class:`TrainingSpec`.
        subspaces: Number of the product's default sub-spaces.
        tokens: Length of every distillation, SuperLMs included.
        polish_share: For the role ``polished``: share of the tokens that the chosen student is trained on alone, after
            SuperLMs that had the others.
        fractions: Budgets, as shares of the teacher's multiply-accumulates.
        roles: Models to make for each budget.
        tasks: Tasks to fine-tune on.
        tuning: Fields of :class:`EvaluationRequest`, and ``train_rows``.
        teacher_rates: Fine-tuning rates of the teacher, which is not short of training as students are.
        seeds: Seeds of fine-tuning.
        bills: Numbers of budgets that the SuperLMs' and the search's CPU-seconds are divided by, for equal bills.
        sharing: Settings of question 1, if it is asked.
        predicting: Settings of question 2, if it is asked.
        shapes: Settings of question 3, if it is asked.
        recipes: Settings of question 4, if it is asked.
        grouped: Whether the students that are distilled alone are trained side by side, with one teacher forward.
    """

    name: str
    what: str
    teacher: str = "minilm"
    data: str = "glue"
    corpus: str = "en_train.parquet"
    sequence_length: int = 64
    batch_size: int = 32
    heldout_rows: int = 128
    objective: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=lambda: {"learning_rate": 2e-3, "dropout": 0.0})
    subspaces: int = 3
    tokens: int = 200_000
    polish_share: float = 0.3
    fractions: tuple[float, ...] = (1 / 4, 1 / 8)
    roles: tuple[str, ...] = STUDENTS
    tasks: tuple[str, ...] = AVERAGED
    tuning: dict[str, Any] = field(
        default_factory=lambda: {
            "train_rows": 1000,
            "epochs": 2,
            "learning_rates": [5e-4],
            "batch_size": 32,
            "sequence_length": 128,
        }
    )
    teacher_rates: tuple[float, ...] = (1e-4,)
    seeds: tuple[int, ...] = (0, 1, 2)
    bills: tuple[int, ...] = (3, 27)
    sharing: Sharing | None = None
    predicting: Predicting | None = None
    shapes: Shapes | None = None
    recipes: Recipes | None = None
    grouped: bool = False


_PAPER = Variant("the paper's: layers by floor, the smallest in every step", "floor", training={"smallest_every": 1})
_VARIANTS = (
    _PAPER,
    Variant("layers to the last", training={"smallest_every": 1}),
    Variant("layers to the last, the smallest in every 4th step", training={"smallest_every": 4}),
    Variant("layers to the last, the smallest in every 16th step", training={"smallest_every": 16}),
)
_WIDTHS = (
    Variant("one width"),
    Variant("two widths", widths=(9, 12)),
    Variant("four widths", widths=(9, 10, 11, 12)),
)
_TWO_CORES = Profile("two-cores", "the chosen student against its baselines, within 2 hours on two idle cores")
_SMOKE = Profile(
    "smoke",
    "every kind of piece with a tiny random teacher and made-up tasks, in seconds; its figures mean nothing",
    teacher="tiny",
    data="made-up",
    corpus="train.parquet",
    sequence_length=16,
    batch_size=4,
    heldout_rows=8,
    training={"learning_rate": 1e-3, "dropout": 0.0},
    subspaces=2,
    tokens=4 * 16 * 4,
    fractions=(1 / 2,),
    roles=BASELINES,
    tuning={"train_rows": 24, "epochs": 1, "learning_rates": [1e-3], "batch_size": 16, "sequence_length": 16},
    seeds=(0,),
    sharing=Sharing(((128, 1), (256, 2)), decay=0.25),
    predicting=Predicting(256, (1 / 2,), width=0.3, per_band=2),
    shapes=Shapes(((1 / 2, ((1, 2), (2, 1))),)),
    recipes=Recipes(_VARIANTS[:2], shapes=3),
)
PROFILES = {
    one.name: one
    for one in (
        _SMOKE,
        _TWO_CORES,
        replace(
            _TWO_CORES,
            name="baselines",
            what="two-cores with every baseline, equal bills, three distillation seeds, and CoLA beside the average",
            roles=BASELINES,
            tasks=(*AVERAGED, "cola"),
        ),
        replace(
            _TWO_CORES,
            name="second-teacher",
            what="a short confirmation with a larger teacher of another family",
            teacher="mpnet",
            tokens=50_000,
            fractions=(1 / 4,),
            roles=("chosen", "alone", "hand-made"),
        ),
        replace(
            _TWO_CORES,
            name="shapes",
            what="which shapes of equal cost have the lowest held-out loss, each distilled alone",
            roles=(),
            shapes=Shapes(
                (
                    (1 / 4, ((2, 12), (2, 10), (3, 12), (3, 10), (3, 9), (4, 10), (4, 8), (5, 8), (6, 6))),
                    (1 / 8, ((1, 12), (1, 10), (2, 10), (2, 9), (2, 8), (3, 8), (3, 6), (4, 6), (6, 4))),
                )
            ),
        ),
        replace(
            _TWO_CORES,
            name="shapes-second-teacher",
            what="the same with a larger teacher of another family, shorter",
            teacher="mpnet",
            tokens=50_000,
            training={"learning_rate": 5e-4, "dropout": 0.0},
            roles=(),
            shapes=Shapes(((1 / 4, ((4, 12), (6, 12), (6, 9), (8, 8))),)),
        ),
        replace(
            _TWO_CORES,
            name="widths",
            what="what further widths in a SuperLM cost the shapes of the teacher's own width",
            roles=(),
            recipes=Recipes(_WIDTHS, depths=(2, 3, 4, 5, 6), widths=(12,), ratios=(1, 2, 4, 6)),
        ),
        replace(
            _TWO_CORES,
            name="recipes",
            what="what parts of the recipe bring: held-out losses of a middle sub-space, two seeds",
            roles=(),
            recipes=Recipes(_VARIANTS, seeds=(0, 1)),
        ),
        replace(
            _TWO_CORES,
            name="recipes-second-teacher",
            what="the same with a larger teacher of another family, shorter",
            teacher="mpnet",
            tokens=50_000,
            training={"learning_rate": 5e-4, "dropout": 0.0},  # at 2e-3 most shapes fall to one loss, 2.18
            roles=(),
            recipes=Recipes(_VARIANTS[:3], shapes=24),
        ),
        replace(
            _TWO_CORES,
            name="questions",
            what="what sharing costs by length, and whether the score predicts, in pieces of at most an hour",
            roles=(),
            seeds=(0,),
            sharing=Sharing(((50_000, 8), (200_000, 8), (800_000, 3))),
            predicting=Predicting(200_000, (1 / 12, 1 / 8, 1 / 6, 1 / 4, 3 / 8, 1 / 2)),
        ),
        replace(
            _TWO_CORES,
            name="gpu",
            what="two-cores at full length, for python -m benchmarks.gpu; the bill of a student alone is that of all "
            "of them together",
            teacher="minilm-half",
            sequence_length=128,
            batch_size=256,
            heldout_rows=512,
            tokens=50_000_000,
            roles=("chosen", "alone", "hand-made", "truncated"),
            grouped=True,
        ),
    )
}
