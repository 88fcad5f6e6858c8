"""Facts about a teacher from its files alone: whether it can be used, its shape, its fingerprint.

Light to import (no torch, no transformers), so that the service can refuse a request at once.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.shapes.teacher_config import FAMILIES, FIELD, check_config
from workloads.shapes.teacher_folder import CONFIG, MODULES, WEIGHTS, WEIGHTS_INDEX, TeacherFolder
from workloads.shapes.teacher_tokenizer import TOKENIZER_FILES, check_tokenizer
from workloads.shapes.teacher_weights import EncoderTensors, check_weights, shape_from
from workloads.spec.errors import InputError
from workloads.spec.request import TeacherSpec
from workloads.storage.places import EVERYWHERE, Places, local_path

__all__ = [
    "CONFIG", "FAMILIES", "FIELD", "TOKENIZER_FILES", "WEIGHTS", "WEIGHTS_INDEX", "check_teacher", "encoder_of",
    "files_to_copy", "fingerprint", "is_path", "locate", "named_shape", "shape_of",
]  # fmt: skip

_BASE = Architecture.of_teacher(12, 768, 12, 3072)
_NAMED = {
    "bert-base": TeacherShape(_BASE, Vocabulary("bert", 30522, 512, 2)),
    "bert-large": TeacherShape(Architecture.of_teacher(24, 1024, 16, 4096), Vocabulary("bert", 30522, 512, 2)),
    "roberta-base": TeacherShape(_BASE, Vocabulary("roberta", 50265, 514, 1, pooler=False, reserved_positions=2)),
    "xlm-roberta-base": TeacherShape(_BASE, Vocabulary("xlm-roberta", 250002, 514, 1, reserved_positions=2)),
    "mpnet-base": TeacherShape(_BASE, Vocabulary("mpnet", 30527, 514, 0, relative_buckets=32, reserved_positions=2)),
    "minilm-l6": TeacherShape(Architecture.of_teacher(6, 384, 12, 1536), Vocabulary("bert", 30522, 512, 2)),
}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_CONVERT = "Convert it once with AutoModel.from_pretrained(...).save_pretrained(folder), which writes safetensors."
_POOLING = "1_Pooling/config.json"
_CHUNK = 1 << 22


@dataclass(frozen=True)
class EncoderFiles:
    """Files of a teacher's encoder.

    Attributes:
        folder: Path or URL of the folder that holds them.
        config: The checked content of ``config.json``.
        tensors: What the headers of the weights tell about the encoder.
    """

    folder: str
    config: dict[str, Any]
    tensors: EncoderTensors


def is_path(model: str) -> bool:
    """Whether a teacher's name means a folder (local, ``s3://``, ``gs://``) rather than a hub id."""
    if "://" in model or model.startswith(("/", "./", "../", "~")) or model in {".", ".."}:
        return True
    return os.path.lexists(model) if "\0" not in model else False


def check_teacher(spec: TeacherSpec, places: Places = EVERYWHERE) -> TeacherShape | None:
    """Refuse a teacher that cannot be used, as far as its folder's files tell.

    An allowed hub id passes; it is checked once it has been downloaded.

    Args:
        spec: The teacher.
        places: The places that requests may read.

    Returns:
        The teacher's shape; None for a hub id.

    Raises:
        InputError: The teacher cannot be used; the error names ``teacher.model`` and the remedy. Causes: folder or
            configuration missing, a family that is not supported, remote code, quantised or pickled or damaged
            weights, no tokenizer, a setting that transformers would not read; configuration, weights and tokenizer
            that do not belong together.
    """
    if not is_path(spec.model):
        places.require_hub(spec.model, FIELD)
        return None
    folder = TeacherFolder.open(spec.model, places, spec.revision)
    files = _encoder_files(folder)
    check_tokenizer(folder, files.config)
    return shape_from(files.config, pooler=files.tensors.pooler)


def locate(spec: TeacherSpec, places: Places = EVERYWHERE) -> str:
    """Return the folder or URL that holds a teacher's ``config.json``: the one of ``spec``, or one below it.

    Raises:
        InputError: No such folder is found.
    """
    return TeacherFolder.open(spec.model, places, spec.revision).url


def encoder_of(folder: Path) -> EncoderFiles:
    """Read a local teacher's configuration and the headers of its weights.

    Raises:
        InputError: As :func:`check_teacher`.
    """
    return _encoder_files(TeacherFolder.open(str(folder)))


def shape_of(folder: Path) -> TeacherShape:
    """Read a teacher's shape from its configuration and the headers of its weights.

    Raises:
        InputError: As :func:`check_teacher`.
    """
    files = encoder_of(folder)
    return shape_from(files.config, pooler=files.tensors.pooler)


def named_shape(name_or_folder: str) -> TeacherShape:
    """Return the shape of a well-known teacher by name, or of the teacher in a folder.

    Raises:
        InputError: ``name_or_folder`` is neither a known name nor a usable folder.
    """
    if name_or_folder in _NAMED:
        return _NAMED[name_or_folder]
    if not is_path(name_or_folder):
        raise InputError.of(
            FIELD,
            f"{name_or_folder!r} is neither a known teacher nor a folder.",
            f"Use {', '.join(_NAMED)}, or a folder.",
        )
    return shape_of(local_path(name_or_folder, FIELD))


def fingerprint(folder: Path) -> str:
    """Hash the files that decide a teacher's outputs: configuration, weights and tokenizer.

    Returns:
        A SHA-256 in hexadecimal, over the names and contents of those files.
    """
    opened = TeacherFolder.open(str(folder))
    index = {WEIGHTS_INDEX} if WEIGHTS not in opened.names else set()
    names = sorted(({CONFIG, *TOKENIZER_FILES} | index) & opened.names) + opened.weight_files()
    total = hashlib.sha256()
    for name in names:
        content = hashlib.sha256()
        for piece in opened.storage.stream(name, _CHUNK):
            content.update(piece)
        total.update(f"{name}\0{content.hexdigest()}\n".encode())
    return total.hexdigest()


def files_to_copy(folder: TeacherFolder) -> list[str]:
    """List the files that make up a teacher, relative to its folder; pickles are never among them."""
    own = {CONFIG, WEIGHTS_INDEX, MODULES, "README.md", *TOKENIZER_FILES} & folder.names
    pooling = [_POOLING] if folder.storage.exists(_POOLING) else []
    return [*sorted(own), *folder.weight_files(), *pooling]


def _encoder_files(folder: TeacherFolder) -> EncoderFiles:
    config = folder.json(CONFIG)
    check_config(folder.url, config)
    if not folder.weight_files():
        pickled = sorted(name for name in folder.names if name.endswith(_PICKLES))
        if pickled:
            problem = f"{folder.url} has only pickled weights ({pickled[0]}), which could run code when they are read."
            raise InputError.of(FIELD, problem, _CONVERT)
        raise InputError.of(FIELD, f"{folder.url} has no weights: {WEIGHTS} is missing.", _CONVERT)
    return EncoderFiles(folder.url, config, check_weights(folder.url, folder.tensors(), config))
