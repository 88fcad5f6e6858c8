"""The proxy task on Ray: candidates learn a learnable task, and finished ones are not fine-tuned again."""

from __future__ import annotations

import csv
import dataclasses
import gc
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from tests.workloads.runs.scenes import Heard
from workloads.answers.choosing import Scored
from workloads.answers.scores_table import TASK_FILE
from workloads.answers.trained import TeacherStage
from workloads.craft.export import build_student
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import load_superlm, save_superlm, wiring_of
from workloads.craft.tasks.data import read_task, task_fingerprint
from workloads.craft.tasks.encoding import encode_task
from workloads.craft.tasks.finetuning import FineTuning, classifier
from workloads.craft.teacher import Teacher, open_teacher
from workloads.runs import proxy
from workloads.runs.attempt.run import News, Run
from workloads.runs.proxy import Entrants, check_task, read_task_scores, score_on_task
from workloads.shapes import teacher_files
from workloads.shapes.search_space import ProductSpace
from workloads.spec.errors import InputError
from workloads.spec.request import CompressionRequest, parse_request
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage

SPACES = [
    ProductSpace("thin", (1, 2), (32,), (2.0,), None, 16, 4),
    ProductSpace("free", (2,), (32, 48), (2.0,), (3,), 16, 4),
]
WORDS = ["house", "teacher", "student", "text", "senate", "run", "budget", "lazy", "silence", "geese"]


def write_task(path: Path, rows: int, seed: int) -> str:
    """Whether ``fox`` occurs in a sentence."""
    draw = random.Random(seed)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["sentence", "label"])
        for _ in range(rows):
            words, label = draw.choices(WORDS, k=5), draw.random() < 0.5
            table.writerow([" ".join(["fox", *words] if label else words), int(label)])
    return str(path)


@dataclasses.dataclass
class Desk:
    storage: Storage
    folder: Path
    teacher: Teacher
    superlms: dict[str, Artifact]

    def request(self, **changes: Any) -> CompressionRequest:
        task = {
            "train": [str(self.folder / "train.csv")], "validation": [str(self.folder / "validation.csv")],
            "text_columns": ["sentence"], "epochs": 3, "learning_rate": 2e-3, "batch_size": 16, "sequence_length": 16,
        }  # fmt: skip
        return parse_request(
            {
                "teacher": {"model": "teacher"},
                "corpus": {"paths": ["x.txt"]},
                "proxy_task": task | changes,
                "budgets": [{"name": "any", "max_params": 10**9}],
                "seed": 4,
            }
        )

    @property
    def teacher_stage(self) -> TeacherStage:
        files = Artifact("teacher", Key("teacher", {}).fingerprint, "teacher", {}, {})
        return TeacherStage(files, self.teacher.fingerprint, self.teacher.shape)

    def run(self, builder: str) -> Run:
        return Run(self.storage, builder, Heard(self.storage, []))

    @property
    def candidates(self) -> list[Scored]:
        return [Scored(space.name, one, 0.5, spread=0.25) for space in SPACES for one in space]

    def score(
        self, request: CompressionRequest, candidates: list[Scored], builder: str, stop_after: int | None = None
    ) -> tuple[Artifact, list[tuple[int, int | None]]]:
        seen: list[tuple[int, int | None]] = []

        def progress(done: int, total: int | None) -> None:
            seen.append((done, total))
            if done == stop_after:
                raise KeyboardInterrupt

        entrants = Entrants(candidates, [self.superlms[one.subspace] for one in candidates])
        artifact = score_on_task(
            self.run(builder), request, self.teacher_stage, entrants, News(progress, lambda _: None)
        )
        return artifact, seen

    def records(self) -> list[Artifact]:
        folder = "artifacts/task-score"
        return [
            Artifact(**self.storage.read_json(f"{folder}/{name}/manifest.json")) for name in self.storage.list(folder)
        ]

    def plainly(self, request: CompressionRequest, candidate: Scored) -> list[float]:
        """The scores by epoch of a candidate that is fine-tuned right here."""
        spec = request.proxy_task
        assert spec is not None
        task = encode_task(read_task(spec), spec, self.teacher.tokenizer, self.teacher.shape)
        folder = Path(self.storage.path(self.superlms[candidate.subspace].files))
        weights = load_superlm(folder, wiring_of(self.teacher)).extract(candidate.architecture)
        model = classifier(build_student(self.teacher, candidate.architecture, weights), task, request.seed)
        tuning = FineTuning(model, task, spec, seed=request.seed, device=torch.device("cpu"))
        return [tuning.run_epoch().score for _ in range(spec.epochs)]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, make_teacher: Callable[..., Path]) -> Desk:
    folder = tmp_path_factory.mktemp("desk")
    storage = Storage.open(str(folder / "storage"))
    storage.upload(make_teacher(folder / "teacher"), "teacher")
    teacher = open_teacher(folder / "teacher")
    assert teacher.fingerprint == teacher_files.fingerprint(folder / "teacher")
    write_task(folder / "train.csv", 240, 0)
    write_task(folder / "validation.csv", 80, 1)
    superlms = {space.name: _superlm(storage, teacher, space) for space in SPACES}
    return Desk(storage, folder, teacher, superlms)


def _name(architecture: dict[str, Any]) -> str:
    return json.dumps(architecture, sort_keys=True)


def _superlm(storage: Storage, teacher: Teacher, space: ProductSpace) -> Artifact:
    key = Key("superlm", {"test": space.name})
    superlm = SuperLM.from_teacher(teacher.weights, space, wiring_of(teacher))
    save_superlm(Path(storage.path(artifacts.build_folder(key, "b"))), superlm)
    return artifacts.commit(storage, key, "b", {"head_order": None})


@pytest.mark.slow
@pytest.mark.ray
def test_candidates_are_scored_as_plainly_fine_tuned_and_finished_ones_only_once(
    desk: Desk, ray_cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    request, candidates = desk.request(), desk.candidates
    capsys.readouterr()
    # An attempt that ends in the middle leaves the candidates that it finished.
    with pytest.raises(KeyboardInterrupt):
        desk.score(request, candidates, "cmp_1-1", stop_after=2)
    gc.collect()  # Tune's actors hold their CPUs until the handles in the traceback are gone; a run's end frees them
    finished = {record.fingerprint: record for record in desk.records()}
    assert len(finished) >= 2

    artifact, seen = desk.score(request, candidates, "cmp_1-2")
    assert "xperiment" not in capsys.readouterr().out, "Tune's own output"
    assert seen == [(done, 4) for done in range(5)]
    records = {record.fingerprint: record for record in desk.records()}
    assert len(records) == 4
    assert {fingerprint: records[fingerprint] for fingerprint in finished} == finished, "fine-tuned a second time"

    scored = read_task_scores(desk.storage, artifact, candidates)
    assert [dataclasses.replace(one, task_score=None) for one in scored] == candidates
    plain = [desk.plainly(request, candidate) for candidate in candidates]
    curves = {_name(record.inputs["architecture"]): record.summary["scores"] for record in records.values()}
    for candidate, expected in zip(scored, plain, strict=True):
        curve = curves[_name(candidate.architecture.to_json())]
        assert curve == pytest.approx(expected[: len(curve)], abs=0.03)
        assert candidate.task_score == max(curve)
    assert max(one.task_score or 0 for one in scored) > 0.9
    assert artifact.summary["stopped_early"] == sum(len(curve) < 3 for curve in curves.values())
    assert desk.score(request, candidates, "cmp_2-1") == (artifact, [])


@pytest.mark.ray
@pytest.mark.slow
def test_who_falls_behind_is_stopped_early_and_still_ranked(desk: Desk, ray_cluster: Any) -> None:
    # One that has finished already sets the mark; the scores of the other two are those of untrained heads.
    request, candidates = desk.request(learning_rate=1e-6, epochs=4, metric="matthews"), desk.candidates[:3]
    keys = [Key("task-score", _inputs(desk, request, candidate)) for candidate in candidates]
    artifacts.commit(desk.storage, keys[0], "cmp_0-1", {"scores": [0.9, 0.9, 0.9, 0.95]})
    artifact, _ = desk.score(request, candidates, "cmp_3-1")
    # The second may run beside the first and get on for an epoch; the third comes after it.
    assert 1 <= artifact.summary["stopped_early"] <= 2
    table = pq.read_table(Path(desk.storage.path(artifact.files)) / "task_scores.parquet")
    assert [len(curve) for curve in table["scores_by_epoch"].to_pylist()][::2] == [4, 1]
    first, *others = read_task_scores(desk.storage, artifact, candidates)
    assert first.task_score == 0.95
    assert all(one.task_score is not None and one.task_score < 0.9 for one in others)

    # A candidate stopped early among others is no answer where those others do not compete.
    alone, _ = desk.score(request, candidates[2:], "cmp_4-1")
    assert alone.summary["stopped_early"] == 0


def _inputs(desk: Desk, request: CompressionRequest, candidate: Scored) -> dict[str, Any]:
    assert request.proxy_task is not None
    return {
        "teacher": desk.teacher.fingerprint,
        "superlm": desk.superlms[candidate.subspace].fingerprint,
        "architecture": candidate.architecture.to_json(),
        "task": task_fingerprint(request.proxy_task),
        "seed": request.seed,
    }


def test_another_searchs_losses_are_neither_kept_nor_given_back_with_its_scores(desk: Desk) -> None:
    theirs = desk.candidates[:2]
    ours = [dataclasses.replace(one, heldout_loss=0.75, spread=0.125) for one in theirs]
    key = Key("task-scores", {"test": "theirs"})
    table = proxy._table(theirs, [(0.5, 0.75), (0.25,)])
    desk.storage.write_bytes(f"{artifacts.build_folder(key, 'cmp_0-1')}/{TASK_FILE}", table)
    artifact = artifacts.commit(desk.storage, key, "cmp_0-1", {})
    assert set(pq.read_schema(io.BytesIO(table)).names) & {"heldout_loss", "spread"} == set()
    expected = [dataclasses.replace(one, task_score=score) for one, score in zip(ours, (0.75, 0.25), strict=True)]
    assert read_task_scores(desk.storage, artifact, ours) == expected


@pytest.mark.ray
def test_a_candidate_whose_own_weights_diverge_is_told_by_its_field(desk: Desk, ray_cluster: Any) -> None:
    one = desk.candidates[0]
    superlms = [desk.superlms[one.subspace], _filled(desk, float("nan"))]
    with pytest.raises(InputError) as caught:
        score_on_task(
            desk.run("cmp_5-1"), desk.request(epochs=1), desk.teacher_stage, Entrants([one, one], superlms),
            News.unheard(),
        )  # fmt: skip
    assert caught.value.errors[0].field == "proxy_task.learning_rate"


def _filled(desk: Desk, value: float) -> Artifact:
    superlm = SuperLM.from_teacher(desk.teacher.weights, SPACES[0], wiring_of(desk.teacher))
    superlm.flat.decay.data.fill_(value)
    key = Key("superlm", {"test": f"filled {value}"})
    save_superlm(Path(desk.storage.path(artifacts.build_folder(key, "b"))), superlm)
    return artifacts.commit(desk.storage, key, "b", {"head_order": None})


def test_a_task_is_checked_without_training(desk: Desk) -> None:
    task = desk.request().proxy_task
    assert task is not None
    check_task(task, desk.teacher)
    for change, field in (
        ({"label_column": "y"}, "proxy_task.label_column"),
        ({"sequence_length": 131}, "proxy_task.sequence_length"),
    ):
        with pytest.raises(InputError) as caught:
            check_task(task.model_copy(update=change), desk.teacher)
        assert caught.value.errors[0].field == field
