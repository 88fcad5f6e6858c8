"""Times of pieces on a device: what they will take, and how many tokens fit."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.gpu.figures import Figures
from benchmarks.gpu.kit import Kit
from benchmarks.gpu.subjects import teacher_in, trainer_of
from benchmarks.gpu.utilisation import Rate, measure, of_rate
from benchmarks.quality.pieces import Piece
from benchmarks.quality.places import Places
from workloads.shapes.search_space import Space, space_from_json
from workloads.shapes.spaces import relative_spaces
from workloads.storage import artifacts

_FIRST_GUESS = {"scene": 15.0, "labels": 2.0, "search": 30.0, "task": 15.0, "untuned": 10.0}
"""Seconds of a kind of piece before one has run."""
_START_SECONDS = 10.0
"""Seconds of a training beside its steps: ordering, building, saving, scoring."""


@dataclass(frozen=True)
class Deadline:
    """The end of a run.

    Attributes:
        at: Time of the monotonic clock.
    """

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """So many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds until then."""
        return self.at - time.monotonic()


class Paces:
    """Estimates of what pieces take on this device.

    Args:
        kit: The kit.
        places: Its places on this machine.
        figures: Measured rates are added to them.
        device: The device.
    """

    def __init__(self, kit: Kit, places: Places, figures: Figures, device: torch.device) -> None:
        self._sizes, self._places, self._figures = kit.sizes, places, figures
        self._teacher = teacher_in(kit.teacher, device)
        self._rates: dict[tuple[str, ...], Rate] = {}
        self._taken: dict[str, list[float]] = {}

    def note(self, piece: Piece, seconds: float) -> None:
        """Learn what a piece took."""
        self._taken.setdefault(piece.kind, []).append(seconds)

    def seconds(self, piece: Piece) -> float:
        """Estimate a piece, with the training of its weights where they are not on this machine."""
        if piece.kind == "distil":
            return self._training(piece)
        known = self._taken.get(piece.kind)
        own = max(known) if known else _FIRST_GUESS[piece.kind]
        lost = [need for need in piece.needs if need.kind == "distil" and not self.is_here(need)]
        return own + sum(map(self._training, lost))

    def superlm_rate(self) -> Rate:
        """The rate at which the SuperLMs are trained together."""
        return self._rate(relative_spaces(self._teacher.shape, self._sizes.profile.subspaces))

    def _training(self, piece: Piece) -> float:
        tokens = int(piece.inputs["tokens"])
        if not tokens:
            return _START_SECONDS
        spaces = [space_from_json(one) for one in piece.inputs["members"].values()]
        return _START_SECONDS + tokens / self._rate(spaces).tokens_a_second

    def is_here(self, piece: Piece) -> bool:
        """Whether the weights of a training are on this machine, or are cut without one."""
        return not piece.inputs["tokens"] or artifacts.find(self._places.storage, piece.key) is not None

    def _rate(self, spaces: Sequence[Space]) -> Rate:
        names = tuple(space.name for space in spaces)
        if names not in self._rates:
            profile, sizes = self._sizes.profile, self._sizes
            rows, length = profile.batch_size, profile.sequence_length
            trainer = trainer_of(self._teacher, spaces, profile.training, length=length, rows=rows)
            rate = measure(trainer, rows=rows, length=length, least_steps=sizes.least_steps, seconds=sizes.seconds)
            self._rates[names] = rate
            figure = of_rate(rate, self._figures.card, rows=rows, length=length)
            self._figures.add("rates", {"members": list(names), **figure})
        return self._rates[names]


def fitting_tokens(rate: float, seconds: float, most: int) -> int:
    """Return how many tokens fit into some seconds, at most ``most``, rounded down to two digits; 0 if none do."""
    fit = int(max(0.0, seconds - _START_SECONDS) * rate)
    if fit >= most:
        return most
    unit = 10 ** max(0, math.floor(math.log10(fit)) - 1) if fit else 1
    return fit // unit * unit
