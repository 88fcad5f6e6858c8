from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from workloads.craft.blocks import TokenRows
from workloads.craft.objectives.objective import Objective, Targets, objective_for
from workloads.craft.scoring import (
    Heldout,
    TargetsCache,
    heldout_batches,
    losses_on_device,
    rows_at_once,
    score,
    score_rows,
)
from workloads.craft.signals import Batch, Signals
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import build_superlm
from workloads.craft.teacher import Teacher, open_teacher
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import ProductSpace
from workloads.spec.request import ObjectiveSpec

SPACE = ProductSpace("tiny", (1, 2), (16, 32), (2.0, 3.0), None, 16, 4)
SPECS = [
    ObjectiveSpec(relation="kl"),
    ObjectiveSpec(relation="softmax-mse", output={"kind": "pooled"}),
    ObjectiveSpec(relation="raw-mse", output={"kind": "token"}),
]


@pytest.fixture(scope="module")
def teacher(make_teacher: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return open_teacher(make_teacher(tmp_path_factory.mktemp("teacher")))


def _rows(count: int = 7, length: int = 12, padded: int = 3) -> TokenRows:
    draw = np.random.default_rng(0)
    lengths = np.full(count, length)
    lengths[count - padded :] = draw.integers(2, length, padded)
    return TokenRows(draw.integers(5, 60, (count, length)), np.arange(length) < lengths[:, None])


def _superlm(teacher: Teacher, objective: Objective) -> SuperLM:
    return build_superlm(teacher, SPACE, order=None, maps=objective.maps).superlm


def _score(teacher: Teacher, superlm: SuperLM, objective: Objective, one: Architecture, batch_size: int) -> float:
    return score(superlm, one, objective, Heldout.read(teacher, objective, heldout_batches(_rows(), batch_size)))


def test_batches_hold_all_rows_in_order_and_a_mask_only_where_there_is_padding() -> None:
    rows = _rows(count=7, padded=3)
    batches = heldout_batches(rows, 2)
    assert [len(batch.input_ids_BL) for batch in batches] == [2, 2, 2, 1]
    assert torch.cat([batch.input_ids_BL for batch in batches]).equal(torch.from_numpy(rows.input_ids))
    assert [batch.mask_BL is None for batch in batches] == [True, True, False, False]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.relation)
def test_a_score_is_the_loss_of_all_heldout_text_in_one_batch_however_it_is_cut(
    teacher: Teacher, spec: ObjectiveSpec
) -> None:
    objective = objective_for(spec, teacher.shape)
    superlm = _superlm(teacher, objective)
    rows = _rows()
    assert rows.mask is not None
    batch = Batch(torch.from_numpy(rows.input_ids), torch.from_numpy(rows.mask))
    with torch.no_grad():
        read = teacher.family.read(teacher.model, batch, objective.teacher_wants)
        targets = objective.targets(read, batch)
        superlm.eval()
        signals = superlm(batch, SPACE.largest, objective.student_wants(SPACE.largest))
        plain = objective.loss(signals, targets, batch, objective.counts(batch), superlm.learned_map).item()
    for size in (1, 3, 16):
        assert _score(teacher, superlm, objective, SPACE.largest, size) == pytest.approx(plain, rel=1e-5)


def test_scores_are_without_dropout_and_leave_a_superlm_in_training_as_it_was(teacher: Teacher) -> None:
    objective = objective_for(ObjectiveSpec(), teacher.shape)
    superlm = _superlm(teacher, objective).train()
    first, second = (_score(teacher, superlm, objective, SPACE.smallest, 4) for _ in range(2))
    assert first == second
    assert superlm.training


def test_the_teacher_is_read_in_the_superlm_s_head_order(teacher: Teacher) -> None:
    objective = objective_for(ObjectiveSpec(), teacher.shape)
    heldout = Heldout.read(teacher, objective, heldout_batches(_rows(), 4))
    width = teacher.shape.hidden_size
    plain, same, reversed_ = (heldout.ordered(order) for order in (None, list(range(width)), list(range(width))[::-1]))
    superlm = _superlm(teacher, objective)
    scores = [score(superlm, SPACE.largest, objective, heldout) for heldout in (plain, same, reversed_)]
    assert scores[0] == scores[1]
    assert scores[2] != pytest.approx(scores[0], rel=1e-3)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.relation)
def test_subnets_scored_together_have_the_losses_that_each_has_alone_row_by_row(
    teacher: Teacher, spec: ObjectiveSpec
) -> None:
    objective = objective_for(spec, teacher.shape)
    superlm = _superlm(teacher, objective)
    heldout = Heldout.read(teacher, objective, heldout_batches(_rows(), 3, ends=[5]))
    together = score_rows(superlm, list(SPACE), objective, heldout)
    for one, losses in zip(SPACE, together, strict=True):
        (alone,) = score_rows(superlm, [one], objective, heldout)
        (first,), (rest,) = (score_rows(superlm, [one], objective, heldout, rows) for rows in (range(5), range(5, 7)))
        assert losses.shape == (7,)
        np.testing.assert_array_equal(losses, alone)
        np.testing.assert_array_equal(losses, np.concatenate([first, rest]))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.relation)
@pytest.mark.parametrize(("room", "made"), [(1 << 20, [2, 0, 1, 2]), (0, [2, 2, 1, 2])])
def test_targets_are_kept_from_lot_to_lot_of_a_rung_as_far_as_they_fit(
    teacher: Teacher, spec: ObjectiveSpec, room: int, made: list[int]
) -> None:
    objective = _Counting(objective_for(spec, teacher.shape).terms)
    superlm = _superlm(teacher, objective)
    heldout = Heldout.read(teacher, objective, heldout_batches(_rows(), 3, ends=[5]))
    turned = heldout.ordered(list(range(teacher.shape.hidden_size))[::-1])
    cache = TargetsCache(room)
    counts = []
    for text, rows in ((heldout, range(5)), (heldout, range(5)), (heldout, range(5, 7)), (turned, range(5))):
        plain = score_rows(superlm, list(SPACE), objective, text, rows)
        objective.made.clear()
        kept = score_rows(superlm, list(SPACE), objective, text, rows, cache)
        counts.append(len(objective.made))
        np.testing.assert_array_equal(kept, plain)
    assert counts == made


@dataclasses.dataclass(frozen=True)
class _Counting(Objective):
    """An objective that notes each batch whose targets it makes."""

    made: list[Batch] = dataclasses.field(default_factory=list, compare=False)

    def targets(self, signals: Signals, batch: Batch, head_order: torch.Tensor | None = None) -> Targets:
        self.made.append(batch)
        return super().targets(signals, batch, head_order)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.relation)
def test_what_is_kept_of_the_teacher_grows_with_the_length_of_a_row_and_not_its_square(
    teacher: Teacher, spec: ObjectiveSpec
) -> None:
    def kept(length: int) -> int:
        objective = objective_for(spec, teacher.shape)
        batches = heldout_batches(_rows(length=length, padded=0), 4)
        return len(pickle.dumps(dataclasses.replace(Heldout.read(teacher, objective, batches), batches=())))

    assert kept(32) < 2.1 * kept(16)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.relation)
def test_losses_are_worked_out_on_the_superlm_s_device(
    teacher: Teacher, spec: ObjectiveSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device ``meta`` stands for a GPU: its tensors have no values, and do not mix with those of a CPU."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # it does not know this device
    objective = objective_for(spec, teacher.shape)
    superlm = _superlm(teacher, objective).eval().to("meta")
    order = list(range(teacher.shape.hidden_size))
    heldout = Heldout.read(teacher, objective, heldout_batches(_rows(), 4)).ordered(order)
    losses = losses_on_device(superlm, list(SPACE), objective, heldout, range(7))
    assert (losses.device.type, tuple(losses.shape)) == ("meta", (len(SPACE), 7))


def test_fewer_rows_are_scored_at_once_where_their_relations_are_large(teacher: Teacher) -> None:
    few, many = (objective_for(ObjectiveSpec(relation_heads=heads), teacher.shape) for heads in (4, 48))
    assert rows_at_once(few, 128, 32) == 32, "no more than is asked for"
    assert [rows_at_once(few, length, 2048) for length in (128, 512, 4096)] == [256, 16, 1]
    assert rows_at_once(many, 512, 2048) == 1
    assert rows_at_once(objective_for(SPECS[1].model_copy(update={"relation": None}), teacher.shape), 512, 64) == 64
