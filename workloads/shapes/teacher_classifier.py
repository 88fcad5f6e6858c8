"""The classifier of a teacher's folder: a ``...ForSequenceClassification`` or a ``...ForTokenClassification``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from workloads.shapes.heads import ACTIVATIONS, LogitsHead, Problem
from workloads.shapes.safetensors_header import StoredTensor
from workloads.shapes.teacher_config import FIELD
from workloads.shapes.teacher_folder import TeacherFolder
from workloads.shapes.teacher_modules import MODEL_CONFIG, longest_text
from workloads.spec.errors import InputError
from workloads.spec.json_text import shown

_PROBLEMS: dict[str, Problem] = {
    "single_label_classification": "single-label",
    "multi_label_classification": "multi-label",
    "regression": "regression",
}
_CROSS_ENCODER = ("sentence_transformers", "sbert_ce_default_activation_function")
"""Settings that sentence-transformers adds to the configuration of a cross-encoder; the second until version 4."""
_LABELS = 2
"""Labels of a configuration that names none, in transformers."""
_AS_ENCODER = "Or set teacher.kind to 'encoder' to compress it without its head."


def has_class(config: Mapping[str, Any], ending: str) -> bool:
    """Whether a configuration says that the model was saved as a class of this ending."""
    classes = config.get("architectures")
    return isinstance(classes, list) and any(isinstance(one, str) and one.endswith(ending) for one in classes)


def logits_head(
    folder: TeacherFolder,
    config: Mapping[str, Any],
    classifier: StoredTensor | None,
    kind: Literal["classification", "token-classification"],
) -> LogitsHead:
    """Read the head of a classifier.

    Args:
        folder: The teacher's folder.
        config: Its checked configuration.
        classifier: The weight of its last linear map; None if the folder has none.
        kind: What every row, or every token, is given.

    Raises:
        InputError: There is no such head, or its size contradicts the labels of the configuration.
    """
    if classifier is None:
        raise InputError.of(
            FIELD,
            f"{folder.url} has no weights of a {kind} head.",
            f"Use a checkpoint with its head. {_AS_ENCODER}",
        )
    rows, named = classifier.shape[0], config.get("id2label")
    labels = len(named) if named else config.get("num_labels") or _LABELS
    if rows != labels:
        source = "id2label" if named else "num_labels"
        raise InputError.of(
            FIELD,
            f"The head of {folder.url} gives {rows} numbers, and config.json has {labels} labels ({source}).",
            f"Correct {source} in config.json. {_AS_ENCODER}",
        )
    if named and {int(number) for number in named} != set(range(labels)):
        raise InputError.of(
            FIELD, f"{folder.url}/config.json has id2label with other numbers than 0 to {labels - 1}.",
            "Number the labels from 0.",
        )  # fmt: skip
    of_rows = kind == "classification"
    asked = config.get("problem_type")
    default: Problem = "regression" if labels == 1 else "single-label"
    pairs = of_rows and _is_cross_encoder(folder, config)
    return LogitsHead(
        kind=kind,
        labels=labels,
        problem=_PROBLEMS[asked] if asked is not None and of_rows else default if of_rows else "single-label",
        pairs=pairs,
        activation=_activation(folder, config) if pairs else None,
        longest=longest_text(folder, _settings(folder, "sentence_bert_config.json")),
    )


def _is_cross_encoder(folder: TeacherFolder, config: Mapping[str, Any]) -> bool:
    if any(name in config for name in _CROSS_ENCODER):
        return True
    return _settings(folder, MODEL_CONFIG).get("model_type") == "CrossEncoder"


def _activation(folder: TeacherFolder, config: Mapping[str, Any]) -> str | None:
    """Return the activation of a cross-encoder's logits; None for the default of its library."""
    own = config.get("sentence_transformers")
    named = own.get("activation_fn") if isinstance(own, dict) else None
    named = named or config.get("sbert_ce_default_activation_function")
    named = named or _settings(folder, MODEL_CONFIG).get("activation_fn")
    if named is None:
        return None
    known = {one.rpartition(".")[2]: one for one in ACTIVATIONS}
    if not isinstance(named, str) or named.rpartition(".")[2] not in known or not named.startswith("torch."):
        raise InputError.of(
            FIELD,
            f"The cross-encoder {folder.url} has the activation {shown(named)}, which is not supported.",
            f"Use one of {', '.join(known)}.",
        )
    return known[named.rpartition(".")[2]]


def _settings(folder: TeacherFolder, name: str) -> Mapping[str, Any]:
    return folder.json(name) if name in folder.names else {}
