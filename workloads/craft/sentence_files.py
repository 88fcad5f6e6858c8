"""The files that make a saved encoder a model of sentence-transformers, in the layout that all its versions read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from workloads.craft.whole import EmbeddingModel
from workloads.shapes.heads import dense_name
from workloads.shapes.teacher_folder import CONFIG, MODULES, WEIGHTS
from workloads.shapes.teacher_modules import MODEL_CONFIG, OLD_POOLINGS, TRANSFORMER_CONFIGS

_MODULES = "sentence_transformers.models"


def write_modules(folder: Path, model: EmbeddingModel, longest: int) -> None:
    """Write the modules after the Transformer, whose files are in the folder itself.

    Args:
        folder: The student's folder.
        model: The student.
        longest: Tokens that texts are truncated to.
    """
    head, hidden = model.head, model.config.hidden_size
    entries = [("Transformer", ""), ("Pooling", "1_Pooling")]
    flags = {flag: kind == head.pooling for flag, kind in OLD_POOLINGS.items()}
    _write(folder / "1_Pooling" / CONFIG, {"word_embedding_dimension": hidden, **flags, "include_prompt": True})
    for index, dense in enumerate(head.dense):
        name = dense_name(index)
        linear = model.maps[name]
        path = f"{len(entries)}_Dense"
        facts = {"in_features": linear.in_features, "out_features": linear.out_features, "bias": True}
        _write(folder / path / CONFIG, {**facts, "activation_function": dense.activation})
        tensors = {f"linear.{kind}": tensor.cpu().contiguous() for kind, tensor in linear.state_dict().items()}
        save_file(tensors, folder / path / WEIGHTS)
        entries.append(("Dense", path))
    if head.normalize:
        path = f"{len(entries)}_Normalize"
        (folder / path).mkdir(exist_ok=True)
        entries.append(("Normalize", path))
    listed = [
        {"idx": index, "name": str(index), "path": path, "type": f"{_MODULES}.{kind}"}
        for index, (kind, path) in enumerate(entries)
    ]
    _write(folder / MODULES, listed)
    _write(folder / TRANSFORMER_CONFIGS[0], {"max_seq_length": longest, "do_lower_case": head.lowercase})
    settings: dict[str, Any] = {"prompts": dict(head.prompts), "default_prompt_name": head.default_prompt}
    if head.similarity is not None:
        settings["similarity_fn_name"] = head.similarity
    _write(folder / MODEL_CONFIG, settings)


def _write(file: Path, document: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
