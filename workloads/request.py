"""The one contract between people, service and cluster: what a compression request says.

Light to import (pydantic only). :func:`parse_request` turns JSON-like data into a
:class:`CompressionRequest`, or raises an :class:`InputError` that names each field and its remedy.
"""

from __future__ import annotations

import difflib
import json
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from workloads.budgets import Budget, LatencyTarget
from workloads.errors import FieldError, InputError
from workloads.part import Name, Part
from workloads.search_spec import ExportSpec, PolishSpec, ProxyTaskSpec, SearchSpec

RelationForm = Literal["softmax-mse", "raw-mse", "kl"]
_P = TypeVar("_P", bound=Part)


class TeacherSpec(Part):
    """The model to compress."""

    model: str = Field(min_length=1, description="A folder (local, s3://, gs://) or a hub id.")
    revision: str | None = Field(None, description="Branch, tag or commit of a hub id.")


class CorpusSpec(Part):
    """The unlabelled text to distil on."""

    paths: list[str] = Field(
        default_factory=list, description="Files, folders or globs of .txt, .jsonl or .parquet; local, s3:// or gs://."
    )
    dataset: str | None = Field(None, description="A folder saved by `datasets`, or a hub id, instead of paths.")
    dataset_config: str | None = Field(None, description="Configuration name of a hub dataset.")
    split: str = Field("train", description="Split of the dataset.")
    text_column: str = Field("text", description="Column (Parquet, dataset) or key (JSONL) that holds the text.")
    documents: Literal["file", "paragraph", "line"] = Field(
        "file", description="What one document is in a .txt file; paragraphs are parted by empty lines."
    )
    heldout_fraction: float = Field(0.02, gt=0, lt=0.5, description="Share of the documents kept for the search.")

    @model_validator(mode="after")
    def _one_source(self) -> CorpusSpec:
        if bool(self.paths) == (self.dataset is not None):
            raise ValueError("Give either 'paths' or 'dataset'. Fill one of the two and leave the other out.")
        return self


class SubspaceSpec(Part):
    """One sub-space written out by hand; all its layers are alike."""

    name: Name
    layers: list[int] = Field(min_length=1, description="Depths.")
    hidden_sizes: list[int] = Field(min_length=1, description="Hidden sizes.")
    mlp_ratios: list[float] = Field(min_length=1, description="Feed-forward width over hidden size.")
    heads: list[int] | None = Field(
        None, description="Head counts, free of the hidden size; left out: hidden size / the teacher's head width."
    )


class SubspacesSpec(Part):
    """Which architectures students are chosen from."""

    count: int = Field(3, ge=1, le=16, description="K, the number of compact sub-spaces (and of SuperLMs).")
    preset: Literal["relative", "autodistil-paper"] = Field(
        "relative", description="Ranges relative to the teacher, or the paper's three for 12 x 768 teachers."
    )
    spaces: list[SubspaceSpec] | None = Field(
        None, min_length=1, max_length=16, description="Sub-spaces by hand, instead of count and preset."
    )
    importance: bool | None = Field(
        None,
        description="Order heads, neurons and hidden dimensions before slicing; default: yes, but for the paper's.",
    )


class OutputSpec(Part):
    """A term on the model's output, for teachers whose output is the product (embedding models)."""

    kind: Literal["pooled", "token"] = Field(description="Mean-pooled output of a document, or every token's output.")
    weight: float = Field(1.0, gt=0, description="Weight of the term beside the relation loss.")


class ObjectiveSpec(Part):
    """What a student is trained to match."""

    relation: RelationForm | None = Field("kl", description="Self-attention relation distillation; null for none.")
    relation_heads: int | None = Field(None, ge=1, description="Relation heads; default: the teacher's heads.")
    remainder: Literal["spread", "drop"] = Field(
        "spread", description="Widths that the relation heads do not divide: uneven heads, or drop the rest (paper)."
    )
    relation_weights: tuple[float, float, float] = Field(
        (1.0, 1.0, 1.0), description="Weights of the query, key and value relations."
    )
    output: OutputSpec | None = Field(None, description="An output term beside, or instead of, the relations.")

    @model_validator(mode="after")
    def _something_to_match(self) -> ObjectiveSpec:
        if self.relation is None and self.output is None:
            raise ValueError("There is nothing to train on. Set 'relation' or 'output'.")
        if min(self.relation_weights) < 0 or sum(self.relation_weights) <= 0:
            raise ValueError("'relation_weights' must not be negative nor all zero. Use 1 for a plain sum.")
        return self


class TrainingSpec(Part):
    """How the SuperLMs are trained."""

    tokens_per_superlm: int | dict[str, int] = Field(
        20_000_000, description="Training length in tokens; one number, or one for each sub-space by name."
    )
    sequence_length: int = Field(128, ge=8, le=4096, description="Tokens of a training block.")
    batch_size: int = Field(32, ge=1, description="Blocks of a step, over all workers.")
    learning_rate: float = Field(1e-3, gt=0, le=1)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0, description="AdamW's; none on biases and LayerNorm.")
    clip_norm: float = Field(1.0, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    random_subnets: int = Field(2, ge=0, le=16, description="Subnets of a step beside the smallest and the largest.")
    workers: int = Field(1, ge=1, description="Data-parallel workers of each training run.")
    placement: Literal["auto", "together", "apart"] | list[list[str]] = Field(
        "auto", description="How the SuperLMs are grouped into training runs; or the groups, by sub-space name."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 where it is native.")
    checkpoint_every_steps: int = Field(200, ge=1)
    max_failures: int = Field(2, ge=0, description="Restarts of a training run whose worker died, in one attempt.")

    @model_validator(mode="after")
    def _sizes(self) -> TrainingSpec:
        tokens = self.tokens_per_superlm
        for name, value in tokens.items() if isinstance(tokens, dict) else [("", tokens)]:
            where = f"'tokens_per_superlm{'.' + name if name else ''}'"
            step = self.sequence_length * self.batch_size
            if value < step:
                raise ValueError(
                    f"{where} is {value}, less than one step of {self.batch_size} x {self.sequence_length} tokens. "
                    f"Give at least {step}."
                )
        if self.batch_size % self.workers:
            raise ValueError(
                f"'batch_size' {self.batch_size} cannot be shared by {self.workers} workers. "
                f"Make it a multiple of 'workers'."
            )
        return self

    def tokens_for(self, name: str) -> int:
        """Training length of one sub-space, in tokens."""
        tokens = self.tokens_per_superlm
        return tokens if isinstance(tokens, int) else tokens[name]

    def steps_for(self, name: str) -> int:
        """Optimiser steps of one sub-space: its tokens over the tokens of a batch, rounded down."""
        return self.tokens_for(name) // (self.sequence_length * self.batch_size)


class CompressionRequest(Part):
    """One teacher, one corpus, and the budgets to find students for."""

    teacher: TeacherSpec
    corpus: CorpusSpec
    method: Literal["autodistil"] = "autodistil"
    subspaces: SubspacesSpec = SubspacesSpec()
    objective: ObjectiveSpec = ObjectiveSpec()
    training: TrainingSpec = TrainingSpec()
    search: SearchSpec = SearchSpec()
    proxy_task: ProxyTaskSpec | None = Field(
        None, description="Rank by the score on this task; none: by held-out loss."
    )
    polish: PolishSpec | None = Field(None, description="Distil the chosen students alone for longer; none: do not.")
    export: ExportSpec = ExportSpec()
    latency_targets: list[LatencyTarget] = Field(
        default_factory=list, max_length=64, description="Targets of the request's own, beside those of the service."
    )
    budgets: list[Budget] = Field(min_length=1, max_length=64)
    seed: int = Field(0, ge=0, lt=2**31)
    labels: dict[Name, str] = Field(default_factory=dict, max_length=16, description="Free labels to find it by.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> CompressionRequest:
        for field, names in (
            ("budgets", [budget.name for budget in self.budgets]),
            ("latency_targets", [target.name for target in self.latency_targets]),
        ):
            doubled = sorted({name for name in names if names.count(name) > 1})
            if doubled:
                raise ValueError(f"Two of '{field}' are named {doubled[0]!r}. Give each a name of its own.")
        return self


def parse_request(data: Any) -> CompressionRequest:
    """Check JSON-like data and build the request.

    Raises:
        InputError: One finding a field, with the remedy.
    """
    return parse_as(CompressionRequest, data, "teacher, corpus and budgets")


def parse_as(kind: type[_P], data: Any, holding: str) -> _P:
    """Check JSON-like data and build a request of some kind.

    Args:
        kind: Which.
        data: Checked.
        holding: What an object of it holds, for those who send something else.

    Raises:
        InputError: One finding a field, with the remedy.
    """
    if not isinstance(data, dict):
        raise InputError.of("request", "It is not an object.", f"Send a JSON object with {holding}.")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        findings = [_finding(dict(item), kind) for item in error.errors()]
        # A field that may be one of two things has a finding for each; the first will do.
        raise InputError(list({finding.field: finding for finding in reversed(findings)}.values())[::-1]) from None


def parse_request_text(text: str) -> CompressionRequest:
    """Check a request written as JSON or YAML (YAML reads both).

    Raises:
        InputError: The text is neither, or a field is wrong.
    """
    try:
        data = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise InputError.of("request", f"It cannot be read: {error}.", "Write it as JSON or YAML.") from None
    return parse_request(data)


def _finding(item: dict[str, Any], root: type[Part]) -> FieldError:
    kind, context = item["type"], item.get("ctx", {})
    # pydantic puts the tried type between the names where there are several: "placement.list[list[str]].0".
    parts = [str(part) for part in item["loc"]]
    field = ".".join(part for part in parts if part != "int" and "[" not in part) or "request"
    if kind == "extra_forbidden":
        known = _fields_at(item["loc"][:-1], root)
        close = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known fields here: {', '.join(known)}."
        return FieldError(field, "This field is not known.", hint)
    if kind == "missing":
        return FieldError(field, "This field is missing.", "Add it to the request.")
    if kind == "value_error":
        problem, _, remedy = str(context.get("error", item["msg"])).rpartition(". ")
        return FieldError(field, f"{problem}." if problem else remedy, remedy if problem else "Correct it.")
    if kind == "literal_error":
        return FieldError(field, f"{item['input']!r} is not one of the choices.", f"Use {context['expected']}.")
    limits = {
        "greater_than": ("gt", "more than"),
        "greater_than_equal": ("ge", "at least"),
        "less_than": ("lt", "less than"),
        "less_than_equal": ("le", "at most"),
    }
    if kind in limits:
        key, words = limits[kind]
        return FieldError(field, f"{item['input']!r} is out of range.", f"Use a value of {words} {context[key]}.")
    return FieldError(field, f"{item['input']!r} does not fit: {item['msg']}.", "Correct the value.")


def _fields_at(location: tuple[int | str, ...], root: type[Part]) -> list[str]:
    model: Any = root
    for part in location:
        if isinstance(part, int):
            continue
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            continue
        model = _inner_model(fields[part].annotation) or model
    return list(getattr(model, "model_fields", {}))


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _inner_model(arg))), None)
