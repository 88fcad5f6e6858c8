"""The training step: a group of SuperLMs is trained with one teacher forward per batch.

Plain PyTorch. Where several workers share a batch, the caller sets up ``torch.distributed``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from workloads.craft.dropout import Dropout, DropoutKey
from workloads.craft.objectives.objective import Counts, Objective
from workloads.craft.objectives.term import LearnedMaps
from workloads.craft.precision import autocast, has_bfloat16
from workloads.craft.products import fast_models
from workloads.craft.sandwich import sandwich
from workloads.craft.signals import Batch
from workloads.craft.superlm import SuperLM
from workloads.craft.teacher import Teacher
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import Space
from workloads.spec.request import TrainingSpec


@dataclass
class Member:
    """One SuperLM of the group.

    Attributes:
        space: The sub-space.
        superlm: The SuperLM, on the training device.
        head_order: Order in which it reads the teacher's last layer; see :meth:`Objective.targets`.
        steps: Length of its training in optimiser steps.
    """

    space: Space
    superlm: SuperLM
    head_order: Tensor | None
    steps: int

    def __post_init__(self) -> None:
        self.superlm.flat.zero_grad()


@dataclass(frozen=True)
class Worker:
    """One of the data-parallel workers of a group.

    Attributes:
        device: The device that it trains on.
        rank: Its number, from 0.
        world: Number of workers.
    """

    device: torch.device
    rank: int = 0
    world: int = 1


class GroupTrainer:
    """Trains the members of a group, step by step.

    The weights of a member are a function of its sub-space, the data, the settings and the seed. The other members,
    the number of workers and the micro-batches change them by no more than the rounding of sums.

    Args:
        teacher: The opened teacher, on the worker's device.
        members: The SuperLMs by name of their sub-space.
        objective: The objective that they are trained on.
        training: Learning rate, schedule, sandwich and so on.
        seed: Seed of subnet draws and dropout.
        worker: This worker.
    """

    def __init__(
        self,
        teacher: Teacher,
        members: Mapping[str, Member],
        objective: Objective,
        training: TrainingSpec,
        *,
        seed: int,
        worker: Worker,
    ) -> None:
        self.teacher, self.members, self.objective, self.training = teacher, dict(members), objective, training
        self.seed, self.worker = seed, worker
        device = worker.device
        self.low_precision = training.precision == "bfloat16" or (training.precision == "auto" and has_bfloat16(device))
        self.optimizers = {name: _optimizer(member.superlm, training) for name, member in self.members.items()}
        self._diverged = {name: torch.zeros((), dtype=torch.bool, device=device) for name in self.members}
        self._rows_at_once = training.micro_batch_rows
        # Members that read the teacher's heads in one order share the targets of a batch.
        orders = {
            name: None if member.head_order is None else tuple(member.head_order.tolist())
            for name, member in self.members.items()
        }
        self._sharing = [[name for name in orders if orders[name] == order] for order in dict.fromkeys(orders.values())]

    @property
    def steps(self) -> int:
        """Number of steps until all members are done."""
        return max(member.steps for member in self.members.values())

    def step(self, step: int, batch: Batch) -> dict[str, Tensor]:
        """Train every member that is not done yet on one global batch.

        Args:
            step: The global step, from 0.
            batch: The whole batch, the same on all workers; each takes its share of the rows.

        Returns:
            By member, this worker's share of the losses ``[subnets]``, in the order of :func:`sandwich`; the shares of
            all workers add up to the loss of the batch. The tensors stay on the device. They are NaN from
            the step on where a gradient of the member was not finite; such a gradient changes no weight.
        """
        subnets = {
            name: sandwich(member.space, self.training, seed=self.seed, step=step)
            for name, member in self.members.items()
            if step < member.steps
        }
        losses = self._losses_and_gradients(step, batch, subnets)
        for name in subnets:
            self._update(name, step)
            losses[name].masked_fill_(self._diverged[name], math.nan)
        return losses

    def state(self) -> dict[str, Tensor]:
        """Return weights and optimiser moments as flat tensors; with the step they are the whole state.

        Schedules, subnet draws, dropout and the order of the data are functions of the seed and the step.
        """
        state: dict[str, Tensor] = {}
        for name, optimizer in self.optimizers.items():
            for kind, flat in zip(("decay", "plain"), self.members[name].superlm.flat.flats, strict=True):
                state[f"{name}/{kind}"] = flat.detach()
                for moment, value in optimizer.state[flat].items():
                    state[f"{name}/{kind}/{moment}"] = value
        return state

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a result of :meth:`state`."""
        for name, optimizer in self.optimizers.items():
            for kind, flat in zip(("decay", "plain"), self.members[name].superlm.flat.flats, strict=True):
                flat.copy_(state[f"{name}/{kind}"])
                prefix = f"{name}/{kind}/"
                moments = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
                # The step counter must stay where the fused kernel expects it: beside the weights.
                optimizer.state[flat] = {key: value.to(flat.device).clone() for key, value in moments.items()}

    def _losses_and_gradients(
        self, step: int, batch: Batch, subnets: Mapping[str, Sequence[Architecture]]
    ) -> dict[str, Tensor]:
        """Process this worker's rows in micro-batches; halve these while one does not fit the device's memory."""
        counts = self.objective.counts(batch)
        group = self.objective.group
        share = share_of_rows(len(batch.input_ids_BL), self.worker.rank, self.worker.world, group)
        while True:
            at_once = _whole_groups(self._rows_at_once or len(share), group)
            losses = {name: torch.zeros(len(ones), device=self.worker.device) for name, ones in subnets.items()}
            for name in subnets:
                self.members[name].superlm.flat.zero_grad()
            try:
                for start in range(share.start, share.stop, at_once):
                    rows = range(start, min(start + at_once, share.stop))
                    self._add_rows(step, batch.rows(rows).to(self.worker.device), rows, counts, subnets, losses)
                return losses
            except torch.OutOfMemoryError:
                if at_once == group:
                    raise
            self._rows_at_once = -(-at_once // 2)  # after the handler, whose error holds tensors of the failed try
            torch.cuda.empty_cache()

    def _add_rows(
        self,
        step: int,
        part: Batch,
        rows: range,
        counts: Counts,
        subnets: Mapping[str, Sequence[Architecture]],
        losses: dict[str, Tensor],
    ) -> None:
        """Add the losses of some rows, and their gradients."""
        with torch.no_grad(), fast_models(), self._autocast():
            signals = self.teacher.read(part, self.objective.teacher_wants)
        for names in self._sharing:
            names = [name for name in names if name in subnets]
            if not names:
                continue
            targets = self.objective.targets(signals, part, self.members[names[0]].head_order)
            for name in names:
                superlm = self.members[name].superlm
                for index, architecture in enumerate(subnets[name]):
                    dropout = self._dropout(DropoutKey(self.seed, name, step, index), architecture, rows)
                    with self._autocast():
                        given = superlm(part, architecture, self.objective.student_wants(architecture), dropout)
                    # In float32: the loss of a student near its teacher is below the rounding error of bfloat16.
                    loss = self.objective.loss(given, targets, part, counts, self._maps(superlm))
                    loss.backward()  # type: ignore[no-untyped-call]
                    losses[name][index] += loss.detach()

    def _dropout(self, key: DropoutKey, architecture: Architecture, rows: range) -> Dropout | None:
        probability = self.training.dropout
        return Dropout(probability, key, rows, len(architecture.layers), self.worker.device) if probability else None

    def _maps(self, superlm: SuperLM) -> LearnedMaps:
        def apply(name: str, x: Tensor) -> Tensor:
            with self._autocast():
                return superlm.learned_map(name, x)

        return apply

    def _update(self, name: str, step: int) -> None:
        member, optimizer = self.members[name], self.optimizers[name]
        flats = member.superlm.flat.flats
        grads = []
        for flat in flats:
            assert flat.grad is not None
            if self.worker.world > 1:
                dist.all_reduce(flat.grad)
            grads.append(flat.grad)
        norm = torch.nn.utils.get_total_norm(grads)
        broken = ~norm.isfinite()
        self._diverged[name] |= broken
        torch.nn.utils.clip_grads_with_norm_(flats, self.training.clip_norm, norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self.training, step, member.steps)
        # With a 1 here the fused kernel leaves weights and moments unchanged, and the host need not wait to know.
        optimizer.found_inf = broken.float()  # type: ignore[attr-defined]
        optimizer.step()

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        return autocast(self.worker.device, self.low_precision)


def learning_rate(training: TrainingSpec, step: int, steps: int) -> float:
    """Return the rate of a step: linear warm-up over a fraction of ``steps``, then the schedule.

    ``linear`` and ``cosine`` go down to zero.
    """
    warmup = int(steps * training.warmup_fraction)
    if step < warmup:
        return training.learning_rate * (step + 1) / warmup
    place = (step - warmup) / max(1, steps - warmup)
    factor = {"linear": 1 - place, "cosine": (1 + math.cos(math.pi * place)) / 2, "constant": 1.0}
    return training.learning_rate * factor[training.schedule]


def _optimizer(superlm: SuperLM, training: TrainingSpec) -> torch.optim.AdamW:
    decay, plain = superlm.flat.flats
    groups = [{"params": [decay], "weight_decay": training.weight_decay}, {"params": [plain], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=training.learning_rate, fused=True)


def share_of_rows(rows: int, rank: int, world: int, group: int = 1) -> range:
    """Return the rows of a batch that a worker takes: whole groups, whose numbers differ by one at most."""
    groups = -(-rows // group)
    return range(min(rows, groups * rank // world * group), min(rows, groups * (rank + 1) // world * group))


def _whole_groups(rows: int, group: int) -> int:
    return max(1, rows // group) * group
