"""Heads: what a teacher computes from its encoder's output. Its students have the same head. Light to import.

A head is data only. Its weights are parts of the table in :mod:`workloads.shapes.parameters`, by the names that
:attr:`Head.parts` gives. Their input columns are leading slices along the hidden size, their outputs are whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

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
    kind: Literal["embedding"] = "embedding"

    @property
    def every_token(self) -> bool:
        """Whether every token has an output, or each row one."""
        return False

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of its parts."""
        return tuple(dense_name(index) for index in range(len(self.dense)))

    @property
    def extents(self) -> Mapping[Any, int]:
        """Extents of its own axes."""
        return {f"vector_{index}": one.width for index, one in enumerate(self.dense)}

    @property
    def width(self) -> int:
        """Number of dimensions of the vectors."""
        return self.dense[-1].width

    @property
    def of_teacher(self) -> VectorHead:
        """The head as the teacher itself has it: without the projection of its students."""
        return replace(self, dense=(), projected=False) if self.projected else self

    @property
    def texts_before(self) -> tuple[str, ...]:
        """The prompts that texts of a corpus get: all that the model is used with, the empty one among them."""
        named = dict(self.prompts)
        used = [named[self.default_prompt]] if self.default_prompt in named else [""]
        return tuple(dict.fromkeys([*used, *named.values()]))


Head = LogitsHead | VectorHead


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
