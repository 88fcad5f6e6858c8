"""What a worker imports: each process pays for it again."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workloads.craft.superlm_files import wiring_of
from workloads.craft.teacher import open_teacher

_MODELS = "transformers.modeling_utils"


def _loaded(program: str) -> set[str]:
    """Names of the modules that a new process has after a program."""
    told = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return set(told.stdout.split())


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_an_actor_of_the_search_imports_no_models_of_transformers(
    family: str, make_teacher: Callable[..., Path], tmp_path: Path
) -> None:
    wiring = tmp_path / "wiring"
    wiring.write_bytes(pickle.dumps(wiring_of(open_teacher(make_teacher(tmp_path / "teacher", family)))))
    loaded = _loaded(
        f"import pickle, pathlib, workloads.runs.search.trial\npickle.loads(pathlib.Path({str(wiring)!r}).read_bytes())"
    )
    assert "torch" in loaded
    assert _MODELS not in loaded


def test_a_selection_imports_neither_ray_train_nor_tune_nor_onnx_runtime() -> None:
    loaded = _loaded("import workloads.runs.job, workloads.runs.attempt.attempt, workloads.runs.stages.answering")
    assert {"torch", "ray"} <= loaded
    assert not {"ray.train", "ray.tune", "ray.data", "onnxruntime"} & loaded


def test_threads_of_a_run_spin_briefly_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os, workloads.runs.attempt; print(os.environ['GOMP_SPINCOUNT'])"
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert "2000" in _loaded(program)
    monkeypatch.setenv("GOMP_SPINCOUNT", "77")
    assert "77" in _loaded(program)
