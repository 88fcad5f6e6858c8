"""Whole compressions of teachers with a head: drivers on a real Ray, students used with the teachers' libraries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import pipeline

from tests.teachers import SENTENCES, add_modules
from tests.workloads.runs.scenes import House
from workloads.documents.job_folder import ResultDocument
from workloads.runs.student_score import ScoreOptions, score_student

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SPACE = {"name": "thin", "layers": [1, 2], "hidden_sizes": [32], "mlp_ratios": [2.0]}
ANY = {"name": "any", "max_params": 10**9}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, make_teacher: Callable[..., Path], ray_cluster: str) -> House:
    folder = tmp_path_factory.mktemp("house")
    return House.furnish(folder, str(folder / "storage"), make_teacher, ray_cluster)


@pytest.fixture(scope="module")
def requests(house: House, make_teacher: Callable[..., Path]) -> dict[str, Any]:
    folder = house.teacher.parent
    vectors = add_modules(
        make_teacher(folder / "vectors", "mpnet"), dense=[(24, "Tanh")], prompts={"query": "ask: "}, max_seq_length=64,
    )  # fmt: skip
    labels = make_teacher(folder / "labels", "roberta", head="classification", id2label={0: "a", 1: "b", 2: "c"})
    pairs = [{"one": SENTENCES[n % 6], "other": f"{SENTENCES[n % 5]} {n}"} for n in range(120)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    spaces, corpus = {"spaces": [SPACE]}, {"paths": [str(folder / "pairs.jsonl")], "heldout_fraction": 0.2}
    return {
        "cmp_vectors": house.request(
            teacher={"model": str(vectors)}, subspaces=spaces, budgets=[ANY],
            corpus={**corpus, "text_column": "other"}, export={"onnx": True, "int8": True},
            polish={"tokens": 4 * 4 * 32}, objective={"relation_heads": 2, "embedding": {"similarity_rows": 4}},
        ),
        "cmp_labels": house.request(
            teacher={"model": str(labels), "kind": "classification"}, subspaces=spaces,
            corpus={**corpus, "text_columns": ["one", "other"]}, objective={"relation_heads": 2},
            budgets=[{**ANY, "max_latency_ms": 10**6, "latency_target": "cpu-1"}],
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def ended(house: House, requests: dict[str, Any]) -> dict[str, ResultDocument]:
    started = {job: house.start(job, 1, request) for job, request in requests.items()}
    results = {job: house.end(process, job, 1) for job, process in started.items()}
    assert {job: code for job, (code, _) in results.items()} == dict.fromkeys(requests, 0), results
    return {job: result for job, (_, result) in results.items()}


def test_a_search_model_becomes_a_smaller_one_in_its_space(house: House, ended: dict[str, ResultDocument]) -> None:
    result = ended["cmp_vectors"]
    (student,) = result.students
    assert result.teacher is not None
    assert result.teacher.kind == "embedding"
    folder = house.storage.path(str(student.files))
    model = SentenceTransformer(folder, device="cpu")
    vectors = torch.from_numpy(model.encode(SENTENCES))
    assert vectors.shape == (len(SENTENCES), 24)
    assert sum(one.numel() for one in model.parameters()) == student.params
    assert model.max_seq_length == 64
    assert student.exports["int8_report"]["head_error"] > 0
    assert "SentenceTransformer(" in (Path(folder) / "README.md").read_text()


def test_a_classifier_of_pairs_becomes_a_smaller_one(house: House, ended: dict[str, ResultDocument]) -> None:
    result = ended["cmp_labels"]
    (student,) = result.students
    assert result.teacher is not None
    assert result.teacher.kind == "classification"
    assert student.latency is not None
    classify = pipeline("text-classification", house.storage.path(str(student.files)), device="cpu")
    answer = classify({"text": SENTENCES[0], "text_pair": SENTENCES[1]})
    assert answer["label"] in {"a", "b", "c"}
    assert sum(one.numel() for one in classify.model.parameters()) == student.params


@pytest.mark.parametrize("job", ["cmp_vectors", "cmp_labels"])
def test_their_losses_are_measured_again_from_their_files(
    house: House, ended: dict[str, ResultDocument], job: str, tmp_path: Path
) -> None:
    (student,) = ended[job].students
    folder = Path(house.storage.path(str(student.files)))
    found = score_student(folder, ScoreOptions(storage=house.storage), tmp_path)
    assert found.heldout_loss == pytest.approx(student.heldout_loss, rel=1e-3)


def test_an_encoder_of_the_same_folder_is_another_teacher(house: House, requests: dict[str, Any]) -> None:
    request = requests["cmp_vectors"]
    changes = {"teacher": {**request["teacher"], "kind": "encoder"}, "polish": None, "export": {}, "objective": {}}
    code, result = house.run("cmp_encoder", 1, {**request, **changes})
    assert code == 0
    assert result.teacher is not None
    assert result.teacher.kind == "encoder"
    assert not (Path(house.storage.path(str(result.students[0].files))) / "modules.json").exists()
