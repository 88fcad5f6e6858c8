"""Heads: what a teacher computes from its encoder's output. Its students have the same head. Light to import.

A head is data only. Its weights are parts of the table in :mod:`workloads.shapes.parameters`, by the names that
:attr:`Head.parts` gives. Their input columns are leading slices along the hidden size, their outputs are whole.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from workloads.spec.errors import InputError
from workloads.spec.request import KindName

Problem = Literal["single-label", "multi-label", "regression"]
Pooling = Literal["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
"""Ways of sentence-transformers to make one vector of a row's hidden states, each alone."""
MOST_DENSE = 3
"""Most Dense modules after the pooling."""
IDENTITY = "torch.nn.modules.linear.Identity"
ACTIVATIONS = (
    IDENTITY,
    *(f"torch.nn.modules.activation.{name}" for name in ("Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")),
)
"""Activations of Dense modules and cross-encoders, by the class that sentence-transformers names."""


@dataclass(frozen=True, slots=True)
class LogitsHead:
    """The classifier of a ``...ForSequenceClassification`` or ``...ForTokenClassification``.

    In all families it is a linear map: of the first token's state, mapped and activated by tanh (the ``pooler``), or of
    every token's state.

    Attributes:
        labels: Number of logits.
        problem: Meaning of the logits: exclusive labels, independent labels, or numbers.
        pairs: Whether a text is a pair: cross-encoders and rerankers.
        activation: Class of the activation that a cross-encoder applies to its logits; None for its library's default.
        longest: Tokens that the tokenizer truncates to, if it says so.
    """

    kind: Literal["classification", "token-classification"]
    labels: int
    problem: Problem = "single-label"
    pairs: bool = False
    activation: str | None = None
    longest: int | None = None

    @property
    def every_token(self) -> bool:
        """Whether every token has an output, or each row one."""
        return self.kind == "token-classification"

    @property
    def library(self) -> str:
        """The library that loads a model with this head."""
        return "sentence-transformers" if self.pairs else "transformers"

    @property
    def output_name(self) -> str:
        """Name of its output in exported files."""
        return "logits"

    @property
    def lowercase(self) -> bool:
        """Whether texts are put in lower case before the tokenizer."""
        return False

    @property
    def texts_before(self) -> tuple[str, ...]:
        """The prompts that texts of a corpus get; there is only the empty one."""
        return ("",)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of its parts, beside the pooler."""
        return ("classifier",)

    @property
    def extents(self) -> Mapping[Any, int]:
        """Extents of its own axes."""
        return {"labels": self.labels}

    @property
    def of_teacher(self) -> LogitsHead:
        """The head as the teacher itself has it."""
        return self


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear map with an activation, after the pooling.

    Attributes:
        width: Number of its outputs.
        activation: One of :data:`ACTIVATIONS`.
    """

    width: int
    activation: str = IDENTITY


@dataclass(frozen=True, slots=True)
class VectorHead:
    """The modules of a sentence-transformers model after its Transformer: they give one vector for a text.

    Attributes:
        pooling: How a row's hidden states become one vector.
        dense: The maps of that vector, in order; at least one, since a student has another hidden size.
        projected: Whether the only map is a projection to the teacher's width that the teacher itself does not have.
        teacher_width: Dimensions of the teacher's vectors where the students' have fewer; None where they are the same.
        normalize: Whether vectors are scaled to length 1.
        longest: Tokens that texts are truncated to, if the model says so.
        lowercase: Whether texts are put in lower case.
        prompts: Texts that are put before others, by name.
        default_prompt: Name of the prompt of a text that no prompt is asked for.
        similarity: Name of the function that vectors are compared with, if the model says so.
    """

    pooling: Pooling
    dense: tuple[Dense, ...]
    projected: bool
    normalize: bool
    longest: int | None = None
    lowercase: bool = False
    prompts: tuple[tuple[str, str], ...] = ()
    default_prompt: str | None = None
    similarity: str | None = None
    teacher_width: int | None = None
    kind: Literal["embedding"] = "embedding"

    @property
    def every_token(self) -> bool:
        """Whether every token has an output, or each row one."""
        return False

    @property
    def library(self) -> str:
        """The library that loads a model with this head."""
        return "sentence-transformers"

    @property
    def output_name(self) -> str:
        """Name of its output in exported files."""
        return "sentence_embedding"

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of its parts."""
        return tuple(dense_name(index) for index in range(len(self.dense)))

    @property
    def extents(self) -> Mapping[Any, int]:
        """Extents of its own axes."""
        own = {f"vector_{index}": one.width for index, one in enumerate(self.dense)}
        return {**own, "vector": self.width, "teacher_vector": self.teacher_width or self.width} if own else {}

    @property
    def width(self) -> int:
        """Number of dimensions of the vectors."""
        return self.dense[-1].width

    @property
    def of_teacher(self) -> VectorHead:
        """The head as the teacher itself has it: without the projection of its students."""
        if self.projected:
            return replace(self, dense=(), projected=False, teacher_width=None)
        return replace(self, dense=self._ending_in(self.teacher_width or self.width), teacher_width=None)

    def sized(self, width: int | None) -> VectorHead:
        """Return the head of students with vectors of fewer dimensions; None: of as many as the teacher's.

        Raises:
            InputError: They are more than the teacher's.
        """
        if width is None or width == self.width:
            return self
        if width > self.width:
            raise InputError.of(
                "teacher.embedding_size",
                f"The teacher's vectors have {self.width} dimensions, fewer than {width}.",
                f"Use at most {self.width}, or leave it out for the teacher's own space.",
            )
        return replace(self, dense=self._ending_in(width), teacher_width=self.width)

    def _ending_in(self, width: int) -> tuple[Dense, ...]:
        return (*self.dense[:-1], replace(self.dense[-1], width=width))

    @property
    def texts_before(self) -> tuple[str, ...]:
        """The prompts that texts of a corpus get: all that the model is used with, the empty one among them."""
        named = dict(self.prompts)
        used = [named[self.default_prompt]] if self.default_prompt in named else [""]
        return tuple(dict.fromkeys([*used, *named.values()]))


Head = LogitsHead | VectorHead


def sized_head(head: Head | None, width: int | None) -> Head | None:
    """Return the head of students with vectors of ``width`` dimensions; None: of as many as the teacher's.

    Raises:
        InputError: They are more than the teacher's, or the teacher gives no vectors.
    """
    if isinstance(head, VectorHead):
        return head.sized(width)
    if width is None:
        return head
    problem = f"A teacher of the kind {kind_of(head)!r} gives no vectors."
    raise InputError.of("teacher.embedding_size", problem, "Leave it out, or set teacher.kind to 'embedding'.")


def dense_name(index: int) -> str:
    """Return the name of the part of a Dense module."""
    return f"dense_{index}"


def kind_of(head: Head | None) -> KindName:
    """Return the kind of a teacher with this head."""
    return "encoder" if head is None else head.kind


def head_to_json(head: Head) -> dict[str, Any]:
    """Return the JSON form of a head."""
    return asdict(head)


def head_from_json(document: Mapping[str, Any]) -> Head:
    """Build a head from the result of :func:`head_to_json`, possibly written and read as JSON."""
    facts = dict(document)
    if facts["kind"] != "embedding":
        return LogitsHead(**facts)
    facts["dense"] = tuple(Dense(**one) for one in facts["dense"])
    facts["prompts"] = tuple((name, text) for name, text in facts["prompts"])
    return VectorHead(**facts)


@functools.singledispatch
def describe_head(head: Head | None) -> str:
    """Describe what a teacher and its students give, in words."""
    assert head is None, type(head)
    return "hidden states"


@describe_head.register
def _logits(head: LogitsHead) -> str:
    what = {"single-label": "labels", "multi-label": "independent labels", "regression": "numbers"}[head.problem]
    of = "every token" if head.every_token else "a pair of texts" if head.pairs else "a text"
    return f"{head.labels} {what if head.labels > 1 else what.removesuffix('s')} for {of}"


@describe_head.register
def _vector(head: VectorHead) -> str:
    space = "in the teacher's space" if head.teacher_width is None else "in a space of its own"
    words = f"a vector of {head.width} dimensions for a text, {space} ({head.pooling} pooling"
    return f"{words}, normalised)" if head.normalize else f"{words})"
