"""Whole compressions: real drivers on a real Ray, a tiny teacher, a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.teachers import SENTENCES
from tests.workloads.runs.scenes import House
from workloads.documents.job_folder import JobFolder, ResultDocument
from workloads.runs.student_score import ScoreOptions, score_student
from workloads.storage.artifacts import Key

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, make_teacher: Callable[..., Path], ray_cluster: str) -> House:
    folder = tmp_path_factory.mktemp("house")
    return House.furnish(folder, str(folder / "storage"), make_teacher, ray_cluster)


@pytest.fixture(scope="module")
def twins(house: House) -> dict[str, ResultDocument]:
    """Two jobs with the same request, started at once."""
    request = house.request()
    processes = {job: house.start(job, 1, request) for job in ("cmp_a", "cmp_b")}
    ended = {job: house.end(process, job, 1) for job, process in processes.items()}
    assert {code for code, _ in ended.values()} == {0}
    return {job: result for job, (_, result) in ended.items()}


def test_the_student_loads_with_plain_transformers_and_costs_what_is_said(
    house: House, twins: dict[str, ResultDocument]
) -> None:
    (student,) = twins["cmp_a"].students
    assert student.budget == "any"
    folder = house.storage.path(student.files)
    model = AutoModel.from_pretrained(folder)
    assert type(model).__module__.startswith("transformers.")
    assert sum(parameter.numel() for parameter in model.parameters()) == student.params
    batch = AutoTokenizer.from_pretrained(folder)(SENTENCES[:2], padding=True, return_tensors="pt")
    with torch.inference_mode():
        output = model(**batch).last_hidden_state
    assert output.shape[-1] == student.architecture["hidden_size"]
    assert output.isfinite().all()
    assert f"{student.heldout_loss:.4f}" in (Path(folder) / "README.md").read_text()


def test_the_loss_of_the_answer_is_measured_again_from_the_students_files(
    house: House, twins: dict[str, ResultDocument], tmp_path: Path
) -> None:
    (student,) = twins["cmp_a"].students
    found = score_student(Path(house.storage.path(student.files)), ScoreOptions(storage=house.storage), tmp_path)
    assert found.heldout_loss == pytest.approx(student.heldout_loss, rel=1e-3)
    assert found.recorded.heldout_loss == student.heldout_loss
    assert "artifacts/teacher" in found.teacher


def test_a_budget_that_nothing_meets_is_answered_with_the_nearest(twins: dict[str, ResultDocument]) -> None:
    (infeasible,) = twins["cmp_a"].infeasible
    assert infeasible.budget == "none"
    nearest = infeasible.nearest[0]
    assert nearest.misses == {"max_params": pytest.approx(nearest.params / 10)}
    assert nearest.architecture["layers"] == 1


def test_of_two_jobs_at_once_each_stage_is_built_once_and_both_succeed(
    house: House, twins: dict[str, ResultDocument]
) -> None:
    a, b = twins["cmp_a"], twins["cmp_b"]
    assert a.artifacts == b.artifacts
    assert [student.files for student in a.students] == [student.files for student in b.students]
    assert a.students[0].id != b.students[0].id
    for stage, fingerprints in a.artifacts.items():
        for fingerprint in fingerprints:
            builds = house.storage.list(f"artifacts/{stage}/{fingerprint}/builds")
            assert len(builds) == 1, (stage, builds)
    assert set(a.artifacts) == {"teacher", "corpus", "superlm", "scores", "student"}
    assert not [name for name in house.storage.list("artifacts/training") if "-ray" in name]  # nothing is left over
    for steps in zip(house.progress("cmp_a").steps, house.progress("cmp_b").steps, strict=True):
        assert [step.reused for step in steps].count(True) == 1, steps


def test_the_steps_end_whole_and_the_events_hold_the_curves(house: House, twins: dict[str, ResultDocument]) -> None:
    both = [house.progress(job).steps for job in ("cmp_a", "cmp_b")]
    for steps in both:
        assert [step.name for step in steps] == ["teacher", "corpus", "train-thin", "train-wide", "search", "students"]
        assert {step.status for step in steps} == {"succeeded"}
    # Either of the two may have built a stage; the other waited for it.
    built = {step.name: step for steps in both for step in steps if not step.reused}
    assert (built["train-wide"].done, built["train-wide"].unit) == (6 * 4 * 32, "tokens")
    assert (built["search"].done, built["search"].unit) == (4, "candidates")
    events = JobFolder(house.storage, "cmp_a").read_events(1) + JobFolder(house.storage, "cmp_b").read_events(1)
    drawn = {event.data["step"] for event in events if event.type == "metrics"}
    assert drawn == {"train-thin", "train-wide"}
    assert any(event.type == "placement" for event in events)


def test_a_new_budget_is_answered_without_training(house: House, twins: dict[str, ResultDocument]) -> None:
    budget = {"name": "small", "max_params": twins["cmp_a"].students[0].params - 1}
    code, result = house.run("cmp_c", 1, house.request(budgets=[budget]))
    assert code == 0
    (student,) = result.students
    assert student.params <= budget["max_params"]
    reused = {step.name: step.reused for step in house.progress("cmp_c").steps}
    assert reused == {
        "teacher": True, "corpus": True, "train-thin": True, "train-wide": True, "search": True, "students": False,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"teacher": {"model": "/nowhere"}}, "teacher.model"),
        ({"corpus": {"paths": ["/nowhere.txt"]}}, "corpus.paths"),
        (
            {"training": {"sequence_length": 256, "batch_size": 1, "tokens_per_superlm": 256}},
            "training.sequence_length",
        ),
        ({"budgets": []}, "budgets"),
    ],
)
def test_bad_input_is_told_with_its_field_and_remedy(house: House, changes: dict[str, Any], field: str) -> None:
    job = f"cmp_bad_{Key('bad', changes).fingerprint}"
    code, result = house.run(job, 1, house.request(**changes))
    assert code == 1
    assert result.status == "failed"
    assert result.error is not None
    assert (result.error.code, result.error.field) == ("invalid_input", field)
    assert result.error.remedy
    assert not any(step.status == "running" for step in house.progress(job).steps)
