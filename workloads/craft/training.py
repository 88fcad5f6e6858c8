"""One loop's step: a group of SuperLMs trained on one teacher forward a batch.

Plain PyTorch; where several workers share a batch, the caller has set up ``torch.distributed``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from workloads.craft.objectives.objective import Objective
from workloads.craft.sandwich import sandwich
from workloads.craft.signals import Batch
from workloads.craft.superlm import SuperLM
from workloads.craft.teacher import Teacher
from workloads.shapes.search_space import Space
from workloads.spec.request import TrainingSpec


@dataclass
class Member:
    """One SuperLM of the group.

    Attributes:
        space: Its sub-space.
        superlm: Its weights, on the training device.
        head_order: See :meth:`Objective.targets`.
        steps: Its own length in optimiser steps.
    """

    space: Space
    superlm: SuperLM
    head_order: Tensor | None
    steps: int

    def __post_init__(self) -> None:
        self.superlm.flat.zero_grad()


class GroupTrainer:
    """Trains the members of a group, step by step.

    Args:
        teacher: Opened, on ``device``.
        members: Started SuperLMs, by name.
        objective: What they are trained to match.
        training: Learning rate, schedule, sandwich and so on.
        seed: Of subnet draws and dropout.
        device: Where everything lies.
        rank: This worker.
        world: Data-parallel workers.
    """

    def __init__(
        self,
        teacher: Teacher,
        members: Mapping[str, Member],
        objective: Objective,
        training: TrainingSpec,
        *,
        seed: int,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.teacher, self.members, self.objective, self.training = teacher, dict(members), objective, training
        self.seed, self.device, self.rank, self.world = seed, device, rank, world
        self.low_precision = _uses_bfloat16(training.precision, device)
        self.optimizers = {name: _optimizer(member.superlm, training) for name, member in self.members.items()}

    @property
    def steps(self) -> int:
        """Steps until the longest member is done."""
        return max(member.steps for member in self.members.values())

    def step(self, step: int, batch: Batch) -> dict[str, Tensor]:
        """Train every member that is not done yet on one global batch.

        Args:
            step: The global step, from 0.
            batch: The whole batch, the same on all workers; each takes its slice.

        Returns:
            By member, this worker's share of the losses ``[subnets]``, the largest's and the smallest's first;
            the shares of all workers add up to the loss of the batch. Left on the device.
        """
        counts = self.objective.counts(batch)
        part = _slice(batch, self.rank, self.world).to(self.device)
        torch.manual_seed(hash((self.seed, step, self.rank)) & 0x7FFFFFFF)
        with torch.no_grad(), self._autocast():
            signals = self.teacher.family.read(self.teacher.model, part, self.objective.teacher_wants)
        losses: dict[str, Tensor] = {}
        for name, member in self.members.items():
            if step >= member.steps:
                continue
            superlm = member.superlm.train()
            superlm.flat.zero_grad()
            targets = self.objective.targets(signals, part, member.head_order)
            shares = []
            for architecture in sandwich(member.space, seed=self.seed, step=step, randoms=self.training.random_subnets):
                with self._autocast():
                    given = superlm(part, architecture, self.objective.student_wants(architecture))
                    loss = self.objective.loss(given, targets, part, counts, superlm.project)
                loss.backward()  # type: ignore[no-untyped-call]
                shares.append(loss.detach())
            self._update(name, member, step)
            losses[name] = torch.stack(shares)
        return losses

    def state(self) -> dict[str, Tensor]:
        """Give weights and optimiser moments as flat tensors; with the step they are the whole state.

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
        """Take back what :meth:`state` gave."""
        for name, optimizer in self.optimizers.items():
            for kind, flat in zip(("decay", "plain"), self.members[name].superlm.flat.flats, strict=True):
                flat.copy_(state[f"{name}/{kind}"])
                prefix = f"{name}/{kind}/"
                moments = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
                # The step counter must stay where the fused kernel expects it: beside the weights.
                optimizer.state[flat] = {key: value.to(flat.device).clone() for key, value in moments.items()}

    def _update(self, name: str, member: Member, step: int) -> None:
        grads = []
        for flat in member.superlm.flat.flats:
            assert flat.grad is not None
            if self.world > 1:
                dist.all_reduce(flat.grad)
            grads.append(flat.grad)
        torch.nn.utils.clip_grads_with_norm_(
            member.superlm.flat.flats, self.training.clip_norm, torch.nn.utils.get_total_norm(grads)
        )
        optimizer = self.optimizers[name]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self.training, step, member.steps)
        optimizer.step()

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        if not self.low_precision:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


def learning_rate(training: TrainingSpec, step: int, steps: int) -> float:
    """The rate of a step: linear warm-up over a fraction of ``steps``, then the schedule down to zero."""
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


def _uses_bfloat16(precision: str, device: torch.device) -> bool:
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16" or (precision == "auto" and native)


def _slice(batch: Batch, rank: int, world: int) -> Batch:
    if world == 1:
        return batch
    rows = batch.input_ids_BL.shape[0] // world
    part = slice(rank * rows, (rank + 1) * rows)
    mask, types = batch.mask_BL, batch.token_types_BL
    return Batch(batch.input_ids_BL[part], None if mask is None else mask[part], None if types is None else types[part])
