"""The pieces of the bench on a GPU that is at hand for minutes: the most worth first, none that would end too late."""

from __future__ import annotations

import dataclasses
import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu.figures import Figures
from benchmarks.gpu.kit import Kit
from benchmarks.gpu.students import write_students
from benchmarks.gpu.subjects import teacher_in, trainer_of
from benchmarks.gpu.utilisation import Rate, measure, of_rate
from benchmarks.gpu.worth import by_worth
from benchmarks.quality.making import Maker, commit
from benchmarks.quality.pieces import Piece
from benchmarks.quality.places import Places
from benchmarks.quality.plan import Plan
from benchmarks.quality.planning import plan_of
from benchmarks.quality.profiles import Profile
from benchmarks.quality.rows import Row, Rows, append_rows, read_rows
from benchmarks.quality.running import Reporter
from benchmarks.quality.scene import Scene
from workloads.shapes.search_space import Space, space_from_json
from workloads.shapes.spaces import relative_spaces
from workloads.storage import artifacts

ROWS = "rows.parquet"
MOST_SECONDS = 420.0
"""Most seconds of a piece."""
_RESERVED_SECONDS = 120.0
"""Kept for the search, the students' files and the first tasks."""
_SHARE = 0.5
"""Share of the other seconds for the SuperLMs; the students alone, of the same length, take as many at most."""
_FIRST_GUESS = {"scene": 15.0, "labels": 2.0, "search": 30.0, "task": 15.0, "untuned": 10.0}
"""Seconds of a kind of piece before one has run."""
_START_SECONDS = 10.0
"""Seconds of a training beside its steps: ordering, building, saving, scoring."""
Say = Callable[[str], None]


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
        lost = [need for need in piece.needs if need.kind == "distil" and not self._is_here(need)]
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

    def _is_here(self, piece: Piece) -> bool:
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


class Run:
    """A run of the pieces.

    Args:
        kit: The kit.
        work: Folder for trained weights on this machine.
        out: Folder of what comes back.
        figures: The run's figures.
        device: The device.
    """

    def __init__(self, kit: Kit, work: Path, out: Path, figures: Figures, device: torch.device) -> None:
        self._kit, self._out, self._figures = kit, out, figures
        self._places = kit.places(work)
        self._maker = Maker(self._places, kit.manifest.profile)
        self._paces = Paces(kit, self._places, figures, device)
        self._results = out / ROWS

    def run(self, deadline: Deadline, tokens: int | None, say: Say) -> bool:
        """Run pieces until none is left that would end in time, and tell whether none failed.

        Args:
            deadline: The end of the run.
            tokens: Length of every distillation; None for what fits, at most the profile's.
            say: Callback with lines for people.
        """
        profile = self._profile(deadline, tokens, say)
        self._figures.note("tokens", profile.tokens)
        skipped: set[str] = set()
        while True:
            rows = read_rows(self._results)
            plan = plan_of(profile, rows)
            piece = self._next(plan, rows, skipped, deadline, say)
            if piece is None:
                self._figures.note("all_pieces", not plan.later and all(one in rows for one in plan.pieces))
                return not self._figures.of("failed")
            try:
                self._make(piece, rows, say)
                if piece.kind == "search":
                    self._students(profile, piece, say)
            except Exception as error:  # the other pieces can still be had in this run
                skipped.add(piece.fingerprint)
                self._figures.add("failed", {"name": piece.name, "error": f"{type(error).__name__}: {error}"})
                say(f"failed: {piece.name}: {traceback.format_exc()}")

    def _profile(self, deadline: Deadline, tokens: int | None, say: Say) -> Profile:
        profile = self._kit.sizes.profile
        if tokens is None:
            rate = self._paces.superlm_rate().tokens_a_second
            seconds = min(MOST_SECONDS, _SHARE * (deadline.left - _RESERVED_SECONDS))
            tokens = fitting_tokens(rate, seconds, profile.tokens)
            least = profile.batch_size * profile.sequence_length
            if tokens < least:
                raise TimeoutError(f"At {rate:.3g} tokens a second not one step of {least} fits; give more --minutes.")
            say(f"{rate:.3g} tokens a second: SuperLMs of {tokens:,} tokens (at most {profile.tokens:,})")
        return dataclasses.replace(profile, tokens=tokens)

    def _next(self, plan: Plan, rows: Rows, skipped: set[str], deadline: Deadline, say: Say) -> Piece | None:
        for piece in by_worth(plan):
            ready = all(need.fingerprint in rows for need in piece.needs)
            if piece.fingerprint in rows or piece.fingerprint in skipped or not ready:
                continue
            seconds = self._paces.seconds(piece)
            if seconds <= min(deadline.left, MOST_SECONDS):
                say(f"begins: {piece.name} (about {seconds:.0f} s; {deadline.left:.0f} s left)")
                return piece
            skipped.add(piece.fingerprint)
            self._figures.add("left_out", {"name": piece.name, "seconds": seconds, "seconds_left": deadline.left})
            say(f"left out: {piece.name} (about {seconds:.0f} s; {deadline.left:.0f} s left)")
        return None

    def _make(self, piece: Piece, rows: Rows, say: Say) -> None:
        row: Row = self._maker.make(piece, rows, Reporter(piece.name, say))
        row = dataclasses.replace(
            row,
            commit=self._kit.commit_here(commit()),
            machine={**row.machine, "card": self._figures.card},
        )
        append_rows(self._results, [row])
        self._paces.note(piece, row.wall_seconds)
        figure = {"name": piece.name, "kind": piece.kind, "wall_seconds": row.wall_seconds}
        shown = ("losses", "score", "validation_score", "candidates")
        self._figures.add("pieces", figure | {name: row.result[name] for name in shown if name in row.result})
        say(f"done: {piece.name} in {row.wall_seconds:.1f} s")

    def _students(self, profile: Profile, search: Piece, say: Say) -> None:
        (superlms,) = search.needs
        (scene,) = superlms.needs
        opened = Scene(scene.inputs, self._places)
        parts = write_students(self._out, profile, opened, search, read_rows(self._results))
        self._figures.note("students", [path.name for path in parts])
        say(f"the chosen students are in {', '.join(path.name for path in parts)}")
