"""The request of a compression: the one contract between people, service and cluster.

Light to import (pydantic only). :func:`parse_request` turns JSON-like data into a
:class:`CompressionRequest`, or raises an :class:`InputError` that names each field and its remedy.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, GetJsonSchemaHandler, ModelWrapValidatorHandler, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from workloads.spec.budgets import Budget, LatencyTarget
from workloads.spec.errors import FieldError, InputError
from workloads.spec.parsing import parse_as
from workloads.spec.part import (
    DEFAULT_LENGTH,
    LEAST_LENGTH,
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
from workloads.spec.search import ExportSpec, PolishSpec, ProxyTaskSpec

ENDINGS = (".txt", ".jsonl", ".json", ".parquet")
"""Endings of the files of a corpus."""
OTHER_ENDING = "Convert or rename it, or pick the other files by a glob such as folder/**/*.txt."
RelationForm = Literal["softmax-mse", "raw-mse", "kl"]
_Weight = Annotated[float, Field(le=1e6)]
_EACH_ONCE: dict[str, Any] = {"uniqueItems": True}
_Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
MOST_SPACES = 16
"""Most sub-spaces of a request."""
_Groups = Annotated[
    list[Annotated[list[Name], Field(max_length=MOST_SPACES)]],
    Field(max_length=MOST_SPACES),
]


KindName = Literal["encoder", "embedding", "classification", "token-classification"]
"""Kinds of teachers; see :mod:`workloads.shapes.kinds`."""


class TeacherSpec(Part):
    """A model that is read."""

    model: Location = Field(description="A folder (local, s3://, gs://) or a hub id.")
    revision: Word | None = Field(None, description="Branch, tag or commit of a hub id.")


class CompressedTeacherSpec(TeacherSpec):
    """The model to compress."""

    kind: KindName | None = Field(
        None,
        description="Kind of the teacher; null: as its folder says. encoder takes any folder without its head, "
        "embedding a plain encoder with mean pooling.",
    )
    embedding_size: int | None = Field(
        None,
        ge=2,
        le=2**16,
        description="Dimensions of the students' vectors, for an embedding model; null: the teacher's, in its space.",
    )


class CorpusSpec(Part):
    """The unlabelled text to distil on."""

    paths: list[Location] = Field(
        default_factory=list,
        max_length=MOST_FILES,
        description="Files, folders or globs of .txt, .jsonl, .json or .parquet; local, s3:// or gs://.",
    )
    dataset: Location | None = Field(None, description="A folder saved by `datasets`, or a hub id, instead of paths.")
    dataset_config: Word | None = Field(None, description="Configuration name of a hub dataset.")
    split: Word = Field("train", description="Split of the dataset.")
    text_column: Word = Field("text", description="Column (Parquet, dataset) or key (JSONL) that holds the text.")
    text_columns: Annotated[list[Word], Field(min_length=1, max_length=2, json_schema_extra=_EACH_ONCE)] | None = Field(
        None,
        description="In place of text_column, one column or key, or the two of a pair that the teacher reads together.",
    )
    documents: Literal["file", "paragraph", "line"] = Field(
        "file",
        description="Extent of a document in a .txt file: the whole file, a paragraph (they are separated by empty "
        "lines), or a line.",
    )
    heldout_fraction: float = Field(
        0.02, gt=0, lt=0.5, description="Share of the documents that is held out from training, for the search."
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns or keys of a document's texts: one, or two for pairs."""
        return tuple(self.text_columns) if self.text_columns else (self.text_column,)

    @property
    def columns_field(self) -> str:
        """The field that names :attr:`columns`."""
        return "corpus.text_columns" if self.text_columns else "corpus.text_column"

    @model_validator(mode="after")
    def _different_columns(self) -> CorpusSpec:
        if self.text_columns is not None and len(set(self.text_columns)) < len(self.text_columns):
            raise ValueError("'text_columns' names one column twice. Name the two columns of a pair.")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> CorpusSpec:
        if bool(self.paths) == (self.dataset is not None):
            raise ValueError("Give either 'paths' or 'dataset'. Fill one of the two and leave the other out.")
        return self


class OutputSpec(Part):
    """A term on the model's output, for teachers whose output is used as it is (embedding models)."""

    kind: Literal["pooled", "token"] = Field(description="Mean-pooled output of a document, or every token's output.")
    weight: float = Field(1.0, gt=0, le=1e6, description="Weight of the term beside the relation loss.")


class LogitsSpec(Part):
    """The term on the logits of a classifier: KL, binary KL for independent labels, squared error for numbers."""

    weight: float = Field(1.0, ge=0, le=1e6, description="Weight of the term beside the others; 0 leaves it out.")
    temperature: float = Field(1.0, ge=0.01, le=100, description="Divisor of the logits; no effect on numbers.")


class EmbeddingSpec(Part):
    """The terms on the vectors of an embedding model: each beside its teacher's, and the texts beside one another."""

    weight: float = Field(
        1.0, ge=0, le=1e6, description="Weight of the distance (1 - cosine) to the teacher's vector; 0 leaves it out."
    )
    similarity_weight: float = Field(
        1.0, ge=0, le=1e6, description="Weight of the KL of the softmaxed similarities between texts; 0 leaves it out."
    )
    similarity_rows: int = Field(
        32, ge=2, le=4096, description="Texts of a group; each is compared with the others of its group."
    )
    similarity_temperature: float = Field(0.05, ge=0.001, le=100, description="Divisor of the similarities.")


class ObjectiveSpec(Part):
    """The signals of the teacher that students are trained to match."""

    relation: RelationForm | None = Field(
        "kl", description="Loss of self-attention relation distillation; null: no such loss."
    )
    relation_heads: int | None = Field(
        None, ge=1, le=2**17, description="Relation heads; default: the teacher's heads."
    )
    remainder: Literal["spread", "drop"] = Field(
        "spread",
        description="Treatment of widths that relation_heads does not divide. spread: uneven heads; drop: leave the "
        "last dimensions out, as AutoDistil does.",
    )
    relation_weights: tuple[_Weight, _Weight, _Weight] = Field(
        (1.0, 1.0, 1.0), description="Weights of the query, key and value relations."
    )
    output: OutputSpec | None = Field(None, description="An output term beside, or instead of, the relations.")
    logits: LogitsSpec | None = Field(
        None, description="The term on logits; null: the default where the teacher is a classifier, else none."
    )
    embedding: EmbeddingSpec | None = Field(
        None, description="The terms on vectors; null: the default where the teacher is an embedding model, else none."
    )

    @property
    def key(self) -> dict[str, Any]:
        """Everything that decides the losses, for a stage's key; terms that a kind of teacher has not are left out."""
        return {
            name: value
            for name, value in self.model_dump(mode="json").items()
            if value is not None or name not in ("logits", "embedding")
        }

    @model_validator(mode="after")
    def _something_to_match(self) -> ObjectiveSpec:
        if self.relation is None and not any((self.output, self.logits, self.embedding)):
            raise ValueError(
                "There is nothing to train on. Set 'relation' or 'output', or the term of the teacher's kind: "
                "'logits' or 'embedding'."
            )
        if min(self.relation_weights) < 0 or sum(self.relation_weights) <= 0:
            raise ValueError("'relation_weights' must not be negative nor all zero. Use 1 for a plain sum.")
        return self


class TrainingSpec(Part):
    """Settings of the training of the SuperLMs."""

    tokens_per_superlm: _Tokens | Annotated[dict[Name, _Tokens], Field(max_length=MOST_SPACES)] = Field(
        20_000_000, description="Training length in tokens; one number, or one for each sub-space by name."
    )
    sequence_length: int = Field(
        DEFAULT_LENGTH,
        ge=LEAST_LENGTH,
        le=MOST_LENGTH,
        description="Tokens of a training block; default: 128, or the teacher's longest input if that is shorter.",
    )
    batch_size: int = Field(32, ge=1, le=MOST_BATCH, description="Blocks of a step, over all workers.")
    micro_batch_rows: int | None = Field(
        None,
        ge=1,
        le=MOST_BATCH,
        description="Blocks that a worker processes at once; null: its share of a step, or as many as fit its memory.",
    )
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Highest learning rate of AdamW.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="Learning rate after the warm-up: linear or cosine down to zero, or constant."
    )
    warmup_fraction: float = Field(0.05, ge=0, lt=1, description="Share of the steps with linear warm-up.")
    weight_decay: float = Field(0.01, ge=0, le=10, description="Weight decay of AdamW, not on biases and LayerNorm.")
    clip_norm: float = Field(1.0, gt=0, le=1e6, description="Largest gradient norm; larger gradients are scaled down.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Probability of dropout in the SuperLMs.")
    random_subnets: int = Field(
        2, ge=0, le=16, description="Random subnets of a step, beside the smallest and largest."
    )
    smallest_every: int = Field(
        4,
        ge=1,
        le=1000,
        description="Steps from one training of the smallest subnet to the next; in the others a further random subnet "
        "takes its place. 1: in every step, as in the paper's sandwich rule.",
    )
    workers: int = Field(1, ge=1, le=4096, description="Data-parallel workers of each training run.")
    placement: Literal["auto", "together", "apart"] | _Groups = Field(
        "auto", description="Grouping of the SuperLMs into training runs: a rule, or the groups by sub-space name."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 on devices that compute in it natively."
    )
    checkpoint_every_steps: int = Field(200, ge=1, le=10**6, description="Steps between checkpoints.")
    max_failures: int = Field(
        2, ge=0, le=1000, description="Most restarts of a training run in one attempt, after a worker died."
    )

    @model_validator(mode="after")
    def _sizes(self) -> TrainingSpec:
        if findings := self.step_findings():
            raise InputError(findings)
        return self

    def step_findings(self, prefix: str = "") -> list[FieldError]:
        """Return the findings about lengths of less than one step, with fields that begin with ``prefix``."""
        tokens = self.tokens_per_superlm
        named = {"": tokens} if isinstance(tokens, int) else {f".{name}": value for name, value in tokens.items()}
        found = (_less_than_a_step(f"{prefix}tokens_per_superlm{name}", value, self) for name, value in named.items())
        return [finding for finding in found if finding is not None]

    @property
    def step_tokens(self) -> int:
        """Tokens of one step, over all workers."""
        return self.batch_size * self.sequence_length

    def tokens_for(self, name: str) -> int:
        """Return the training length of one sub-space, in tokens."""
        tokens = self.tokens_per_superlm
        return tokens if isinstance(tokens, int) else tokens[name]

    def steps_for(self, name: str) -> int:
        """Return the optimiser steps of one sub-space: its tokens over the tokens of a batch, rounded down."""
        return self.tokens_for(name) // self.step_tokens


def _less_than_a_step(field: str, tokens: int, training: TrainingSpec) -> FieldError | None:
    # A length that is not given follows from what the teacher reads; until that is known, any may come.
    known = "sequence_length" in training.model_fields_set
    length = training.sequence_length if known else LEAST_LENGTH
    least = training.batch_size * length
    if tokens >= least:
        return None
    step = f"{training.batch_size} x {length}"
    return FieldError(field, f"{tokens} is less than one step of {step} tokens.", f"Give at least {least}.")


MOST_FIDELITY_ROWS = 20_000
"""Most rows to measure fidelity on: the neighbours of each are sought among all."""


class CompressionRequest(Part):
    """One teacher, one corpus, and the budgets to find students for: the common part of all methods' requests.

    Validated as this class, data becomes the request of the method that it names; see :func:`register_request`.
    """

    teacher: CompressedTeacherSpec
    corpus: CorpusSpec
    method: str
    objective: ObjectiveSpec = ObjectiveSpec()
    training: TrainingSpec = TrainingSpec()
    proxy_task: ProxyTaskSpec | None = Field(
        None, description="Task whose score ranks the candidates; null: they are ranked by held-out loss."
    )
    polish: PolishSpec | None = Field(
        None, description="Further distillation of each chosen student alone; null: no further distillation."
    )
    export: ExportSpec = ExportSpec()
    latency_targets: list[LatencyTarget] = Field(
        default_factory=list, max_length=64, description="Targets of this request, beside those of the service."
    )
    budgets: list[Budget] = Field(
        min_length=1,
        max_length=64,
        description="Limits on cost, and floors of fidelity; a student is chosen for each budget that can be met.",
    )
    fidelity_rows: int = Field(
        2000,
        ge=1,
        le=MOST_FIDELITY_ROWS,
        description="Most held-out rows that students are compared with their teacher on, if it gives labels, numbers "
        "or vectors.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of all random choices.")
    labels: Labels = Field(default_factory=dict, description="Free labels, to find the job by.")

    @model_validator(mode="wrap")
    @classmethod
    def _of_its_method(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if cls is not CompressionRequest or isinstance(data, CompressionRequest):
            return handler(data)
        return cast(Self, request_type(data).model_validate(data))

    @field_validator("method", mode="before")
    @classmethod
    def _known_method(cls, value: Any) -> Any:
        if value not in list(_TYPES):
            raise ValueError(f"{value!r:.100} is not a method. Use {' or '.join(map(repr, _TYPES))}.")
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        if cls is not CompressionRequest:
            return handler(schema)
        members = [handler(kind.__pydantic_core_schema__) for kind in _TYPES.values()]
        return members[0] if len(members) == 1 else {"oneOf": members}

    def own_findings(self) -> list[FieldError]:
        """Return the findings about the method's own parts, alone and together with the common ones."""
        return []

    def step_findings(self) -> list[FieldError]:
        """Return the findings about trainings of less than one step."""
        return [*self.training.step_findings("training."), *self._polish_step_findings()]

    def _polish_step_findings(self) -> list[FieldError]:
        if self.polish is None:
            return []
        finding = _less_than_a_step("polish.tokens", self.polish.tokens, self.training)
        return [] if finding is None else [finding]

    @property
    def heldout_rows(self) -> int:
        """Number of held-out rows that a student's loss is measured on."""
        raise NotImplementedError

    @property
    def orders_by_importance(self) -> bool:
        """Whether the teacher's weights are ordered by importance before students are sliced from them."""
        return False

    @property
    def polish_tokens(self) -> int:
        """Most tokens that the students together are polished on."""
        return 0 if self.polish is None else self.polish.tokens * self.polish.top_k * len(self.budgets)

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
        findings += self.own_findings()
        findings += self._polish_step_findings()
        if findings:
            raise InputError(findings)
        return self


_TYPES: dict[str, type[CompressionRequest]] = {}
DEFAULT_METHOD = "autodistil"


def register_request(kind: type[CompressionRequest]) -> None:
    """Make a method's request a member of the union, under the default of its field ``method``."""
    _TYPES[kind.model_fields["method"].default] = kind


def request_type(data: Any) -> type[CompressionRequest]:
    """Return the request class of the method that JSON-like data names; the default method's if it names none known."""
    named = data.get("method", DEFAULT_METHOD) if isinstance(data, dict) else DEFAULT_METHOD
    return _TYPES.get(named if isinstance(named, str) else DEFAULT_METHOD, _TYPES[DEFAULT_METHOD])


def parse_request(data: Any) -> CompressionRequest:
    """Check JSON-like data and build the request.

    Raises:
        InputError: The data is not such a request; it has one finding for each wrong field.
    """
    return parse_as(request_type(data), data, "teacher, corpus and budgets")


def parse_request_text(text: str) -> CompressionRequest:
    """Check a request written as JSON or YAML (YAML reads both).

    Raises:
        InputError: The text is neither, or a field is wrong.
    """
    from workloads.spec.reading import UnreadableTextError, load_text  # YAML is dear to import, and few parse text

    try:
        return parse_request(load_text(text))
    except UnreadableTextError as error:
        raise InputError.of("request", f"It cannot be read: {error}.", "Write it as JSON or YAML.") from None
