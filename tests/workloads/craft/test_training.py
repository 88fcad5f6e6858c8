"""The training step, without Ray: the settings that change a weight, and those that do not."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.workloads.craft.test_terms import Contrast
from tests.workloads.craft.training_scene import BATCH, batch_of, flats, train, trainer_of, work
from workloads.craft.objectives.hidden import HiddenStates
from workloads.craft.objectives.objective import Objective
from workloads.craft.objectives.output import TokenOutput
from workloads.craft.teacher import Teacher, open_teacher
from workloads.craft.training import GroupTrainer, learning_rate, share_of_rows
from workloads.spec.request import TrainingSpec


@pytest.fixture(scope="module")
def folder(make_teacher: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Teacher:
    return open_teacher(folder)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_close(one: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float = 1e-5) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=tolerance)


def assert_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _gradient(trainer: GroupTrainer, name: str) -> Tensor:
    return torch.cat([flat.grad for flat in trainer.members[name].superlm.flat.flats if flat.grad is not None])


def only(name: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in weights.items() if key.startswith(f"{name}/")}


GOLDEN = {
    "kl": {"small": [0.63, 0.7053, 0.7071, 0.695], "base": [0.5352, 0.6373, 0.6093, 0.5451]},
    "raw-mse": {"small": [5.3896, 7.4624, 7.3781, 7.5158], "base": [3.1879, 5.7267, 3.8508, 4.6534]},
    "softmax-mse": {"small": [0.0121, 0.0139, 0.0140, 0.0137], "base": [0.00997, 0.0121, 0.0111, 0.0101]},
}


@pytest.mark.parametrize("relation", ["kl", "raw-mse", "softmax-mse"])
def test_golden_losses(teacher: Teacher, relation: str) -> None:
    """Losses of the last of a few steps, taken when this test was written; a change of the method changes them."""
    training = {"smallest_every": 1}
    losses = train(trainer_of(teacher, objective={"relation": relation}, training=training))[-1]
    for name, expected in GOLDEN[relation].items():
        assert losses[name].tolist() == pytest.approx(expected, rel=5e-3), (name, losses[name].tolist())


@pytest.mark.parametrize("relation", ["kl", "raw-mse", "softmax-mse"])
def test_a_student_equal_to_its_teacher_has_no_loss_in_low_precision_either(teacher: Teacher, relation: str) -> None:
    norms = {}
    for precision in ("float32", "bfloat16"):
        training = {"precision": precision, "dropout": 0.0, "clip_norm": 1e6}
        trainer = trainer_of(teacher, names=["teacher"], objective={"relation": relation}, training=training)
        loss = float(trainer.step(0, batch_of(0))["teacher"])
        assert abs(loss) < 1e-6, precision
        norms[precision] = float(_gradient(trainer, "teacher").norm())
    assert norms["bfloat16"] <= 2 * norms["float32"] + 1e-7, norms


def test_losses_fall(teacher: Teacher) -> None:
    losses = train(trainer_of(teacher, steps=12, training={"learning_rate": 1e-2, "dropout": 0.0}), batches=1)
    for name in ("small", "base"):
        assert losses[-1][name].mean() < 0.8 * losses[0][name].mean()


def test_the_rate_warms_up_and_goes_down_to_nothing() -> None:
    training = TrainingSpec(learning_rate=0.8, warmup_fraction=0.2, schedule="linear")
    rates = [learning_rate(training, step, 10) for step in range(10)]
    assert rates == pytest.approx([0.4, 0.8, *(0.8 * (1 - place / 8) for place in range(8))])
    cosine = TrainingSpec(learning_rate=0.8, warmup_fraction=0, schedule="cosine")
    assert learning_rate(cosine, 5, 10) == pytest.approx(0.4)
    constant = TrainingSpec(learning_rate=0.8, warmup_fraction=0, schedule="constant")
    assert [learning_rate(constant, step, 10) for step in (0, 9)] == [0.8, 0.8]


def test_a_rate_of_almost_nothing_moves_almost_nothing(teacher: Teacher) -> None:
    before = flats(trainer_of(teacher))
    trainer = trainer_of(teacher, training={"learning_rate": 1e-12, "schedule": "constant"})
    train(trainer)
    assert_close(before, flats(trainer), 1e-9)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_company_in_a_group_changes_no_weight(teacher: Teacher, precision: str) -> None:
    training = {"precision": precision}
    together = trainer_of(teacher, training=training)
    train(together)
    for name in ("small", "base"):
        alone = trainer_of(teacher, names=[name], training=training)
        train(alone)
        assert_equal(only(name, flats(together)), flats(alone))


def test_the_order_of_a_group_and_a_member_that_is_done_change_no_weight(teacher: Teacher) -> None:
    plain = trainer_of(teacher)
    train(plain)
    other = trainer_of(teacher, names=["base", "small"], lengths={"small": 2})
    train(other)
    assert_equal(only("base", flats(plain)), only("base", flats(other)))


def test_masks_differ_by_seed_and_name(teacher: Teacher) -> None:
    plain, seeded, named = trainer_of(teacher), trainer_of(teacher, seed=1), trainer_of(teacher, renamed="other ")
    for trainer in (plain, seeded, named):
        train(trainer, steps=1)
    # With one random subnet or none, what the names and seeds change is dropout alone.
    assert not torch.equal(flats(plain)["small/decay"], flats(seeded)["small/decay"])
    assert not torch.equal(flats(plain)["small/decay"], flats(named)["other small/decay"])


@pytest.mark.parametrize("layout", ["packed", "documents"])
@pytest.mark.parametrize("rows", [1, 3])
def test_micro_batches_change_no_weight(teacher: Teacher, layout: str, rows: int) -> None:
    objective = {"relation": "kl", "output": {"kind": "pooled"} if layout == "documents" else None}
    whole, split = (
        trainer_of(teacher, objective=objective, training={"micro_batch_rows": at_once}) for at_once in (None, rows)
    )
    losses = [train(trainer, layout=layout, steps=2)[-1] for trainer in (whole, split)]
    assert_close(flats(whole), flats(split))
    for name in ("small", "base"):
        torch.testing.assert_close(losses[0][name], losses[1][name], rtol=1e-4, atol=1e-6)


def test_a_micro_batch_that_memory_does_not_hold_is_halved(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, short = trainer_of(teacher, steps=2), trainer_of(teacher, steps=2)
    train(whole)
    real, seen = teacher.family.read, []

    class Family:
        @staticmethod
        def read(model: Any, batch: Any, wants: Any) -> Any:
            seen.append(len(batch.input_ids_BL))
            if seen[-1] > 2:
                raise torch.OutOfMemoryError
            return real(model, batch, wants)

    short.teacher = replace(teacher, family=Family())  # type: ignore[arg-type]
    train(short)
    assert seen[:3] == [BATCH, -(-BATCH // 2), -(-BATCH // 4)] and max(seen[3:]) == 2
    assert_close(flats(whole), flats(short))


def test_a_row_that_memory_does_not_hold_fails(teacher: Teacher) -> None:
    class Family:
        @staticmethod
        def read(model: Any, batch: Any, wants: Any) -> Any:
            raise torch.OutOfMemoryError

    trainer = trainer_of(teacher)
    trainer.teacher = replace(teacher, family=Family())  # type: ignore[arg-type]
    with pytest.raises(torch.OutOfMemoryError):
        train(trainer)


def test_padding_changes_no_weight(teacher: Teacher) -> None:
    """Rows in the documents layout, and the same rows with columns of padding behind."""
    one, other = (trainer_of(teacher, training={"dropout": 0.0}) for _ in range(2))
    train(one, layout="documents")
    train(other, layout="documents", padding=5)
    assert_close(flats(one), flats(other), 5e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_run_ends_as_an_undisturbed_one(teacher: Teacher, precision: str) -> None:
    training = {"precision": precision}
    whole, first, second = (trainer_of(teacher, training=training) for _ in range(3))
    train(whole)
    train(first, steps=2)
    state = {name: value.clone() for name, value in first.state().items()}
    train(first, first=2, steps=1)  # what a kill takes away
    second.load_state(state)
    train(second, first=2)
    assert_equal(flats(whole), flats(second))
    assert_equal(whole.state(), second.state())


def test_a_gradient_is_clipped_as_a_whole(teacher: Teacher) -> None:
    free, clipped = trainer_of(teacher, training={"clip_norm": 1e6}), trainer_of(teacher, training={"clip_norm": 1e-3})
    for trainer in (free, clipped):
        train(trainer, steps=1)
    for name in ("small", "base"):
        grads = [_gradient(trainer, name) for trainer in (free, clipped)]
        assert float(grads[0].norm()) > 1e-3
        torch.testing.assert_close(grads[1], grads[0] * (1e-3 / grads[0].norm()), rtol=1e-3, atol=1e-9)


def test_a_gradient_that_is_not_finite_changes_no_weight_and_is_not_forgotten(teacher: Teacher) -> None:
    trainer = trainer_of(teacher)
    train(trainer, steps=2)
    before = {name: value.clone() for name, value in trainer.state().items()}
    scale = trainer.members["small"].superlm.flat["embeddings.norm.weight"].detach()
    kept = scale.clone()
    scale.fill_(math.inf)
    before["small/plain"] = trainer.state()["small/plain"].clone()
    losses = train(trainer, first=2, steps=1)[-1]
    assert losses["small"].isnan().all() and losses["base"].isfinite().all()
    after = trainer.state()
    for name in only("small", after):
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(after["base/decay"], before["base/decay"])
    scale.copy_(kept)
    assert train(trainer, first=3, steps=1)[-1]["small"].isnan().all()


def test_shares_of_rows_are_whole_in_order_and_even() -> None:
    for rows in (1, 5, 32, 33):
        for world in (1, 2, 3, 7):
            shares = [share_of_rows(rows, rank, world) for rank in range(world)]
            assert [row for share in shares for row in share] == list(range(rows))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("world", [2, 3, BATCH + 2])
def test_the_shares_of_all_workers_add_up_to_the_whole(teacher: Teacher, world: int) -> None:
    """Gradients and losses before the reductions; uneven shares, and workers without a row."""

    def grads(rank: int, world: int) -> tuple[Tensor, Tensor]:
        trainer = trainer_of(teacher, names=["small"], rank=rank, world=world)
        trainer._update = lambda *_: None  # type: ignore[method-assign]
        losses = trainer.step(0, batch_of(0))["small"]
        return losses, _gradient(trainer, "small")

    loss, grad = grads(0, 1)
    parts = [grads(rank, world) for rank in range(world)]
    torch.testing.assert_close(sum(part[0] for part in parts), loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sum(part[1] for part in parts), grad, rtol=1e-4, atol=1e-6)


def test_two_workers_give_the_weights_of_one(teacher: Teacher, folder: Path, tmp_path: Path) -> None:
    """Two processes reduce by gloo; their shares of the rows are uneven."""
    other = subprocess.Popen(
        [sys.executable, "-m", "tests.workloads.craft.training_scene", str(folder), str(tmp_path), "1"]
    )
    try:
        work(teacher, tmp_path, 0)
        assert other.wait(60) == 0
    finally:
        other.kill()
    for precision, tolerance in (("float32", 1e-5), ("bfloat16", 1e-3)):
        one = trainer_of(teacher, training={"precision": precision})
        train(one)
        two = [torch.load(tmp_path / f"{precision}-{rank}.pt") for rank in range(2)]
        assert_equal(*two)
        assert_close(flats(one), two[0], tolerance)


def test_shares_hold_whole_groups_of_rows() -> None:
    for rows in (1, 6, 32, 33):
        for world in (1, 2, 5):
            shares = [share_of_rows(rows, rank, world, 3) for rank in range(world)]
            assert [row for share in shares for row in share] == list(range(rows))
            assert all(share.start % 3 == 0 for share in shares if len(share))


@pytest.mark.parametrize("rows", [1, 2, 4, 5])
def test_no_group_of_rows_is_divided(teacher: Teacher, rows: int) -> None:
    """A term that compares the rows of a group gives the same weights in micro-batches and by the share of a worker."""
    objective = Objective((TokenOutput(), Contrast(2)))
    whole, split = (trainer_of(teacher, made=objective, training={"micro_batch_rows": at}) for at in (None, rows))
    for trainer in (whole, split):
        train(trainer, steps=2)
    assert_close(flats(whole), flats(split))


def test_a_learned_map_is_trained_and_starts_as_the_identity(teacher: Teacher) -> None:
    """KD-NAS's objective: hidden states of all layers through one map to twice the teacher's width."""
    objective = Objective((HiddenStates(4, (2, 3, 4)),))
    trainer = trainer_of(teacher, made=objective, training={"learning_rate": 1e-2, "dropout": 0.0}, steps=10)
    small = trainer.members["small"].superlm.flat["hidden_projection.weight"]
    assert torch.equal(small.detach(), torch.eye(64).repeat(2, 1)[:, :32])
    losses = train(trainer, batches=1)
    assert losses[-1]["small"].mean() < 0.9 * losses[0]["small"].mean()
    assert not torch.allclose(small, torch.eye(64).repeat(2, 1)[:, :32], atol=1e-2)
    full = trainer_of(teacher, names=["teacher"], made=objective, training={"dropout": 0.0})
    assert float(full.step(0, batch_of(0))["teacher"]) < 1e-9
