"""The search on Ray Tune: a searcher that gives lots of candidates, and a scheduler that decides after each rung.

What Tune makes of it was measured (two cores, 60 trials of four rungs): a pause with a checkpoint writes to disk and
cost 2 s, a pause without one 0.02 s, most of that for handing the actor on. So a lot that waits for another to
take its actor is paused without a checkpoint: what it scored is on the board, and its next work comes with its
configuration, so that no finished rung is run again. And since Tune ends the actors of paused trials that nothing takes
over, a lot that waits for the end of a rung without anyone behind it is continued with empty steps instead. So is one
that is through before all actors have started: Tune would hand its actor to a lot whose own is just starting, end that
one, and might so go on with a single actor for long.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from workloads.craft.scoring import Losses
from workloads.runs.search.board import Board, Work
from workloads.runs.search.proposals import Proposer
from workloads.runs.search.trial import CPU_SECONDS, IDLE_SECONDS, LOSSES

_PENDING, _RUNNING, _PAUSED = "PENDING", "RUNNING", "PAUSED"
_PATIENCE = round(2 / IDLE_SECONDS)
"""After so many empty steps a lot gives way to any that can run: an actor may have been lost."""
_START_SECONDS = 20.0
"""So long after the first result the other actors are waited for: the cluster may have no room for them."""


class LotSearcher(Searcher):  # type: ignore[misc]
    """Gives the lots of the board as trials, and begins a generation when the one before is through."""

    def __init__(self, board: Board, proposer: Proposer) -> None:
        super().__init__()
        self._board = board
        self._proposer = proposer
        self._given: set[int] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Give a lot; None while its generation goes on, and at last that the search is finished."""
        board = self._board
        while not board.waiting and not board.ended:
            proposed = self._proposer.propose(board)
            if not proposed:
                board.end()
            else:
                board.begin(proposed)
        if board.ended:
            return str(Searcher.FINISHED)
        fresh = sorted(set(board.lots) - self._given)
        if not fresh:
            return None
        self._given.add(fresh[0])
        return {"lot": fresh[0]}

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """The cluster's resources limit it, so that lots that wait for a rung's end take no place of others."""
        return True

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The board has what there is to learn of a lot."""

    def save(self, checkpoint_path: str) -> None:
        """Write which lots were given; the rest of a search is taken up again by the losses that are known."""
        Path(checkpoint_path).write_text(json.dumps(sorted(self._given)))

    def restore(self, checkpoint_path: str) -> None:
        """Read back what :meth:`save` wrote."""
        self._given = set(json.loads(Path(checkpoint_path).read_text()))


class RungScheduler(TrialScheduler):  # type: ignore[misc]
    """Hands lots their work, reports their scores to the board, and stops, pauses or continues them by what it says.

    Args:
        board: The search.
        actors: How many there should be.
        on_scores: Called with each lot's work and its losses before the board learns of them.
    """

    _supports_buffered_results = False

    def __init__(self, board: Board, actors: int, on_scores: Callable[[Work, Mapping[int, Losses]], None]) -> None:
        super().__init__()
        self.failure: OSError | None = None
        self.cpu_seconds = 0.0
        """Of the actors, without their start."""
        self._board = board
        self._on_scores = on_scores
        self._handed: dict[int, Work] = {}
        """What each lot was last given to score; without those that have reported it."""
        self._idle: dict[int, int] = {}
        self._most_running = 0
        self._actors = actors
        self._starting_until: float | None = None

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A lot came in: with its work, so that it can start."""
        self._hand_out(trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Scores of a lot, or an empty step; then everything follows from the board."""
        lot = trial.config["lot"]
        if lot in self._handed:
            self._report(lot, result[LOSSES].by_number)
        self.cpu_seconds += result[CPU_SECONDS]
        self._stop_idle_rest(tune_controller)
        if self._board.ended:
            return str(TrialScheduler.STOP)
        if lot in self._board.waiting:
            return self._pause(tune_controller, trial)  # it is the first to be chosen again, with its new work
        self._idle[lot] = self._idle.get(lot, 0) + 1
        if self._starting(tune_controller) or not self._someone_waits(
            tune_controller, patience=self._idle[lot] < _PATIENCE
        ):
            return str(TrialScheduler.CONTINUE)
        return self._pause(tune_controller, trial) if lot in self._board.lots else str(TrialScheduler.STOP)

    def choose_trial_to_run(self, tune_controller: Any) -> Any | None:
        """The first lot that has something to score, as soon as an actor is free for it."""
        startable = self._startable(tune_controller)
        if not startable:
            return None
        paused = [trial for trial in startable if trial.status == _PAUSED]
        running = self._running(tune_controller)
        if len(paused) == len(startable) and running and running >= self._most_running:
            return None  # Tune would ask for one more actor, in vain
        trial = startable[0]
        if trial.status == _PAUSED:
            self._hand_out(trial)
        return trial

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """The run ends with the first error; see :func:`workloads.runs.search.search.search_candidates`."""

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A lot was stopped, which was decided here."""

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """A paused lot was stopped, which was decided here."""

    def debug_string(self) -> str:
        """Where the search stands."""
        board = self._board
        return f"Rung {board.rung + 1} of {len(board.rungs)}, {len(board.waiting)} lots outstanding"

    def _hand_out(self, trial: Any) -> None:
        lot = trial.config["lot"]
        work = self._board.work(lot)
        self._handed[lot] = work
        self._idle.pop(lot, None)
        trial.config["work"] = work

    def _report(self, lot: int, losses: Mapping[int, Losses]) -> None:
        work = self._handed.pop(lot)
        if self._board.ended:
            return
        try:
            self._on_scores(work, losses)
        except OSError as error:  # Tune would make something of its own of it
            self.failure = error
            self._board.end()
            return
        self._board.report(lot, losses)

    def _stop_idle_rest(self, tune_controller: Any) -> None:
        """Stop the paused lots that nothing is left of."""
        for trial in list(tune_controller.get_trials()):
            if trial.status == _PAUSED and (self._board.ended or trial.config["lot"] not in self._board.lots):
                tune_controller.stop_trial(trial)

    def _pause(self, tune_controller: Any, trial: Any) -> str:
        tune_controller.pause_trial(trial, should_checkpoint=False)
        return str(TrialScheduler.NOOP)

    def _startable(self, tune_controller: Any) -> list[Any]:
        trials = [
            trial
            for trial in tune_controller.get_trials()
            if trial.status == _PENDING or (trial.status == _PAUSED and trial.config["lot"] in self._board.waiting)
        ]
        return sorted(trials, key=lambda trial: int(trial.config["lot"]))

    def _running(self, tune_controller: Any) -> int:
        running = sum(bool(trial.status == _RUNNING) for trial in tune_controller.get_trials())
        self._most_running = max(self._most_running, running)
        return running

    def _starting(self, tune_controller: Any) -> bool:
        """Whether actors are still to come."""
        now = time.monotonic()
        if self._starting_until is None:
            self._starting_until = now + _START_SECONDS
        self._running(tune_controller)
        if self._most_running >= min(self._actors, len(self._board.lots)):
            self._starting_until = now  # from now on
        return now < self._starting_until

    def _someone_waits(self, tune_controller: Any, *, patience: bool) -> bool:
        """Whether more lots could run than there are free actors for."""
        free = self._most_running - self._running(tune_controller) if patience else 0
        return len(self._startable(tune_controller)) > free
