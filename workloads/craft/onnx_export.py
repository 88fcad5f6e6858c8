"""ONNX files of a student, for ONNX Runtime: float32, checked against PyTorch.

Shape letters: B rows, L tokens, H hidden size.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

FILE = "model.onnx"
TOLERANCE = 1e-4
"""How far ONNX Runtime may be from PyTorch, relative to the largest value of the output."""

_ONE_FILE_BYTES = 2**31 - 2**26  # protobuf's limit, with room for the graph
_CHECKS = ((1, 1), (1, 9), (3, 32), (2, 128), (5, 512))  # rows and tokens, cut to what the student takes


class OnnxMismatch(RuntimeError):
    """The ONNX file gives something else than the model it was made of."""


def export_onnx(model: PreTrainedModel, folder: Path, *, has_token_types: bool) -> Path:
    """Write ``model.onnx`` with a free number of rows and tokens, and check it against PyTorch.

    Its inputs are ``input_ids``, ``attention_mask`` and, where asked for, ``token_type_ids`` (int64 ``[B, L]``);
    its outputs are ``last_hidden_state`` and, where the student has a pooler, ``pooler_output``. Weights beyond
    protobuf's 2 GB lie in ``model.onnx.data`` beside it.

    Args:
        model: A student, stock or our own, in evaluation mode on the CPU.
        folder: Where the file goes; it must exist.
        has_token_types: Whether ``token_type_ids`` is an input.

    Returns:
        The file.

    Raises:
        OnnxMismatch: ONNX Runtime and PyTorch disagree; no file is left.
        OSError: The folder cannot be written.
    """
    assert not model.training
    inputs = ("input_ids", "attention_mask", "token_type_ids")[: 3 if has_token_types else 2]
    outputs = ("last_hidden_state", "pooler_output")[: 1 if model.pooler is None else 2]
    module = _Flat(model, inputs, outputs).eval()
    with tempfile.TemporaryDirectory(dir=folder) as work, _eager_attention(model):
        _write(module, Path(work) / FILE, longest=model.config.max_position_embeddings)
        _check(module, Path(work) / FILE)
        for part in sorted(Path(work).iterdir(), reverse=True):  # the weights first, so that the graph finds them
            shutil.move(part, folder / part.name)
    return folder / FILE


def session(file: Path) -> Any:
    """Open an ONNX file on the CPU with as many threads as PyTorch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


class _Flat(nn.Module):
    """A student that takes and gives tensors by position."""

    def __init__(self, model: PreTrainedModel, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, inputs, outputs

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        output = self.model(**dict(zip(self.inputs, given, strict=True)), return_dict=True)
        return tuple(output[name] for name in self.outputs)


@contextmanager
def _eager_attention(model: PreTrainedModel) -> Iterator[None]:
    # The exporter cannot take fused attention with a relative bias apart; plain products it can, in all families.
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _write(module: _Flat, file: Path, longest: int) -> None:
    example = tuple(torch.ones(2, 4, dtype=torch.int64) for _ in module.inputs)
    free = {0: torch.export.Dim("batch", min=1, max=2**16), 1: torch.export.Dim("length", min=1, max=longest - 2)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about its own parts
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            input_names=module.inputs,
            output_names=module.outputs,
            dynamic_shapes=(tuple(free for _ in module.inputs),),
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with the paths of this machine
    weight_bytes = sum(parameter.nbytes for parameter in module.parameters())
    program.save(file, external_data=weight_bytes > _ONE_FILE_BYTES)


@torch.inference_mode()
def _check(module: _Flat, file: Path) -> None:
    config = module.model.config
    longest = config.max_position_embeddings - (config.pad_token_id or 0) - 1
    onnx, generator = session(file), torch.Generator().manual_seed(0)
    assert [value.name for value in onnx.get_inputs()] == list(module.inputs)
    for rows, tokens in sorted({(rows, min(tokens, longest)) for rows, tokens in _CHECKS}):
        given = _random_inputs(module, rows, tokens, generator)
        real_BL = given[1].bool()
        found = onnx.run(module.outputs, {name: part.numpy() for name, part in zip(module.inputs, given, strict=True)})
        for name, ours, theirs in zip(module.outputs, module(*given), map(torch.from_numpy, found), strict=True):
            if name == "last_hidden_state":  # what stands at padding means nothing
                ours, theirs = ours[real_BL], theirs[real_BL]
            difference = ((ours - theirs).abs().max() / ours.abs().max()).item()
            if not difference <= TOLERANCE:
                raise OnnxMismatch(
                    f"The ONNX file's {name} for {rows} rows of {tokens} tokens differs from PyTorch's by "
                    f"{difference:.2e} of its largest value, more than {TOLERANCE:.0e}; it was not kept."
                )


def _random_inputs(module: _Flat, rows: int, tokens: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    config = module.model.config
    ids_BL = torch.randint(config.vocab_size, (rows, tokens), generator=generator)
    lengths_B = torch.randint(1, tokens + 1, (rows,), generator=generator)
    lengths_B[0] = tokens
    mask_BL = (torch.arange(tokens) < lengths_B[:, None]).long()
    ids_BL = torch.where(mask_BL.bool(), ids_BL, config.pad_token_id or 0)
    if "token_type_ids" not in module.inputs:
        return ids_BL, mask_BL
    return ids_BL, mask_BL, torch.randint(config.type_vocab_size, (rows, tokens), generator=generator)
