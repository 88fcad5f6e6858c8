"""The pieces of the bench on a GPU that is at hand for minutes: the most worth first, none that would end too late.

Trainings and the search run one after the other in this process. Fine-tunings, whose small kernels leave a GPU waiting
for the processor, run side by side in processes of their own, also while this one trains.
"""

from __future__ import annotations

import contextlib
import dataclasses
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu.figures import Figures
from benchmarks.gpu.kit import Kit
from benchmarks.gpu.paces import Deadline, Paces, fitting_tokens
from benchmarks.gpu.students import write_students
from benchmarks.gpu.worth import by_worth
from benchmarks.quality.making import Maker, commit
from benchmarks.quality.pieces import Piece
from benchmarks.quality.plan import Plan
from benchmarks.quality.planning import plan_of
from benchmarks.quality.profiles import Profile
from benchmarks.quality.rows import Row, Rows, append_rows, read_rows
from benchmarks.quality.running import Reporter, Submit, workers
from benchmarks.quality.scene import Scene

ROWS = "rows.parquet"
MOST_SECONDS = 420.0
"""Most seconds of a piece."""
_RESERVED_SECONDS = 120.0
"""Kept for the search, the students' files and the first tasks."""
_SHARE = 0.5
"""Share of the other seconds for the SuperLMs; the students alone, of the same length, take as many at most."""
_SHOWN = ("losses", "score", "validation_score", "candidates")
"""Fields of a row's result that the figures show."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Limits:
    """Limits of a run of the pieces.

    Attributes:
        deadline: The end of the run.
        tokens: Length of every distillation; None for what fits, at most the profile's.
        jobs: Fine-tunings at a time; with 1 they run in this process.
    """

    deadline: Deadline
    tokens: int | None = None
    jobs: int = 1


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
        self._running: dict[Future[Row], Piece] = {}
        self._skipped: set[str] = set()

    def run(self, limits: Limits, say: Say) -> bool:
        """Run pieces until none is left that would end in time, and tell whether none failed.

        Raises:
            TimeoutError: Not one step of the SuperLMs fits.
        """
        profile = self._profile(limits, say)
        self._figures.note("tokens", profile.tokens)
        with self._helpers(profile, limits.jobs) as submit:
            while True:
                rows = read_rows(self._results)
                plan = plan_of(profile, rows)
                piece = self._next(plan, rows, limits.deadline, say)
                if piece is None and not self._running:
                    there = sum(one in rows for one in plan.pieces)
                    say(f"{there} of {len(plan.pieces)} known pieces are there, those of earlier runs included")
                    self._figures.note("all_pieces", not plan.later and there == len(plan.pieces))
                    return not self._figures.of("failed")
                if submit is not None and (piece is None or self._is_for_helpers(piece)):
                    if piece is not None and len(self._running) < limits.jobs:
                        self._told(piece, limits.deadline, say)
                        self._running[submit(piece, dict(rows))] = piece
                    else:
                        self._collect(say, wait_for_one=True)
                    continue
                assert piece is not None
                self._told(piece, limits.deadline, say)
                self._make(piece, profile, rows, say)
                self._collect(say, wait_for_one=False)

    @contextlib.contextmanager
    def _helpers(self, profile: Profile, jobs: int) -> Iterator[Submit | None]:
        if jobs == 1:
            yield None
            return
        with workers(profile, self._places, jobs) as submit:
            yield submit

    def _is_for_helpers(self, piece: Piece) -> bool:
        """Whether a piece is one of many small ones, and its weights are here; several would train them else."""
        return piece.kind in {"task", "untuned"} and self._paces.is_here(piece.needs[0])

    def _profile(self, limits: Limits, say: Say) -> Profile:
        profile, tokens = self._kit.sizes.profile, limits.tokens
        if tokens is None:
            rate = self._paces.superlm_rate().tokens_a_second
            seconds = min(MOST_SECONDS, _SHARE * (limits.deadline.left - _RESERVED_SECONDS))
            tokens = fitting_tokens(rate, seconds, profile.tokens)
            least = profile.batch_size * profile.sequence_length
            if tokens < least:
                raise TimeoutError(f"At {rate:.3g} tokens a second not one step of {least} fits; give more --minutes.")
            say(f"{rate:.3g} tokens a second: SuperLMs of {tokens:,} tokens (at most {profile.tokens:,})")
        return dataclasses.replace(profile, tokens=tokens)

    def _next(self, plan: Plan, rows: Rows, deadline: Deadline, say: Say) -> Piece | None:
        begun = {piece.fingerprint for piece in self._running.values()} | self._skipped
        for piece in by_worth(plan):
            ready = all(need.fingerprint in rows for need in piece.needs)
            if piece.fingerprint in rows or piece.fingerprint in begun or not ready:
                continue
            seconds = self._paces.seconds(piece)
            if seconds <= min(deadline.left, MOST_SECONDS):
                return piece
            self._skipped.add(piece.fingerprint)
            self._figures.add("left_out", {"name": piece.name, "seconds": seconds, "seconds_left": deadline.left})
            say(f"left out: {piece.name} (about {seconds:.0f} s; {deadline.left:.0f} s left)")
        return None

    def _told(self, piece: Piece, deadline: Deadline, say: Say) -> None:
        say(f"begins: {piece.name} (about {self._paces.seconds(piece):.0f} s; {deadline.left:.0f} s left)")

    def _make(self, piece: Piece, profile: Profile, rows: Rows, say: Say) -> None:
        """Make a piece in this process."""
        try:
            self._keep(piece, self._maker.make(piece, rows, Reporter(piece.name, say)), say)
            if piece.kind == "search":
                self._students(profile, piece, say)
        except Exception as error:  # the other pieces can still be had in this run
            self._failed(piece, error, say)

    def _collect(self, say: Say, *, wait_for_one: bool) -> None:
        """Keep the rows of the helpers' pieces that are done."""
        done = wait(self._running, timeout=None if wait_for_one else 0, return_when=FIRST_COMPLETED).done
        for future in done:
            piece, error = self._running.pop(future), future.exception()
            if error is not None:
                self._failed(piece, error, say)
            else:
                self._keep(piece, future.result(), say)

    def _keep(self, piece: Piece, row: Row, say: Say) -> None:
        machine = {**row.machine, "card": self._figures.card}
        append_rows(self._results, [dataclasses.replace(row, commit=self._kit.commit_here(commit()), machine=machine)])
        self._paces.note(piece, row.wall_seconds)
        figure = {"name": piece.name, "kind": piece.kind, "wall_seconds": row.wall_seconds}
        self._figures.add("pieces", figure | {name: row.result[name] for name in _SHOWN if name in row.result})
        say(f"done: {piece.name} in {row.wall_seconds:.1f} s")

    def _failed(self, piece: Piece, error: BaseException, say: Say) -> None:
        self._skipped.add(piece.fingerprint)
        self._figures.add("failed", {"name": piece.name, "error": f"{type(error).__name__}: {error}"})
        say(f"failed: {piece.name}: {''.join(traceback.format_exception(error))}")

    def _students(self, profile: Profile, search: Piece, say: Say) -> None:
        (superlms,) = search.needs
        (scene,) = superlms.needs
        opened = Scene(scene.inputs, self._places)
        parts = write_students(self._out, profile, opened, search, read_rows(self._results))
        self._figures.note("students", [path.name for path in parts])
        say(f"the chosen students are in {', '.join(path.name for path in parts)}")
