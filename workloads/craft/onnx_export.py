"""ONNX files of a student: float32, checked against PyTorch, and int8, with its loss measured.

Shape letters: B rows, L tokens, H hidden size.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from workloads.answers.exports import QuantisationReport
from workloads.craft.signals import Batch
from workloads.craft.whole import EmbeddingModel, WholeModel

FILE = "model.onnx"
INT8_FILE = "model.int8.onnx"
_HEADS = ("logits", "sentence_embedding")
"""Outputs of heads."""
TOLERANCE = 1e-4
"""Largest difference of ONNX Runtime from PyTorch, relative to the largest output value."""

_ONE_FILE_BYTES = 2**31 - 2**26  # protobuf's limit, with room for the graph
_CHECKS = ((1, 1), (1, 9), (3, 32), (2, 128), (1, 512))  # rows and tokens, cut to the student's longest input


class OnnxMismatch(RuntimeError):
    """Outputs of the ONNX file differ from those of its model."""


def export_onnx(model: WholeModel, folder: Path, *, has_token_types: bool) -> Path:
    """Write ``model.onnx`` with dynamic numbers of rows and tokens, and check it against PyTorch.

    Its inputs are ``input_ids``, ``attention_mask`` and optionally ``token_type_ids`` (int64 ``[B, L]``). Its outputs
    are :func:`outputs_of`. Weights over protobuf's limit of 2 GB
    are written to ``model.onnx.data`` beside it.

    Args:
        model: A student, of a stock class or our own, in evaluation mode on the CPU.
        folder: An existing folder for the file.
        has_token_types: Whether ``token_type_ids`` is an input, as it should be if the tokenizer gives them.

    Returns:
        The file.

    Raises:
        OnnxMismatch: ONNX Runtime and PyTorch differ; no file is left.
        OSError: The folder cannot be written.
    """
    assert not model.training
    inputs = ("input_ids", "attention_mask", "token_type_ids")[: 3 if has_token_types else 2]
    module = _Flat(model, inputs, outputs_of(model)).eval()
    with tempfile.TemporaryDirectory(dir=folder) as work, _eager_attention(model):
        _write(module, Path(work) / FILE, longest=model.config.max_position_embeddings)
        _check(module, Path(work) / FILE)
        _move(Path(work), folder)
    return folder / FILE


def outputs_of(model: WholeModel) -> tuple[str, ...]:
    """Return the names of a model's outputs.

    An embedding model has ``sentence_embedding`` and ``last_hidden_state``, a classifier ``logits``, an encoder
    ``last_hidden_state`` and, if it has a pooler, ``pooler_output``.
    """
    if isinstance(model, EmbeddingModel):
        return ("sentence_embedding", "last_hidden_state")
    if model.base_model is not model:
        return ("logits",)
    return ("last_hidden_state", "pooler_output")[: 1 if model.pooler is None else 2]


def quantise_onnx(folder: Path) -> Path:
    """Write ``model.int8.onnx`` from the ``model.onnx`` beside it.

    Matrix products have int8 weights with a scale per output channel, and quantise their inputs at run time. Embedding
    tables are uint8 with one scale each.

    Returns:
        The file.

    Raises:
        OSError: The folder cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=folder) as work:
        quantize_dynamic(
            folder / FILE,
            Path(work) / INT8_FILE,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            weight_type=QuantType.QInt8,
            per_channel=True,
            # On CPUs without VNNI, full int8 would overflow 16-bit sums and lose more than is measured here.
            reduce_range=True,
            use_external_data_format=_weights_file(folder / FILE).exists(),
        )
        _move(Path(work), folder)
    return folder / INT8_FILE


def measure_quantisation(folder: Path, batches: Iterable[Batch]) -> QuantisationReport:
    """Compare ``model.int8.onnx`` with ``model.onnx`` beside it.

    Args:
        folder: Folder of both files.
        batches: Held-out rows; at least one batch.
    """
    float32, int8 = session(folder / FILE), session(folder / INT8_FILE)
    names = {value.name for value in float32.get_outputs()}
    hidden, pooled, head, rows, tokens = _Comparison(), _Comparison(), _Comparison(), 0, 0
    of_head = next((name for name in _HEADS if name in names), None)
    for batch in batches:
        given, real_BL = _inputs_of(batch, {value.name for value in float32.get_inputs()})
        rows, tokens = rows + len(real_BL), tokens + int(real_BL.sum())
        if "last_hidden_state" in names:
            theirs, ours = (torch.from_numpy(one.run(["last_hidden_state"], given)[0]) for one in (float32, int8))
            hidden.add(theirs[real_BL], ours[real_BL])
            pooled.add(_mean(theirs, real_BL), _mean(ours, real_BL))
        if of_head is not None:
            theirs, ours = (torch.from_numpy(one.run([of_head], given)[0]) for one in (float32, int8))
            head.add(*((x[real_BL] if x.ndim == 3 else x) for x in (theirs, ours)))
    return QuantisationReport(
        float32_bytes=_bytes(folder / FILE),
        int8_bytes=_bytes(folder / INT8_FILE),
        rows=rows,
        tokens=tokens,
        hidden_cosine=hidden.cosine,
        hidden_error=hidden.error,
        pooled_cosine=pooled.cosine,
        pooled_cosine_worst=pooled.worst if pooled.count else None,
        pooled_error=pooled.error,
        head_error=head.error,
    )


def session(file: Path) -> Any:
    """Open an ONNX file on the CPU with as many threads as PyTorch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


class _Comparison:
    """Sums over vectors ``[N, H]`` of a reference and of its approximation."""

    def __init__(self) -> None:
        self.count, self.cosines, self.worst, self.norm, self.difference = 0, 0.0, 1.0, 0.0, 0.0

    def add(self, theirs_NH: Tensor, ours_NH: Tensor) -> None:
        theirs_NH, ours_NH = theirs_NH.double(), ours_NH.double()
        cosines_N = F.cosine_similarity(theirs_NH, ours_NH, dim=-1)
        self.count += len(cosines_N)
        self.cosines += cosines_N.sum().item()
        self.worst = min(self.worst, cosines_N.min().item())
        self.norm += theirs_NH.square().sum().item()
        self.difference += (theirs_NH - ours_NH).square().sum().item()

    @property
    def cosine(self) -> float | None:
        return self.cosines / self.count if self.count else None

    @property
    def error(self) -> float | None:
        return math.sqrt(self.difference / self.norm) if self.count else None


def _inputs_of(batch: Batch, names: set[str]) -> tuple[dict[str, Any], Tensor]:
    ids_BL = batch.input_ids_BL
    real_BL = torch.ones_like(ids_BL, dtype=torch.bool) if batch.mask_BL is None else batch.mask_BL
    types_BL = torch.zeros_like(ids_BL) if batch.token_types_BL is None else batch.token_types_BL
    given = {"input_ids": ids_BL, "attention_mask": real_BL, "token_type_ids": types_BL}
    return {name: part.long().numpy() for name, part in given.items() if name in names}, real_BL


def _mean(x_BLH: Tensor, real_BL: Tensor) -> Tensor:
    real_BL1 = real_BL.unsqueeze(-1)
    return (x_BLH * real_BL1).sum(1) / real_BL1.sum(1)


def _weights_file(file: Path) -> Path:
    """Path of the file for weights over protobuf's limit."""
    return file.with_name(f"{file.name}.data")


def _bytes(file: Path) -> int:
    return sum(part.stat().st_size for part in (file, _weights_file(file)) if part.exists())


def _move(work: Path, folder: Path) -> None:
    for part in sorted(work.iterdir(), reverse=True):  # weights first: a graph never lacks its weights
        shutil.move(part, folder / part.name)


class _Flat(nn.Module):
    """A student with positional input and output tensors."""

    def __init__(self, model: WholeModel, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, inputs, outputs

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        output = self.model(**dict(zip(self.inputs, given, strict=True)), return_dict=True)
        return tuple(output[name] for name in self.outputs)


@contextmanager
def _eager_attention(model: WholeModel) -> Iterator[None]:
    # The exporter cannot decompose fused attention with a relative bias. Eager attention works in all families.
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
        warnings.simplefilter("ignore")  # PyTorch's warnings about its own code
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
        node.metadata_props.clear()  # stack traces with paths of this machine
    weight_bytes = sum(parameter.nbytes for parameter in module.parameters())
    program.save(file, external_data=weight_bytes > _ONE_FILE_BYTES)
    _without_types_of_weights(file)


def _without_types_of_weights(file: Path) -> None:
    """Remove the entries of weights' shapes: quantising transposes some weights and leaves the entries as they are."""
    model = onnx.load(file, load_external_data=False)
    weights = {weight.name for weight in model.graph.initializer}
    kept = [one for one in model.graph.value_info if one.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    onnx.save(model, file)


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
            if ours.ndim == 3:  # values at padding are meaningless
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
