"""The one contract between people, service and cluster: what a compression request says.

Light to import (pydantic only). :func:`parse_request` turns JSON-like data into a
:class:`CompressionRequest`, or raises an :class:`InputError` that names each field and its remedy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from workloads.spec.budgets import Budget, LatencyTarget
from workloads.spec.errors import FieldError, InputError
from workloads.spec.parsing import parse_as
from workloads.spec.part import (
    DEFAULT_LENGTH,
    MOST_BATCH,
    MOST_FILES,
    MOST_LENGTH,
    MOST_TOKENS,
    Labels,
    Location,
    Name,
    Part,
    Word,
)
from workloads.spec.reading import UnreadableTextError, load_text
from workloads.spec.search import ExportSpec, PolishSpec, ProxyTaskSpec, SearchSpec

ENDINGS = (".txt", ".jsonl", ".json", ".parquet")
"""Of the files that a corpus may be made of."""
OTHER_ENDING = "Convert or rename it, or pick the other files by a glob such as folder/**/*.txt."
RelationForm = Literal["softmax-mse", "raw-mse", "kl"]
_Depth = Annotated[int, Field(ge=1, le=1000)]
_Width = Annotated[int, Field(ge=1, le=2**17)]
_Ratio = Annotated[float, Field(gt=0, le=1000)]
_Weight = Annotated[float, Field(le=1e6)]
_Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
_MOST_VALUES = 1024
"""Values of a range."""
_MOST_SPACES = 16
_Groups = Annotated[
    list[Annotated[list[Name], Field(max_length=_MOST_SPACES)]],
    Field(max_length=_MOST_SPACES),
]
_SPACE_NAMES = {1: ["all"], 2: ["small", "base"], 3: ["tiny", "small", "base"]}
_PAPER_SPACES = 3


class TeacherSpec(Part):
    """The model to compress."""

    model: Location = Field(description="A folder (local, s3://, gs://) or a hub id.")
    revision: Word | None = Field(None, description="Branch, tag or commit of a hub id.")


class CorpusSpec(Part):
    """The unlabelled text to distil on."""

    paths: list[Location] = Field(
        default_factory=list,
        max_length=MOST_FILES,
        description="Files, folders or globs of .txt, .jsonl or .parquet; local, s3:// or gs://.",
    )
    dataset: Location | None = Field(None, description="A folder saved by `datasets`, or a hub id, instead of paths.")
    dataset_config: Word | None = Field(None, description="Configuration name of a hub dataset.")
    split: Word = Field("train", description="Split of the dataset.")
    text_column: Word = Field("text", description="Column (Parquet, dataset) or key (JSONL) that holds the text.")
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
    layers: list[_Depth] = Field(min_length=1, max_length=_MOST_VALUES, description="Depths.")
    hidden_sizes: list[_Width] = Field(min_length=1, max_length=_MOST_VALUES, description="Hidden sizes.")
    mlp_ratios: list[_Ratio] = Field(
        min_length=1, max_length=_MOST_VALUES, description="Feed-forward width over hidden size."
    )
    heads: list[_Width] | None = Field(
        None,
        min_length=1,
        max_length=_MOST_VALUES,
        description="Head counts, free of the hidden size; left out: hidden size / the teacher's head width.",
    )


class SubspacesSpec(Part):
    """Which architectures students are chosen from."""

    count: int = Field(3, ge=1, le=_MOST_SPACES, description="K, the number of compact sub-spaces (and of SuperLMs).")
    preset: Literal["relative", "autodistil-paper"] = Field(
        "relative",
        description="Ranges relative to the teacher, or AutoDistil's three for 12 x 768 teachers, with the training "
        "of the paper as default.",
    )
    spaces: list[SubspaceSpec] | None = Field(
        None, min_length=1, max_length=_MOST_SPACES, description="Sub-spaces by hand, instead of count and preset."
    )
    importance: bool | None = Field(
        None,
        description="Order heads, neurons and hidden dimensions before slicing; default: yes, but for the paper's.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> SubspacesSpec:
        # Defaults contradict nothing, for a request is kept with all of them written out.
        default = type(self).model_fields["count"].default
        findings = []
        if self.preset == "autodistil-paper" and self.count != _PAPER_SPACES:
            findings.append(
                FieldError(
                    "count",
                    f"The paper's preset has {_PAPER_SPACES} sub-spaces, not {self.count}.",
                    f"Leave 'count' out, or use the preset 'relative' for {self.count} of them.",
                )
            )
        if self.spaces is not None:
            names = [one.name for one in self.spaces]
            if self.preset != "relative":
                findings.append(
                    FieldError(
                        "preset",
                        f"The preset {self.preset!r} and 'spaces' by hand exclude each other.",
                        "Leave one of the two out.",
                    )
                )
            elif self.count not in {len(names), default}:
                findings.append(
                    FieldError(
                        "count",
                        f"It is {self.count}, and 'spaces' holds {len(names)}.",
                        "Leave 'count' out: it is the number of the spaces by hand.",
                    )
                )
            findings += [
                FieldError(
                    f"spaces.{index}.name",
                    f"Two sub-spaces have the same name, {name!r}.",
                    "Give each a name of its own.",
                )
                for index, name in enumerate(names)
                if name in names[:index]
            ]
        if findings:
            raise InputError(findings)
        return self

    @property
    def names(self) -> list[str]:
        """The names of the sub-spaces; they do not depend on the teacher."""
        if self.spaces is not None:
            return [one.name for one in self.spaces]
        count = _PAPER_SPACES if self.preset == "autodistil-paper" else self.count
        return _SPACE_NAMES.get(count, [f"s{index + 1}" for index in range(count)])


class OutputSpec(Part):
    """A term on the model's output, for teachers whose output is the product (embedding models)."""

    kind: Literal["pooled", "token"] = Field(description="Mean-pooled output of a document, or every token's output.")
    weight: float = Field(1.0, gt=0, le=1e6, description="Weight of the term beside the relation loss.")


class ObjectiveSpec(Part):
    """What a student is trained to match."""

    relation: RelationForm | None = Field("kl", description="Self-attention relation distillation; null for none.")
    relation_heads: int | None = Field(
        None, ge=1, le=2**17, description="Relation heads; default: the teacher's heads."
    )
    remainder: Literal["spread", "drop"] = Field(
        "spread", description="Widths that the relation heads do not divide: uneven heads, or drop the rest (paper)."
    )
    relation_weights: tuple[_Weight, _Weight, _Weight] = Field(
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

    tokens_per_superlm: _Tokens | Annotated[dict[Name, _Tokens], Field(max_length=_MOST_SPACES)] = Field(
        20_000_000, description="Training length in tokens; one number, or one for each sub-space by name."
    )
    sequence_length: int = Field(
        DEFAULT_LENGTH,
        ge=8,
        le=MOST_LENGTH,
        description="Tokens of a training block; default: 128, or what the teacher reads if that is less.",
    )
    batch_size: int = Field(32, ge=1, le=MOST_BATCH, description="Blocks of a step, over all workers.")
    micro_batch_rows: int | None = Field(
        None,
        ge=1,
        le=MOST_BATCH,
        description="Blocks that a worker takes at once; none: its share of a step, or what memory holds.",
    )
    learning_rate: float = Field(1e-3, gt=0, le=1)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0, le=10, description="AdamW's; none on biases and LayerNorm.")
    clip_norm: float = Field(1.0, gt=0, le=1e6)
    dropout: float = Field(0.1, ge=0, lt=1)
    random_subnets: int = Field(2, ge=0, le=16, description="Subnets of a step beside the smallest and the largest.")
    workers: int = Field(1, ge=1, le=4096, description="Data-parallel workers of each training run.")
    placement: Literal["auto", "together", "apart"] | _Groups = Field(
        "auto", description="How the SuperLMs are grouped into training runs; or the groups, by sub-space name."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 where it is native.")
    checkpoint_every_steps: int = Field(200, ge=1, le=10**6)
    max_failures: int = Field(
        2, ge=0, le=1000, description="Restarts of a training run whose worker died, in one attempt."
    )

    @model_validator(mode="after")
    def _sizes(self) -> TrainingSpec:
        tokens = self.tokens_per_superlm
        named = {"": tokens} if isinstance(tokens, int) else {f".{name}": value for name, value in tokens.items()}
        findings = [
            _less_than_a_step(f"tokens_per_superlm{name}", value, self)
            for name, value in named.items()
            if value < self.step_tokens
        ]
        if findings:
            raise InputError(findings)
        return self

    @property
    def step_tokens(self) -> int:
        """Tokens of one step, over all workers."""
        return self.batch_size * self.sequence_length

    def tokens_for(self, name: str) -> int:
        """Training length of one sub-space, in tokens."""
        tokens = self.tokens_per_superlm
        return tokens if isinstance(tokens, int) else tokens[name]

    def steps_for(self, name: str) -> int:
        """Optimiser steps of one sub-space: its tokens over the tokens of a batch, rounded down."""
        return self.tokens_for(name) // self.step_tokens


def _less_than_a_step(field: str, tokens: int, training: TrainingSpec) -> FieldError:
    step = f"{training.batch_size} x {training.sequence_length}"
    return FieldError(
        field, f"{tokens} is less than one step of {step} tokens.", f"Give at least {training.step_tokens}."
    )


PAPER_RECIPE: Mapping[str, Mapping[str, Any]] = {
    "subspaces": {"importance": False},
    "objective": {
        "relation": "raw-mse",
        "relation_heads": 12,
        "remainder": "drop",
        "relation_weights": (1.0, 1.0, 1.0),
    },
    "training": {
        "sequence_length": 128,
        "batch_size": 2048,
        "learning_rate": 4e-5,
        "schedule": "linear",
        "warmup_fraction": 0.0,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
        "dropout": 0.1,
        "random_subnets": 2,
    },
}
"""Defaults under the preset ``autodistil-paper``: arXiv 2201.12507, and where it is silent the released code."""


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
    labels: Labels = Field(default_factory=dict, description="Free labels to find it by.")

    @model_validator(mode="before")
    @classmethod
    def _with_recipe(cls, data: Any) -> Any:
        spaces = data.get("subspaces") if isinstance(data, dict) else None
        preset = spaces.get("preset") if isinstance(spaces, dict) else getattr(spaces, "preset", None)
        if preset != "autodistil-paper":
            return data
        return data | {name: _completed(data.get(name, {}), recipe) for name, recipe in PAPER_RECIPE.items()}

    @model_validator(mode="after")
    def _parts_agree(self) -> CompressionRequest:
        findings = []
        for field, names in (
            ("budgets", [budget.name for budget in self.budgets]),
            ("latency_targets", [target.name for target in self.latency_targets]),
        ):
            doubled = sorted({name for name in names if names.count(name) > 1})
            if doubled:
                findings.append(
                    FieldError(field, f"Two of '{field}' are named {doubled[0]!r}.", "Give each a name of its own.")
                )
        findings += self._misnamed_subspaces()
        if self.polish is not None and self.polish.tokens < self.training.step_tokens:
            findings.append(_less_than_a_step("polish.tokens", self.polish.tokens, self.training))
        if findings:
            raise InputError(findings)
        return self

    def _misnamed_subspaces(self) -> list[FieldError]:
        tokens, placement, names = self.training.tokens_per_superlm, self.training.placement, self.subspaces.names
        findings = []
        if isinstance(tokens, dict) and set(tokens) != set(names):
            findings.append(
                FieldError(
                    "training.tokens_per_superlm",
                    f"It names {', '.join(sorted(tokens)) or 'nothing'}; the sub-spaces are {', '.join(names)}.",
                    "Give one number for all, or one for each of the sub-spaces.",
                )
            )
        if not isinstance(placement, str):
            placed = [name for group in placement for name in group]
            if sorted(placed) != sorted(names) or not all(placement):
                findings.append(
                    FieldError(
                        "training.placement",
                        f"Its groups hold {', '.join(sorted(placed)) or 'nothing'}; the sub-spaces are "
                        f"{', '.join(names)}.",
                        "Put every sub-space into exactly one group, or use 'auto'.",
                    )
                )
        return findings


def _completed(part: Any, defaults: Mapping[str, Any]) -> Any:
    """Put defaults beside the fields that a part gives; what is no part at all stays for its own check."""
    if isinstance(part, Part):
        return part.model_copy(
            update={name: one for name, one in defaults.items() if name not in part.model_fields_set}
        )
    return {**defaults, **part} if isinstance(part, dict) else part


def parse_request(data: Any) -> CompressionRequest:
    """Check JSON-like data and build the request.

    Raises:
        InputError: One finding a field, with the remedy.
    """
    return parse_as(CompressionRequest, data, "teacher, corpus and budgets")


def parse_request_text(text: str) -> CompressionRequest:
    """Check a request written as JSON or YAML (YAML reads both).

    Raises:
        InputError: The text is neither, or a field is wrong.
    """
    try:
        return parse_request(load_text(text))
    except UnreadableTextError as error:
        raise InputError.of("request", f"It cannot be read: {error}.", "Write it as JSON or YAML.") from None
