"""Check of a teacher's stored tensors against its configuration, by names and shapes alone.

transformers ignores unknown tensors and initialises missing ones at random. So every difference within the encoder is
refused here, before anything is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.shapes.heads import Head
from workloads.shapes.layouts import LAYOUTS
from workloads.shapes.parameters import Axis, parameter_sizes, place_of
from workloads.shapes.safetensors_header import StoredTensor
from workloads.shapes.teacher_config import BUCKETS, FIELD, OWN, reserved_positions, stock_family
from workloads.spec.errors import InputError
from workloads.spec.json_text import shown

WRAPPERS = ("_orig_mod.", "module.", "model.")
"""Prefixes that wrappers put before every name: torch.compile, DataParallel, a class around the model."""
_BASES = {"bert": "bert.", "roberta": "roberta.", "xlm-roberta": "roberta.", "mpnet": "mpnet.", OWN: "stillroom."}
"""Prefixes of the encoder's names in a model with a head."""
FLOATS = ("F16", "BF16", "F32", "F64")
_OLD_NORMS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""Names in early TensorFlow checkpoints, which transformers renames on loading."""
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
_KEYS: dict[Axis, str] = {
    "hidden": "hidden_size",
    "attention": "hidden_size",
    "ffn": "intermediate_size",
    "heads": "num_attention_heads",
    "vocabulary": "vocab_size",
    "positions": "max_position_embeddings",
    "token_types": "type_vocab_size",
    "buckets": "relative_attention_num_buckets",
}
"""The setting of the configuration that gives the width of an axis."""


@dataclass(frozen=True, slots=True)
class EncoderTensors:
    """Facts about a checkpoint's encoder, found in the names of its tensors.

    Attributes:
        wrapper: A prefix of every name that must be removed on loading; empty if there is none.
        pooler: Whether the checkpoint holds a pooler.
    """

    wrapper: str
    pooler: bool


def check_weights(where: str, tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> EncoderTensors:
    """Compare the stored tensors with those that the configuration asks for.

    Args:
        where: The folder, for messages.
        tensors: All tensors in its files.
        config: A configuration that :func:`~workloads.shapes.teacher_config.check_config` passes.

    Raises:
        InputError: A tensor is missing, unknown, not of floats, or of another shape than the configuration says; the
            error names it, and for a shape both sizes and the key.
    """
    kind = str(config["model_type"])
    layout = LAYOUTS[kind]
    root, wrapper = _root(where, tensors, kind)
    own = {_new_name(name.removeprefix(root)): tensor for name, tensor in tensors.items() if name.startswith(root)}
    if kind != OWN:  # a layer of our own class may have no tensors at all
        _check_depth(where, own, config["num_hidden_layers"])
    found = EncoderTensors(wrapper, f"{layout.shared['pooler']}.weight" in own)
    sizes = parameter_sizes(shape_from(config, pooler=found.pooler))
    expected = layout.parameters(sizes)
    for canonical, name in expected.items():
        if name not in own:
            raise InputError.of(
                FIELD, f"{where} lacks some weights: {root}{name}.", "Use a checkpoint with all weights."
            )
        keys = [_KEYS[axis] for axis in place_of(canonical).axes]
        check_tensor(where, root + name, own[name], keys, sizes[canonical])
    known = set(expected.values())
    inside = ("embeddings.", "encoder.", "pooler.", "layers.", "relative_bias.")
    for name in own:
        if name not in known and name not in _BUFFERS and name.startswith(inside):
            problem = f"{where} holds the tensor {shown(root + name)}, which a {kind} encoder does not have."
            remedy = "Merge adapters into the weights and save the plain model, or correct config.json."
            raise InputError.of(FIELD, problem, remedy)
    return found


def shape_from(config: Mapping[str, Any], *, pooler: bool, head: Head | None = None) -> TeacherShape:
    """Return the shape that a checked configuration describes.

    Args:
        config: The configuration.
        pooler: Whether the model has a pooler.
        head: Its head, if it is more than an encoder.
    """
    family, own = stock_family(config), config["model_type"] == OWN
    heads = config["num_attention_heads"]
    architecture = Architecture.of_columns(
        config["hidden_size"],
        config["num_hidden_layers"],
        heads=heads,
        head_width=config["head_width"] if own else config["hidden_size"] // heads,
        intermediate_size=config["intermediate_size"],
    )
    vocabulary = Vocabulary(
        family=family,
        vocab_size=config["vocab_size"],
        positions=config["max_position_embeddings"],
        token_types=0 if family == "mpnet" else config["type_vocab_size"],
        relative_buckets=BUCKETS if family == "mpnet" else 0,
        pooler=pooler,
        reserved_positions=reserved_positions(config),
        head=head,
    )
    return TeacherShape(architecture, vocabulary)


def _root(where: str, tensors: Mapping[str, StoredTensor], family: str) -> tuple[str, str]:
    """Return the prefix of the encoder's tensor names, and the part of it that a wrapper added."""
    word_table = f"{LAYOUTS[family].shared['embeddings.word']}.weight"
    roots = [name.removesuffix(word_table) for name in tensors if name.endswith(word_table)]
    if not roots:
        first = shown(next(iter(tensors), "none"))
        problem = f"{where} lacks some weights: {word_table} (the first tensor is {first})."
        raise InputError.of(FIELD, problem, f"Use the weights of a {family} encoder.")
    root = min(roots, key=len)
    wrapper = root.removesuffix(_BASES[family])
    rest = wrapper
    while known := next((prefix for prefix in WRAPPERS if rest.startswith(prefix)), None):
        rest = rest.removeprefix(known)
    if rest or not all(name.startswith(wrapper) for name in tensors):
        how = "begin" if rest else "begin in part"
        problem = f"The names of the weights of {where} {how} with {shown(wrapper)}, as in {shown(root + word_table)}."
        remedy = f"Save the inner model, or rename the weights as in {word_table} or {_BASES[family]}{word_table}."
        raise InputError.of(FIELD, problem, remedy)
    return root, wrapper


def check_tensor(where: str, name: str, tensor: StoredTensor, keys: Sequence[str], expected: tuple[int, ...]) -> None:
    """Refuse a stored tensor that is not of floats, or of another shape than the configuration says.

    Args:
        where: The folder, for messages.
        name: Name of the tensor.
        tensor: The tensor.
        keys: For each axis, the setting that gives its width.
        expected: The shape.

    Raises:
        InputError: The tensor is refused.
    """
    if tensor.dtype not in FLOATS:
        raise InputError.of(
            FIELD, f"{where} holds {shown(name)} in {tensor.dtype}, not in floats.", "Save it in floats."
        )
    if tensor.shape == expected:
        return
    if len(tensor.shape) == len(expected):
        sizes = zip(keys, tensor.shape, expected, strict=True)
        key, there, wanted = next((key, there, wanted) for key, there, wanted in sizes if there != wanted)
        problem = f"The tensor {name} of {where} has {there:,} where config.json says {key}: {wanted:,}"
        raise InputError.of(
            FIELD,
            f"{problem} (its shape is {list(tensor.shape)}, not {list(expected)}).",
            f"Set {key} to {there} in config.json if the weights are right, or use the weights that belong to it.",
        )
    raise InputError.of(
        FIELD, f"The tensor {name} of {where} has the shape {list(tensor.shape)}, not {list(expected)}.",
        "Use the weights that belong to config.json.",
    )  # fmt: skip


def _check_depth(where: str, own: Mapping[str, StoredTensor], layers: int) -> None:
    found = {int(match.group(1)) for name in own if (match := re.match(r"encoder\.layer\.(\d{1,6})\.", name))}
    stored = max(found, default=-1) + 1
    if stored != layers:
        raise InputError.of(
            FIELD, f"The weights of {where} have {stored} layers, and config.json says num_hidden_layers: {layers}.",
            f"Set num_hidden_layers to {stored} if the weights are right, or use the weights that belong to it.",
        )  # fmt: skip


def _new_name(name: str) -> str:
    for old, new in _OLD_NORMS.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name
