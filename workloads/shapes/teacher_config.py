"""Settings of a teacher's ``config.json``, and their allowed values.

Every setting that transformers declares for a family is checked as transformers does. So a configuration that it
would not read is refused before a run. Only the settings of :data:`ENCODER` decide the encoder's outputs. The others
(returned values, caches, decoding, labels) are dropped when a teacher is opened, and reach no student.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from workloads.spec.errors import InputError
from workloads.spec.json_text import shown

FIELD = "teacher.model"
FAMILIES = ("bert", "roberta", "xlm-roberta", "mpnet")
OWN = "stillroom"
"""Model type of students that no stock class expresses; they are loaded by our own class, never by their code."""
SAVE = "Write it again with AutoModel.from_pretrained(...).save_pretrained(folder)."

SIZES = {
    "num_hidden_layers": 1_000,
    "hidden_size": 1 << 16,
    "num_attention_heads": 1 << 12,
    "intermediate_size": 1 << 20,
    "vocab_size": 1 << 24,
    "max_position_embeddings": 1 << 20,
    "type_vocab_size": 1 << 16,
}
"""Dimensions, each with the largest accepted value."""
ACTIVATIONS = (
    "gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh", "gelu_pytorch_tanh",
    "hardswish", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2", "relu6", "sigmoid", "silu",
    "sqrtsoftplus", "swish", "tanh",
)  # fmt: skip
"""Activations of transformers that have no weights."""
ENCODER = (
    *SIZES, "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "layer_norm_eps",
    "relative_attention_num_buckets", "pad_token_id", "bos_token_id", "eos_token_id", "tie_word_embeddings",
    "classifier_dropout", "tokenizer_class",
)  # fmt: skip
"""Settings of what an encoder computes, of its fine-tuning, and of its vocabulary."""
OWN_SETTINGS = ("family", "head_width", "position_counting", "relative_attention_max_distance", "has_pooler")
"""Additional settings of our own class."""
HEAD = ("num_labels", "id2label", "label2id", "problem_type")
"""Settings of a classification head."""
RESERVED = {"roberta": 1, "xlm-roberta": 1, "mpnet": 1}
"""The usual padding id of the families that count positions from the id after it; MPNet's code fixes it."""
BUCKETS, DISTANCE = 32, 128
"""Buckets and distance of MPNet's relative bias; its code fixes them."""

_Check = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Allowed values of a setting.

    Attributes:
        allows: Tells whether a value is allowed.
        words: The allowed values in words, for a remedy such as "set it to ...".
    """

    allows: _Check
    words: str


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(least: int, most: int) -> _Kind:
    return _Kind(lambda value: _is_whole(value) and least <= value <= most, f"a whole number from {least} to {most:,}")


def _or_null(kind: _Kind) -> _Kind:
    return _Kind(lambda value: value is None or kind.allows(value), f"{kind.words}, or null")


def _each(kind: _Kind) -> _Kind:
    def allows(value: Any) -> bool:
        return all(map(kind.allows, value)) if isinstance(value, list) else kind.allows(value)

    return _Kind(allows, f"{kind.words}, or a list of one for each layer")


def _one_of(*values: int | str) -> _Kind:
    words = " or ".join(repr(value) for value in values)
    return _Kind(lambda value: type(value) in (int, str) and value in values, words)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _labels(value: Any) -> bool:
    return isinstance(value, dict) and all(
        (key.isascii() and key.removeprefix("-").isdigit() and len(key) < 10 and isinstance(name, str))
        for key, name in value.items()
    )


def _label_numbers(value: Any) -> bool:
    return isinstance(value, dict) and (
        all(_is_whole(one) for one in value.values()) or all(isinstance(one, str) for one in value.values())
    )


_SHARE = _Kind(lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1,
               "a number from 0 to 1")  # fmt: skip
_FLAG = _Kind(lambda value: isinstance(value, bool), "true or false")
_ID = _or_null(_whole(0, 1 << 24))
_KINDS: dict[str, _Kind] = {
    **{name: _whole(0 if name == "type_vocab_size" else 1, most) for name, most in SIZES.items()},
    "relative_attention_num_buckets": _Kind(lambda value: _is_whole(value) and value == BUCKETS, str(BUCKETS)),
    "hidden_act": _Kind(lambda value: isinstance(value, str) and value in ACTIVATIONS, "the name of an activation"),
    "hidden_dropout_prob": _SHARE,
    "attention_probs_dropout_prob": _SHARE,
    "classifier_dropout": _or_null(_SHARE),
    # transformers refuses whole numbers for these.
    "initializer_range": _Kind(lambda value: isinstance(value, float) and 0 <= value < math.inf,
                               "a number from 0 on, with a decimal point"),
    "layer_norm_eps": _Kind(lambda value: isinstance(value, float) and 0 < value < 1, "a number between 0 and 1"),
    "pad_token_id": _ID,
    "bos_token_id": _ID,
    "eos_token_id": _Kind(lambda value: _ID.allows(value) or (isinstance(value, list) and all(map(_is_whole, value))),
                          "a token's id, or null"),
    "tie_word_embeddings": _FLAG,
    "use_cache": _FLAG,
    "is_decoder": _FLAG,
    "add_cross_attention": _FLAG,
    "is_encoder_decoder": _FLAG,
    "output_hidden_states": _or_null(_FLAG),
    "return_dict": _or_null(_FLAG),
    "chunk_size_feed_forward": _whole(0, 1 << 24),
    "tokenizer_class": _or_null(_Kind(lambda value: isinstance(value, str), "the name of a class")),
    "architectures": _or_null(_Kind(_texts, "a list of texts")),
    "problem_type": _or_null(_one_of("regression", "single_label_classification", "multi_label_classification")),
    "num_labels": _or_null(_whole(0, 1 << 20)),
    "id2label": _or_null(_Kind(_labels, 'an object such as {"0": "name"}')),
    "label2id": _or_null(_Kind(_label_numbers, 'an object such as {"name": 0}')),
}  # fmt: skip

_PER_LAYER = ("num_attention_heads", "head_width", "intermediate_size")
_OWN_KINDS: dict[str, _Kind] = {
    **_KINDS,
    "num_attention_heads": _each(_whole(0, SIZES["num_attention_heads"])),
    "head_width": _each(_whole(1, SIZES["hidden_size"])),
    "intermediate_size": _each(_whole(0, SIZES["intermediate_size"])),
    "relative_attention_num_buckets": _one_of(0, BUCKETS),
    "relative_attention_max_distance": _one_of(DISTANCE),
    "position_counting": _one_of("from-zero", "after-padding"),
    "family": _one_of("", *FAMILIES),
    "has_pooler": _FLAG,
}


def check_config(where: str, config: Mapping[str, Any]) -> None:
    """Refuse a configuration that is not supported, or that transformers would not read.

    Args:
        where: The folder, for messages.
        config: The content of its ``config.json``.

    Raises:
        InputError: A setting is wrong; the error names the key, its value and the remedy.
    """
    family = config.get("model_type")
    if config.get("auto_map") and family != OWN:
        raise InputError.of(
            FIELD, f"{where} needs code of its own (auto_map in config.json), which is never run.",
            f"Use a teacher of a stock family: {', '.join(FAMILIES)}.",
        )  # fmt: skip
    if not isinstance(family, str) or family not in (*FAMILIES, OWN):
        problem = f"{where} is of the family {shown(family)}, which is not supported."
        raise InputError.of(FIELD, problem, f"Use one of {', '.join(FAMILIES)}.")
    if config.get("quantization_config"):
        raise InputError.of(FIELD, f"{where} is quantised.", "Use the checkpoint it was made from, in floats.")
    if config.get("per_layer_config"):
        raise InputError.of(FIELD, f"{where} has layers that differ (per_layer_config).", "Use a teacher of one shape.")
    _check_values(where, family, config)
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise InputError.of(FIELD, f"{where} is set up as a decoder.", "Use an encoder (is_decoder: false).")
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise InputError.of(
            FIELD, f"{where} has position embeddings of type {shown(positions)}.", "Use a teacher with absolute ones."
        )
    _check_sizes(where, family, config)


def stock_family(config: Mapping[str, Any]) -> str:
    """Return the family whose stock classes compute the same function: the model's own, or that of its teacher.

    Args:
        config: A configuration with a supported ``model_type``.
    """
    family = str(config["model_type"])
    if family != OWN:
        return family
    if config.get("family"):
        return str(config["family"])
    # Students of earlier versions do not name it. RoBERTa and XLM-R compute the same function.
    if config.get("relative_attention_num_buckets"):
        return "mpnet"
    return "bert" if config.get("position_counting", "from-zero") == "from-zero" else "roberta"


def reserved_positions(config: Mapping[str, Any]) -> int:
    """Return the number of rows of the position table before that of the first token."""
    family = stock_family(config)
    if family not in RESERVED:
        return 0
    return (RESERVED[family] if family == "mpnet" else int(config.get("pad_token_id", RESERVED[family]))) + 1


def encoder_settings(config: Mapping[str, Any], *, head: bool = False) -> dict[str, Any]:
    """Return the settings to open a teacher with: only those of what it computes.

    Args:
        config: A configuration that :func:`check_config` passes.
        head: Keep the settings of a classification head too.
    """
    own = OWN_SETTINGS if config["model_type"] == OWN else ()
    kept = {name: config[name] for name in (*ENCODER, *own, *(HEAD if head else ())) if name in config}
    if kept.get("pad_token_id", 0) is None:  # no output of BERT depends on the padding id, so the default will do
        del kept["pad_token_id"]
    return kept


def _check_values(where: str, family: str, config: Mapping[str, Any]) -> None:
    kinds, needed = _KINDS, [name for name in SIZES if not (family == "mpnet" and name == "type_vocab_size")]
    if family == OWN:
        kinds, needed = _OWN_KINDS, [*SIZES, "head_width"]
    for name in needed:
        if name not in config:
            raise InputError.of(FIELD, f"{where}/config.json does not say {name!r}.", SAVE)
    for name, kind in kinds.items():
        if name == "relative_attention_num_buckets" and family not in {"mpnet", OWN}:
            continue
        if name in config and not kind.allows(config[name]):
            raise _wrong(where, name, config[name], kind)


def _wrong(where: str, name: str, value: Any, kind: _Kind) -> InputError:
    remedy = f"In config.json set {name} to {kind.words}."
    if name == "hidden_act" and isinstance(value, str):
        close = difflib.get_close_matches(value[:40], ACTIVATIONS, n=1)
        remedy = f"Did you mean {close[0]!r}?" if close else f"Use one of {', '.join(ACTIVATIONS)}."
    return InputError.of(FIELD, f"{where}/config.json has {name}: {shown(value)}, which is not allowed.", remedy)


def _check_sizes(where: str, family: str, config: Mapping[str, Any]) -> None:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if family == OWN:
        _check_layers(where, config)
    elif hidden % heads:
        problem = f"{where}/config.json has a hidden_size of {hidden}, which {heads} num_attention_heads do not divide."
        raise InputError.of(FIELD, problem, SAVE)
    padding, vocabulary = config.get("pad_token_id", 0), config["vocab_size"]
    if padding is None and stock_family(config) in RESERVED and family != "mpnet":
        problem = f"{where}/config.json has pad_token_id: null, and this family counts positions from the id after it."
        raise InputError.of(FIELD, problem, "Set it to the id of the tokenizer's padding token.")
    if padding is not None and padding >= vocabulary:
        problem = f"{where}/config.json has pad_token_id: {padding}, which is not below vocab_size: {vocabulary}."
        raise InputError.of(FIELD, problem, "Set it to the id of the tokenizer's padding token.")
    positions = config["max_position_embeddings"]
    if reserved_positions(config) >= positions:
        problem = f"{where}/config.json has max_position_embeddings: {positions}, which leaves no position for a token."
        raise InputError.of(FIELD, problem, SAVE)


def _check_layers(where: str, config: Mapping[str, Any]) -> None:
    for name in _PER_LAYER:
        value, layers = config[name], config["num_hidden_layers"]
        if isinstance(value, list) and len(value) != layers:
            problem = f"{where}/config.json lists {len(value)} values of {name}, and says num_hidden_layers: {layers}."
            raise InputError.of(FIELD, problem, "Use the config.json that the student was saved with.")
    family, counting = stock_family(config), config.get("position_counting", "from-zero")
    if (counting == "after-padding") != (family in RESERVED):
        problem = f"{where}/config.json has position_counting: {counting!r}, which is not that of {family}."
        raise InputError.of(FIELD, problem, "Use the config.json that the student was saved with.")
