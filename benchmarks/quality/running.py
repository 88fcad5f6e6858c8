"""Running a profile: pieces side by side, each in a process of its own thread, each appended once it is done."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.quality.pieces import Piece
from benchmarks.quality.planning import deciding, only_named, plan_of
from benchmarks.quality.profiles import Profile
from benchmarks.quality.rows import Row, Rows, append_rows, read_rows

if TYPE_CHECKING:
    from benchmarks.quality.making import Maker
    from benchmarks.quality.places import Places

Say = Callable[[str], None]
Submit = Callable[[Piece, dict[str, Row]], Future[Row]]
"""Callback that begins a piece, given the rows of those that it needs."""
MOST_FAILURES = 3
"""After so many failed pieces none is begun any more."""
_SAY_SECONDS = 20.0
"""Least seconds between two lines about one piece."""


@dataclass(frozen=True)
class Limits:
    """Limits of a run: which pieces, for how long, how many at once.

    Attributes:
        only: Part of the names of the pieces to run, with what they need; None for all.
        hours: No piece is begun that would end later, by its estimate; None for no limit.
        jobs: Pieces at a time, each with one thread; with 1 it runs in this process.
    """

    only: str | None = None
    hours: float | None = None
    jobs: int = 1


@dataclass
class _Pace:
    """Time left, from the estimates of pieces and how far they were off so far."""

    estimated: float = 0.0
    taken: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    def note(self, piece: Piece, row: Row) -> None:
        self.estimated += piece.seconds
        self.taken += row.wall_seconds

    def seconds(self, pieces: list[Piece], jobs: int) -> float:
        factor = self.taken / self.estimated if self.estimated > 60 else 1.0
        return factor * sum(piece.seconds for piece in pieces) / jobs

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.begun


def run(profile: Profile, places: Places, results: Path, limits: Limits, say: Say) -> bool:
    """Run the pieces that have no row yet, and tell whether all that were asked for are there.

    A piece that fails keeps no other from running, unless that needs it.

    Raises:
        LookupError: No piece has a name such as ``limits.only``.
        RuntimeError: Pieces failed; the others have their rows.
    """
    pace, running = _Pace(), dict[Future[Row], Piece]()
    failed: dict[str, BaseException] = {}
    with workers(profile, places, limits.jobs) as submit:
        while True:
            rows = read_rows(results)
            plan = plan_of(profile, rows)
            wanted = only_named(plan.pieces.values(), limits.only)
            if not wanted and plan.later:  # what it names may come after these
                wanted = deciding(plan.pieces.values())
            missing = [piece for piece in wanted if piece.fingerprint not in rows]
            if not wanted or (not missing and not only_named(wanted, limits.only)):
                raise LookupError(f"No piece of {profile.name} has {limits.only!r} in its name; see --list.")
            begun = {piece.fingerprint for piece in running.values()} | set(failed)
            for piece in missing:
                if len(running) == limits.jobs or len(failed) >= MOST_FAILURES:
                    break
                ready = piece.fingerprint not in begun and all(need.fingerprint in rows for need in piece.needs)
                if ready and _in_time(piece, pace, limits):
                    say(f"begins: {piece.name} (about {told(pace.seconds([piece], 1))})")
                    running[submit(piece, _needed(piece, rows))] = piece
            if not running:
                if failed:
                    told_of = "; ".join(f"{plan.pieces[one].name}: {error}" for one, error in failed.items())
                    raise RuntimeError(f"Pieces failed: {told_of}") from list(failed.values())[-1]
                return not missing
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                piece, error = running.pop(future), future.exception()
                if error is not None:
                    if not isinstance(error, Exception) or isinstance(error, BrokenProcessPool):
                        raise error
                    say(f"failed: {piece.name}: {error}")
                    failed[piece.fingerprint] = error
                    continue
                row = future.result()
                append_rows(results, [row])
                pace.note(piece, row)
                left = [one for one in missing if one.fingerprint != piece.fingerprint]
                more = " and what they decide" if plan.later else ""
                say(
                    f"{len(wanted) - len(left)} of {len(wanted)} pieces{more}: {piece.name} took "
                    f"{told(row.wall_seconds)}; about {told(pace.seconds(left, limits.jobs))} left"
                )


def told(seconds: float) -> str:
    """Format a duration in words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Reporter:
    """Reporter that prints a piece's progress, its rate and the time left at a fixed interval."""

    def __init__(self, name: str, say: Say) -> None:
        self._name, self._say = name, say
        self._last = time.monotonic()
        self._first: tuple[float, int, str] | None = None

    def __call__(self, done: int, total: int, unit: str) -> None:
        """Report how many units of how many are done."""
        now = time.monotonic()
        if self._first is None or self._first[2] != unit or done < self._first[1]:
            self._first = (now, done, unit)
        if now - self._last < _SAY_SECONDS or done == self._first[1]:
            return
        self._last = now
        rate = (done - self._first[1]) / (now - self._first[0])
        self._say(f"  {self._name}: {done} of {total} {unit}, {rate:.2g} a second, {told((total - done) / rate)} left")


def _in_time(piece: Piece, pace: _Pace, limits: Limits) -> bool:
    return limits.hours is None or pace.elapsed + pace.seconds([piece], 1) <= 3600 * limits.hours


def _needed(piece: Piece, rows: Rows) -> dict[str, Row]:
    found = {}
    for need in piece.needs:
        found[need.fingerprint] = rows[need.fingerprint]
        found |= _needed(need, rows)
    return found


@contextlib.contextmanager
def workers(profile: Profile, places: Places, jobs: int) -> Iterator[Submit]:
    """Start processes of one thread that make pieces; with one job, pieces are made in this process when submitted.

    An error of the body ends them at once.
    """
    if jobs == 1:
        _open(places, profile.name)

        def here(piece: Piece, rows: dict[str, Row]) -> Future[Row]:
            future: Future[Row] = Future()
            try:
                future.set_result(_run(piece, rows))
            except Exception as error:
                future.set_exception(error)
            return future

        yield here
        return
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    others = multiprocessing.active_children()
    with ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(places, profile.name)) as pool:
        try:
            yield lambda piece, rows: pool.submit(_run, piece, rows)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                if worker not in others:
                    worker.terminate()  # its piece has no row yet, and would keep this process from ending
            raise


_process: dict[str, Any] = {}
"""The maker of this process."""


def _begin(places: Places, profile: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends the others
    _open(places, profile)


def _open(places: Places, profile: str) -> None:
    import torch
    from transformers.utils import logging

    from benchmarks.quality.making import Maker

    logging.disable_progress_bar()
    torch.set_num_threads(1)  # threads that wait for one another would count as CPU-seconds
    _process["maker"] = Maker(places, profile)


def _run(piece: Piece, rows: dict[str, Row]) -> Row:
    from benchmarks.quality.terminal import say

    maker: Maker = _process["maker"]
    return maker.make(piece, rows, Reporter(piece.name, say))
