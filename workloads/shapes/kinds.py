"""The kinds of teachers: how each is recognised from its folder, and which head it has. Light to import.

One object a kind, in :data:`KINDS`. Other code asks the teacher's head, and never the name of a kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from workloads.shapes.heads import Head, LogitsHead, kind_of
from workloads.shapes.layouts import LAYOUTS
from workloads.shapes.parameters import shared_extents, shared_parts
from workloads.shapes.safetensors_header import StoredTensor
from workloads.shapes.teacher_classifier import has_class, logits_head
from workloads.shapes.teacher_config import FIELD
from workloads.shapes.teacher_folder import TeacherFolder
from workloads.shapes.teacher_modules import MODEL_CONFIG, module_files, module_list, plain_vector_head, vector_head
from workloads.shapes.teacher_weights import EncoderTensors, check_tensor, shape_from
from workloads.spec.errors import FieldError, InputError
from workloads.spec.part import Part
from workloads.spec.request import CorpusSpec, EmbeddingSpec, KindName, LogitsSpec, ObjectiveSpec


@dataclass(frozen=True)
class Checkpoint:
    """A teacher's folder whose encoder was checked.

    Attributes:
        folder: The folder of ``config.json``.
        config: Its checked content.
        tensors: All stored tensors.
        encoder: Facts about the encoder's tensors.
    """

    folder: TeacherFolder
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    encoder: EncoderTensors

    @property
    def hidden_size(self) -> int:
        """Width of the encoder's output."""
        return int(self.config["hidden_size"])


class Kind(Protocol):
    """A kind of teacher."""

    @property
    def name(self) -> KindName:
        """Its name in requests and documents."""
        ...

    def recognises(self, found: Checkpoint) -> bool:
        """Whether a folder is one of this kind, by what it says of itself."""
        ...

    def head(self, found: Checkpoint) -> Head | None:
        """Read the head.

        Raises:
            InputError: The folder has no head of this kind, or one that is not supported.
        """
        ...

    def pooler(self, found: Checkpoint) -> bool:
        """Whether the students have a pooler."""
        ...

    def files(self, folder: TeacherFolder) -> list[str]:
        """Return the paths of the files that decide its head, from the folder around the Transformer."""
        ...

    @property
    def term(self) -> tuple[str, type[Part]] | None:
        """The field of an objective with its own term, and that term's class, whose defaults are the kind's."""
        ...

    def reads(self, head: Head | None, texts: int) -> str | None:
        """Return why the teacher does not read documents of so many texts; None if it does."""
        ...


class _Encoder:
    """An encoder, without what stands on it."""

    name: KindName = "encoder"

    def recognises(self, found: Checkpoint) -> bool:
        return True

    def head(self, found: Checkpoint) -> None:
        return None

    def pooler(self, found: Checkpoint) -> bool:
        return found.encoder.pooler

    def files(self, folder: TeacherFolder) -> list[str]:
        return []

    term = None

    def reads(self, head: Head | None, texts: int) -> str | None:
        return None if texts == 1 else "An encoder reads single texts, and 'text_columns' names a pair."


class _Embedding:
    """A sentence-transformers model; a plain encoder, if that is asked for, gives the mean over its tokens."""

    name: KindName = "embedding"

    def recognises(self, found: Checkpoint) -> bool:
        # A cross-encoder of version 6 has the Transformer alone.
        return len(module_list(found.folder)) > 1

    def head(self, found: Checkpoint) -> Head:
        if not module_list(found.folder):
            return plain_vector_head(found.folder, found.hidden_size)
        return vector_head(found.folder, found.hidden_size)

    def pooler(self, found: Checkpoint) -> bool:
        return found.encoder.pooler

    def files(self, folder: TeacherFolder) -> list[str]:
        return module_files(folder) if module_list(folder) else []

    term = ("embedding", EmbeddingSpec)

    def reads(self, head: Head | None, texts: int) -> str | None:
        return None if texts == 1 else "An embedding model reads single texts, and 'text_columns' names a pair."


@dataclass(frozen=True)
class _Classifier:
    """A model that gives labels, or numbers, to rows or to tokens."""

    name: Literal["classification", "token-classification"]
    class_ending: str

    def recognises(self, found: Checkpoint) -> bool:
        return has_class(found.config, self.class_ending)

    def head(self, found: Checkpoint) -> Head:
        layout = LAYOUTS[str(found.config["model_type"])]
        last = f"{found.encoder.wrapper}{layout.heads[self.name]['classifier']}.weight"
        head = logits_head(found.folder, found.config, found.tensors.get(last), self.name)
        _check_head(found, head, self.pooler(found))
        return head

    def pooler(self, found: Checkpoint) -> bool:
        return "pooler" in LAYOUTS[str(found.config["model_type"])].heads[self.name]

    def files(self, folder: TeacherFolder) -> list[str]:
        return sorted({MODEL_CONFIG, "sentence_bert_config.json"} & folder.names)

    term = ("logits", LogitsSpec)

    def reads(self, head: Head | None, texts: int) -> str | None:
        if isinstance(head, LogitsHead) and head.pairs and texts == 1:
            return "The teacher is a cross-encoder, which reads pairs of texts, and the corpus gives single ones."
        if self.name == "token-classification" and texts > 1:
            return "A token classifier reads single texts, and 'text_columns' names a pair."
        return None


KINDS: dict[KindName, Kind] = {
    one.name: one
    for one in (
        _Embedding(),
        _Classifier("classification", "ForSequenceClassification"),
        _Classifier("token-classification", "ForTokenClassification"),
        _Encoder(),
    )
}
"""All kinds; a folder is of the first that recognises it."""


def settled_objective(spec: ObjectiveSpec, head: Head | None) -> ObjectiveSpec:
    """Fill in the default of the term that a teacher's kind has.

    Raises:
        InputError: A term goes with another kind of teacher.
    """
    own = KINDS[kind_of(head)].term
    for kind in KINDS.values():
        if kind.term is not None and kind.term != own and getattr(spec, kind.term[0]) is not None:
            raise InputError.of(
                f"objective.{kind.term[0]}",
                f"It goes with a teacher of the kind {kind.name!r}, and this one is of the kind {kind_of(head)!r}.",
                "Leave it out, or set teacher.kind.",
            )
    if own is None or getattr(spec, own[0]) is not None:
        return spec
    return spec.model_copy(update={own[0]: own[1]()})


def text_finding(corpus: CorpusSpec, head: Head | None) -> FieldError | None:
    """Return the finding that a teacher does not read single texts, or pairs, as the corpus gives them."""
    problem = KINDS[kind_of(head)].reads(head, len(corpus.columns))
    if problem is None:
        return None
    remedy = "Name two columns." if len(corpus.columns) == 1 else "Name one column."
    return FieldError("corpus.text_columns", problem, remedy)


def kind_in(found: Checkpoint, asked: KindName | None) -> Kind:
    """Return the kind that a folder is taken as.

    Args:
        found: The folder.
        asked: The kind that the request asserts; None to recognise it. ``encoder`` takes any folder, and ``embedding``
            also a plain encoder.

    Raises:
        InputError: The folder is of another kind than the request asserts.
    """
    recognised = next(kind for kind in KINDS.values() if kind.recognises(found))
    if asked is None or asked == recognised.name or asked == "encoder":
        return KINDS[asked or recognised.name]
    if asked == "embedding" and recognised.name == "encoder":
        return KINDS[asked]
    raise InputError.of(
        "teacher.kind",
        f"{found.folder.around.url} is a teacher of the kind {recognised.name!r}, not {asked!r}.",
        f"Set it to {recognised.name!r} or leave it out; 'encoder' takes any folder without its head.",
    )


def _check_head(found: Checkpoint, head: LogitsHead, pooler: bool) -> None:
    """Check the sizes of a classifier's tensors.

    Raises:
        InputError: A tensor is missing, not of floats, or of another shape than the configuration says.
    """
    layout, where = LAYOUTS[str(found.config["model_type"])], found.folder.url
    shape = shape_from(found.config, pooler=pooler, head=head)
    extents = shared_extents(shape.vocabulary, shape.hidden_size, shape.architecture.most_heads)
    keys = {"hidden": "hidden_size", "labels": "id2label"}
    for part in shared_parts(shape.vocabulary, extents):
        if (module := layout.heads[head.kind].get(part.name)) is None:
            continue
        for canonical, axes in part.parameters.items():
            name = f"{found.encoder.wrapper}{module}.{'bias' if canonical.endswith('.bias') else 'weight'}"
            if name not in found.tensors:
                raise InputError.of(
                    FIELD,
                    f"{where} lacks some weights: {name}.",
                    "Use a checkpoint with all weights, or set teacher.kind to 'encoder'.",
                )
            check_tensor(
                where, name, found.tensors[name], [keys[axis] for axis in axes], tuple(extents[a] for a in axes)
            )
