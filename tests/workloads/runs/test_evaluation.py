"""Evaluations by real drivers on a real Ray: side by side, saved seed by seed, continued after a kill."""

from __future__ import annotations

import csv
import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.workloads.runs.scenes import House
from tests.workloads.task_files import write_words
from workloads.craft.tasks.evaluating import TaskModel, evaluate_seed, prepare
from workloads.documents.job_folder import JobFolder, OrderDocument
from workloads.shapes import teacher_files
from workloads.spec.evaluation import parse_accepted
from workloads.storage.artifacts import Artifact

pytestmark = pytest.mark.ray

ORDER = OrderDocument(kind="evaluation")
STUDENT = "artifacts/student/abc/builds/cmp_a-1"


class Desk:
    """A house with a task in it, and with a student that is the teacher's twin."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house = house
        house.storage.upload(house.teacher, STUDENT)
        self.train, self.test = (
            write_words(folder / f"{name}.csv", rows, seed, length=length)
            for name, rows, seed, length in (("train", 300, 0, 6), ("test", 60, 1, 5))
        )

    def request(self, **changes: Any) -> dict[str, Any]:
        task = {
            "name": "fox", "kind": "single", "train": [self.train], "test": [self.test], "text_columns": ["sentence"],
            "metric": "f1",
        }  # fmt: skip
        return {
            "model": {"teacher": {"model": str(self.house.teacher)}},
            "task": task | changes.pop("task", {}),
            "seeds": [3, 5, 8], "epochs": 3, "learning_rates": [2e-3], "batch_size": 16, "sequence_length": 16,
        } | changes  # fmt: skip

    def seeds(self) -> dict[int, Artifact]:
        """The seeds that are kept."""
        storage, folder = self.house.storage, "artifacts/evaluation-seed"
        names = [name for name in storage.list(folder, recursive=True) if name.endswith("/manifest.json")]
        found = [Artifact(**storage.read_json(f"{folder}/{name}")) for name in names]
        return {one.inputs["seed"]: one for one in found}


@pytest.fixture
def desk(tmp_path: Path, make_teacher: Callable[..., Path], ray_cluster: str) -> Desk:
    return Desk(House.furnish(tmp_path, str(tmp_path / "storage"), make_teacher, ray_cluster), tmp_path)


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_from_its_finished_seeds_to_the_same_scores(desk: Desk) -> None:
    house, request = desk.house, desk.request()
    killed = house.start("evl_a", 1, request, ORDER)
    house.wait(killed, desk.seeds, "the first seed")
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=10)
    kept = desk.seeds()
    assert 1 <= len(kept) < 3

    code, result = house.run("evl_a", 2, request, ORDER)
    assert (code, result.status) == (0, "succeeded")
    assert {seed: one for seed, one in desk.seeds().items() if seed in kept} == kept, "fine-tuned a second time"
    steps = {step.name: step for step in house.progress("evl_a", 2).steps}
    assert list(steps) == ["model", "rows", "seed-3", "seed-5", "seed-8"]
    assert {step.status for step in steps.values()} == {"succeeded"}
    assert {seed for seed in (3, 5, 8) if steps[f"seed-{seed}"].reused} == set(kept)
    drawn = [event for event in JobFolder(house.storage, "evl_a").read_events(2) if event.type == "metrics"]
    assert {event.data["step"] for event in drawn} == {f"seed-{seed}" for seed in (3, 5, 8) if seed not in kept}

    found = result.evaluation
    assert found is not None
    assert [one.seed for one in found.seeds] == [3, 5, 8]
    values = [one.score for one in found.seeds]
    assert (found.mean, found.std) == (pytest.approx(statistics.fmean(values)), pytest.approx(statistics.stdev(values)))
    assert found.mean > 0.9 > 0.75 > found.baseline.score
    assert (found.metric, found.average, found.scored_on) == ("f1", "binary", "test")
    assert (found.rows, found.train_rows, found.set_aside_rows) == (60, 270, 30)
    assert found.fingerprint == teacher_files.fingerprint(house.teacher)
    assert result.artifacts["evaluation-seed"] == [desk.seeds()[seed].fingerprint for seed in (3, 5, 8)]

    # The cluster's result equals that of fine-tuning in this process.
    asked, model = parse_accepted(request), TaskModel.teacher(house.teacher)
    plain = evaluate_seed(model.model, prepare(asked, model), asked, 5, torch.device("cpu"))
    assert plain.score == pytest.approx(values[1], abs=0.05)
    assert found.params == model.model.num_parameters()

    # The same model under another name, as a student, and the same rows under another: nothing is done again.
    twin = desk.request(
        model={"compression": "cmp_a", "student": "stu_a"}, files=STUDENT, task={"name": "other"}, labels={"a": "b"}
    )
    code, again = house.run("evl_b", 1, twin, ORDER)
    assert code == 0
    assert again.evaluation == found.model_copy(update={"task": "other"})
    assert all(step.reused for step in house.progress("evl_b").steps if step.name != "model")


def test_a_student_whose_files_are_gone_is_told_by_its_field(desk: Desk) -> None:
    gone = {"model": {"compression": "cmp_a", "student": "stu_a"}, "files": "artifacts/student/gone/builds/x"}
    code, result = desk.house.run("evl_gone", 1, desk.request(**gone), ORDER)
    assert code == 1
    assert result.error is not None
    assert (result.error.code, result.error.field) == ("invalid_input", "model.student")
    assert result.error.remedy
    assert [step.status for step in desk.house.progress("evl_gone").steps] == ["failed", *["pending"] * 4]


def test_kept_models_are_folders_with_their_scores_counted_found_again_and_taken_as_teachers(desk: Desk) -> None:
    house, asked = desk.house, desk.request(seeds=[3, 5], epochs=1, keep_model=True)
    code, result = house.run("evl_k", 1, asked, ORDER)
    assert code == 0
    assert result.evaluation is not None
    folders = [one.files for one in result.evaluation.seeds]
    assert all(folder is not None and folder.startswith("artifacts/evaluation-model/") for folder in folders)
    assert set(result.artifacts) == {"evaluation", "evaluation-model"}
    sizes = [house.storage.bytes_below(str(folder)) for folder in folders]
    assert result.stored_bytes is not None
    assert result.stored_bytes >= sum(sizes) > 2 * (house.teacher / "model.safetensors").stat().st_size
    for seed, folder in zip(result.evaluation.seeds, folders, strict=True):
        place = Path(house.storage.path(str(folder)))
        model, info = AutoModelForSequenceClassification.from_pretrained(place, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        rows = list(csv.DictReader(Path(desk.test).read_text().splitlines()))
        tokens = AutoTokenizer.from_pretrained(place)(
            [row["sentence"] for row in rows], padding=True, return_tensors="pt"
        )
        with torch.no_grad():
            answers = model(**tokens).logits.argmax(-1).tolist()
        right = [model.config.id2label[one] == row["label"] for one, row in zip(answers, rows, strict=True)]
        assert statistics.fmean(right) == pytest.approx(seed.scores["accuracy"], abs=0.02)

    # Scores without models follow from it, and so does the whole asked for again; a missing model is made again.
    code, plain = house.run("evl_p", 1, desk.request(seeds=[3, 5], epochs=1), ORDER)
    assert plain.evaluation is not None
    assert [one.score for one in plain.evaluation.seeds] == [one.score for one in result.evaluation.seeds]
    assert [one.files for one in plain.evaluation.seeds] == [None, None]
    assert all(step.reused for step in house.progress("evl_p").steps if step.name.startswith("seed-"))
    house.storage.remove(str(folders[0]).partition("/builds/")[0])
    code, again = house.run("evl_k", 2, asked, ORDER)
    assert again.evaluation is not None
    steps = {step.name: step.reused for step in house.progress("evl_k", 2).steps}
    assert (steps["seed-3"], steps["seed-5"]) == (False, True)
    assert [one.files for one in again.evaluation.seeds] == [str(folders[0]).replace("evl_k-1", "evl_k-2"), folders[1]]
