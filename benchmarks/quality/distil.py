"""Distillation of models, alone or as SuperLMs, by the product's own trainer.

The schedule ``linear`` is the product's: each length is a run of its own. With ``branch`` the rate is constant on a
*trunk*, and each length leaves it for a final decay to zero (in the last fifth, say); lengths then share the trunk,
whose states are kept in the work folder.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.quality import autotinybert
from benchmarks.quality.pieces import Piece
from benchmarks.quality.scene import Scene
from workloads.craft.cutting import INITIAL_STD
from workloads.craft.objectives.objective import Objective
from workloads.craft.scoring import score
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import build_superlm, load_superlm, save_superlm, wiring_of
from workloads.craft.training import GroupTrainer, Member, Worker
from workloads.shapes.parameters import place_of
from workloads.shapes.search_space import Space, space_from_json
from workloads.spec.request import TrainingSpec
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key

Report = Callable[[int, int, str], None]
"""Callback with what is done, of how much, in which unit."""
_STATE = "state.safetensors"
_TRUNK_STEPS, _WARM_UP_STEPS = 1_000_000, 5
"""Bound of a trunk, and its warm-up, the same for every length."""
_DECAY_SEEDS = 1_000_003
"""Added to the seed for the decay's subnet draws, since its steps are numbered from 0 again."""


@dataclass(frozen=True, eq=False)
class Model:
    """A trained member.

    Attributes:
        head_order: Order in which the teacher's last layer is read; see :class:`Heldout`.
    """

    superlm: SuperLM
    head_order: list[int] | None


class Distillation:
    """A distillation of one or several members over the same batches.

    Args:
        scene: Teacher and text.
        piece: A piece of the kind ``distil``.
        report: Callback with the steps that are done.
    """

    def __init__(self, scene: Scene, piece: Piece, report: Report) -> None:
        self.scene, self.key, self.report = scene, piece.key, report
        inputs = piece.inputs
        earlier = next((one for one in piece.needs if one.kind == "distil"), None)
        self.earlier = None if earlier is None else Distillation(scene, earlier, report)
        self.spaces: dict[str, Space] = {name: space_from_json(one) for name, one in inputs["members"].items()}
        self.seed, self.initial, self.kind = int(inputs["seed"]), inputs["initial"], inputs["objective"]
        self.decay, settings = float(inputs["decay"]), dict(inputs["training"])
        self.steps = int(inputs["tokens"]) // (scene.length * scene.batch_size)
        tokens = max(1, self.steps) * scene.length * scene.batch_size
        self.training = TrainingSpec(
            tokens_per_superlm=tokens, sequence_length=scene.length, batch_size=scene.batch_size, **settings
        )

    def models(self) -> dict[str, Model]:
        """Return the trained members, from the work folder or by training them now."""
        if self.steps == 0:
            return {name: Model(member.superlm, _listed(member)) for name, member in self._members(0).items()}
        return self._read(artifacts.find(self.scene.storage, self.key) or self._make())

    def facts(self) -> dict[str, Any]:
        """Train the members if need be, score their largest subnets, and return losses and CPU-seconds."""
        models = self.models()
        made = artifacts.find(self.scene.storage, self.key)
        return {
            "losses": {name: self.loss(models[name], space) for name, space in self.spaces.items() if self.steps},
            "steps": self.steps,
            "train_cpu_seconds": made.summary["cpu_seconds"] if made else 0.0,
        }

    def loss(self, model: Model, space: Space) -> float:
        """Held-out loss of the largest subnet of a member."""
        heldout = self.scene.heldout.ordered(model.head_order)
        return score(model.superlm.to(self.scene.device), space.largest, self.scene.objective, heldout)

    def _read(self, made: Artifact) -> dict[str, Model]:
        root = Path(self.scene.storage.path(made.files))
        wiring = wiring_of(self.scene.teacher)
        orders = made.summary["head_orders"]
        return {name: Model(load_superlm(root / name, wiring), orders[name]) for name in self.spaces}

    def _make(self) -> Artifact:
        storage, builder = self.scene.storage, f"quality-{uuid.uuid4().hex[:8]}"
        started = time.process_time()
        if self.decay:
            trainer, before = self._branch()
        else:
            trainer, before = self._trainer(self.training, self.steps, self.seed), 0.0
            self._run(trainer, range(self.steps), first_batch=self.earlier.steps if self.earlier else 0)
        folder = artifacts.build_folder(self.key, builder)
        for name, member in trainer.members.items():
            save_superlm(Path(storage.path(f"{folder}/{name}")), member.superlm)
        summary = {
            "head_orders": {name: _listed(member) for name, member in trainer.members.items()},
            "cpu_seconds": before + time.process_time() - started,
        }
        return artifacts.commit(storage, self.key, builder, summary, device=self.scene.device.type)

    def _branch(self) -> tuple[GroupTrainer, float]:
        """Train on the trunk as far as need be, then decay; return the CPU-seconds that earlier trunks took."""
        decay_steps = max(1, round(self.steps * self.decay))
        trunk_steps = self.steps - decay_steps
        warm_up = (_WARM_UP_STEPS + 0.5) / _TRUNK_STEPS
        constant = self.training.model_copy(update={"schedule": "constant", "warmup_fraction": warm_up})
        trunk = self._trainer(constant, _TRUNK_STEPS, self.seed)
        found = self._longest_trunk(trunk_steps)
        reached, before = 0, 0.0
        if found is not None:
            reached, before = found.summary["steps"], found.summary["cpu_seconds"]
            trunk.load_state(self._state(found))
        if reached < trunk_steps:
            started = time.process_time()
            self._run(trunk, range(reached, trunk_steps), first_batch=0)
            self._save_trunk(trunk, trunk_steps, before + time.process_time() - started)
        falling = self.training.model_copy(update={"schedule": "linear", "warmup_fraction": 0.0})
        branch = self._trainer(falling, decay_steps, self.seed + _DECAY_SEEDS)
        branch.load_state(trunk.state())
        self._run(branch, range(decay_steps), first_batch=trunk_steps)
        return branch, before

    def _run(self, trainer: GroupTrainer, steps: range, *, first_batch: int) -> None:
        device = self.scene.device
        with closing(self.scene.batches(self.seed, first_batch + steps.start)) as batches:
            for step, batch in zip(steps, itertools.islice(batches, len(steps)), strict=True):
                trainer.step(step, batch.to(device))
                self.report(first_batch + step + 1, self.steps, "steps")

    def _trainer(self, training: TrainingSpec, steps: int, seed: int) -> GroupTrainer:
        scene, members = self.scene, self._members(steps)
        worker = Worker(scene.device)
        return GroupTrainer(scene.teacher, members, self._objective(), training, seed=seed, worker=worker)

    def _members(self, steps: int) -> dict[str, Member]:
        scene, objective, members = self.scene, self._objective(), {}
        if self.earlier is not None:
            (space,) = self.spaces.values()
            begun = self.earlier.models()[self.initial["member"]]
            flat = begun.superlm.flat
            weights = {name: flat[name].detach().clone() for name in flat.shapes}
            superlm = SuperLM.from_teacher(weights, space, begun.superlm.wiring).to(scene.device)
            order = None if begun.head_order is None else torch.tensor(begun.head_order, device=scene.device)
            return {space.name: Member(space, superlm, order, steps)}
        for name, space in self.spaces.items():
            built = build_superlm(scene.teacher, space, order=scene.order, maps=objective.maps)
            superlm = built.superlm if self.initial == "teacher" else _redrawn(built.superlm, self.seed)
            order = None if built.head_order is None else built.head_order.to(scene.device)
            members[name] = Member(space, superlm.to(scene.device), order, steps)
        return members

    def _objective(self) -> Objective:
        if self.kind == "relation":
            return self.scene.objective
        assert self.kind == "autotinybert", self.kind
        (depth,) = {len(one.layers) for space in self.spaces.values() for one in space}
        return autotinybert.objective_of(self.scene.teacher.shape, depth, self.scene.order)

    def _trunk_key(self, steps: int) -> Key:
        inputs = {name: value for name, value in self.key.inputs.items() if name not in {"tokens", "decay"}}
        return Key("quality-trunk", {**inputs, "steps": steps})

    def _longest_trunk(self, steps: int) -> Artifact | None:
        for length in range(steps, 0, -1):
            if (found := artifacts.find(self.scene.storage, self._trunk_key(length))) is not None:
                return found
        return None

    def _state(self, found: Artifact) -> Mapping[str, Tensor]:
        state: dict[str, Tensor] = load_file(Path(self.scene.storage.path(found.files)) / _STATE)
        return state

    def _save_trunk(self, trainer: GroupTrainer, steps: int, cpu_seconds: float) -> None:
        storage, key, builder = self.scene.storage, self._trunk_key(steps), f"quality-{uuid.uuid4().hex[:8]}"
        folder = Path(storage.path(artifacts.build_folder(key, builder)))
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.cpu().contiguous() for name, tensor in trainer.state().items()}, folder / _STATE)
        artifacts.commit(storage, key, builder, {"steps": steps, "cpu_seconds": cpu_seconds})


def _listed(member: Member) -> list[int] | None:
    return None if member.head_order is None else member.head_order.tolist()


@torch.no_grad()
def _redrawn(superlm: SuperLM, seed: int) -> SuperLM:
    """Draw all weights anew, as BERT draws them: nothing of the teacher is left but its vocabulary."""
    draw = torch.Generator().manual_seed(seed)
    weights = {}
    for name in superlm.flat.shapes:
        place, old = place_of(name), superlm.flat[name]
        fresh = torch.zeros(old.shape)
        if place.part.kind == "norm" and place.kind == "weight":
            fresh.fill_(1)
        elif place.kind == "weight":
            fresh.normal_(0, INITIAL_STD, generator=draw)
        weights[name] = fresh
    return SuperLM(weights, superlm.wiring)
