"""How candidates are searched, ranked, polished and exported: the parts of a request after training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from workloads.spec.part import (
    DEFAULT_LENGTH,
    MOST_FILES,
    MOST_HELDOUT_ROWS,
    MOST_LENGTH,
    MOST_ROWS,
    MOST_TOKENS,
    Location,
    Part,
    Word,
)

Metric = Literal["accuracy", "f1", "matthews", "spearman"]
TASK_FILES = (".parquet", ".jsonl", ".csv")
"""Endings of files with labelled rows."""
MOST_CANDIDATES = 1_000_000
"""Of a search; a space of more is drawn from, or narrowed."""


class SearchSpec(Part):
    """Which candidates are scored, on how much text."""

    heldout_blocks: int = Field(
        128, ge=1, le=MOST_HELDOUT_ROWS, description="Held-out rows that a candidate is scored on in the last rung."
    )
    searcher: Literal["exhaustive", "random", "evolutionary"] = Field(
        "exhaustive", description="Every candidate, a random sample, or generations of mutation and crossover."
    )
    candidates: int | None = Field(
        None, ge=1, le=MOST_CANDIDATES, description="How many candidates the random and the evolutionary searcher try."
    )
    aim: Literal["frontier", "budgets", "all"] = Field(
        "frontier",
        description="frontier: a candidate goes when one that costs no more is clearly better, so that any later "
        "budget has its answer; budgets: those over every budget go first, then of each rung the worse half "
        "and what is clearly worse than the best; "
        "all: nothing goes, every candidate is scored on all rows.",
    )
    first_rung_blocks: int = Field(16, ge=1, le=MOST_HELDOUT_ROWS, description="Held-out rows of the first rung.")
    growth: int = Field(2, ge=2, le=16, description="Each rung has this many times the rows of the one before.")
    population: int = Field(24, ge=4, le=10_000, description="Candidates of a generation (evolutionary).")
    mutation: float = Field(0.3, ge=0, le=1, description="Chance that a range of a child is drawn anew (evolutionary).")

    @model_validator(mode="after")
    def _fits(self) -> SearchSpec:
        if (self.candidates is None) != (self.searcher == "exhaustive"):
            raise ValueError(
                "'candidates' says how many the random and the evolutionary searcher try. "
                "Set it with one of these 'searcher's, and leave it out with 'exhaustive'."
            )
        return self

    @property
    def rungs(self) -> tuple[int, ...]:
        """Held-out rows of each rung, growing; the last is ``heldout_blocks``."""
        if self.aim == "all":
            return (self.heldout_blocks,)
        rows, rungs = self.first_rung_blocks, []
        while rows < self.heldout_blocks:
            rungs.append(rows)
            rows *= self.growth
        return (*rungs, self.heldout_blocks)


class TaskSpec(Part):
    """A labelled dataset: single sentences, pairs, or pairs with a similarity."""

    train: list[Location] = Field(
        min_length=1,
        max_length=MOST_FILES,
        description="Parquet, JSONL or CSV files with labels to fine-tune on.",
    )
    validation: list[Location] = Field(min_length=1, max_length=MOST_FILES, description="The same, to score on.")
    text_columns: list[Word] = Field(min_length=1, max_length=2, description="One column, or two for sentence pairs.")
    label_column: Word = Field("label", description="Whole numbers for classes, floats for similarity.")
    metric: Metric = Field("accuracy", description="What it is scored by.")
    epochs: int = Field(3, ge=1, le=100)
    batch_size: int = Field(32, ge=1, le=4096)
    learning_rate: float = Field(5e-5, gt=0, le=1)
    sequence_length: int = Field(
        DEFAULT_LENGTH,
        ge=8,
        le=MOST_LENGTH,
        description="Tokens; longer texts are cut. Default: 128, or what the model reads if that is less.",
    )
    max_train_rows: int | None = Field(None, ge=1, le=MOST_ROWS, description="Use the first so many training rows.")


class ProxyTaskSpec(TaskSpec):
    """AutoDistil's task-proxy search: candidates are fine-tuned on a task and ranked by its score."""

    candidates: int = Field(
        8, ge=1, le=1000, description="So many candidates of each budget, the best by relation loss, are fine-tuned."
    )


class PolishSpec(Part):
    """Distilling chosen students alone, after the search."""

    tokens: int = Field(ge=1, le=MOST_TOKENS, description="Training length of each, in tokens.")
    top_k: int = Field(1, ge=1, le=64, description="Polish so many of the best of each budget, then choose.")
    learning_rate: float | None = Field(None, gt=0, le=1, description="Default: training.learning_rate.")


class ExportSpec(Part):
    """What is saved beside a student's safetensors."""

    onnx: bool = Field(False, description="An ONNX file with dynamic batch and length, checked against PyTorch.")
    int8: bool = Field(False, description="A dynamically quantised ONNX file too, with its loss of quality measured.")

    @model_validator(mode="after")
    def _int8_needs_onnx(self) -> ExportSpec:
        if self.int8 and not self.onnx:
            raise ValueError("'int8' quantises the ONNX file. Set 'onnx' too.")
        return self
