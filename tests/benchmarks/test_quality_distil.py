"""Distillation in the bench: trunks and branches, random weights, AutoTinyBERT's objective."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.quality import autotinybert
from benchmarks.quality.distil import Distillation
from benchmarks.quality.made_up import made_up_places
from benchmarks.quality.pieces import Piece
from benchmarks.quality.scene import Scene
from workloads.craft.scoring import heldout_batches, score
from workloads.craft.superlm_files import build_superlm
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import ListedSpace, ProductSpace

INPUTS = {
    "teacher": "tiny",
    "corpus": "train.parquet",
    "sequence_length": 16,
    "batch_size": 4,
    "heldout_rows": 8,
    "objective": {},
    "seed": 1,
}
SMALL = Architecture.alike(
    layers=2, hidden_size=32, heads=2, head_width=16, intermediate_size=64, teacher_layers=4
)  # fmt: skip


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Scene:
    return Scene(INPUTS, made_up_places(tmp_path_factory.mktemp("work")))


def _distillation(scene: Scene, steps: int, needs: tuple[Piece, ...] = (), **changes: object) -> Distillation:
    return Distillation(scene, _piece(steps, needs, **changes), lambda done, total, unit: None)


def _piece(steps: int, needs: tuple[Piece, ...] = (), **changes: object) -> Piece:
    inputs = {
        "scene": "tiny",
        "members": {"student": ListedSpace("student", (SMALL,)).to_json()},
        "initial": "teacher",
        "objective": "relation",
        "tokens": steps * 16 * 4,
        "training": {"learning_rate": 1e-3, "dropout": 0.0},
        "seed": 0,
        "decay": 0.0,
        **changes,
    }
    return Piece("distil", "student", inputs, needs)


def _elsewhere(scene: Scene, folder: Path) -> Scene:
    """Give a scene whose trained weights lie elsewhere."""
    return Scene(INPUTS, replace(scene.places, work=folder))


def test_a_length_that_branches_off_a_shared_trunk_is_a_run_of_its_own(scene, tmp_path):
    """The trunk of the shorter length is gone on from, its decay is not."""
    told: list[int] = []
    short, long = (_distillation(scene, steps, decay=0.25) for steps in (8, 16))
    long.report = lambda done, total, unit: told.append(done)
    losses = [one.facts()["losses"]["student"] for one in (short, long)]
    assert told == list(range(7, 17))  # steps 1 to 6 are those of the shorter one's trunk
    fresh = _distillation(_elsewhere(scene, tmp_path), 16, decay=0.25)
    assert fresh.facts()["losses"]["student"] == pytest.approx(losses[1], abs=1e-6)
    assert losses[1] < losses[0]


def test_the_cpu_seconds_of_a_branch_include_its_trunk(scene):
    facts = [_distillation(scene, steps, decay=0.25, seed=3).facts()["train_cpu_seconds"] for steps in (8, 16)]
    assert facts[1] > facts[0] > 0


def test_a_polish_begins_with_the_subnet_of_its_superlm_on_the_batches_that_follow(scene):
    space = ProductSpace("small", (2, 3), (16, 32), (2.0,), None, 16, 4)
    superlms = _piece(3, members={"small": space.to_json()})
    model = _distillation(scene, 3, members={"small": space.to_json()}).models()["small"]
    inside = score(model.superlm, SMALL, scene.objective, scene.heldout.ordered(model.head_order))
    initial = {"distil": superlms.fingerprint, "member": "small"}
    unpolished = _distillation(scene, 0, (superlms,), initial=initial)
    assert unpolished.loss(unpolished.models()["student"], unpolished.spaces["student"]) == pytest.approx(inside)
    polished, read = _distillation(scene, 2, (superlms,), initial=initial), []
    polished._run = lambda trainer, steps, *, first_batch: read.append((steps, first_batch))
    polished.models()
    assert read == [(range(2), 3)]


def test_each_seed_reads_the_text_in_an_order_of_its_own(scene):
    losses = [_distillation(scene, 4, seed=seed).facts()["losses"]["student"] for seed in (0, 1)]
    assert losses[0] != losses[1]


def test_random_weights_keep_nothing_of_the_teacher(scene):
    drawn = _distillation(scene, 0, initial="random").models()["student"].superlm
    cut = _distillation(scene, 0).models()["student"].superlm
    for name in drawn.flat.shapes:
        assert not torch.equal(drawn.flat[name], cut.flat[name]), name
    assert float(drawn.flat["embeddings.word"].detach().std()) == pytest.approx(0.02, rel=0.1)
    again = _distillation(scene, 0, initial="random").models()["student"].superlm
    assert torch.equal(drawn.flat["embeddings.word"], again.flat["embeddings.word"])
    other = _distillation(scene, 0, initial="random", seed=1).models()["student"].superlm
    assert not torch.equal(drawn.flat["embeddings.word"], other.flat["embeddings.word"])


def test_layers_are_paired_uniformly():
    assert autotinybert.uniform_pairs(4, 12) == {1: 3, 2: 6, 3: 9, 4: 12}
    assert autotinybert.uniform_pairs(5, 12) == {1: 2, 2: 4, 3: 7, 4: 9, 5: 12}


def test_a_student_that_is_the_teacher_has_no_loss_by_autotinyberts_objective(scene):
    shape, teacher = scene.teacher.shape, scene.teacher
    objective = autotinybert.objective_of(shape, shape.layers, scene.order)
    space = ListedSpace("whole", (shape.architecture,))
    built = build_superlm(teacher, space, order=scene.order, maps=objective.maps)
    ids = torch.randint(0, 100, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(12) < torch.tensor([12, 7, 9])[:, None]
    for batch in heldout_batches_of(ids, mask):
        signals = teacher.family.read(teacher.model, batch, objective.teacher_wants)
        targets = objective.targets(signals, batch)
        given = built.superlm(batch, shape.architecture, objective.student_wants(shape.architecture))
        loss = objective.loss(given, targets, batch, objective.counts(batch), built.superlm.learned_map)
        assert float(loss.detach()) == pytest.approx(0, abs=1e-4)


def heldout_batches_of(ids, mask):
    from workloads.craft.blocks import TokenRows

    return heldout_batches(TokenRows(ids.numpy(), mask.numpy()), 3)


def test_padding_does_not_count_in_autotinyberts_objective(scene):
    shape, teacher = scene.teacher.shape, scene.teacher
    objective = autotinybert.objective_of(shape, 2, scene.order)
    built = build_superlm(teacher, ListedSpace("s", (SMALL,)), order=scene.order, maps=objective.maps)
    ids = torch.randint(5, 100, (2, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(12) < torch.tensor([12, 7])[:, None]
    other = ids.where(mask, torch.tensor(9))
    losses = []
    for rows in (ids, other):
        (batch,) = heldout_batches_of(rows, mask)
        signals = teacher.family.read(teacher.model, batch, objective.teacher_wants)
        given = built.superlm(batch, SMALL, objective.student_wants(SMALL))
        targets, counts = objective.targets(signals, batch), objective.counts(batch)
        losses.append(objective.loss(given, targets, batch, counts, built.superlm.learned_map).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] > 0.01


def test_attention_scores_of_undivided_heads_are_those_of_plain_attention():
    draw = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(2, 5, 12, generator=draw) for _ in range(2))
    found = autotinybert.attention_scores(queries, keys, 3)
    split = [x.view(2, 5, 3, 4).transpose(1, 2) for x in (queries, keys)]
    assert torch.allclose(found, split[0] @ split[1].transpose(-1, -2) / 2, atol=1e-6)
    assert autotinybert.attention_scores(queries[..., :10], keys[..., :10], 3).shape == (2, 3, 5, 5)


def test_autotinyberts_objective_trains(scene):
    before = _distillation(scene, 1, objective="autotinybert").facts()
    after = _distillation(scene, 30, objective="autotinybert").facts()
    assert after["losses"]["student"] != before["losses"]["student"]
    assert "projection.weight" in _distillation(scene, 1, objective="autotinybert").models()["student"].superlm.flat
