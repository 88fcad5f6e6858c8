"""The search with tiny SuperLMs cut from a tiny teacher, on an imitation of Tune and on a real Ray Tune."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.teachers import SENTENCES
from tests.workloads.runs.scenes import Heard
from tests.workloads.runs.search.fake_tune import FakeTune
from workloads.answers.scores_table import read_scores
from workloads.answers.trained import TeacherStage
from workloads.craft.blocks import Blocks
from workloads.craft.objectives.objective import objective_for
from workloads.craft.signals import Batch
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import load_superlm, save_superlm, wiring_of
from workloads.craft.teacher import Teacher, open_teacher
from workloads.craft.text.tokenizer import Tokenizer
from workloads.runs.attempt.run import News, Run
from workloads.runs.corpus import plan_corpus, prepare_corpus
from workloads.runs.search import results
from workloads.runs.search.board import Aim, Board, Work
from workloads.runs.search.proposals import Exhaustive
from workloads.runs.search.results import Results
from workloads.runs.search.rules import Candidate
from workloads.runs.search.scheduler import RungScheduler
from workloads.runs.search.search import SearchInputs, check_end, scores_key, search_candidates, share
from workloads.runs.search.trial import Scorer
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ProductSpace
from workloads.spec.errors import InputError
from workloads.spec.part import default_length
from workloads.spec.request import CompressionRequest, CorpusSpec, parse_request
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage

SPACES = [
    ProductSpace("tiny", (1, 2), (16, 32), (2.0,), None, 16, 4),
    ProductSpace("small", (4,), (48,), (2.0, 3.0), None, 16, 4),
]
HEAD_ORDERS: dict[str, list[int] | None] = {"tiny": None, "small": list(range(64))[::-1]}


@dataclass
class Stage:
    """The inputs of a search."""

    storage: Storage
    request: CompressionRequest
    teacher: Teacher
    corpus: Artifact
    superlms: dict[str, Artifact]

    @property
    def inputs(self) -> SearchInputs:
        files = Artifact("teacher", Key("teacher", {}).fingerprint, "teacher", {}, {})
        teacher = TeacherStage(files, self.teacher.fingerprint, self.teacher.shape)
        return SearchInputs(self.request, teacher, self.corpus, SPACES, self.superlms)

    @property
    def aim(self) -> Aim:
        return Aim(self.request.search, self.teacher.shape)

    def search(self, builder: str = "cmp_1-1") -> tuple[Artifact, list[tuple[int, int | None]]]:
        seen: list[tuple[int, int | None]] = []
        news = News(lambda done, total: seen.append((done, total)), lambda why: None)
        return search_candidates(Run(self.storage, builder, Heard(self.storage, [])), self.inputs, news), seen

    def superlm(self, name: str, wiring: Any) -> SuperLM:
        return load_superlm(Path(self.storage.path(self.superlms[name].files)), wiring)


@pytest.fixture
def stage(make_teacher: Callable[..., Path], tmp_path: Path) -> Stage:
    storage = Storage.open(str(tmp_path / "storage"))
    teacher = open_teacher(make_teacher(tmp_path / "storage" / "teacher"))
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"{number} {line}" for number in range(40) for line in SENTENCES))
    spec = CorpusSpec(paths=[str(text)], documents="line", heldout_fraction=0.3)
    plan = plan_corpus(spec, Tokenizer.load(teacher.folder), 16, "packed")
    corpus = prepare_corpus(storage, plan, 4, "cmp_1-1", News.unheard())
    request = parse_request(
        {
            "teacher": {"model": "teacher"},
            "corpus": {"paths": [str(text)]},
            "training": {"batch_size": 4, "sequence_length": 16},
            "search": {"heldout_blocks": 10, "first_rung_blocks": 2},
            "budgets": [{"name": "edge", "max_params": 1000}],
        }
    )
    superlms = {space.name: _superlm(storage, teacher, space) for space in SPACES}
    return Stage(storage, request, teacher, corpus, superlms)


def _superlm(storage: Storage, teacher: Teacher, space: ProductSpace, fill: float | None = None) -> Artifact:
    superlm = SuperLM.from_teacher(teacher.weights, space, wiring_of(teacher))
    if fill is not None:
        superlm.flat.decay.data.fill_(fill)
    key = Key("superlm", {"test": space.name, "fill": repr(fill)})
    save_superlm(Path(storage.path(artifacts.build_folder(key, "b"))), superlm)
    return artifacts.commit(storage, key, "b", {"head_order": HEAD_ORDERS[space.name]})


def _changed(stage: Stage, **update: Any) -> CompressionRequest:
    return parse_request(stage.request.model_dump(mode="json") | update)


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
            for one in space:
                signals = superlm(batch, one, objective.student_wants(one))
                loss = objective.loss(signals, targets, batch, objective.counts(batch), superlm.learned_map)
                losses.append(loss.item())
    return losses


@pytest.fixture
def whole(stage: Stage) -> dict[tuple[str, Architecture], float]:
    return dict(zip([(s.name, a) for s in SPACES for a in s], _plain_scores(stage), strict=True))


@pytest.mark.ray
def test_a_real_search_scores_and_drops_what_a_plain_loop_does_on_actors_that_start_once(
    stage: Stage,
    whole: dict[tuple[str, Architecture], float],
    ray_cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scored_by: set[int] = set()
    plain = RungScheduler.on_trial_result

    def watch(self: RungScheduler, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        scored_by.add(result["pid"])
        return plain(self, controller, trial, result)

    monkeypatch.setattr(RungScheduler, "on_trial_result", watch)
    capsys.readouterr()
    artifact, seen = stage.search()
    assert "xperiment" not in capsys.readouterr().out, "Tune's own output"
    assert len(scored_by) == 2, "an actor for each CPU, over all rungs"
    assert seen[-1] == (6, 6) and [done for done, _ in seen] == sorted(done for done, _ in seen)
    _check_table(stage, artifact, whole)

    again, seen = stage.search(builder="cmp_2-1")
    assert (again, seen) == (artifact, [])
    assert not stage.storage.exists(f"artifacts/scores/{artifact.fingerprint}/rungs"), "the table has it all"


@pytest.mark.ray
def test_generations_of_an_evolution_are_searched_on_a_real_tune(stage: Stage, ray_cluster: None) -> None:
    stage.request = _changed(
        stage,
        search={
            "heldout_blocks": 10, "first_rung_blocks": 4, "searcher": "evolutionary", "candidates": 5, "population": 4,
            "aim": "budgets",
        },
        budgets=[{"name": "all", "max_params": 10**9}],
    )  # fmt: skip
    artifact, _ = stage.search()
    scored = [row.scored for row in read_scores(stage.storage, artifact)]
    assert len({(one.subspace, one.architecture) for one in scored}) == len(scored) == 5
    assert artifact.summary["aim"] == "budgets" and 1 <= artifact.summary["survivors"] < 5


def test_every_candidate_is_scored_as_plain_pytorch_scores_it(
    stage: Stage, whole: dict[tuple[str, Architecture], float]
) -> None:
    stage.request = _changed(stage, search={"heldout_blocks": 10, "aim": "all"})
    told: list[int] = []
    board, _, _ = _play(stage, on_progress=lambda board: told.append(board.done))
    assert {(e.candidate.subspace, e.candidate.architecture): float(e.losses.mean()) for e in board.entries} == {
        key: pytest.approx(loss, rel=1e-5) for key, loss in whole.items()
    }
    assert told == sorted(told) and told[-1] == 6


def test_what_an_attempt_had_scored_is_not_scored_again(
    stage: Stage, whole: dict[tuple[str, Architecture], float]
) -> None:
    stage.request = _changed(stage, search={"heldout_blocks": 10, "aim": "all"})
    earlier = Results(stage.storage, stage.inputs.key, "cmp_0-1")
    known = [Candidate(SPACES[0].name, one) for one in SPACES[0]]
    told = {number: np.full(10, 7.0 + number) for number in range(len(known))}
    earlier.add(Work(0, 0, 10, SPACES[0].name, tuple(enumerate(known))), told)
    earlier.flush()
    board, _, _ = _play(stage)
    losses = [float(entry.losses.mean()) for entry in board.entries]
    assert losses[:4] == [7.0, 8.0, 9.0, 10.0], "taken over"
    assert losses[4:] == pytest.approx(list(whole.values())[4:], rel=1e-5)


def test_a_storage_that_cannot_be_written_ends_the_search_with_its_error(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(storage: Storage, relative: str, data: bytes) -> None:
        raise OSError(28, "No space left on device", relative)

    monkeypatch.setattr(results, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(Storage, "write_bytes", full)
    board, failure, errors = _play(stage)
    assert board.ended
    with pytest.raises(OSError, match="No space left"):
        check_end(board, failure, errors)


def test_a_superlm_that_cannot_be_run_fails_the_search_with_its_cause(stage: Stage) -> None:
    # The weights of the tiny sub-space know nothing of the layers and widths that the small one draws.
    stage.superlms |= {"small": stage.superlms["tiny"]}
    board, failure, errors = _play(stage)
    with pytest.raises(RuntimeError, match="could not be scored: shape"):
        check_end(board, failure, errors)


def test_a_superlm_that_diverged_is_the_user_s_to_mend(stage: Stage) -> None:
    stage.superlms = {space.name: _superlm(stage.storage, stage.teacher, space, float("nan")) for space in SPACES}
    board, failure, errors = _play(stage)
    with pytest.raises(InputError, match=r"training\.learning_rate: .* diverged"):
        check_end(board, failure, errors)


def test_a_search_that_was_cut_off_is_not_taken_for_a_whole_one(stage: Stage) -> None:
    board = Board(stage.aim, rows=10, actors=1, on_progress=lambda: None)
    board.begin([Candidate(SPACES[0].name, one) for one in SPACES[0]])
    with pytest.raises(RuntimeError, match="interrupted after 0 of 4 candidates"):
        check_end(board, None, [])


def _play(
    stage: Stage, on_progress: Callable[[Board], None] = lambda board: None
) -> tuple[Board, OSError | None, list[BaseException]]:
    """Search without Ray: real scorers and the real scheduler on a Tune in short."""
    kept = Results(stage.storage, stage.inputs.key, "cmp_1-1")
    board = Board(stage.aim, rows=10, actors=2, known=kept.read(), on_progress=lambda: on_progress(board))
    blocks = Blocks.open(stage.storage, stage.corpus, "heldout")
    shared = share(stage.storage, stage.inputs, blocks, board.rungs, put=lambda value: value)
    tune = FakeTune(board, Exhaustive(SPACES), kept.add, actors=2)
    tune.run(lambda: Scorer(shared, torch.device("cpu"), get=lambda value: value).score)
    return board, tune.scheduler.failure, tune.errors


def _check_table(stage: Stage, artifact: Artifact, whole: dict[tuple[str, Architecture], float]) -> None:
    rows = pq.read_table(io.BytesIO(stage.storage.read_bytes(f"{artifact.files}/scores.parquet"))).to_pylist()
    assert artifact.summary["aim"] == "frontier" and artifact.summary["rungs"] == [2, 4, 8, 10]
    assert [row["rows"] for row in rows] == [artifact.summary["rungs"][row["rung"]] for row in rows]
    assert artifact.summary["scored_rows"] == sum(row["rows"] for row in rows)
    length = default_length(stage.teacher.shape.longest)
    for row, (subspace, one) in zip(rows, whole, strict=True):
        cost = student_cost(stage.teacher.shape, one, length)
        found = (row["params"], row["params_without_embeddings"], row["flops"])
        assert found == (cost.params, cost.params_without_embeddings, cost.flops)
        assert (row["subspace"], row["weights"]) == (subspace, stage.superlms[subspace].fingerprint)
        assert 0 < row["spread"] < row["heldout_loss"]
    survivors = [row.scored for row in read_scores(stage.storage, artifact) if row.survives]
    assert len(survivors) == artifact.summary["survivors"] == sum(row["dropped_by"] is None for row in rows)
    for scored in survivors:
        assert scored.heldout_loss == pytest.approx(whole[scored.subspace, scored.architecture], rel=1e-5)


def test_a_search_is_known_by_what_decides_its_scores_and_by_nothing_else(stage: Stage) -> None:
    def fingerprint(request: CompressionRequest = stage.request, spaces: list[ProductSpace] = SPACES) -> str:
        return scores_key(request, spaces, stage.superlms, "teacher", "corpus").fingerprint

    def changed(**update: Any) -> CompressionRequest:
        return _changed(stage, **update)

    assert fingerprint(changed(budgets=[{"name": "other", "max_flops": 5}])) == fingerprint()
    assert fingerprint(changed(search={"heldout_blocks": 11})) != fingerprint()
    assert fingerprint(changed(search={"heldout_blocks": 10, "first_rung_blocks": 5})) != fingerprint()
    assert fingerprint(changed(seed=5)) == fingerprint(), "nothing is drawn"
    drawn = {"heldout_blocks": 10, "searcher": "random", "candidates": 4}
    assert fingerprint(changed(search=drawn, seed=5)) != fingerprint(changed(search=drawn))
    assert fingerprint(changed(search=drawn | {"population": 5})) == fingerprint(changed(search=drawn))
    bred = drawn | {"searcher": "evolutionary"}
    assert fingerprint(changed(search=bred | {"population": 5})) != fingerprint(changed(search=bred))
    aimed = {"heldout_blocks": 10, "aim": "budgets"}
    one, other, renamed = (
        changed(search=aimed, budgets=[{"name": name, "max_params": limit}])
        for name, limit in (("edge", 1000), ("edge", 1001), ("rim", 1000))
    )
    assert fingerprint(one) == fingerprint(renamed) != fingerprint(other)
    asked = scores_key(one, SPACES, stage.superlms, "teacher", "corpus").inputs["budgets"]
    assert not [name for name in asked[0] if name.startswith("min")], "keys of budgets without floors have changed"
    floor = changed(search=aimed, budgets=[{"name": "edge", "max_params": 1000, "min_agreement": 0.9}])
    assert fingerprint(floor) != fingerprint(one)
    probed = scores_key(stage.request, SPACES, stage.superlms, "teacher", "corpus", fidelity_rows=10).fingerprint
    assert probed != fingerprint()
    assert fingerprint(one) != fingerprint()
    assert fingerprint(changed(objective={"relation": "raw-mse"})) != fingerprint()
    fewer = [dataclasses.replace(SPACES[0], layers=(1,)), SPACES[1]]
    assert fingerprint(spaces=fewer) != fingerprint()
