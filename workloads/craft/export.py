"""A student's folder, as its library loads it: configuration, weights, head, tokenizer, card.

A shape that a stock class expresses is saved as that class. The others (an attention width other than the hidden
size, layers that differ) are saved with the modelling files of ``stillroom_model`` and an ``auto_map``. Encoders and
classifiers are folders of ``transformers``, embedding models are folders of sentence-transformers.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from workloads.craft import stillroom_model
from workloads.craft.card import CardFacts, render
from workloads.craft.families import STILLROOM, family_of
from workloads.craft.sentence_files import write_modules
from workloads.craft.teacher import Teacher
from workloads.craft.text.tokenizer import open_tokenizer
from workloads.craft.whole import EmbeddingModel, build_whole
from workloads.shapes import teacher_files
from workloads.shapes.architecture import Architecture
from workloads.shapes.heads import Head, LogitsHead
from workloads.shapes.parameters import HEAD, LEARNED_MAPS, place_of

MODEL_FILES = ("configuration_stillroom.py", "modeling_stillroom.py")


def build_student(teacher: Teacher, architecture: Architecture, weights: dict[str, Tensor]) -> PreTrainedModel:
    """Build the encoder of a student, of a stock class if the shape allows it, in evaluation mode.

    Args:
        teacher: The teacher, whose configuration the student's is derived from.
        architecture: The student's shape.
        weights: Canonical weights of the student, layers numbered from 0; head and learned maps are left out.
    """
    own = {name: tensor for name, tensor in weights.items() if place_of(name).part not in (*HEAD, *LEARNED_MAPS)}
    family = family_of(teacher.shape.vocabulary.family) if architecture.stock else STILLROOM
    return family.student(teacher.config, architecture, own)


def stillroom_student(teacher: Teacher, architecture: Architecture, weights: dict[str, Tensor]) -> PreTrainedModel:
    """Build a student of any shape, stock or not, as our own module; see :func:`build_student`."""
    return STILLROOM.student(teacher.config, architecture, weights)


def export_student(
    folder: Path, teacher: Teacher, architecture: Architecture, weights: dict[str, Tensor], card: CardFacts
) -> None:
    """Write a student's folder.

    Args:
        folder: A local folder, created if need be.
        teacher: Source of the configuration and the tokenizer's files.
        architecture: The student's shape.
        weights: Canonical weights of the student, layers numbered from 0, float32. Each learned map among them goes to
            a file of its own, such as ``projection.safetensors`` with ``weight`` ``[H_teacher, H]`` and ``bias``.
        card: Facts of its model card.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    student, head = build_whole(teacher, architecture, weights), teacher.shape.head
    model = student.encoder if isinstance(student, EmbeddingModel) else student
    if isinstance(head, LogitsHead) and head.pairs:
        model.config.sentence_transformers = _cross_encoder(head)
    model.save_pretrained(folder)
    if isinstance(student, EmbeddingModel):
        write_modules(folder, student, teacher.shape.longest)
    if not architecture.stock:
        for name in MODEL_FILES:
            shutil.copyfile(Path(stillroom_model.__file__).parent / name, folder / name)
    for name in teacher_files.TOKENIZER_FILES:  # unchanged, so that they load wherever the teacher's tokenizer does
        if (teacher.folder / name).is_file():
            shutil.copyfile(teacher.folder / name, folder / name)
    for part in LEARNED_MAPS:
        own = {place_of(name).kind: weights[name] for name in part.parameters if name in weights}
        if own:
            tensors = {kind: tensor.detach().cpu().contiguous() for kind, tensor in own.items()}
            save_file(tensors, folder / map_file(part.name))
    _check_loading(folder, model, head)
    (folder / "README.md").write_text(render(card), encoding="utf-8")


def map_file(name: str) -> str:
    """Name of the file that holds a learned map beside the student, with ``weight`` and ``bias``."""
    return f"{name}.safetensors"


def library_versions() -> dict[str, str]:
    """Return this process's versions of the libraries that load a student."""
    return {name: importlib.metadata.version(name) for name in ("transformers", "tokenizers", "torch")}


def _cross_encoder(head: LogitsHead) -> dict[str, str]:
    """Return the setting by which sentence-transformers knows a cross-encoder, and the activation of its scores."""
    return {} if head.activation is None else {"activation_fn": head.activation}


def _check_loading(folder: Path, student: PreTrainedModel, head: Head | None) -> None:
    """Check that the saved student loads, since its card names the versions that it was loaded with."""
    options = {} if isinstance(head, LogitsHead) else {"add_pooling_layer": student.pooler is not None}
    _, info = type(student).from_pretrained(folder, local_files_only=True, output_loading_info=True, **options)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    open_tokenizer(folder)
