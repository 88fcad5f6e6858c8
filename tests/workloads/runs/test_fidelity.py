"""Fidelity on the whole road, by real drivers: in the scores table, with the students, and as floors of budgets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.teachers import add_modules
from tests.workloads.runs.scenes import House
from workloads.answers.scores_table import read_scores
from workloads.craft.blocks import Blocks
from workloads.craft.fidelity.probe import Probe
from workloads.craft.scoring import heldout_batches
from workloads.craft.teacher import open_teacher
from workloads.documents.job_folder import OrderDocument
from workloads.storage import artifacts

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_classifiers_students_are_chosen_and_told_by_how_often_they_agree(
    tmp_path: Path, make_teacher: Callable[..., Path], ray_cluster: str
) -> None:
    plain = House.furnish(tmp_path, str(tmp_path / "storage"), make_teacher, ray_cluster)
    house = replace(plain, teacher=make_teacher(tmp_path / "classifier", head="classification", labels=3))
    budgets = [
        {"name": "any", "max_params": 10**9},
        {"name": "some", "min_agreement": 0.01, "minimise": "flops"},
        {"name": "never", "min_agreement": 1.0, "max_params": 30_000},
    ]
    request = house.request(fidelity_rows=40, budgets=budgets)
    code, result = house.run("cmp_a", 1, request)
    assert code == 0
    assert result.teacher is not None and result.teacher.shape["head"]["kind"] == "classification"
    students = {one.budget: one for one in result.students}
    assert {"any", "some"} <= set(students)
    fidelity = students["any"].fidelity
    assert fidelity is not None
    assert (fidelity.rows, set(fidelity.interval)) == (40, {"agreement", "kl"})
    assert students["some"].flops <= students["any"].flops

    # The told figures are those of the saved folder on the first held-out rows.
    folder = Path(house.storage.path(str(students["any"].files)))
    teacher, student = open_teacher(house.teacher, "classification"), open_teacher(folder, "classification")
    corpus = artifacts.load(house.storage, "corpus", result.artifacts["corpus"][0])
    probe = Probe.read(teacher, heldout_batches(Blocks.open(house.storage, corpus, "heldout").read(range(40)), 4))
    again = probe.of_saved(student)
    assert again.agreement == fidelity.agreement
    assert again.kl == pytest.approx(fidelity.kl, rel=1e-3)
    card = (folder / "README.md").read_text()
    assert "Fidelity to the teacher" in card and f"{fidelity.agreement:.4f}" in card

    # The scores table has every survivor's, equal to the exported student's up to rounding.
    rows = read_scores(house.storage, artifacts.load(house.storage, "scores", result.artifacts["scores"][0]))
    assert all((row.scored.fidelity is not None) == row.survives for row in rows)
    wanted = students["any"].subspace, students["any"].architecture
    of_any = next(row.scored for row in rows if (row.scored.subspace, row.scored.architecture.to_json()) == wanted)
    assert of_any.fidelity is not None
    assert of_any.fidelity["kl"] == pytest.approx(fidelity.kl, rel=1e-2)

    # A budget that none reaches tells the nearest and what it lacks.
    if "never" not in students:
        (never,) = [one for one in result.infeasible if one.budget == "never"]
        assert never.nearest[0].misses
        assert never.nearest[0].fidelity is not None

    # A later selection needs no training and takes the saved student again.
    order = OrderDocument(kind="selection", scores=result.artifacts["scores"][0])
    code, selected = house.run("sel_a", 1, request | {"budgets": [{"name": "later", "min_agreement": 0.01}]}, order)
    assert code == 0
    assert [one.fidelity for one in selected.students] == [fidelity]


def test_a_floor_on_an_encoder_and_of_another_kind_is_refused_before_any_training(
    tmp_path: Path, make_teacher: Callable[..., Path], ray_cluster: str
) -> None:
    house = House.furnish(tmp_path, str(tmp_path / "storage"), make_teacher, ray_cluster)
    budgets = [{"name": "safe", "min_cosine": 0.9}]
    code, result = house.run("cmp_e", 1, house.request(budgets=budgets))
    assert code == 1
    assert result.error is not None
    assert (result.error.code, result.error.field) == ("invalid_input", "budgets.0.min_cosine")
    assert result.students == []


def test_an_embedding_models_students_keep_neighbours_and_those_of_an_encoder_have_no_fidelity(
    tmp_path: Path, make_teacher: Callable[..., Path], ray_cluster: str
) -> None:
    house = House.furnish(tmp_path, str(tmp_path / "storage"), make_teacher, ray_cluster)
    add_modules(house.teacher)
    budgets = [{"name": "any", "max_params": 10**9}, {"name": "far", "min_neighbours": 1.0, "min_cosine": 1.0}]
    code, result = house.run(
        "cmp_v", 1, house.request(budgets=budgets, fidelity_rows=30, search={"heldout_blocks": 32})
    )
    assert code == 0
    (student,) = result.students
    assert student.fidelity is not None
    assert set(student.fidelity.figures) == {"cosine", "similarity_spearman", "neighbours_at_10"}
    (far,) = result.infeasible
    assert set(far.nearest[0].misses) == {"min_neighbours", "min_cosine"}
    assert json.loads(far.nearest[0].model_dump_json())["fidelity"]["cosine"] < 1

    encoder: dict[str, Any] = house.request()
    encoder["teacher"] |= {"kind": "encoder"}
    code, plain = house.run("cmp_p", 1, encoder)
    assert code == 0
    assert [one.fidelity for one in plain.students] == [None]
