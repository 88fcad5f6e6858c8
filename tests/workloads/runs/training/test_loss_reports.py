"""Losses that a training reports of its largest and its smallest subnet."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch

from workloads.craft.training import Worker
from workloads.runs.training.train_group import Loss, _losses
from workloads.spec.request import TrainingSpec

TRAINER: Any = SimpleNamespace(
    worker=Worker(torch.device("cpu")),
    training=TrainingSpec(schedule="constant", warmup_fraction=0, learning_rate=0.5),
    members={"small": SimpleNamespace(steps=10)},
)


def _shares(*losses: float) -> dict[str, torch.Tensor]:
    return {"small": torch.tensor(losses)}


def test_the_smallest_subnet_has_the_loss_of_the_step_that_trained_it_last() -> None:
    found = _losses(TRAINER, _shares(2.0, 9.0, 4.0), {"small": torch.tensor(3.0)}, {}, 5)
    assert found == {"small": Loss(2.0, 3.0, 0.5)}


def test_a_continued_training_has_the_loss_of_before_until_the_smallest_comes_again() -> None:
    found = _losses(TRAINER, _shares(2.0, 9.0, 4.0), {}, {"small": Loss(8.0, 7.0, 0.5)}, 5)
    assert found == {"small": Loss(2.0, 7.0, 0.5)}


def test_a_loss_that_is_not_finite_is_seen_in_a_step_without_the_smallest_too() -> None:
    (found,) = _losses(TRAINER, _shares(math.nan, math.nan), {"small": torch.tensor(3.0)}, {}, 5).values()
    assert math.isnan(found.largest) and found.smallest == 3.0
