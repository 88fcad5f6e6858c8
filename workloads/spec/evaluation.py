"""Evaluations: the request to fine-tune and score a model on a labelled task, and its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from workloads.spec.errors import InputError
from workloads.spec.parsing import parse_as
from workloads.spec.part import (
    DEFAULT_LENGTH,
    LEAST_LENGTH,
    MOST_FILES,
    MOST_LENGTH,
    MOST_ROWS,
    Labels,
    Location,
    Name,
    Part,
    Word,
    with_length,
)
from workloads.spec.request import TeacherSpec
from workloads.spec.search import TASK_FILES, Metric, TaskSpec

TASK = "task"
"""The part of the request that errors about the task name."""


def _with_known_ending(url: str) -> str:
    if not url.partition("?")[0].lower().endswith(TASK_FILES):
        raise ValueError(f"{url} has none of the endings {', '.join(TASK_FILES)}. Convert or rename the file.")
    return url


def _ending_pattern(endings: Sequence[str]) -> str:
    """Write the rule of :func:`_with_known_ending` as a pattern for schemas, which have no flag for the case."""
    either = "|".join(
        "".join(f"[{one}{one.upper()}]" if one.isalpha() else f"\\{one}" for one in end) for end in endings
    )
    return rf"^[^?]*({either})(\?[\s\S]*)?$"


_KNOWN_ENDING: dict[str, Any] = {"pattern": _ending_pattern(TASK_FILES)}
TaskFile = Annotated[Location, AfterValidator(_with_known_ending), Field(json_schema_extra=_KNOWN_ENDING)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
LearningRate = Annotated[float, Field(gt=0, le=1)]
_EACH_ONCE: dict[str, Any] = {"uniqueItems": True}


class EvaluatedModel(Part):
    """The model to evaluate: a student, or any model that could be a teacher."""

    compression: Word | None = Field(None, description="Id of the compression or selection that made the student.")
    student: Word | None = Field(None, description="Id of the student.")
    teacher: TeacherSpec | None = Field(None, description="A model that is not a student, instead of the two ids.")

    @model_validator(mode="after")
    def _one_model(self) -> EvaluatedModel:
        if (self.compression is None) != (self.student is None):
            lacking = "compression" if self.compression is None else "student"
            raise ValueError(f"A student is named by its compression and its id. Add '{lacking}'.")
        if (self.student is None) == (self.teacher is None):
            raise ValueError(
                "It is either a student or another model. "
                "Give 'compression' and 'student', or 'teacher', and leave the other out."
            )
        return self


class EvaluationTask(Part):
    """A labelled dataset; the epoch and the learning rate are chosen on training files only."""

    name: Name = Field("task", description="Name of the task in results.")
    kind: Literal["single", "pair", "similarity"] = Field(
        description="single: one text with a class; pair: two texts with a class; similarity: two texts with a number."
    )
    train: list[TaskFile] = Field(
        min_length=1,
        max_length=MOST_FILES,
        description="Parquet, JSONL or CSV files with labels to fine-tune on.",
    )
    validation: list[TaskFile] | None = Field(
        None, min_length=1, max_length=MOST_FILES, description="Files of the same form, to score on."
    )
    test: list[TaskFile] | None = Field(
        None, min_length=1, max_length=MOST_FILES, description="Files to score on, instead of 'validation'."
    )
    text_columns: list[Word] = Field(
        min_length=1, max_length=2, description="Column of the text; two columns for pair and similarity."
    )
    label_column: Word = Field(
        "label", description="Column of the label: whole numbers for classes, numbers for similarity."
    )
    metric: Metric = Field(
        "accuracy", validate_default=True, description="Metric of the score; it also chooses the epoch."
    )
    set_aside: float = Field(
        0.1,
        gt=0,
        le=0.5,
        description="Share of the training rows that epoch and learning rate are chosen on; it is not trained on.",
    )
    max_train_rows: int | None = Field(
        None, ge=1, le=MOST_ROWS, description="Most training rows to use, from the first on; null: all."
    )

    @field_validator("text_columns")
    @classmethod
    def _columns_fit_the_kind(cls, value: list[str], info: ValidationInfo) -> list[str]:
        kind = info.data.get("kind")
        wanted = 1 if kind == "single" else 2
        if kind is not None and len(set(value)) != wanted:
            columns = "one column" if wanted == 1 else "two columns"
            raise ValueError(
                f"The kind {kind!r} reads {columns}, and these are {', '.join(value)}. "
                f"Name {columns}, or use another 'kind'."
            )
        return value

    @field_validator("metric")
    @classmethod
    def _metric_fits_the_kind(cls, value: Metric, info: ValidationInfo) -> Metric:
        kind = info.data.get("kind")
        if kind is not None and (value == "spearman") != (kind == "similarity"):
            fitting = "'spearman'" if kind == "similarity" else "'accuracy', 'f1' or 'matthews'"
            raise ValueError(f"The kind {kind!r} cannot be scored by {value!r}. Use {fitting}.")
        return value

    @model_validator(mode="after")
    def _scored_on_one_side(self) -> EvaluationTask:
        if (self.validation is None) == (self.test is None):
            raise ValueError(
                "'validation' and 'test' both name rows that are only scored on. "
                "Give one of them; the epoch is chosen on training rows that are set aside."
            )
        return self

    @property
    def scored_on(self) -> Literal["validation", "test"]:
        """The field that names the files to score on."""
        return "validation" if self.validation is not None else "test"


class EvaluationRequest(Part):
    """A model, a task, and the settings of fine-tuning."""

    model: EvaluatedModel
    task: EvaluationTask
    seeds: list[Seed] = Field(
        [0, 1, 2],
        min_length=1,
        max_length=20,
        description="The model is fine-tuned once for each seed, which decides head, dropout and order of rows.",
        json_schema_extra=_EACH_ONCE,
    )
    epochs: int = Field(3, ge=1, le=100, description="Epochs of fine-tuning; the best on the rows set aside is scored.")
    learning_rates: list[LearningRate] = Field(
        [1e-4, 5e-4],
        min_length=1,
        max_length=8,
        description="Learning rates that each seed tries; the best on the rows set aside is scored.",
        json_schema_extra=_EACH_ONCE,
    )
    batch_size: int = Field(32, ge=1, le=4096, description="Rows of a step.")
    sequence_length: int = Field(
        DEFAULT_LENGTH,
        ge=LEAST_LENGTH,
        le=MOST_LENGTH,
        description="Tokens of a row; longer texts are cut. Default: 128, or the model's longest input if shorter.",
    )
    keep_model: bool = Field(
        False,
        description="Keep the fine-tuned model of each seed: a folder that transformers loads with its head, and that "
        "can be a teacher.",
    )
    labels: Labels = Field(default_factory=dict, description="Free labels, to find the job by.")

    @field_validator("seeds", "learning_rates")
    @classmethod
    def _each_once(cls, values: list[float]) -> list[float]:
        if len(set(values)) < len(values):
            doubled = next(value for value in values if values.count(value) > 1)
            raise ValueError(f"It names {doubled:g} twice. Give each value once.")
        return values

    def training_tokens(self, rows: int) -> int:
        """Return the tokens of fine-tuning over all seeds, for ``rows`` training rows of full length."""
        return rows * self.epochs * len(self.learning_rates) * len(self.seeds) * self.sequence_length

    def accepted(self, files: str | None) -> AcceptedEvaluation:
        """Return the request as it is stored, with the student's folder ``files``."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return AcceptedEvaluation(**given, files=files)

    def task_spec(self) -> TaskSpec:
        """Return the settings for fine-tuning, with the first learning rate; ``validation`` is what it is scored on."""
        task = self.task
        return TaskSpec(
            train=task.train,
            validation=getattr(task, task.scored_on),
            text_columns=task.text_columns,
            label_column=task.label_column,
            metric=task.metric,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rates[0],
            sequence_length=self.sequence_length,
            max_train_rows=task.max_train_rows,
        )


class AcceptedEvaluation(EvaluationRequest):
    """A request as it is stored for the run."""

    files: Location | None = Field(
        None, description="The student's folder, relative to the storage; null for a teacher."
    )


def parse_evaluation(data: Any) -> EvaluationRequest:
    """Check JSON-like data and build the request.

    Raises:
        InputError: The data is not such a request; it has one finding for each wrong field.
    """
    return parse_as(EvaluationRequest, data, "model and task")


def parse_accepted(data: Any) -> AcceptedEvaluation:
    """Build a request from its stored form.

    Raises:
        InputError: The data is not such a request; it has one finding for each wrong field.
    """
    return parse_as(AcceptedEvaluation, data, "model and task")


_E = TypeVar("_E", bound=EvaluationRequest)


def with_fitting_length(request: _E, longest: int) -> _E:
    """Set the ``sequence_length`` that was not given, for a model that reads ``longest`` tokens.

    Raises:
        InputError: The one given is over ``longest``.
    """
    request = with_length(request, longest)
    if request.sequence_length > longest:
        raise InputError.of(
            "sequence_length",
            f"The model reads at most {longest} tokens, not {request.sequence_length}.",
            f"Use at most {longest}.",
        )
    return request


def renamed(error: InputError, old: str, new: str) -> InputError:
    """Return the same findings, with ``old`` replaced by ``new`` in the names of fields at or below it."""

    def name(field: str) -> str:
        return new + field.removeprefix(old) if field == old or field.startswith(f"{old}.") else field

    return InputError([dataclasses.replace(finding, field=name(finding.field)) for finding in error.errors])


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class SeedScore(_Document):
    """The result of one fine-tuning; only ``score`` and ``scores`` use the rows scored on."""

    seed: int
    score: float = Field(description="Score on the rows to score on, by the task's metric.")
    epoch: int = Field(description="The epoch that was chosen, from 1.")
    learning_rate: float = Field(description="The learning rate that was chosen.")
    validation_score: float = Field(
        description="Score on the training rows set aside, by the same metric; it chooses epoch and learning rate."
    )
    scores: dict[str, float] = Field(description="Scores on the rows to score on, by every metric of the kind.")
    device: str
    seconds: float
    files: str | None = Field(None, description="Folder of the fine-tuned model; null if it is not kept.")


class BaselineDocument(_Document):
    """The score of the best constant answer, chosen on the training rows."""

    answer: float = Field(description="The constant answer: a class as the files number it, or a value.")
    score: float
    scores: dict[str, float]


class EvaluationResult(_Document):
    """The scores of a model on a task, over seeds."""

    task: str
    metric: Metric
    average: Literal["binary", "macro"] | None = Field(
        None,
        description="Average of F1. binary: F1 of the second of two classes; macro: the mean over all classes; null: "
        "the metric is not F1.",
    )
    mean: float
    std: float | None = Field(None, description="Standard deviation over the seeds (n - 1); null for one seed.")
    seeds: list[SeedScore]
    baseline: BaselineDocument
    scored_on: Literal["validation", "test"]
    rows: int = Field(description="Rows scored on.")
    train_rows: int = Field(description="Rows trained on, without those set aside.")
    set_aside_rows: int = Field(description="Training rows that epoch and learning rate were chosen on.")
    sequence_length: int | None = Field(
        None, description="Tokens that longer texts were cut to; null where an older version scored it."
    )
    rows_in_training: int = Field(description="Rows scored on whose texts are among the training rows too.")
    params: int = Field(description="Parameters of the model, without the task's head.")
    fingerprint: str = Field(description="Hash of the model's files.")
    seconds: float = Field(description="Sum of the seconds of all seeds.")
