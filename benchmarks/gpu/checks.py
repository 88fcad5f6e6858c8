"""Checks of the training step on the device: what must not change a result, and by how much it may.

Gradients of a step are compared as wholes, ``|a - b| / |a|``: after an update of Adam, which divides by the gradient's
size, rounding errors of tiny gradients would be as large as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.subjects import random_batch, trainer_of
from workloads.craft.objectives.relation import RelationLoss, relation_scores
from workloads.craft.objectives.term import Counts
from workloads.craft.signals import Batch
from workloads.craft.teacher import Teacher
from workloads.craft.training import GroupTrainer
from workloads.shapes.spaces import relative_spaces

_STEPS = 4
_RATE = 1e-3
_DROPOUT = {"learning_rate": _RATE, "dropout": 0.1}
_ROUNDED = 0.2
"""Bound for gradients in bfloat16. On a CPU, with minilm, they were .054 apart with 16 rows and .099 with 4: the
gradient of a student that is near its teacher is a small difference of large terms."""


@dataclass(frozen=True)
class Check:
    """A difference that must not be above its bound.

    Attributes:
        name: What is compared.
        difference: The largest difference found, relative to the size of what is compared.
        bound: The largest that passes.
    """

    name: str
    difference: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether it is within its bound; a NaN is not."""
        return self.difference <= self.bound

    def to_json(self) -> dict[str, Any]:
        """Return JSON-like values."""
        return {"name": self.name, "difference": self.difference, "bound": self.bound, "passed": self.passed}


class Checks:
    """Checks with one teacher.

    Args:
        teacher: The teacher, on the device that is checked.
        sizes: Rows of the steps, and the settings of the profile.
    """

    def __init__(self, teacher: Teacher, sizes: Sizes) -> None:
        self._teacher, self._rows = teacher, sizes.check_rows
        self._length = sizes.profile.sequence_length
        self._spaces = relative_spaces(teacher.shape, sizes.profile.subspaces)

    def __iter__(self) -> Iterator[Callable[[], list[Check]]]:
        """Iterate over the checks, each of which has one or two results."""
        yield self.precision
        yield self.relations
        yield self.micro_batches
        yield self.groups
        yield self.resuming
        if self._teacher.model.device.type == "cuda":
            yield self.devices

    def precision(self) -> list[Check]:
        """Compare a step in bfloat16 with one in float32: losses and gradients."""
        losses, gradients = [], []
        for precision in ("float32", "bfloat16"):
            trainer = self._trainer({"learning_rate": _RATE, "dropout": 0.0, "precision": precision})
            losses.append(_losses(trainer.step(0, self._batch(0))))
            gradients.append(_gradients(trainer))
        return [
            Check("losses in bfloat16 and in float32", _apart(*losses), 0.02),
            Check("gradients in bfloat16 and in float32", _apart(*gradients), _ROUNDED),
        ]

    def relations(self) -> list[Check]:
        """Compare the gradient of the relation loss, which is written out, with autograd's of the plain form."""
        heads, device = self._teacher.shape.last_heads, self._teacher.model.device
        loss, draw = RelationLoss("kl", heads, "spread"), torch.Generator().manual_seed(0)
        found, wanted = {}, {}
        for width in {max(heads, space.largest.hidden_size + odd) for space in self._spaces for odd in (0, 3)}:
            theirs, ours = (
                torch.randn(self._rows, self._length, size, generator=draw).to(device)
                for size in (self._teacher.shape.hidden_size, width)
            )
            target = loss.target(theirs, None)
            counts = Counts(self._rows, self._rows * self._length, self._rows * self._length**2)
            x_BLA = ours.clone().requires_grad_()
            loss(x_BLA, target, None, counts).sum().backward()  # type: ignore[no-untyped-call]
            y_BLA = ours.double().requires_grad_()
            logs_BRLL = relation_scores(y_BLA, heads).log_softmax(-1)
            plain = -(target.relation.double() * logs_BRLL).sum() / (heads * counts.tokens)
            plain.backward()  # type: ignore[no-untyped-call]
            assert x_BLA.grad is not None and y_BLA.grad is not None
            found[str(width)], wanted[str(width)] = x_BLA.grad.double(), y_BLA.grad
        return [Check("gradients of the relation loss and of its plain form", _apart(wanted, found), 1e-4)]

    def micro_batches(self) -> list[Check]:
        """Compare a step in one piece with the same in micro-batches, dropout included."""
        found = []
        for at_once in (None, max(1, self._rows // 4)):
            trainer = self._trainer({**_DROPOUT, "precision": "float32", "micro_batch_rows": at_once})
            trainer.step(0, self._batch(0))
            found.append(_gradients(trainer))
        return [Check("gradients of whole and of micro-batches", _apart(*found), 1e-3)]

    def groups(self) -> list[Check]:
        """Compare the first member trained alone with the same in a group of all."""
        found = []
        for count in (1, len(self._spaces)):
            trainer = self._trainer({**_DROPOUT, "precision": "float32"}, members=count)
            trainer.step(0, self._batch(0))
            found.append({name: one for name, one in _gradients(trainer).items() if name == self._spaces[0].name})
        return [Check("gradients alone and in a group", _apart(*found), 1e-3)]

    def resuming(self) -> list[Check]:
        """Compare a run that is continued from its state with an undisturbed one, in the device's own precision.

        The difference is that of the weights, relative to what the steps changed. Sums that a GPU adds up in changing
        orders make it larger than 0; a state that was not restored whole would make it about 1.
        """
        whole, first, second = (self._trainer(_DROPOUT) for _ in range(3))
        before = _weights(whole)
        half = _STEPS // 2
        for step in range(_STEPS):
            whole.step(step, self._batch(step))
        for step in range(half):
            first.step(step, self._batch(step))
        second.load_state({name: value.clone() for name, value in first.state().items()})
        for step in range(half, _STEPS):
            second.step(step, self._batch(step))
        after, resumed = _weights(whole), _weights(second)
        moved = {name: after[name] - before[name] for name in after}
        again = {name: resumed[name] - before[name] for name in after}
        bound = 0.0 if self._teacher.model.device.type == "cpu" else 0.05
        return [Check("weights of an undisturbed and of a resumed run", _apart(moved, again), bound)]

    def devices(self) -> list[Check]:
        """Compare a step on the GPU with one on the CPU, in float32."""
        device = self._teacher.model.device
        settings = {"learning_rate": _RATE, "dropout": 0.0, "precision": "float32"}
        here = self._trainer(settings)
        here.step(0, self._batch(0))
        self._teacher.model.to("cpu")
        try:
            there = self._trainer(settings)
            there.step(0, self._batch(0))
        finally:
            self._teacher.model.to(device)
        found = [{name: one.cpu() for name, one in _gradients(trainer).items()} for trainer in (there, here)]
        return [Check("gradients on the CPU and on the GPU", _apart(*found), 1e-3)]

    def _trainer(self, settings: Mapping[str, Any], members: int | None = None) -> GroupTrainer:
        spaces = self._spaces[:members]
        return trainer_of(self._teacher, spaces, dict(settings), length=self._length, rows=self._rows, steps=_STEPS)

    def _batch(self, step: int) -> Batch:
        return random_batch(self._teacher, self._rows, self._length, seed=step)


def _losses(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: one.detach().float().cpu() for name, one in losses.items()}


def _gradients(trainer: GroupTrainer) -> dict[str, Tensor]:
    found = {}
    for name, member in trainer.members.items():
        found[name] = torch.cat([flat.grad.flatten() for flat in member.superlm.flat.flats if flat.grad is not None])
    return found


def _weights(trainer: GroupTrainer) -> dict[str, Tensor]:
    return {
        name: torch.cat([flat.detach().flatten() for flat in member.superlm.flat.flats])
        for name, member in trainer.members.items()
    }


def _apart(ones: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> float:
    """Return the largest relative distance of any member; NaN where one has no finite values."""
    assert ones and ones.keys() == others.keys()
    return float(torch.stack([(ones[name] - others[name]).norm() / ones[name].norm() for name in ones]).max())
