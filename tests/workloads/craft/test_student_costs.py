"""Costs counted in advance against the saved student's: file size, operations, live tensors."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from tests.teachers import FAMILIES
from workloads.craft.cutting import cut_student
from workloads.craft.export import build_student
from workloads.craft.teacher import Teacher, open_teacher
from workloads.shapes.architecture import Architecture, Layer
from workloads.shapes.costs import student_cost
from workloads.spec.budgets import Dtype

Make = Callable[..., Path]


def alike(layers: int, hidden: int, heads: int, width: int, inner: int) -> Architecture:
    return Architecture.alike(
        layers=layers, hidden_size=hidden, heads=heads, head_width=width, intermediate_size=inner, teacher_layers=3
    )


ARCHITECTURES = {
    "stock": alike(2, 48, 3, 16, 120),
    "stock-one-layer": alike(1, 32, 2, 16, 256),
    "stock-wide-ffn": alike(3, 32, 2, 16, 256),
    "stock-narrow-ffn": alike(3, 64, 4, 16, 40),
    "stock-one-head": alike(3, 16, 1, 16, 32),
    "paper": alike(2, 40, 3, 16, 100),
    "paper-narrow-ffn": alike(3, 48, 4, 16, 40),
    "paper-one-head": alike(1, 24, 1, 16, 20),
    "ragged": Architecture(40, (Layer(1, 16, 30, 0), Layer(4, 16, 200, 1), Layer(2, 16, 77, 2))),
    "no-heads-in-one": Architecture(40, (Layer(0, 16, 200, 0), Layer(3, 16, 90, 1))),
    "no-neurons-in-one": Architecture(40, (Layer(3, 16, 90, 0), Layer(4, 16, 0, 1))),
    "one-layer-empty": Architecture(40, (Layer(3, 16, 90, 0), Layer(0, 16, 0, 1), Layer(2, 8, 60, 2))),
    "no-heads": Architecture(40, (Layer(0, 16, 90, 0), Layer(0, 16, 60, 2))),
    "no-neurons": Architecture(40, (Layer(2, 16, 0, 0), Layer(2, 16, 0, 2))),
    "ragged-early-peak": Architecture(40, (Layer(4, 16, 256, 0), Layer(1, 16, 20, 2))),
}
SHAPES = pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())


@pytest.fixture(scope="module", params=FAMILIES)
def teacher(request: pytest.FixtureRequest, make_teacher: Make, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return open_teacher(make_teacher(tmp_path_factory.mktemp("teacher"), request.param, layers=3))


def student_of(teacher: Teacher, architecture: Architecture) -> PreTrainedModel:
    return build_student(teacher, architecture, cut_student(teacher.weights, architecture))


class LiveBytes(TorchDispatchMode):
    """Follows the bytes of all storages that operations make, from their making to their end."""

    def __init__(self, apart: Iterable[Tensor]) -> None:
        super().__init__()
        self.apart = {tensor.untyped_storage()._cdata for tensor in apart}
        self.known: set[int] = set()
        self.live = self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage())
        return out

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known | self.apart:
            return
        self.known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._end, key, size)

    def _end(self, key: int, size: int) -> None:
        self.known.remove(key)
        self.live -= size


@torch.inference_mode()
def peak_bytes(model: PreTrainedModel, length: int) -> int:
    """Peak of live tensors in a forward of one sequence, weights, buffers and ids not counted."""
    ids = torch.full((1, length), 10)
    with LiveBytes([*model.parameters(), *model.buffers(), ids]) as live:
        model(ids)
    return live.peak


def test_the_tracker_sees_tensors_come_and_go() -> None:
    weight = torch.ones(10)
    with torch.inference_mode(), LiveBytes([weight]) as live:
        a = weight + 1
        a.view(2, 5).add_(1)  # no memory of its own
        assert (live.live, live.peak) == (40, 40)
        b = a * 2
        del a
        assert (live.live, live.peak) == (40, 80)
        del b
        assert (live.live, live.peak) == (0, 80)


@SHAPES
def test_the_saved_file_has_the_counted_parameters_and_bytes(
    teacher: Teacher, architecture: Architecture, tmp_path: Path
) -> None:
    cost, student = student_cost(teacher.shape, architecture), student_of(teacher, architecture)
    assert student.num_parameters() == cost.params
    tables = [name for name, _ in student.named_parameters() if "embeddings" in name and "orm" not in name]
    assert cost.params - cost.params_without_embeddings == sum(student.get_parameter(name).numel() for name in tables)
    dtypes: dict[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    for name, dtype in dtypes.items():
        student.to(dtype).save_pretrained(tmp_path / name)
        file = (tmp_path / name / "model.safetensors").read_bytes()
        header = 8 + int.from_bytes(file[:8], "little")
        assert len(file) - header == cost.weight_bytes(name)


@pytest.mark.parametrize("length", [8, 60])
@SHAPES
def test_flops_are_half_of_what_torch_counts(teacher: Teacher, architecture: Architecture, length: int) -> None:
    student = student_of(teacher, architecture)
    student.set_attn_implementation("eager")  # the counter leaves SDPA out on a CPU
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        student(torch.full((1, length), 10))
    assert counter.get_total_flops() == 2 * student_cost(teacher.shape, architecture, length).flops


@pytest.mark.parametrize("length", [1, 8, 33, 128])
@SHAPES
def test_activations_are_the_peak_of_live_tensors_to_the_byte(
    teacher: Teacher, architecture: Architecture, length: int
) -> None:
    peak = peak_bytes(student_of(teacher, architecture), length)
    assert peak == student_cost(teacher.shape, architecture, length).activation_bytes


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_real_size_costs_what_is_counted(make_teacher: Make, tmp_path: Path, family: str) -> None:
    sizes = {"layers": 6, "hidden_size": 384, "heads": 12, "intermediate_size": 1536, "positions": 514}
    teacher = open_teacher(make_teacher(tmp_path, family, **sizes))
    whole = teacher.shape.architecture
    assert teacher.model.num_parameters() == student_cost(teacher.shape, whole).params
    for length in (128, 512):
        assert peak_bytes(teacher.model, length) == student_cost(teacher.shape, whole, length).activation_bytes
