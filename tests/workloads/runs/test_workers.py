"""Workers of every kind set PyTorch up alike before they compute; the one that measures latency leaves it as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from workloads.craft.latency.cores import held_to_cores
from workloads.runs import evaluation_seeds, proxy, student_score
from workloads.runs.plans import planning
from workloads.runs.search import fidelity, trial
from workloads.runs.training import train_group

_Anything: Any = SimpleNamespace(cpus=1, reset_config=lambda config: True)
WORKERS: dict[str, Callable[[], object]] = {
    "training and polish": lambda: train_group._worker({"job": _Anything}),
    "search": lambda: trial.Scorer(_Anything, torch.device("cpu")),
    "proxy task": lambda: proxy._FineTuneCandidate.setup(_Anything, {"candidate": 0}, _Anything),
    "evaluation": lambda: evaluation_seeds._evaluate_seed(_Anything, {}, _Anything, 0, _Anything),
    "fidelity": lambda: fidelity._measure_lot(_Anything, _Anything, _Anything, _Anything),
    "calibration": lambda: planning._take({"CPU": 1.0, "GPU": 1.0}),
}


@pytest.fixture(autouse=True)
def _cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PyTorch as it starts on a machine with a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


@pytest.mark.parametrize("start", WORKERS.values(), ids=WORKERS)
def test_a_worker_on_a_gpu_multiplies_in_tf32(start: Callable[[], object]) -> None:
    with contextlib.suppress(Exception):  # there is no work for it
        start()
    assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_num_threads() == 1


def test_a_student_is_scored_again_as_the_search_scored_it(tmp_path: Path) -> None:
    student_score.main([str(tmp_path / "nowhere"), "--work", str(tmp_path)])
    assert torch.get_float32_matmul_precision() == "high"


def test_a_measurement_of_latency_leaves_precision_as_users_have_it() -> None:
    with held_to_cores(1):
        assert torch.get_float32_matmul_precision() == "highest"
