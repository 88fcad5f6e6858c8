"""Facts about a teacher from its files alone: whether it can be used, its shape, its fingerprint.

Light to import (no torch, no transformers), so that the service can refuse a request at once.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.shapes.heads import Head, head_to_json, kind_of, sized_head
from workloads.shapes.kinds import KINDS, Checkpoint, kind_in
from workloads.shapes.teacher_config import FAMILIES, FIELD, check_config
from workloads.shapes.teacher_folder import CONFIG, MODULES, WEIGHTS, WEIGHTS_INDEX, TeacherFolder
from workloads.shapes.teacher_modules import TRANSFORMER_CONFIGS, dense_tensors
from workloads.shapes.teacher_tokenizer import TOKENIZER_FILES, check_tokenizer
from workloads.shapes.teacher_weights import EncoderTensors, check_weights, shape_from
from workloads.spec.errors import InputError
from workloads.spec.request import KindName, TeacherSpec
from workloads.storage.places import EVERYWHERE, Places, local_path

__all__ = [
    "CONFIG", "FAMILIES", "FIELD", "TOKENIZER_FILES", "WEIGHTS", "WEIGHTS_INDEX", "check_teacher", "encoder_of",
    "files_to_copy", "fingerprint", "is_path", "locate", "named_shape", "open_files", "shape_of",
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


@dataclass(frozen=True)
class TeacherFiles:
    """Files of a teacher, and what they tell.

    Attributes:
        folder: The folder of ``config.json``.
        encoder: Files of the encoder.
        shape: The shape of the teacher, with the head of its students.
    """

    folder: TeacherFolder
    encoder: EncoderFiles
    shape: TeacherShape

    @property
    def head(self) -> Head | None:
        """The head of its students."""
        return self.shape.head

    def sized(self, embedding_size: int | None) -> TeacherFiles:
        """Return the same files, for students with vectors of so many dimensions.

        Raises:
            InputError: See :func:`workloads.shapes.heads.sized_head`.
        """
        return replace(self, shape=self.shape.with_head(sized_head(self.head, embedding_size)))

    @property
    def root(self) -> TeacherFolder:
        """The folder that holds all its files: the one of ``config.json``, or one around it."""
        return self.folder if self._prefix is None else self.folder.around

    @property
    def _prefix(self) -> str | None:
        """Path of the encoder's files from the root; None if it is the root."""
        if self.head is None or self.folder.outer is None:
            return None
        return self.folder.storage.root.removeprefix(f"{self.folder.outer.storage.root}/")

    def to_copy(self) -> list[str]:
        """List the files that make up the teacher, relative to :attr:`root`; pickles are never among them."""
        own = files_to_copy(self.folder)
        if self.head is None:
            return own
        own += sorted(set(TRANSFORMER_CONFIGS) & self.folder.names)
        if self._prefix is not None:
            own = [f"{self._prefix}/{name}" for name in own]
            own += sorted({"README.md", MODULES} & self.root.names)
        return sorted({*own, *KINDS[kind_of(self.head)].files(self.folder)})

    def fingerprint(self) -> str:
        """Hash the files that decide the teacher's outputs: configuration, weights, tokenizer and head.

        Returns:
            A SHA-256 in hexadecimal, over the names and contents of those files.
        """
        opened = self.folder
        index = {WEIGHTS_INDEX} if WEIGHTS not in opened.names else set()
        names = sorted(({CONFIG, *TOKENIZER_FILES} | index) & opened.names) + opened.weight_files()
        total = hashlib.sha256()
        for name in names:
            total.update(f"{name}\0{_digest(opened, name)}\n".encode())
        if self.head is not None:
            total.update(f"head\0{json.dumps(head_to_json(self.head), sort_keys=True)}\n".encode())
            for name in dense_tensors(opened) if self.head.kind == "embedding" else []:
                total.update(f"dense\0{_digest(opened.around, name)}\n".encode())
        return total.hexdigest()


def is_path(model: str) -> bool:
    """Whether a teacher's name means a folder (local, ``s3://``, ``gs://``) rather than a hub id."""
    if "://" in model or model.startswith(("/", "./", "../", "~")) or model in {".", ".."}:
        return True
    return os.path.lexists(model) if "\0" not in model else False


def check_teacher(
    spec: TeacherSpec, places: Places = EVERYWHERE, kind: KindName | None = "encoder"
) -> TeacherShape | None:
    """Refuse a teacher that cannot be used, as far as its folder's files tell.

    An allowed hub id passes; it is checked once it has been downloaded.

    Args:
        spec: The teacher.
        places: The places that requests may read.
        kind: The kind that it is taken as; None for the one that its folder says.

    Returns:
        The teacher's shape, with the head of its students; None for a hub id.

    Raises:
        InputError: The teacher cannot be used; the error names ``teacher.model`` and the remedy. Causes: folder or
            configuration missing, a family that is not supported, remote code, quantised or pickled or damaged
            weights, no tokenizer, a setting that transformers would not read; configuration, weights and tokenizer
            that do not belong together; another kind than the one asked for, or a head that is not supported.
    """
    if not is_path(spec.model):
        places.require_hub(spec.model, FIELD)
        return None
    return open_files(spec, places, kind).shape


def open_files(spec: TeacherSpec, places: Places = EVERYWHERE, kind: KindName | None = "encoder") -> TeacherFiles:
    """Open the files of a teacher's folder, and check them as :func:`check_teacher` does.

    Raises:
        InputError: As :func:`check_teacher`.
    """
    folder = TeacherFolder.open(spec.model, places, spec.revision)
    files = _encoder_files(folder)
    check_tokenizer(folder, files.config)
    return TeacherFiles(folder, files, _shape(folder, files, kind))


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


def shape_of(folder: Path, kind: KindName | None = "encoder") -> TeacherShape:
    """Read a teacher's shape from its configuration and the headers of its weights.

    Raises:
        InputError: As :func:`check_teacher`.
    """
    opened = TeacherFolder.open(str(folder))
    return _shape(opened, _encoder_files(opened), kind)


def _shape(folder: TeacherFolder, files: EncoderFiles, asked: KindName | None) -> TeacherShape:
    if asked == "encoder":
        return shape_from(files.config, pooler=files.tensors.pooler)
    found = Checkpoint(folder, files.config, folder.tensors(), files.tensors)
    kind = kind_in(found, asked)
    return shape_from(files.config, pooler=kind.pooler(found), head=kind.head(found))


def named_shape(name_or_folder: str) -> TeacherShape:
    """Return the shape of a well-known teacher by name, or of the teacher in a folder, with its head.

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
    return shape_of(local_path(name_or_folder, FIELD), None)


def fingerprint(folder: Path) -> str:
    """Hash the files that decide the outputs of an encoder; see :meth:`TeacherFiles.fingerprint`."""
    opened = TeacherFolder.open(str(folder))
    files = _encoder_files(opened)
    return TeacherFiles(opened, files, _shape(opened, files, "encoder")).fingerprint()


def _digest(folder: TeacherFolder, name: str) -> str:
    content = hashlib.sha256()
    for piece in folder.storage.stream(name, _CHUNK):
        content.update(piece)
    return content.hexdigest()


def files_to_copy(folder: TeacherFolder) -> list[str]:
    """List the files of an encoder, relative to its folder; pickles are never among them."""
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
