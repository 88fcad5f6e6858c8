"""The search on a real Ray Tune, with tiny SuperLMs cut from a tiny teacher."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from tests.teachers import SENTENCES
from workloads import artifacts
from workloads.artifacts import Artifact, Key
from workloads.costs import student_cost
from workloads.craft.blocks import Blocks
from workloads.craft.objectives import objective_for
from workloads.craft.signals import Batch
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import load_superlm, save_superlm, wiring_of
from workloads.craft.teacher import Teacher, open_teacher
from workloads.errors import InputError
from workloads.request import CompressionRequest, CorpusSpec, parse_request
from workloads.runs.corpus import prepare_corpus
from workloads.runs.search import read_scores, scores_key, search_candidates
from workloads.spaces import SubSpace
from workloads.storage import Storage

SPACES = [
    SubSpace("tiny", (1, 2), (16, 32), (2.0,), None, 16, 4),
    SubSpace("small", (4,), (48,), (2.0, 3.0), None, 16, 4),
]
HEAD_ORDERS: dict[str, list[int] | None] = {"tiny": None, "small": list(range(64))[::-1]}


@dataclass
class Stage:
    """What a search starts from."""

    storage: Storage
    request: CompressionRequest
    teacher: Teacher
    corpus: Artifact
    superlms: dict[str, Artifact]

    def search(self, **changes: Any) -> tuple[Artifact, list[tuple[int, int]]]:
        seen: list[tuple[int, int]] = []
        arguments: dict[str, Any] = {
            "teacher_files": "teacher",
            "teacher_fingerprint": self.teacher.fingerprint,
            "corpus": self.corpus,
            "spaces": SPACES,
            "superlms": self.superlms,
            "builder": "cmp_1-1",
            "progress": lambda done, total: seen.append((done, total)),
        }
        return search_candidates(self.storage, self.request, **(arguments | changes)), seen

    def superlm(self, name: str, wiring: Any) -> SuperLM:
        return load_superlm(Path(self.storage.path(self.superlms[name].files)), wiring)


@pytest.fixture
def stage(make_teacher: Callable[..., Path], tmp_path: Path) -> Stage:
    storage = Storage.open(str(tmp_path / "storage"))
    teacher = open_teacher(make_teacher(tmp_path / "storage" / "teacher"))
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"{number} {line}" for number in range(40) for line in SENTENCES))
    corpus = prepare_corpus(
        storage,
        CorpusSpec(paths=[str(text)], documents="line", heldout_fraction=0.3),
        tokenizer_folder=teacher.folder,
        sequence_length=16,
        layout="packed",
        batch_size=4,
        builder="cmp_1-1",
        progress=lambda done, total, unit: None,
    )
    request = parse_request(
        {
            "teacher": {"model": "teacher"},
            "corpus": {"paths": [str(text)]},
            "training": {"batch_size": 4, "sequence_length": 16},
            "search": {"heldout_blocks": 10},
            "budgets": [{"name": "edge", "max_params": 1000}],
        }
    )
    superlms = {space.name: _superlm(storage, teacher, space) for space in SPACES}
    return Stage(storage, request, teacher, corpus, superlms)


def _superlm(storage: Storage, teacher: Teacher, space: SubSpace, fill: float | None = None) -> Artifact:
    superlm = SuperLM.from_teacher(teacher.weights, space, wiring_of(teacher))
    if fill is not None:
        superlm.flat.decay.data.fill_(fill)
    key = Key("superlm", {"test": space.name, "fill": repr(fill)})
    save_superlm(Path(storage.path(artifacts.build_folder(key, "b"))), superlm)
    return artifacts.commit(storage, key, "b", {"head_order": HEAD_ORDERS[space.name]})


def _plain_scores(stage: Stage) -> list[float]:
    """Every candidate's loss, on all rows at once and in plain PyTorch."""
    objective = objective_for(stage.request.objective, stage.teacher.shape)
    rows = Blocks.open(stage.storage, stage.corpus, "heldout").read(range(10))
    batch = Batch(torch.from_numpy(rows.input_ids), None if rows.mask is None else torch.from_numpy(rows.mask))
    losses = []
    with torch.no_grad():
        read = stage.teacher.family.read(stage.teacher.model, batch, objective.teacher_wants)
        for space in SPACES:
            superlm = stage.superlm(space.name, wiring_of(stage.teacher)).eval()
            order = HEAD_ORDERS[space.name]
            targets = objective.targets(read, batch, None if order is None else torch.tensor(order))
            for one in space.architectures():
                signals = superlm(batch, one, objective.student_wants(one))
                loss = objective.loss(signals, targets, batch, objective.counts(batch), superlm.project)
                losses.append(loss.item())
    return losses


@pytest.mark.ray
def test_every_candidate_is_scored_as_a_plain_loop_scores_it_and_only_once(
    stage: Stage, ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    artifact, seen = stage.search()
    assert "xperiment" not in capsys.readouterr().out, "Tune's own output"
    scored = read_scores(stage.storage, artifact)
    expected = [(space.name, one) for space in SPACES for one in space.architectures()]
    assert [(row.subspace, row.architecture) for row in scored] == expected
    assert [row.heldout_loss for row in scored] == pytest.approx(_plain_scores(stage), rel=1e-5)
    assert seen == [(done, 6) for done in range(7)]

    table = pq.read_table(io.BytesIO(stage.storage.read_bytes(f"{artifact.files}/scores.parquet")))
    for row, (_, one) in zip(table.to_pylist(), expected, strict=True):
        cost = student_cost(stage.teacher.shape, one, 128)
        found = (row["params"], row["params_without_embeddings"], row["flops"])
        assert found == (cost.params, cost.params_without_embeddings, cost.flops)

    again, seen = stage.search(builder="cmp_2-1")
    assert (again, seen) == (artifact, [])


@pytest.mark.ray
def test_a_superlm_that_cannot_be_run_fails_the_search_with_its_cause(stage: Stage, ray_cluster: None) -> None:
    # The weights of the tiny sub-space know nothing of the layers and widths that the small one draws.
    wrong = stage.superlms | {"small": stage.superlms["tiny"]}
    with pytest.raises(RuntimeError, match="could not be scored: RuntimeError: shape"):
        stage.search(superlms=wrong)
    assert not stage.storage.list("artifacts/scores")


@pytest.mark.ray
def test_a_superlm_that_diverged_is_the_user_s_to_mend(stage: Stage, ray_cluster: None) -> None:
    broken = {space.name: _superlm(stage.storage, stage.teacher, space, float("nan")) for space in SPACES}
    with pytest.raises(InputError, match=r"training\.learning_rate: .* diverged"):
        stage.search(superlms=broken)
    assert not stage.storage.list("artifacts/scores")


def test_a_search_is_known_by_what_decides_its_scores_and_by_nothing_else(stage: Stage) -> None:
    def fingerprint(request: CompressionRequest = stage.request, spaces: list[SubSpace] = SPACES) -> str:
        return scores_key(request, spaces, stage.superlms, "teacher", "corpus").fingerprint

    def changed(**update: Any) -> CompressionRequest:
        return parse_request(stage.request.model_dump(mode="json") | update)

    assert fingerprint(changed(budgets=[{"name": "other", "max_flops": 5}])) == fingerprint()
    assert fingerprint(changed(search={"heldout_blocks": 11})) != fingerprint()
    assert fingerprint(changed(objective={"relation": "raw-mse"})) != fingerprint()
    fewer = [dataclasses.replace(SPACES[0], layers=(1,)), SPACES[1]]
    assert fingerprint(spaces=fewer) != fingerprint()
