"""The parts of a request for the stages after training: search, ranking, polishing and export of candidates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from workloads.spec.part import (
    DEFAULT_LENGTH,
    LEAST_LENGTH,
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
"""Most candidates of a search; a larger space must be sampled or narrowed."""


class SearchSpec(Part):
    """The candidates to score, and the amount of text to score them on."""

    heldout_blocks: int = Field(
        128, ge=1, le=MOST_HELDOUT_ROWS, description="Held-out rows that a candidate is scored on in the last rung."
    )
    searcher: Literal["exhaustive", "random", "evolutionary"] = Field(
        "exhaustive", description="Every candidate, a random sample, or generations of mutation and crossover."
    )
    candidates: int | None = Field(
        None,
        ge=1,
        le=MOST_CANDIDATES,
        description="Number of candidates that the random and the evolutionary searcher try.",
    )
    aim: Literal["frontier", "budgets", "all"] = Field(
        "frontier",
        description="frontier: a candidate is dropped if one that costs no more is clearly better, so that any later "
        "budget can be answered; budgets: candidates over every budget are dropped first, then after each rung the "
        "worse half and those clearly worse than the best; all: no candidate is dropped, and each is scored on all "
        "rows.",
    )
    first_rung_blocks: int = Field(16, ge=1, le=MOST_HELDOUT_ROWS, description="Held-out rows of the first rung.")
    growth: int = Field(2, ge=2, le=16, description="Each rung has this many times the rows of the one before.")
    population: int = Field(24, ge=4, le=10_000, description="Candidates of a generation (evolutionary).")
    mutation: float = Field(
        0.3, ge=0, le=1, description="Probability that a value of a child is drawn at random (evolutionary)."
    )

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
    validation: list[Location] = Field(
        min_length=1, max_length=MOST_FILES, description="Files of the same form, to score on."
    )
    text_columns: list[Word] = Field(
        min_length=1, max_length=2, description="Column of the text; two columns for sentence pairs."
    )
    label_column: Word = Field(
        "label", description="Column of the label: whole numbers for classes, numbers for similarity."
    )
    metric: Metric = Field("accuracy", description="Metric of the score.")
    epochs: int = Field(3, ge=1, le=100, description="Epochs of fine-tuning.")
    batch_size: int = Field(32, ge=1, le=4096, description="Rows of a step.")
    learning_rate: float = Field(5e-4, gt=0, le=1, description="Highest learning rate of AdamW.")
    sequence_length: int = Field(
        DEFAULT_LENGTH,
        ge=LEAST_LENGTH,
        le=MOST_LENGTH,
        description="Tokens of a row; longer texts are cut. Default: 128, or the model's longest input if shorter.",
    )
    max_train_rows: int | None = Field(
        None, ge=1, le=MOST_ROWS, description="Most training rows to use, from the first on; null: all."
    )


class ProxyTaskSpec(TaskSpec):
    """AutoDistil's task-proxy search: candidates are fine-tuned on a task and ranked by its score."""

    candidates: int = Field(
        8, ge=1, le=1000, description="Number of candidates to fine-tune for each budget, the best by held-out loss."
    )


class PolishSpec(Part):
    """Distilling chosen students alone, after the search."""

    tokens: int = Field(ge=1, le=MOST_TOKENS, description="Training length of each student, in tokens.")
    top_k: int = Field(
        1, ge=1, le=64, description="Number of candidates to polish for each budget; the best of them is chosen."
    )
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="Highest learning rate; default: training.learning_rate."
    )


class ExportSpec(Part):
    """Files to save beside a student's safetensors."""

    onnx: bool = Field(False, description="Save an ONNX file with dynamic batch and length, checked against PyTorch.")
    int8: bool = Field(
        False, description="Save a dynamically quantised ONNX file too, with its loss of quality measured."
    )

    @model_validator(mode="after")
    def _int8_needs_onnx(self) -> ExportSpec:
        if self.int8 and not self.onnx:
            raise ValueError("'int8' quantises the ONNX file. Set 'onnx' too.")
        return self
