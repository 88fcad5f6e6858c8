"""Files of a teacher without weights, enough for all checks before a run."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from workloads.shapes.layouts import LAYOUTS
from workloads.shapes.parameters import parameter_sizes
from workloads.shapes.teacher_weights import shape_from

CONFIG = {
    "model_type": "bert", "num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12,
    "intermediate_size": 1536, "vocab_size": 100, "max_position_embeddings": 128, "type_vocab_size": 2,
}  # fmt: skip
TOKENIZER = {
    "version": "1.0",
    "model": {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4},
    },
}


def write_teacher(folder: Path, **changes: Any) -> Path:
    """Write a BERT of 6 layers whose weights are a hole in the file.

    Args:
        folder: Target folder, created where it is missing.
        changes: Changes of the configuration; the weights stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    write_weights(folder / "model.safetensors", expected_shapes(CONFIG))
    return folder


def expected_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The stock name and the shape of every tensor of an encoder without a pooler."""
    shape = shape_from(config, pooler=False)
    sizes = parameter_sizes(shape)
    return {stock: sizes[name] for name, stock in LAYOUTS[shape.vocabulary.family].parameters(sizes).items()}


def write_weights(file: Path, shapes: dict[str, tuple[int, ...]], **entries: dict[str, Any]) -> None:
    """Write a safetensors file with the header of tensors in float32, and a hole in place of their numbers.

    Args:
        file: Target file.
        shapes: Shapes by tensor name.
        entries: Changes of a tensor's entry in the header, by name.
    """
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]} | entries.get(name, {})
    write_header(file, json.dumps(header).encode(), end)


def write_header(file: Path, header: bytes, data_bytes: int, length: int | None = None) -> None:
    """Write a safetensors file of a header and zeros; ``length`` is the header length that the file states."""
    with file.open("wb") as sink:
        sink.write(struct.pack("<Q", len(header) if length is None else length) + header)
        sink.truncate(8 + len(header) + data_bytes)
