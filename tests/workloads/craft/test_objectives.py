from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.craft.objectives.objective import Objective, objective_for
from workloads.craft.objectives.relation import Relation, RelationLoss, relation_scores
from workloads.craft.objectives.term import Counts, LearnedMap
from workloads.craft.signals import Batch, Signals, Wants
from workloads.shapes.architecture import Architecture, Layer, TeacherShape, Vocabulary
from workloads.spec.errors import InputError
from workloads.spec.request import ObjectiveSpec, RelationForm

SHAPE = TeacherShape(Architecture.of_teacher(6, 12, 3, 48), Vocabulary("bert", 100, 32, 2))
FORMS = pytest.mark.parametrize("form", ["softmax-mse", "raw-mse", "kl"])
OUTPUTS = pytest.mark.parametrize("kind", ["pooled", "token"])
MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [True, True, False, False, False]])
PADDED = Batch(torch.zeros(3, 5, dtype=torch.long), MASK)
WHOLE = Batch(torch.zeros(3, 5, dtype=torch.long))


def objective(**spec: Any) -> Objective:
    return objective_for(ObjectiveSpec.model_validate(spec), SHAPE)


def signals(layer: int, width: int, seed: int) -> Signals:
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(3, 5, width, generator=generator) for _ in range(4)]
    return Signals({layer: parts[0]}, {layer: parts[1]}, {layer: parts[2]}, output_BLH=parts[3], layers=layer)


def changed(given: Signals, change: Any) -> Signals:
    def each(part: dict[int, Tensor]) -> dict[int, Tensor]:
        return {layer: change(x) for layer, x in part.items()}

    return replace(
        given,
        queries=each(given.queries),
        keys=each(given.keys),
        values=each(given.values),
        output_BLH=change(given.output_BLH),
    )


def spoil_padding(x_BLA: Tensor) -> Tensor:
    return torch.where(MASK[..., None], x_BLA, torch.full_like(x_BLA, 1e4))


def to_width_12(name: str, x: Tensor) -> Tensor:
    return F.pad(x, (0, 12 - x.shape[-1]))


def loss_of(made: Objective, teacher: Signals, student: Signals, batch: Batch, counts: Counts | None = None) -> Tensor:
    targets = made.targets(teacher, batch)
    return made.loss(student, targets, batch, counts or made.counts(batch), to_width_12)


@FORMS
@pytest.mark.parametrize("batch", [WHOLE, PADDED], ids=["whole", "padded"])
def test_a_student_like_its_teacher_has_no_relation_loss_and_another_has(form: RelationForm, batch: Batch) -> None:
    made, teacher = objective(relation=form), signals(6, 12, 0)
    assert abs(float(loss_of(made, teacher, teacher, batch))) < 1e-6
    assert float(loss_of(made, teacher, signals(6, 12, 1), batch)) > 1e-3


@OUTPUTS
def test_a_student_like_its_teacher_has_no_output_loss_and_another_has(kind: str) -> None:
    made, teacher = objective(relation=None, output={"kind": kind}), signals(6, 12, 0)
    assert abs(float(loss_of(made, teacher, teacher, PADDED))) < 1e-6
    assert float(loss_of(made, teacher, signals(6, 8, 1), PADDED)) > 1e-3


@FORMS
def test_the_forms_give_what_a_hand_reckons(form: RelationForm) -> None:
    """Two tokens, one head: the teacher's scores are I / sqrt(2), the student's [[1, 0], [0, 0]]."""
    p, q = (1 / (1 + math.exp(-score)) for score in (1 / math.sqrt(2), 1.0))
    expected = {
        "raw-mse": ((1 - 1 / math.sqrt(2)) ** 2 + (1 / math.sqrt(2)) ** 2) / 4,
        "softmax-mse": (2 * (q - p) ** 2 + 2 * (p - 0.5) ** 2) / 4,
        "kl": (
            (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
            + (p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5))
        )
        / 2,
    }
    relation = RelationLoss(form, 1, "spread")
    got = relation(
        torch.tensor([[[1.0], [0.0]]]), relation.target(torch.eye(2)[None], None), None, Counts(1, 2, 4)
    ).sum()
    assert float(got) == pytest.approx(expected[form], rel=1e-5)


@FORMS
def test_a_padded_row_counts_as_the_row_without_its_padding(form: RelationForm) -> None:
    relation, cut = RelationLoss(form, 3, "spread"), 3
    teacher, student = signals(1, 12, 0).queries[1][1:2], signals(1, 9, 1).queries[1][1:2]
    mask = MASK[1:2]
    padded = relation(student, relation.target(teacher, mask), mask, Counts(1, cut, cut * cut))
    bare = relation(student[:, :cut], relation.target(teacher[:, :cut], None), None, Counts(1, cut, cut * cut))
    torch.testing.assert_close(padded, bare)


@pytest.mark.parametrize(
    "spec",
    [
        *({"relation": form} for form in ("softmax-mse", "raw-mse", "kl")),
        *({"relation": None, "output": {"kind": kind}} for kind in ("pooled", "token")),
    ],
    ids=["softmax-mse", "raw-mse", "kl", "pooled", "token"],
)
def test_what_padded_positions_hold_changes_neither_loss_nor_gradient(spec: dict[str, Any]) -> None:
    made, teacher, student = objective(**spec), signals(6, 12, 0), signals(2, 8, 1)

    def loss_and_gradients(teacher: Signals, student: Signals) -> tuple[Tensor, list[Tensor]]:
        leaves = changed(student, lambda x: x.detach().clone().requires_grad_())
        loss = loss_of(made, teacher, leaves, PADDED)
        torch.autograd.backward(loss)
        parts = (leaves.queries[2], leaves.keys[2], leaves.values[2], leaves.output_BLH)
        return loss, [part.grad for part in parts if part is not None and part.grad is not None]

    loss, gradients = loss_and_gradients(teacher, student)
    spoilt_loss, spoilt = loss_and_gradients(changed(teacher, spoil_padding), changed(student, spoil_padding))
    torch.testing.assert_close(loss, spoilt_loss)
    assert gradients
    for one, other in zip(gradients, spoilt, strict=True):
        torch.testing.assert_close(one[MASK], other[MASK])
        assert one[MASK].any() and not one[~MASK].any() and not other[~MASK].any()


@pytest.mark.parametrize(
    "spec",
    [
        *({"relation": form} for form in ("softmax-mse", "raw-mse", "kl")),
        {"relation": "kl", "output": {"kind": "token", "weight": 0.5}},
        {"relation": "kl", "output": {"kind": "pooled"}},
    ],
)
@pytest.mark.parametrize("batch", [WHOLE, PADDED], ids=["whole", "padded"])
def test_the_losses_of_a_split_batch_add_up_to_that_of_the_whole(spec: dict[str, Any], batch: Batch) -> None:
    made, teacher, student = objective(**spec), signals(6, 12, 0), signals(2, 8, 1)
    counts = made.counts(batch)
    parts = []
    for rows in (slice(0, 1), slice(1, 3)):
        part = Batch(batch.input_ids_BL[rows], None if batch.mask_BL is None else batch.mask_BL[rows])
        ours, theirs = (changed(one, lambda x, rows=rows: x[rows]) for one in (student, teacher))
        parts.append(loss_of(made, theirs, ours, part, counts))
    torch.testing.assert_close(parts[0] + parts[1], loss_of(made, teacher, student, batch))


@pytest.mark.parametrize(
    "spec",
    [
        *({"relation": form} for form in ("softmax-mse", "raw-mse", "kl")),
        {"relation": "kl", "output": {"kind": "token", "weight": 0.5}},
        {"relation": "kl", "output": {"kind": "pooled"}},
    ],
)
@pytest.mark.parametrize("batch", [WHOLE, PADDED], ids=["whole", "padded"])
def test_the_loss_of_each_row_is_that_of_the_row_alone(spec: dict[str, Any], batch: Batch) -> None:
    made, teacher, student = objective(**spec), signals(6, 12, 0), signals(2, 8, 1)
    counts = made.counts(batch)
    together = made.loss_rows(student, made.targets(teacher, batch), batch, counts, to_width_12)
    alone = []
    for row in range(3):
        here = slice(row, row + 1)
        part = Batch(batch.input_ids_BL[here], None if batch.mask_BL is None else batch.mask_BL[here])
        ours, theirs = (changed(one, lambda x, here=here: x[here]) for one in (student, teacher))
        alone.append(loss_of(made, theirs, ours, part, counts))
    torch.testing.assert_close(together, torch.stack(alone))
    torch.testing.assert_close(together.sum(), loss_of(made, teacher, student, batch))


def test_counts_are_of_real_tokens_and_pairs() -> None:
    made = objective()
    assert made.counts(PADDED) == Counts(3, 5 + 3 + 2, 25 + 9 + 4)
    assert made.counts(WHOLE) == Counts(3, 15, 75)


def test_widths_that_heads_divide_are_split_evenly_whatever_the_remainder() -> None:
    x = signals(1, 12, 0).queries[1]
    expected = torch.einsum("blrd,bmrd->brlm", x.view(3, 5, 4, 3), x.view(3, 5, 4, 3)) / math.sqrt(3)
    torch.testing.assert_close(relation_scores(x, 4, "spread"), expected)
    torch.testing.assert_close(relation_scores(x, 4, "drop"), expected)


def test_widths_that_heads_do_not_divide_are_spread_or_dropped() -> None:
    x = signals(1, 11, 0).queries[1]
    sizes = {"spread": [3, 3, 3, 2], "drop": [2, 2, 2, 2]}
    for remainder, widths in sizes.items():
        parts = torch.split(x[..., : sum(widths)], widths, dim=-1)
        expected = torch.stack([part @ part.transpose(1, 2) / math.sqrt(part.shape[-1]) for part in parts], dim=1)
        torch.testing.assert_close(relation_scores(x, 4, remainder), expected)


@FORMS
@pytest.mark.parametrize("remainder", ["spread", "drop"])
def test_a_student_of_any_width_can_be_compared(form: RelationForm, remainder: str) -> None:
    made = objective(relation=form, remainder=remainder, relation_heads=4)
    for width in (4, 7, 12, 15):
        loss = float(loss_of(made, signals(6, 12, 0), signals(1, width, 1), PADDED))
        assert math.isfinite(loss) and loss > 0


def test_relations_are_weighted_and_a_weight_of_nothing_leaves_one_out() -> None:
    teacher, student = signals(6, 12, 0), signals(2, 8, 1)
    weights = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    alone = [float(loss_of(objective(relation_weights=one), teacher, student, PADDED)) for one in weights]
    mixed = float(loss_of(objective(relation_weights=(2, 0.5, 1)), teacher, student, PADDED))
    assert mixed == pytest.approx(2 * alone[0] + 0.5 * alone[1] + alone[2], rel=1e-5)
    assert len({round(value, 6) for value in alone}) == 3


def test_the_output_term_is_added_with_its_weight() -> None:
    teacher, student = signals(6, 12, 0), signals(2, 8, 1)
    relation = float(loss_of(objective(), teacher, student, PADDED))
    output = float(loss_of(objective(relation=None, output={"kind": "pooled"}), teacher, student, PADDED))
    both = float(loss_of(objective(output={"kind": "pooled", "weight": 3}), teacher, student, PADDED))
    assert both == pytest.approx(relation + 3 * output, rel=1e-5)


def test_a_reordered_superlm_is_compared_with_a_teacher_read_in_its_order() -> None:
    made, teacher = objective(), signals(6, 12, 0)
    order = torch.arange(12).view(3, 4)[[2, 0, 1]].flatten()
    student = changed(teacher, lambda x: x[..., order])
    targets = made.targets(teacher, WHOLE, order)
    assert abs(float(made.loss(student, targets, WHOLE, made.counts(WHOLE), to_width_12))) < 1e-6
    # With heads of two dimensions beside heads of four, the order matters.
    finer = objective(relation_heads=6)
    assert abs(float(loss_of(finer, teacher, student, WHOLE))) > 1e-3


def test_only_what_is_compared_is_wanted() -> None:
    student = Architecture.alike(layers=2, hidden_size=8, heads=2, head_width=4, intermediate_size=8, teacher_layers=6)
    assert objective().teacher_wants == Wants(relations=frozenset([6]))
    assert objective().student_wants(student) == Wants(relations=frozenset([2]))
    both = objective(output={"kind": "token"})
    assert both.student_wants(student) == Wants(relations=frozenset([2]), output=True)
    assert objective(relation=None, output={"kind": "token"}).teacher_wants == Wants(output=True)


def test_a_pooled_output_needs_one_document_a_row() -> None:
    assert objective().layout == objective(output={"kind": "token"}).layout == "packed"
    assert objective(output={"kind": "pooled"}).layout == "documents"
    assert objective(output={"kind": "token"}).maps == (LearnedMap("projection"),) and not objective().maps


def test_relation_heads_default_to_the_teachers_and_may_not_outnumber_its_width() -> None:
    relation = objective().terms[0]
    assert isinstance(relation, Relation) and relation.loss.heads == 3
    with pytest.raises(InputError, match=r"objective\.relation_heads: 13"):
        objective(relation_heads=13)
    assert objective_for(
        ObjectiveSpec.model_validate({}), replace(SHAPE, architecture=Architecture.of_teacher(2, 12, 3, 48))
    ).teacher_wants.relations == {2}


def test_relation_heads_are_those_of_the_teachers_last_layer_and_split_no_more_than_its_attention() -> None:
    ragged = Architecture(12, (Layer(6, 2, 48, 0), Layer(2, 2, 48, 1)))
    shape = replace(SHAPE, architecture=ragged)
    assert objective_for(ObjectiveSpec(), shape)
    with pytest.raises(InputError, match="5 relation heads cannot split a teacher whose attention is 4 wide"):
        objective_for(ObjectiveSpec(relation_heads=5), shape)
    headless = replace(SHAPE, architecture=Architecture(12, (Layer(6, 2, 48, 0), Layer(0, 2, 48, 1))))
    with pytest.raises(InputError, match="last layer has no heads"):
        objective_for(ObjectiveSpec(), headless)


def test_ordered_heads_are_refused_where_relations_of_another_layer_are_read() -> None:
    loss = RelationLoss("kl", 4, "spread")
    last, both = Objective((Relation("values", loss, 6),)), Objective(tuple(Relation("keys", loss, n) for n in (2, 6)))
    last.check_order(6)
    with pytest.raises(InputError, match="relations of layers 2;") as refused:
        both.check_order(6)
    (found,) = refused.value.errors
    assert found.field == "subspaces.importance"
    assert "Set it to false" in found.remedy
