"""Terms beside the relations and outputs of test_objectives: hidden states, logits, groups of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from workloads.craft.objectives.hidden import HIDDEN_PROJECTION, HiddenStates, uniform_and_last
from workloads.craft.objectives.logits import Logits
from workloads.craft.objectives.objective import Objective
from workloads.craft.objectives.output import PROJECTION, PooledOutput, TokenOutput
from workloads.craft.objectives.relation import Relation, RelationLoss
from workloads.craft.objectives.term import Counts, LearnedMap, LearnedMaps, Term, rows_of_groups
from workloads.craft.signals import Batch, Signals, Wants

MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [True, True, False, False, False]])
PADDED = Batch(torch.zeros(3, 5, dtype=torch.long), MASK)


def hidden(layers: int, width: int, seed: int) -> Signals:
    generator = torch.Generator().manual_seed(seed)
    states = {layer: torch.randn(3, 5, width, generator=generator) for layer in range(layers + 1)}
    return Signals(hidden=states, layers=layers)


def doubled(name: str, x: Tensor) -> Tensor:
    assert name == HIDDEN_PROJECTION.name
    return torch.cat([x, x], dim=-1)


def loss_rows(term: Term, teacher: Signals, student: Signals, maps: LearnedMaps = doubled) -> Tensor:
    made = Objective((term,))
    return made.loss_rows(student, made.targets(teacher, PADDED), PADDED, made.counts(PADDED), maps)


def test_layers_are_paired_uniformly_and_with_the_last() -> None:
    """KD-NAS: student layer i is matched to teacher layers floor(i L_t / L_s) and L_t - L_s + i."""
    assert uniform_and_last(3, 12) == {1: (4, 10), 2: (8, 11), 3: (12, 12)}
    assert uniform_and_last(4, 6) == {1: (1, 3), 2: (3, 4), 3: (4, 5), 4: (6, 6)}
    assert uniform_and_last(2, 2) == {1: (1, 1), 2: (2, 2)}
    with pytest.raises(AssertionError):
        uniform_and_last(3, 2)


def test_hidden_states_are_compared_by_pairs_over_real_tokens() -> None:
    term = HiddenStates(4, (2, 3))
    teacher, student = hidden(4, 6, 0), hidden(2, 6, 1)
    assert term.teacher_wants().hidden == {1, 2, 3, 4} and term.student_wants(2) == Wants(hidden=frozenset([1, 2]))
    expected = torch.zeros(3)
    for row in range(3):
        real = int(MASK[row].sum())
        for layer, pair in {1: (2, 3), 2: (4, 4)}.items():
            for one in pair:
                difference = student.hidden[layer][row, :real] - teacher.hidden[one][row, :real]
                expected[row] += difference.square().sum() / (12 * 10 * 2)  # dimensions, tokens, layers
    torch.testing.assert_close(loss_rows(term, teacher, student), expected)


def test_a_student_with_all_layers_of_its_teacher_has_no_loss_of_hidden_states() -> None:
    teacher = hidden(3, 6, 0)
    assert float(loss_rows(HiddenStates(3, (3,)), teacher, teacher).sum()) == 0
    # The values of padding do not count.
    spoilt = {layer: torch.where(MASK[..., None], x, torch.full_like(x, 1e4)) for layer, x in teacher.hidden.items()}
    assert float(loss_rows(HiddenStates(3, (3,)), teacher, Signals(hidden=spoilt, layers=3)).sum()) == 0


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_logits_are_compared_as_a_hand_reckons(temperature: float) -> None:
    teacher, student = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    q = 1 / (1 + math.exp(-1 / temperature))
    cross = temperature**2 * -(0.5 * math.log(q) + 0.5 * math.log(1 - q))
    expected = {"soft-cross-entropy": cross, "kl": cross - temperature**2 * math.log(2), "mse": 0.5}
    for form, value in expected.items():
        term = Logits(form, temperature)  # type: ignore[arg-type]
        targets = term.targets(Signals(head=teacher), Batch(torch.zeros(1, 3)), None)
        got = term.loss_rows(Signals(head=student), targets, Batch(torch.zeros(1, 3)), Counts(1, 3, 9), doubled)
        assert got.tolist() == pytest.approx([value], rel=1e-5), form


def test_logits_of_tokens_are_compared_at_real_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(3, 5, 7, generator=generator) for _ in range(2))
    for form in ("kl", "soft-cross-entropy", "mse"):
        term = Logits(form, 2.0)  # type: ignore[arg-type]
        got = loss_rows(term, Signals(head=teacher), Signals(head=student))
        for row in range(3):
            real = int(MASK[row].sum())
            alone = Batch(torch.zeros(real, 1))
            one = term.loss_rows(
                Signals(head=student[row, :real]), teacher[row, :real], alone, Counts(10, 10, 0), doubled
            )
            torch.testing.assert_close(got[row], one.sum())
        equal = loss_rows(term, Signals(head=teacher), Signals(head=teacher))
        assert form == "soft-cross-entropy" or equal.abs().max() < 1e-6


@pytest.mark.parametrize(
    "term",
    [
        Relation("keys", RelationLoss("kl", 3, "spread"), 4),
        PooledOutput(),
        TokenOutput(),
        HiddenStates(4, (2,)),
        Logits(),
    ],
    ids=lambda term: type(term).__name__,
)
def test_the_rows_of_a_term_add_up_however_a_batch_is_cut(term: Term) -> None:
    generator = torch.Generator().manual_seed(0)

    def signals(layers: int) -> Signals:
        x = [torch.randn(3, 5, 6, generator=generator) for _ in range(3)]
        return Signals(
            keys={layers: x[0]}, hidden=hidden(layers, 6, layers).hidden, output_BLH=x[1], head=x[2], layers=layers
        )

    def rows(given: Signals, part: range) -> Signals:
        cut = slice(part.start, part.stop)
        assert given.output_BLH is not None and given.head is not None
        return Signals(
            keys={layer: x[cut] for layer, x in given.keys.items()},
            hidden={layer: x[cut] for layer, x in given.hidden.items()},
            output_BLH=given.output_BLH[cut],
            head=given.head[cut],
            layers=given.layers,
        )

    def maps(name: str, x: Tensor) -> Tensor:
        return torch.cat([x, x], dim=-1) if name == HIDDEN_PROJECTION.name else 2 * x

    teacher, student, made = signals(4), signals(2), Objective((term,))
    counts = made.counts(PADDED)
    whole = made.loss_rows(student, made.targets(teacher, PADDED), PADDED, counts, maps)
    assert whole.shape == (3,) and (whole > 0).all()
    parts = []
    for part in (range(2), range(2, 3)):
        batch = PADDED.rows(part)
        parts.append(made.loss_rows(rows(student, part), made.targets(rows(teacher, part), batch), batch, counts, maps))
    torch.testing.assert_close(torch.cat(parts), whole)


@dataclass(frozen=True)
class Contrast:
    """A term of the tests' own that compares the rows of a group with one another."""

    group: int
    weight: float = 1.0
    maps: tuple[LearnedMap, ...] = ()
    pools: bool = False

    def teacher_wants(self) -> Wants:
        return Wants(output=True)

    def student_wants(self, layers: int) -> Wants:
        return Wants(output=True)

    def targets(self, teacher: Signals, batch: Batch, head_order: Tensor | None) -> Any:
        return None

    def loss_rows(self, student: Signals, targets: Any, batch: Batch, counts: Counts, maps: LearnedMaps) -> Tensor:
        assert student.output_BLH is not None
        rows = len(student.output_BLH)
        groups = student.output_BLH.mean((1, 2)).split(self.group)
        return rows_of_groups(torch.stack([one.std(correction=0) for one in groups]), rows, self.group) / counts.rows


def test_an_objective_is_the_sum_of_its_terms_and_wants_what_they_want() -> None:
    terms = (Logits(weight=2.0), HiddenStates(4, (2,)), TokenOutput(3.0), Contrast(4), Contrast(6))
    made = Objective(terms)
    assert made.group == 12 and made.layout == "packed"
    assert made.maps == (HIDDEN_PROJECTION, PROJECTION)
    assert made.teacher_wants == Wants(hidden=frozenset([2, 3, 4]), output=True, head=True)
    assert Objective((*terms, PooledOutput())).layout == "documents"


def test_a_groups_loss_is_given_to_its_rows_in_equal_parts() -> None:
    assert rows_of_groups(torch.tensor([6.0, 4.0]), 5, 3).tolist() == [2.0, 2.0, 2.0, 2.0, 2.0]
    assert rows_of_groups(torch.tensor([6.0, 4.0]), 6, 3).sum() == 10
    assert rows_of_groups(torch.tensor([6.0]), 2, 3).tolist() == [3.0, 3.0]
