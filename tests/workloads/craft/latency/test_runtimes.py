from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from workloads.craft.cutting import cut_student
from workloads.craft.export import build_student
from workloads.craft.latency.runtimes import check_compiler, load_model, make_ready
from workloads.craft.stillroom_model.modeling_stillroom import StillroomModel
from workloads.craft.teacher import open_teacher
from workloads.shapes.architecture import Architecture, Layer
from workloads.spec.budgets import LatencyTarget
from workloads.spec.errors import InputError


def _target(**settings: Any) -> LatencyTarget:
    return LatencyTarget(name="t", **({"batch_size": 2, "sequence_length": 17} | settings))


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet"])
def test_a_forward_runs_the_model_on_full_rows_of_the_targets_batch_and_length(
    family: str, make_teacher: Callable[..., Path], tmp_path: Path
) -> None:
    model = load_model(make_teacher(tmp_path / "teacher", family))
    seen: list[dict[str, Any]] = []
    model.register_forward_pre_hook(lambda _, __, given: seen.append(given), with_kwargs=True)
    forward = make_ready(model, _target(), tmp_path)
    forward()
    forward()
    assert len(seen) == 2
    assert seen[0]["input_ids"].shape == (2, 17)
    assert (seen[0]["attention_mask"] == 1).all()
    assert not (seen[0]["input_ids"] == model.config.pad_token_id).any()
    assert ("token_type_ids" in seen[0]) == (family == "bert")


def test_weights_and_activations_are_of_the_targets_dtype(make_teacher: Callable[..., Path], tmp_path: Path) -> None:
    model = load_model(make_teacher(tmp_path / "teacher"))
    outputs: list[Any] = []
    model.register_forward_hook(lambda _, __, output: outputs.append(output))
    make_ready(model, _target(dtype="bfloat16"), tmp_path)()
    assert outputs[0].last_hidden_state.dtype == torch.bfloat16


@pytest.mark.parametrize("inner", [(32, 32), (32, 96)], ids=["stock", "ragged"])
def test_students_of_either_kind_are_loaded_as_they_were_saved(
    inner: tuple[int, int], make_teacher: Callable[..., Path], tmp_path: Path
) -> None:
    teacher = open_teacher(make_teacher(tmp_path / "teacher"))
    architecture = Architecture(32, tuple(Layer(2, 16, size, index) for index, size in enumerate(inner)))
    student = build_student(teacher, architecture, cut_student(teacher.weights, architecture))
    student.save_pretrained(tmp_path / "student")
    loaded = load_model(tmp_path / "student")
    assert isinstance(loaded, StillroomModel) != architecture.stock
    assert not loaded.training
    ids = torch.arange(5, 20)[None]
    torch.testing.assert_close(loaded(ids).last_hidden_state, student(ids).last_hidden_state)


def test_an_onnx_target_makes_its_file_once(make_teacher: Callable[..., Path], tmp_path: Path) -> None:
    model = load_model(make_teacher(tmp_path / "teacher"))
    make_ready(model, _target(runtime="onnx"), tmp_path)()
    written = (tmp_path / "model.onnx").stat().st_mtime_ns
    ran: list[int] = []
    model.register_forward_hook(lambda *_: ran.append(1))
    make_ready(model, _target(runtime="onnx"), tmp_path)()
    assert (tmp_path / "model.onnx").stat().st_mtime_ns == written
    assert not ran, "PyTorch ran instead of ONNX Runtime"


def test_a_missing_compiler_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    check_compiler(_target(runtime="compiled"), "latency_targets.t")
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    check_compiler(_target(runtime="eager"), "latency_targets.t")
    with pytest.raises(InputError, match="no-such-compiler") as caught:
        check_compiler(_target(runtime="compiled"), "latency_targets.t")
    assert caught.value.errors[0].field == "latency_targets.t.runtime"
    assert "CXX" in caught.value.errors[0].remedy
