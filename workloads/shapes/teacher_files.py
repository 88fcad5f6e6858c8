"""What can be told of a teacher from its files alone: whether it can be used, its shape, its fingerprint.

Light to import (no torch, no transformers), so that the service can refuse a request at once.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import fs as pafs

from workloads.shapes.architecture import TeacherShape
from workloads.spec.errors import InputError
from workloads.spec.request import TeacherSpec
from workloads.storage.places import EVERYWHERE, Places
from workloads.storage.storage import Storage

FIELD = "teacher.model"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)

# By model_type, the files a fast tokenizer can be made from where there is no tokenizer.json.
_VOCABULARIES: dict[str, tuple[str, ...]] = {
    "bert": ("vocab.txt",),
    "roberta": ("vocab.json", "merges.txt"),
    "xlm-roberta": (),
    "mpnet": ("vocab.txt",),
}
FAMILIES = tuple(_VOCABULARIES)

_NAMED = {
    "bert-base": TeacherShape("bert", 12, 768, 12, 3072, 30522, 512, 2),
    "bert-large": TeacherShape("bert", 24, 1024, 16, 4096, 30522, 512, 2),
    "roberta-base": TeacherShape("roberta", 12, 768, 12, 3072, 50265, 514, 1, pooler=False, reserved_positions=2),
    "xlm-roberta-base": TeacherShape("xlm-roberta", 12, 768, 12, 3072, 250002, 514, 1, reserved_positions=2),
    "mpnet-base": TeacherShape("mpnet", 12, 768, 12, 3072, 30527, 514, 0, relative_buckets=32, reserved_positions=2),
    "minilm-l6": TeacherShape("bert", 6, 384, 12, 1536, 30522, 512, 2),
}
_PADDING_ID = 1
"""Of RoBERTa and MPNet, which count positions from behind it; MPNet's code knows no other."""
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_CONVERT = "Convert it once with AutoModel.from_pretrained(...).save_pretrained(folder), which writes safetensors."
_MAX_HEADER = 100 << 20
_CHUNK = 1 << 22


@dataclass(frozen=True)
class _Folder:
    """A teacher's folder, wherever it lies."""

    storage: Storage
    names: frozenset[str]

    @classmethod
    def open(cls, model: str, places: Places = EVERYWHERE) -> _Folder:
        try:
            storage = Storage.open(model, places)
            kind = storage.filesystem.get_file_info(storage.root).type
            names = frozenset(storage.list("")) if kind == pafs.FileType.Directory else frozenset()
        except InputError as error:
            problem, remedy = error.errors[0].problem, error.errors[0].remedy
            raise InputError.of(FIELD, problem, remedy) from error
        except OSError as error:
            raise InputError.of(
                FIELD, f"{model} cannot be listed: {error}.", "Check the address and the rights to read it."
            ) from error
        if kind != pafs.FileType.Directory:
            raise InputError.of(FIELD, f"There is no folder {model}.", "Give an existing folder, or a hub id.")
        return cls(storage, names)

    def json(self, name: str) -> dict[str, Any]:
        try:
            document = self.storage.read_json(name)
        except OSError as error:
            raise self._unreadable(name, error) from error
        except ValueError as error:
            raise InputError.of(FIELD, f"{self.storage.url}/{name} is no valid JSON.", "Copy it again.") from error
        if not isinstance(document, dict):
            raise InputError.of(FIELD, f"{self.storage.url}/{name} holds no object.", "Copy it again.")
        return document

    def weight_files(self) -> list[str]:
        """Names of the safetensors files, in order; empty where there are none."""
        if WEIGHTS in self.names:
            return [WEIGHTS]
        if WEIGHTS_INDEX not in self.names:
            return []
        files = sorted(set(self.json(WEIGHTS_INDEX).get("weight_map", {}).values()))
        for name in files:
            if name not in self.names:
                raise InputError.of(FIELD, f"{self.storage.url} lacks {name}.", "Copy the missing file beside it.")
        return files

    def tensors(self) -> list[str]:
        """Names of the stored tensors, from the files' headers."""
        return [name for file in self.weight_files() for name in self._header(file) if name != "__metadata__"]

    def _header(self, name: str) -> dict[str, Any]:
        # Layout: little-endian u64 length of a JSON header, the header, the data; offsets count from the data.
        size = self.storage.size(name)
        try:
            with self.storage.open_input(name) as stream:
                start = bytes(stream.read(8))
                length = struct.unpack("<Q", start)[0] if len(start) == 8 else _MAX_HEADER
                text = bytes(stream.read(length)) if length < _MAX_HEADER else b""
        except OSError as error:
            raise self._unreadable(name, error) from error
        try:
            header = json.loads(text)
            end = max(entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__")
        except (ValueError, TypeError, KeyError, AttributeError):
            end = -1
        if end < 0 or size != 8 + length + end:
            raise InputError.of(
                FIELD, f"{self.storage.url}/{name} is damaged or cut short.", "Copy or download it again, whole."
            )
        assert isinstance(header, dict)
        return header

    def _unreadable(self, name: str, error: OSError) -> InputError:
        return InputError.of(
            FIELD, f"{self.storage.url}/{name} cannot be read: {error}.", "Mend it, or give the right to read it."
        )


def is_path(model: str) -> bool:
    """Whether a teacher's name means a folder (local, ``s3://``, ``gs://``) rather than a hub id."""
    return "://" in model or model.startswith(("/", "./", "../", "~")) or model in {".", ".."} or Path(model).exists()


def check_teacher(spec: TeacherSpec, places: Places = EVERYWHERE) -> None:
    """Refuse a teacher that cannot be used, as far as its folder's files tell.

    An allowed hub id passes; it is checked once it has been downloaded.

    Args:
        spec: The teacher.
        places: Where it may be.

    Raises:
        InputError: Naming ``teacher.model`` and the remedy: folder or configuration missing, a family that is
            not supported, remote code, quantised or pickled or damaged weights, no tokenizer.
    """
    if not is_path(spec.model):
        places.require_hub(spec.model, FIELD)
        return
    folder = _Folder.open(spec.model, places)
    if CONFIG not in folder.names:
        raise InputError.of(
            FIELD, f"{spec.model} has no config.json.", "Give a folder that was written by save_pretrained."
        )
    config = folder.json(CONFIG)
    _check_config(spec.model, config)
    _check_weights(spec.model, folder)
    _check_tokenizer(spec.model, folder, str(config["model_type"]))


def shape_of(folder: Path) -> TeacherShape:
    """Read a teacher's shape from its configuration and the headers of its weights.

    Raises:
        InputError: As :func:`check_teacher`.
    """
    opened = _Folder.open(str(folder))
    if CONFIG not in opened.names:
        raise InputError.of(FIELD, f"{folder} has no config.json.", "Give a folder written by save_pretrained.")
    config = opened.json(CONFIG)
    _check_config(str(folder), config)
    # A base model's file has "pooler.dense.weight", one with a head a prefix such as "bert." before it.
    pooler = any(name.endswith("pooler.dense.weight") for name in opened.tensors())
    family = str(config["model_type"])

    def size(key: str, least: int = 1) -> int:
        value = config.get(key)
        if not isinstance(value, int) or value < least:
            raise InputError.of(FIELD, f"{folder}/{CONFIG} does not say {key!r}.", "Write it with save_pretrained.")
        return value

    if size("hidden_size") % size("num_attention_heads"):
        raise InputError.of(
            FIELD,
            f"{folder}/{CONFIG} has a hidden size that its number of heads does not divide.",
            "Write it with save_pretrained.",
        )
    return TeacherShape(
        family=family,
        layers=size("num_hidden_layers"),
        hidden_size=size("hidden_size"),
        heads=size("num_attention_heads"),
        intermediate_size=size("intermediate_size"),
        vocab_size=size("vocab_size"),
        positions=size("max_position_embeddings"),
        token_types=0 if family == "mpnet" else size("type_vocab_size", least=0),
        relative_buckets=size("relative_attention_num_buckets") if family == "mpnet" else 0,
        pooler=pooler,
        reserved_positions=_reserved_positions(config),
    )


def _reserved_positions(config: dict[str, Any]) -> int:
    if config["model_type"] == "bert":
        return 0
    padding = None if config["model_type"] == "mpnet" else config.get("pad_token_id")
    return (_PADDING_ID if padding is None else int(padding)) + 1


def named_shape(name_or_folder: str) -> TeacherShape:
    """Give the shape of a well-known teacher by name, or of the teacher in a folder.

    Raises:
        InputError: Neither such a name nor a usable folder.
    """
    if name_or_folder in _NAMED:
        return _NAMED[name_or_folder]
    if not is_path(name_or_folder):
        raise InputError.of(
            FIELD, f"{name_or_folder!r} is no known teacher and no folder.", f"Use {', '.join(_NAMED)}, or a folder."
        )
    return shape_of(Path(name_or_folder).expanduser())


def fingerprint(folder: Path) -> str:
    """Hash what decides a teacher's outputs: configuration, weights and tokenizer.

    Returns:
        A sha256 in hexadecimal, over the names and contents of those files.
    """
    opened = _Folder.open(str(folder))
    index = {WEIGHTS_INDEX} if WEIGHTS not in opened.names else set()
    names = sorted(({CONFIG, *TOKENIZER_FILES} | index) & opened.names) + opened.weight_files()
    total = hashlib.sha256()
    for name in names:
        content = hashlib.sha256()
        for piece in opened.storage.stream(name, _CHUNK):
            content.update(piece)
        total.update(f"{name}\0{content.hexdigest()}\n".encode())
    return total.hexdigest()


def files_to_copy(model: str, places: Places = EVERYWHERE) -> list[str]:
    """Names of the files that make up the teacher in a folder, relative to it; pickles are never among them."""
    folder = _Folder.open(model, places)
    own = {CONFIG, WEIGHTS_INDEX, "modules.json", "README.md", *TOKENIZER_FILES} & folder.names
    pooling = ["1_Pooling/config.json"] if folder.storage.exists("1_Pooling/config.json") else []
    return [*sorted(own), *folder.weight_files(), *pooling]


def _check_config(where: str, config: dict[str, Any]) -> None:
    family = config.get("model_type")
    if config.get("auto_map"):
        raise InputError.of(
            FIELD, f"{where} needs code of its own (auto_map in config.json), which is never run.",
            f"Use a teacher of a stock family: {', '.join(FAMILIES)}.",
        )  # fmt: skip
    if family not in FAMILIES:
        raise InputError.of(
            FIELD, f"{where} is of the family {family!r}, which is not supported.", f"Use one of {', '.join(FAMILIES)}."
        )
    if config.get("quantization_config"):
        raise InputError.of(FIELD, f"{where} is quantised.", "Use the checkpoint it was made from, in floats.")
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise InputError.of(FIELD, f"{where} is set up as a decoder.", "Use an encoder (is_decoder: false).")
    if family == "mpnet" and config.get("relative_attention_num_buckets", 32) != 32:
        raise InputError.of(FIELD, f"{where} has other than 32 relative buckets.", "Use a teacher with 32.")
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise InputError.of(
            FIELD, f"{where} has position embeddings of type {positions!r}.", "Use a teacher with absolute ones."
        )


def _check_weights(where: str, folder: _Folder) -> None:
    if folder.weight_files():
        folder.tensors()  # reads every header, and so finds a file that is cut short
        return
    pickled = sorted(name for name in folder.names if name.endswith(_PICKLES))
    if pickled:
        raise InputError.of(
            FIELD, f"{where} has its weights pickled only ({pickled[0]}), which could run code when read.", _CONVERT
        )
    raise InputError.of(FIELD, f"{where} has no weights: {WEIGHTS} is missing.", _CONVERT)


def _check_tokenizer(where: str, folder: _Folder, family: str) -> None:
    vocabulary = _VOCABULARIES[family]
    if "tokenizer_config.json" in folder.names and folder.json("tokenizer_config.json").get("auto_map"):
        raise InputError.of(
            FIELD,
            f"The tokenizer of {where} needs code of its own (auto_map), which is never run.",
            "Use a teacher with a stock fast tokenizer.",
        )
    if "tokenizer.json" in folder.names or (vocabulary and folder.names.issuperset(vocabulary)):
        return
    raise InputError.of(
        FIELD,
        f"{where} has no tokenizer: tokenizer.json is missing.",
        "Write it there with AutoTokenizer.from_pretrained(...).save_pretrained(folder).",
    )
