"""Runtimes of a target: PyTorch eager, PyTorch compiled, or ONNX Runtime.

Shape letters: B rows, L tokens.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workloads.craft.families import family_of
from workloads.craft.teacher import open_teacher
from workloads.craft.whole import WholeModel, whole_of
from workloads.shapes import teacher_files
from workloads.spec.budgets import LatencyTarget
from workloads.spec.errors import InputError

Forward = Callable[[], None]
"""Callable that runs the model once, and returns when the device is done."""


def load_model(folder: Path) -> PreTrainedModel:
    """Load the encoder of a teacher or a student as its users do, in float32 and evaluation mode."""
    return family_of(teacher_files.encoder_of(folder).config["model_type"]).load(folder)


def load_teacher(folder: Path) -> WholeModel:
    """Load a teacher with its head, of the kind that its folder is marked with."""
    return whole_of(open_teacher(folder))


def load_student(folder: Path) -> WholeModel:
    """Load a saved student with its head."""
    return whole_of(open_teacher(folder, teacher_files.shape_of(folder, None).kind))


def make_ready(model: WholeModel, target: LatencyTarget, folder: Path) -> Forward:
    """Return a function that runs the model once on full rows (no padding) of the target's batch and length.

    Compiled models share PyTorch's cache of compiled code; :func:`forget_compiled` empties it.

    Args:
        model: A model in evaluation mode; it is moved to the target's device and dtype.
        target: The runtime and its settings.
        folder: Folder for the ONNX file; an existing file is used.
    """
    if target.runtime == "onnx":
        return _onnx(model, target, folder)
    model = model.to(device=target.device, dtype=getattr(torch, target.dtype))
    inputs = {name: tensor.to(target.device) for name, tensor in _inputs(model, target).items()}
    run: Any = torch.compile(model, dynamic=False) if target.runtime == "compiled" else model

    def forward() -> None:
        with torch.inference_mode():
            run(**inputs)
        if target.device == "cuda":
            torch.cuda.synchronize()

    return forward


def forget_compiled(target: LatencyTarget) -> None:
    """Drop compiled code: after a few models of one class, PyTorch silently stops compiling."""
    if target.runtime == "compiled":
        torch.compiler.reset()


def check_compiler(target: LatencyTarget, field: str) -> None:
    """Refuse a compiled target on a machine without a C++ compiler, which ``torch.compile`` needs.

    Raises:
        InputError: There is no compiler.
    """
    # The compiler that PyTorch looks for.
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if target.runtime == "compiled" and shutil.which(shlex.split(name)[0]) is None:
        raise InputError.of(
            f"{field}.runtime",
            f"torch.compile needs a C++ compiler, and {os.uname().nodename} has no {name!r}.",
            "Install g++ on the nodes that measure, set CXX to another compiler, or use the runtime 'eager' or 'onnx'.",
        )


def _onnx(model: WholeModel, target: LatencyTarget, folder: Path) -> Forward:
    from workloads.craft import onnx_export  # of onnxruntime, which machines that only train need not have

    inputs = _inputs(model, target)
    file = folder / onnx_export.FILE
    if not file.exists():
        onnx_export.export_onnx(model, folder, has_token_types="token_type_ids" in inputs)
    session = onnx_export.session(file)
    given = {name: tensor.numpy() for name, tensor in inputs.items()}

    def forward() -> None:
        session.run(None, given)

    return forward


def _inputs(model: WholeModel, target: LatencyTarget) -> dict[str, Tensor]:
    config, shape_BL = model.config, (target.batch_size, target.sequence_length)
    ids_BL = torch.randint(config.vocab_size, shape_BL, generator=torch.Generator().manual_seed(0))
    # Some families count positions over real tokens only, so padding ids are replaced.
    ids_BL = torch.where(ids_BL == config.pad_token_id, (ids_BL + 1) % config.vocab_size, ids_BL)
    inputs = {"input_ids": ids_BL, "attention_mask": torch.ones(shape_BL, dtype=torch.int64)}
    if getattr(config, "type_vocab_size", 0) > 1:  # with a single type, as in RoBERTa, tokenizers give none
        inputs["token_type_ids"] = torch.zeros(shape_BL, dtype=torch.int64)
    return inputs
