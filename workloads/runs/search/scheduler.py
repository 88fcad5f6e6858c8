"""Searcher and scheduler of Ray Tune: the searcher gives lots of candidates, the scheduler decides after each rung.

A search is a Ray Tune scheduler by design: it evaluates candidates under budgets on any cluster that Tune runs on. A
lot is a trial, and each of its rungs a step. The trials share a few actors that never restart: when a lot has scored
its rung, its actor goes to the next lot that has work. The scheduler handles Tune as follows.

1. A lot that gives up its actor is paused without a checkpoint. Its losses are on the board, and its next work comes
   in its configuration, so no rung is run twice. (A pause with a checkpoint writes to disk and took 2 s; one without
   took 0.02 s.)
2. A lot that waits for the end of a rung, while no other lot needs its actor, runs empty steps, since Tune would end
   the actor of a paused trial that no other trial takes over. Empty steps grow longer with the wait, so that many
   waiting actors do not keep the driver busy.
3. A lot becomes a trial only when an actor is free for it. Otherwise Tune would request one more actor from the
   cluster for every waiting trial, and withdraw the request when another actor becomes free.
4. The first trials start the actors. A trial whose actor is still starting is left alone, since Tune would end that
   actor if it gave the trial another one. Only if no other work is left for :data:`START_SECONDS`, such a trial takes
   over an actor: the cluster may have no room for its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from typing_extensions import override

from workloads.craft.scoring import Losses
from workloads.runs.search.board import Board, Work
from workloads.runs.search.proposals import Proposer
from workloads.runs.search.trial import CPU_SECONDS, LOSSES

_PENDING, _PAUSED = "PENDING", "PAUSED"
START_SECONDS = 20.0
"""Seconds that a waiting actor leaves a trial alone whose own actor is still starting."""


class LotSearcher(Searcher):  # type: ignore[misc]
    """Searcher that gives the board's lots as trials, and starts the next generation when one is finished.

    Args:
        board: The search.
        proposer: Gives the generations.
        actors: Most actors to start.
    """

    def __init__(self, board: Board, proposer: Proposer, actors: int) -> None:
        super().__init__()
        self.idle_actors = 0
        """Actors that no lot holds."""
        self.starting: set[int] = set()
        """Lots that start an actor of their own and have not reported yet."""
        self._to_start = actors
        self._board = board
        self._proposer = proposer
        self._given: set[int] = set()

    def take_actor(self, lot: int) -> bool:
        """Take an idle actor for a lot, or let the lot start one; False if neither is possible."""
        if self.idle_actors:
            self.idle_actors -= 1
        elif self._to_start:
            self._to_start -= 1
            self.starting.add(lot)
        else:
            return False
        return True

    @property
    def fresh(self) -> list[int]:
        """Lots of this generation that are not trials yet."""
        return sorted(set(self._board.lots) - self._given)

    @override
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return a lot; None while none can be started, ``FINISHED`` at the end of the search."""
        board = self._board
        while not board.waiting and not board.ended:
            proposed = self._proposer.propose(board.history())
            if not proposed:
                board.end()
            else:
                board.begin(proposed)
        if board.ended:
            return str(Searcher.FINISHED)
        fresh = self.fresh
        if not fresh or not self.take_actor(fresh[0]):
            return None
        self._given.add(fresh[0])
        return {"lot": fresh[0]}

    @override
    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Accept any limit; the number of actors limits the trials."""
        return True

    @override
    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Ignore the end of a trial: the board has its losses."""

    @override
    def save(self, checkpoint_path: str) -> None:
        """Write the given lots, as Tune asks; a search that was cut off continues from its saved losses instead."""
        Path(checkpoint_path).write_text(json.dumps(sorted(self._given)))

    @override
    def restore(self, checkpoint_path: str) -> None:
        """Read back what :meth:`save` wrote."""
        self._given = set(json.loads(Path(checkpoint_path).read_text()))


class RungScheduler(TrialScheduler):  # type: ignore[misc]
    """Scheduler that gives lots their work, reports their losses to the board, and stops, pauses or continues them.

    Args:
        board: The search.
        searcher: Gives the lots.
        on_scores: Called with each lot's work and losses, before they are reported to the board.
    """

    _supports_buffered_results = False

    def __init__(
        self, board: Board, searcher: LotSearcher, on_scores: Callable[[Work, Mapping[int, Losses]], None]
    ) -> None:
        super().__init__()
        self.failure: OSError | None = None
        self.cpu_seconds = 0.0
        """CPU-seconds of the actors, without their start."""
        self._board = board
        self._searcher = searcher
        self._on_scores = on_scores
        self._handed: dict[int, Work] = {}
        """Map of lot to its work, for the lots that have not reported it."""
        self._idle_since: dict[int, float] = {}
        self._takes_over = False
        """Whether the idle actor goes to a trial whose own actor does not start."""

    @override
    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Give a new lot its work, so that it can start."""
        self._hand_out(trial)

    @override
    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Report the losses of a lot, if the step was not empty, and decide what its actor does next."""
        lot = trial.config["lot"]
        self._searcher.starting.discard(lot)
        if lot in self._handed:
            self._report(lot, result[LOSSES].by_number)
        self.cpu_seconds += result[CPU_SECONDS]
        self._stop_dropped(tune_controller)
        if self._board.ended:
            return str(TrialScheduler.STOP)
        if not self._needs_actor(tune_controller, lot):
            return str(TrialScheduler.CONTINUE)
        self._searcher.idle_actors += 1
        if lot not in self._board.lots:
            return str(TrialScheduler.STOP)
        tune_controller.pause_trial(trial, should_checkpoint=False)
        return str(TrialScheduler.NOOP)

    @override
    def choose_trial_to_run(self, tune_controller: Any) -> Any | None:
        """Return the first paused lot that has work, if an actor is free for it."""
        if self._takes_over:
            self._takes_over = False
            chosen = self._without_actor(tune_controller)
        else:
            chosen = self._paused(tune_controller)
        if not chosen or not self._searcher.take_actor(chosen[0].config["lot"]):
            return None
        if chosen[0].status == _PAUSED:
            self._hand_out(chosen[0])
        return chosen[0]

    @override
    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Ignore it: the first error ends the run; see :func:`workloads.runs.search.search.check_end`."""

    @override
    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Ignore it: only this scheduler stops lots."""

    @override
    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Ignore it: only this scheduler stops lots."""

    @override
    def debug_string(self) -> str:
        """Describe the state of the search."""
        board = self._board
        return f"Rung {board.rung + 1} of {len(board.rungs)}, {len(board.waiting)} lots outstanding"

    def _hand_out(self, trial: Any) -> None:
        lot = trial.config["lot"]
        work = self._board.work(lot)
        self._handed[lot] = work
        self._idle_since.pop(lot, None)
        trial.config["work"] = work

    def _report(self, lot: int, losses: Mapping[int, Losses]) -> None:
        work = self._handed.pop(lot)
        if self._board.ended:
            return
        try:
            self._on_scores(work, losses)
        except OSError as error:  # if raised here, Tune would wrap it in an error of its own
            self.failure = error
            self._board.end()
            return
        self._board.report(lot, losses)

    def _needs_actor(self, tune_controller: Any, lot: int) -> bool:
        """Whether a lot, this one included, waits for the actor of this lot, which has finished its work."""
        if lot in self._board.waiting or self._paused(tune_controller) or self._searcher.fresh:
            return True
        idle_since = self._idle_since.setdefault(lot, time.monotonic())
        waited = time.monotonic() - idle_since > START_SECONDS
        self._takes_over = waited and bool(self._without_actor(tune_controller))
        return self._takes_over

    def _stop_dropped(self, tune_controller: Any) -> None:
        """Stop the paused lots that have no candidates left."""
        for trial in list(tune_controller.get_trials()):
            if trial.status == _PAUSED and (self._board.ended or trial.config["lot"] not in self._board.lots):
                tune_controller.stop_trial(trial)

    def _paused(self, tune_controller: Any) -> list[Any]:
        """Return the paused trials that have work, in the order of their lots."""
        waiting = self._board.waiting
        paused = [one for one in tune_controller.get_trials() if one.status == _PAUSED and one.config["lot"] in waiting]
        return sorted(paused, key=lambda trial: int(trial.config["lot"]))

    def _without_actor(self, tune_controller: Any) -> list[Any]:
        """Return the trials whose actor has not started yet."""
        starting = self._searcher.starting
        return [one for one in tune_controller.get_trials() if one.status == _PENDING and one.config["lot"] in starting]
