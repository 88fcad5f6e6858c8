"""A small imitation of Ray Tune's controller, without Ray: one event a step, with the same guarantees."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from workloads.craft.scoring import Losses
from workloads.runs.search.board import Board, Work
from workloads.runs.search.proposals import Proposer
from workloads.runs.search.scheduler import LotSearcher, RungScheduler
from workloads.runs.search.trial import CPU_SECONDS, LOSSES, Reported

Score = Callable[[Work], dict[int, Losses]]


@dataclass
class Actor:
    score: Score
    starts_in: float = 0
    ended: bool = False


@dataclass
class Trial:
    config: dict[str, Any]
    status: str = "PENDING"
    actor: Actor | None = None
    work: Work | None = None


class FakeTune:
    """Runs a search.

    Args:
        board: The search.
        proposer: Gives its candidates.
        on_scores: As the scheduler has it.
        actors: How many there is room for.
        starts_in: Steps that each of them takes to start.
        order: Draws whose result comes next; else they take turns.
    """

    def __init__(
        self,
        board: Board,
        proposer: Proposer,
        on_scores: Callable[[Work, Mapping[int, Losses]], None] = lambda work, losses: None,
        *,
        actors: int,
        starts_in: Sequence[float] = (),
        order: random.Random | None = None,
    ) -> None:
        self.searcher = LotSearcher(board, proposer, actors)
        self.scheduler = RungScheduler(board, self.searcher, on_scores)
        self.errors: list[BaseException] = []
        self.actors: list[Actor] = []
        self.trials: list[Trial] = []
        self._room, self._starts_in, self._order = actors, list(starts_in), order
        self._idle: list[Actor] = []
        self._turn = 0
        self._over = False

    def run(self, make_score: Callable[[], Score], steps: int = 20_000) -> None:
        """Run until the search has ended or failed."""
        for _ in range(steps):
            self._add_trials()
            self._give_actors(make_score)
            if self._over and all(trial.status == "TERMINATED" for trial in self.trials):
                return
            self._handle_result()
            if self.errors:
                return
        raise AssertionError(f"no end: {self.scheduler.debug_string()}")

    def get_trials(self) -> list[Trial]:
        return self.trials

    def pause_trial(self, trial: Trial, should_checkpoint: bool) -> None:
        assert trial.status == "RUNNING" and not should_checkpoint
        self._release(trial, "PAUSED")

    def stop_trial(self, trial: Trial) -> None:
        self._release(trial, "TERMINATED")

    def _release(self, trial: Trial, status: str) -> None:
        trial.status = status
        if trial.actor is not None:
            self._idle.append(trial.actor)
            trial.actor = None

    def _add_trials(self) -> None:
        while not self._over and sum(trial.status == "PENDING" for trial in self.trials) < 2 * self._room:
            suggested = self.searcher.suggest(str(len(self.trials)))
            if suggested == Searcher.FINISHED:
                self._over = True
            if not isinstance(suggested, dict):
                return
            self.trials.append(Trial(suggested))
            self.scheduler.on_trial_add(self, self.trials[-1])

    def _give_actors(self, make_score: Callable[[], Score]) -> None:
        chosen = self.scheduler.choose_trial_to_run(self)
        pending = [trial for trial in self.trials if trial.status == "PENDING" and trial is not chosen]
        for trial in ([] if chosen is None else [chosen]) + pending:
            if self._idle and (trial is chosen or trial.actor is None):
                if trial.actor is not None:
                    self._end(trial.actor)
                trial.actor = self._idle.pop()
                trial.status, trial.work = "PENDING", trial.config["work"]
            elif trial.actor is None:
                assert sum(not one.ended for one in self.actors) < self._room, "one more actor than there is room for"
                trial.actor = Actor(make_score(), self._starts_in.pop(0) if self._starts_in else 0)
                self.actors.append(trial.actor)
                trial.work = trial.config["work"]
        for actor in self._idle:
            self._end(actor)
        self._idle.clear()
        for trial in self.trials:
            if trial.status == "PENDING" and trial.actor is not None:
                trial.actor.starts_in -= 1
                if trial.actor.starts_in < 0:
                    trial.status = "RUNNING"

    def _end(self, actor: Actor) -> None:
        actor.ended = True

    def _handle_result(self) -> None:
        running = [trial for trial in self.trials if trial.status == "RUNNING"]
        if not running:
            return
        self._turn += 1
        trial = self._order.choice(running) if self._order else running[self._turn % len(running)]
        assert trial.actor is not None and not trial.actor.ended
        work, trial.work = trial.work, None
        try:
            losses = {} if work is None or not work.candidates else trial.actor.score(work)
        except RuntimeError as error:
            self.errors.append(error)
            return
        decision = self.scheduler.on_trial_result(self, trial, {LOSSES: Reported(losses), CPU_SECONDS: 0.5})
        if decision == TrialScheduler.STOP:
            self.stop_trial(trial)
