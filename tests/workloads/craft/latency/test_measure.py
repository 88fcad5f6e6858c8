from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from tests.teachers import FAMILIES
from workloads.craft.cutting import cut_student
from workloads.craft.export import build_student
from workloads.craft.latency.measure import measure, time_alone
from workloads.craft.latency.runtimes import load_model
from workloads.craft.teacher import open_teacher
from workloads.shapes.architecture import Architecture, Layer
from workloads.spec.budgets import LatencyTarget

pytestmark = pytest.mark.alone  # it measures times

_WARM_UPS, _RUNS = 2, 20


def _target(**settings: Any) -> LatencyTarget:
    return LatencyTarget(**({"name": "t", "sequence_length": 16, "warm_ups": _WARM_UPS, "runs": _RUNS} | settings))


@pytest.fixture(scope="module")
def folder(make_teacher: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tmp_path_factory.mktemp("latency"), "bert", layers=2)


def _slowed(folder: Path, before: Callable[[], None], layer: int = 1) -> PreTrainedModel:
    """Give the model with additional work before one of its layers."""
    model = load_model(folder)
    model.encoder.layer[layer].register_forward_pre_hook(lambda *_: before())
    return model


def test_a_planted_slow_layer_is_seen(folder: Path) -> None:
    teacher = functools.partial(load_model, folder)
    found = measure(_target(), teacher, lambda: _slowed(folder, lambda: time.sleep(0.02)))
    assert 20 < found.p50_ms <= found.p95_ms
    assert found.speed_up < 0.75
    assert found.speed_up == pytest.approx(found.teacher_p50_ms / found.p50_ms)


def test_one_wide_layer_among_narrow_ones_is_seen(make_teacher: Callable[..., Path], tmp_path: Path) -> None:
    teacher = open_teacher(make_teacher(tmp_path, layers=2, intermediate_size=8192))

    def student(*inner: int) -> PreTrainedModel:
        shape = Architecture(64, tuple(Layer(4, 16, size, index) for index, size in enumerate(inner)))
        return build_student(teacher, shape, cut_student(teacher.weights, shape))

    found = measure(_target(sequence_length=100), lambda: student(32, 32), lambda: student(32, 8192))
    assert found.p50_ms > 1.5 * found.teacher_p50_ms


def test_both_are_timed_by_turns_equally_often_and_loaded_anew_for_each_repeat(folder: Path) -> None:
    log: list[str] = []
    loads: list[str] = []

    def opener(name: str) -> Callable[[], PreTrainedModel]:
        def open_model() -> PreTrainedModel:
            loads.append(name)
            return _slowed(folder, lambda: log.append(name))

        return open_model

    measure(_target(), opener("teacher"), opener("student"))
    assert loads == ["teacher", "student"] * 2
    each = _WARM_UPS + _RUNS + 10  # and one untimed at the head of each of ten blocks
    assert log.count("teacher") == log.count("student") == 2 * each
    turns = [(name, len(list(runs))) for name, runs in itertools.groupby(log)]
    assert max(length for _, length in turns) <= max(_WARM_UPS + 3, 2 * 3)
    assert len(turns) >= 2 * 10


def test_a_machine_that_grows_slower_does_so_for_both(folder: Path) -> None:
    calls = itertools.count()

    def drift() -> None:
        time.sleep(0.004 + 0.0001 * next(calls))

    def opener() -> PreTrainedModel:
        return _slowed(folder, drift)

    assert measure(_target(), opener, opener).speed_up == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("noisy", ["teacher", "student"])
def test_repeats_that_differ_are_said_to(folder: Path, noisy: str) -> None:
    loads = itertools.count(1)

    def shaky() -> PreTrainedModel:
        seconds = 0.01 * next(loads)
        return _slowed(folder, lambda: time.sleep(seconds))

    def calm() -> PreTrainedModel:
        return _slowed(folder, lambda: time.sleep(0.03))

    found = measure(_target(), *((shaky, calm) if noisy == "teacher" else (calm, shaky)))
    assert not found.agrees
    first, second = found.teacher_repeats_p50_ms if noisy == "teacher" else found.repeats_p50_ms
    assert second > 1.5 * first


def test_a_steady_model_agrees_with_itself_and_the_answer_says_where_and_with_what(folder: Path) -> None:
    def steady() -> PreTrainedModel:
        return _slowed(folder, lambda: time.sleep(0.05))

    found = measure(_target(), steady, steady)
    assert found.agrees
    assert found.target == _target()
    assert found.device
    assert found.versions["torch"] == torch.__version__
    assert set(found.versions) == {"torch", "transformers", "onnxruntime"}


def test_it_runs_with_the_targets_threads_and_leaves_the_process_as_it_was(folder: Path) -> None:
    before = os.sched_getaffinity(0), torch.get_num_threads()
    seen: set[tuple[int, int]] = set()

    def look() -> None:
        seen.add((len(os.sched_getaffinity(0)), torch.get_num_threads()))

    time_alone(_target(), lambda: _slowed(folder, look), folder)
    assert seen == {(1, 1)}
    assert (os.sched_getaffinity(0), torch.get_num_threads()) == before


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_measured_as_it_is_and_in_onnx_runtime(
    family: str, make_teacher: Callable[..., Path], tmp_path: Path
) -> None:
    teacher = functools.partial(load_model, make_teacher(tmp_path / "teacher", family, layers=4))
    student = functools.partial(load_model, make_teacher(tmp_path / "student", family, layers=1))
    for runtime in ("eager", "onnx"):
        found = measure(_target(runtime=runtime, sequence_length=100, runs=40), teacher, student)
        assert 0 < found.p50_ms <= found.p95_ms
        assert found.speed_up > 1.2, runtime


@pytest.mark.slow
def test_compiled_code_is_what_runs_however_many_models_came_before(
    make_teacher: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_teacher(tmp_path, layers=1)
    for number in range(10):  # by default PyTorch stops compiling after eight models of a class, without an error
        compiled: set[bool] = set()

        def look(compiled: set[bool] = compiled) -> None:
            compiled.add(torch.compiler.is_compiling())  # compiled code holds the answer from its tracing

        model = functools.partial(_slowed, folder, look, layer=0)
        assert len(time_alone(_target(runtime="compiled"), model, tmp_path)) == _RUNS
        assert compiled == {True}, number


@pytest.mark.slow
def test_teacher_and_student_are_both_compiled(folder: Path, make_teacher: Callable[..., Path], tmp_path: Path) -> None:
    small = make_teacher(tmp_path, layers=1)
    compiled: set[bool] = set()

    def look() -> None:
        compiled.add(torch.compiler.is_compiling())

    found = measure(
        _target(runtime="compiled"),
        lambda: _slowed(folder, look),
        lambda: _slowed(small, look, layer=0),
    )
    assert compiled == {True}
    assert 0 < found.p50_ms <= found.p95_ms
