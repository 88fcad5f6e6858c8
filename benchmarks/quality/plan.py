"""Plans: the pieces of a profile, as far as the rows that are there decide them. Light to import.

The chosen shape is known after the search, and so are the shapes that are compared with it. So a plan is made again
after each new row; it then has more pieces, and fewer names of what comes later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.quality.pieces import Piece
from benchmarks.quality.profiles import Profile
from benchmarks.quality.rows import Row, Rows
from benchmarks.quality.shapes import MACS_LENGTH, cost_of, macs_of
from workloads.shapes.architecture import Architecture, TeacherShape
from workloads.shapes.search_space import ListedSpace, Space
from workloads.shapes.spaces import relative_spaces

_MACS_A_SECOND = 2.5e10
"""Multiply-accumulates a CPU-second, for estimates of times."""
_UPDATE_SECONDS = 2e-8
"""CPU-seconds of a parameter's update."""
_ROW_TOKENS = {"sst2": 20, "cola": 12, "mrpc": 53, "rte": 70, "stsb": 32}
_SCORED_ROWS = {"sst2": 872, "cola": 1043, "mrpc": 408, "rte": 277, "stsb": 1500}
CALIBRATION_SEED = 1


@dataclass(frozen=True, eq=False)
class Entry:
    """A model of a report.

    Attributes:
        role: Role of the model in the comparison, such as ``chosen``.
        fraction: The budget that it belongs to; None for the teacher.
        distil: Where its weights come from.
        member: Its name among the members of ``distil``.
        architecture: Its shape.
        tasks: Pieces of its fine-tunings.
        untuned: Piece of its similarities.
        paid: Pieces whose CPU-seconds it took.
        search: Search that its held-out loss is taken from; None where that of ``distil`` is its own.
    """

    role: str
    fraction: float | None
    distil: Piece
    member: str
    architecture: Architecture
    tasks: tuple[Piece, ...]
    untuned: Piece | None
    paid: tuple[Piece, ...] = ()
    search: Piece | None = None


@dataclass
class Plan:
    """Plan of a profile: its pieces, and the models of its report.

    Attributes:
        pieces: In an order in which their needs come first, by fingerprint.
        later: Names of pieces that depend on rows that do not exist yet.
        entries: Models of the report.
        sharing: For question 1: by sub-space and length, the shapes, the piece of the losses inside and of those alone.
        predicting: For question 2: by band, the models with the pieces of their losses inside and alone.
        shapes: For question 3: by budget, the losses alone.
        recipes: For question 4: by sub-space, recipe and seed, the losses inside.
    """

    pieces: dict[str, Piece] = field(default_factory=dict)
    later: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    sharing: list[Sharing] = field(default_factory=list)
    predicting: list[Predicted] = field(default_factory=list)
    shapes: list[ShapeLosses] = field(default_factory=list)
    recipes: list[RecipeLosses] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Sharing:
    """Losses of some shapes of a sub-space at one length.

    Attributes:
        shapes: The shapes, in the order of their losses inside.
        inside: Piece of the losses inside the SuperLM.
        alone: Piece of the losses alone.
        everywhere: Whether every length has these shapes.
    """

    subspace: str
    tokens: int
    shapes: tuple[Architecture, ...]
    inside: Piece
    alone: Piece
    everywhere: bool


@dataclass(frozen=True, eq=False)
class Predicted:
    """A shape of a band; its place is that of its losses in the pieces."""

    band: float
    entry: Entry
    inside: Piece
    place: int
    alone: Piece


@dataclass(frozen=True, eq=False)
class ShapeLosses:
    """Losses of some shapes of equal cost, each distilled alone.

    Attributes:
        fraction: Their share of the teacher's multiply-accumulates.
        shapes: The shapes.
        alone: Piece of their distillation.
    """

    fraction: float
    shapes: tuple[Architecture, ...]
    alone: Piece


@dataclass(frozen=True, eq=False)
class RecipeLosses:
    """Losses of some shapes of a sub-space that was trained by one recipe.

    Attributes:
        subspace: The sub-space.
        variant: Name of the recipe.
        seed: Seed of the distillation.
        shapes: The shapes, from the smallest to the largest, in the order of their losses.
        distil: Piece of the training.
        inside: Piece of the losses.
    """

    subspace: str
    variant: str
    seed: int
    shapes: tuple[Architecture, ...]
    distil: Piece
    inside: Piece


class Planner:
    """Makes the pieces that plans are made of.

    Args:
        profile: The settings.
        rows: The rows that are there.
    """

    def __init__(self, profile: Profile, rows: Rows) -> None:
        self.profile, self.rows = profile, rows
        self.plan = Plan()
        self.scene = self.add(
            Piece(
                "scene",
                f"teacher {profile.teacher} and text",
                {
                    "teacher": profile.teacher,
                    "corpus": profile.corpus,
                    "sequence_length": profile.sequence_length,
                    "batch_size": profile.batch_size,
                    "heldout_rows": profile.heldout_rows,
                    "objective": profile.objective,
                    "seed": CALIBRATION_SEED,
                },
                seconds=60,
            )
        )

    def add(self, piece: Piece) -> Piece:
        """Put a piece into the plan, once."""
        return self.plan.pieces.setdefault(piece.fingerprint, piece)

    def row(self, piece: Piece) -> Row | None:
        """Row of a piece, if it is there."""
        return self.rows.get(piece.fingerprint)

    @property
    def shape(self) -> TeacherShape:
        """The teacher's shape; the scene's row must be there."""
        return TeacherShape.from_json(self.rows[self.scene.fingerprint].result["teacher"])

    @property
    def spaces(self) -> Sequence[Space]:
        """The product's default sub-spaces."""
        return relative_spaces(self.shape, self.profile.subspaces)

    def distil(
        self,
        name: str,
        members: Sequence[Space],
        tokens: int,
        *,
        initial: str | Mapping[str, str] = "teacher",
        objective: str = "relation",
        seed: int = 0,
        decay: float = 0.0,
        training: Mapping[str, Any] | None = None,
        needs: tuple[Piece, ...] = (),
    ) -> Piece:
        """Distil members over the same batches; ``decay`` above 0 branches them off a trunk.

        ``training`` has fields of :class:`TrainingSpec` over those of the profile. ``initial`` is ``teacher``,
        ``random``, or a member of an earlier distillation, which ``needs`` then has.
        """
        profile = self.profile
        step = profile.sequence_length * profile.batch_size
        tokens = max(tokens // step, 1) * step if tokens else 0
        inputs = {
            "scene": self.scene.fingerprint,
            "members": {space.name: space.to_json() for space in members},
            "initial": initial,
            "objective": objective,
            "tokens": tokens,
            "training": {**profile.training, **(training or {})},
            "seed": seed,
            "decay": decay,
        }
        seconds = self._distil_seconds(members, tokens)
        return self.add(Piece("distil", name, inputs, (self.scene, *needs), seconds))

    def alone(self, name: str, one: Architecture, tokens: int, **options: Any) -> Piece:
        """Distil one shape alone; its member is called ``student``."""
        return self.distil(name, [ListedSpace("student", (one,))], tokens, **options)

    def polish(self, name: str, superlms: Piece, member: str, one: Architecture, tokens: int) -> Piece:
        """Distil a subnet of trained SuperLMs further, alone, on the batches that follow theirs."""
        earlier = {"distil": superlms.fingerprint, "member": member}
        return self.distil(name, [ListedSpace("student", (one,))], tokens, initial=earlier, needs=(superlms,))

    def search(self, distil: Piece) -> Piece:
        """Search the SuperLMs of a distillation."""
        candidates = sum(len(space) for space in self.spaces)
        middle = sum(macs_of(self.shape, space.largest) for space in self.spaces) / len(self.spaces)
        seconds = candidates * self.profile.heldout_rows / 3 * middle / _MACS_A_SECOND
        return self.add(Piece("search", f"search of {distil.name}", {"distil": distil.fingerprint}, (distil,), seconds))

    def inside(self, distil: Piece, subnets: Sequence[tuple[str, Architecture]], name: str) -> Piece:
        """Score subnets of SuperLMs."""
        inputs = {"distil": distil.fingerprint, "subnets": [[space, one.to_json()] for space, one in subnets]}
        macs = sum(macs_of(self.shape, one) for _, one in subnets)
        return self.add(Piece("inside", name, inputs, (distil,), self.profile.heldout_rows * macs / _MACS_A_SECOND))

    def entry(
        self,
        role: str,
        fraction: float | None,
        distil: Piece,
        one: Architecture,
        *,
        member: str = "student",
        seeds: Sequence[int] | None = None,
        tuning: Mapping[str, Any] | None = None,
        paid: tuple[Piece, ...] | None = None,
        tasks: Sequence[str] | None = None,
        search: Piece | None = None,
        shown: bool = True,
    ) -> Entry:
        """Fine-tune a model on the tasks, and put it into the tables of the report if it is to be ``shown``."""
        profile = self.profile
        seeds = profile.seeds if seeds is None else seeds
        settings = dict(profile.tuning if tuning is None else tuning)
        title = role if fraction is None else f"{role} at {fraction:.3g}"
        tasks = profile.tasks if tasks is None else tasks
        pieces = [self._task(title, distil, member, one, task, settings, seed) for task in tasks for seed in seeds]
        untuned = self._untuned(title, distil, member, one, settings) if "stsb" in profile.tasks else None
        paid = (distil,) if paid is None else paid
        found = Entry(role, fraction, distil, member, one, tuple(pieces), untuned, paid, search)
        if shown:
            self.plan.entries.append(found)
        return found

    def _labels(self, task: str) -> Piece:
        return self.add(Piece("labels", f"labels of {task}", {"task": task, "data": self.profile.data}))

    def _task(
        self, title: str, distil: Piece, member: str, one: Architecture, task: str, tuning: dict[str, Any], seed: int
    ) -> Piece:
        labels = self._labels(task)
        inputs = {
            "distil": distil.fingerprint,
            "member": member,
            "architecture": one.to_json(),
            "labels": labels.fingerprint,
            "task": task,
            "tuning": tuning,
            "seed": seed,
        }
        cost = cost_of(self.shape, one)
        trained = tuning["train_rows"] * tuning["epochs"] * len(tuning["learning_rates"])
        macs = (3 * trained + _SCORED_ROWS[task]) * _ROW_TOKENS[task] * cost.flops / MACS_LENGTH
        seconds = macs / _MACS_A_SECOND + trained / tuning["batch_size"] * cost.params * _UPDATE_SECONDS
        return self.add(Piece("task", f"{title}: {task}, seed {seed}", inputs, (distil, labels), seconds))

    def _untuned(self, title: str, distil: Piece, member: str, one: Architecture, tuning: dict[str, Any]) -> Piece:
        labels = self._labels("stsb")
        inputs = {
            "distil": distil.fingerprint,
            "member": member,
            "architecture": one.to_json(),
            "labels": labels.fingerprint,
            "task": "stsb",
            "tuning": {**tuning, "epochs": 1},  # of no meaning here, and so the same for all
        }
        macs = 2 * _SCORED_ROWS["stsb"] * _ROW_TOKENS["stsb"] / 2 * macs_of(self.shape, one) / MACS_LENGTH
        return self.add(Piece("untuned", f"{title}: stsb untuned", inputs, (distil, labels), macs / _MACS_A_SECOND))

    def _distil_seconds(self, members: Sequence[Space], tokens: int) -> float:
        shape, randoms = self.shape, 2
        macs, params = float(macs_of(shape, shape.architecture)), 0.0
        for space in members:
            ends = [macs_of(shape, space.largest), macs_of(shape, space.smallest)]
            macs += 3 * (ends[0] if len(space) == 1 else sum(ends) * (1 + randoms / 2))
            params += cost_of(shape, space.largest).params
        steps = tokens / (self.profile.sequence_length * self.profile.batch_size)
        return 1 + tokens / MACS_LENGTH * macs / _MACS_A_SECOND + steps * params * _UPDATE_SECONDS
