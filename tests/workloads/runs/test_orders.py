"""Selections, plans and all steps that may follow a search: real drivers on a real Ray, a tiny teacher."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoModel

from tests.workloads.runs.scenes import House
from workloads.documents.job_folder import OrderDocument, ResultDocument

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, make_teacher: Callable[..., Path], ray_cluster: str) -> House:
    folder = tmp_path_factory.mktemp("house")
    return House.furnish(folder, str(folder / "storage"), make_teacher, ray_cluster)


@pytest.fixture(scope="module")
def plan(house: House) -> ResultDocument:
    """A plan of the compression, made before it."""
    code, result = house.run("pln_a", 1, house.request(), OrderDocument(kind="plan"))
    assert code == 0
    return result


@pytest.fixture(scope="module")
def compressed(house: House, plan: ResultDocument) -> ResultDocument:
    code, result = house.run("cmp_a", 1, house.request())
    assert code == 0
    return result


def test_a_plan_says_which_budgets_can_be_met_and_what_it_would_take(house: House, plan: ResultDocument) -> None:
    assert plan.plan is not None and plan.students == []
    budgets = {budget.budget: budget for budget in plan.plan.budgets}
    assert budgets["any"].candidates == {"thin": 2, "wide": 2} and budgets["any"].feasible
    assert budgets["none"].candidates == {"thin": 0, "wide": 0} and not budgets["none"].feasible
    steps = {step.name: step for step in plan.plan.steps}
    assert set(steps) == {"teacher", "corpus", "train-thin", "train-wide", "search", "students"}
    assert not any(step.reused for step in steps.values())
    assert 0 < steps["train-thin"].seconds <= plan.plan.seconds < 600
    assert plan.plan.device_hours > 0 and plan.plan.calibration_seconds > 0
    assert {step.name for step in house.progress("pln_a").steps} == {"teacher", "calibration"}


def test_a_selection_needs_neither_the_teacher_nor_the_text_nor_training(
    house: House, compressed: ResultDocument
) -> None:
    gone = {"teacher": {"model": "/gone"}, "corpus": {"paths": ["/gone.txt"]}}
    limit = compressed.students[0].params - 1
    order = OrderDocument(kind="selection", scores=compressed.artifacts["scores"][0])
    budgets = [{"name": "small", "max_params": limit}, {"name": "none", "max_weight_bytes": 1}]
    code, result = house.run("sel_a", 1, house.request(budgets=budgets, **gone), order)
    assert code == 0
    (student,) = result.students
    assert student.params <= limit and student.files is not None
    assert [step.name for step in house.progress("sel_a").steps] == ["students"]
    model = AutoModel.from_pretrained(house.storage.path(student.files))
    assert sum(parameter.numel() for parameter in model.parameters()) == student.params
    (missed,) = result.infeasible
    assert set(missed.nearest[0].misses) == {"max_weight_bytes"}


@pytest.mark.slow
def test_a_selection_from_artefacts_that_are_gone_says_so(house: House) -> None:
    order = OrderDocument(kind="selection", scores="0" * 24)
    code, result = house.run("sel_gone", 1, house.request(), order)
    assert code == 1
    assert result.error is not None and (result.error.code, result.error.field) == ("invalid_input", "compression")


def test_the_result_has_pictures_and_the_teachers_costs(house: House, compressed: ResultDocument) -> None:
    for name, head in (("frontier.png", b"\x89PNG"), ("frontier.svg", b"<?xml")):
        assert house.storage.read_bytes(compressed.pictures[name]).startswith(head)
    assert compressed.teacher is not None
    assert compressed.teacher.params > compressed.students[0].params
    files = compressed.students[0].files
    assert files is not None
    assert "frontier.png" in (Path(house.storage.path(files)) / "README.md").read_text()
    assert (Path(house.storage.path(files)) / "frontier.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_latency_target_that_no_node_has_is_told_before_anything_is_trained(house: House) -> None:
    target = {"name": "moon", "resource": "moon"}
    budget = {"name": "b", "max_latency_ms": 5, "latency_target": "moon"}
    request = house.request(budgets=[budget], latency_targets=[target], seed=77)
    code, result = house.run("cmp_moon", 1, request)
    assert code == 1
    assert result.error is not None
    assert (result.error.code, result.error.field) == ("invalid_input", "budgets.0.latency_target")
    assert {step.name for step in house.progress("cmp_moon").steps if step.status == "succeeded"} == {"teacher"}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("task")
    words = ["teacher", "student", "fox", "citizens"]
    rows = {
        "sentence": [f"the {words[i % 4]} and the room {i}" for i in range(64)],
        "label": [int(i % 4 == 0) for i in range(64)],
    }
    for side in ("train", "validation"):
        pq.write_table(pa.table(rows), folder / f"{side}.parquet")
    return {
        "train": [str(folder / "train.parquet")], "validation": [str(folder / "validation.parquet")],
        "text_columns": ["sentence"], "epochs": 1, "batch_size": 8, "sequence_length": 32, "candidates": 2,
    }  # fmt: skip


@pytest.mark.slow
def test_latency_proxy_task_polish_and_exports_in_one_compression(
    house: House, compressed: ResultDocument, task: dict[str, Any]
) -> None:
    request = house.request(
        budgets=[
            {"name": "quick", "max_latency_ms": 10_000, "latency_target": "cpu-1"},
            {"name": "never", "max_latency_ms": 1e-6, "latency_target": "cpu-1"},
            {"name": "light", "max_weight_bytes": 10**9, "max_activation_bytes": 10**9},
        ],
        latency_targets=[{"name": "cpu-1", "sequence_length": 32, "runs": 10}],
        proxy_task=task,
        polish={"tokens": 6 * 4 * 32, "top_k": 2},
        export={"onnx": True, "int8": True},
    )
    code, planned = house.run("pln_all", 1, request, OrderDocument(kind="plan"))
    assert code == 0 and planned.plan is not None
    estimates = {step.name: step for step in planned.plan.steps}
    assert list(estimates)[-4:] == ["latency", "proxy-task", "polish", "students"]
    for name in ("latency", "proxy-task", "polish"):
        assert 0 < estimates[name].seconds < 600 and "not estimated" not in estimates[name].basis
    assert "8 measurements of candidates" in estimates["latency"].basis
    code, result = house.run("cmp_all", 1, request)
    assert code == 0
    quick, light = result.students
    assert (quick.budget, light.budget) == ("quick", "light")
    assert quick.latency is not None and quick.latency.p50_ms < 10_000 and quick.latency.speed_up > 0
    assert quick.latency_prediction is not None and quick.latency_prediction["predicted_ms"] > 0
    assert light.latency is None
    cards = [(Path(house.storage.path(str(student.files))) / "README.md").read_text() for student in (quick, light)]
    told = f"| Speed-up | {quick.latency.speed_up:.2f} times"
    assert told in cards[0]
    assert "## Latency" in cards[0] and "## Latency" not in cards[1]
    for student in (quick, light):
        assert student.polished_tokens == 6 * 4 * 32
        assert student.task_score is not None and 0 <= student.task_score <= 1
        assert math.isfinite(student.heldout_loss)
        assert student.files is not None
        folder = Path(house.storage.path(student.files))
        for file in (student.exports["onnx"], student.exports["int8"]):
            onnxruntime.InferenceSession(folder / file, providers=["CPUExecutionProvider"])
        assert student.exports["int8_report"]["hidden_cosine"] > 0.5
    # Files made only for measuring are not named, but their bytes are counted.
    folders = {student.files.partition("/builds/")[0] for student in result.students if student.files is not None}
    assert {f"artifacts/student/{one}" for one in result.artifacts["student"]} == folders
    every = [house.storage.path(f"artifacts/student/{name}") for name in house.storage.list("artifacts/student")]
    students = [folder for one in every for folder in Path(one).glob("builds/cmp_all-*")]
    assert len(students) > len(folders)
    room = sum(file.stat().st_size for folder in students for file in folder.rglob("*") if file.is_file())
    assert result.stored_bytes is not None and result.stored_bytes > room
    (never,) = result.infeasible
    assert never.nearest[0].misses["max_latency_ms"] > 1
    assert never.nearest[0].latency_source in ("measured", "predicted")
    reused = {step.name: step.reused for step in house.progress("cmp_all").steps}
    assert list(reused)[-4:] == ["latency", "proxy-task", "polish", "students"]
    assert reused["train-thin"] and reused["search"]
