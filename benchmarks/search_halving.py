"""CPU time of scoring in rungs compared with scoring everything, and of Ray Tune compared with a plain loop.

    python -m benchmarks.search_halving [--steps 60] [--rounds 5]

The searches run over the demo's three sub-spaces, whose SuperLMs are trained together for ``--steps`` steps (few, so
that some losses are far apart and others close), on 128 held-out rows of 64 tokens, in rungs of 16, 32, 64 and 128
rows.

- *search_halving*: 20 random budgets on parameters, FLOPs or both, each between a candidate's cost and 15 % above it.
  The real search with the aim ``budgets`` (all 20 at once) is compared with the aim ``all``, by CPU-seconds of the
  driver and the actors. The actors count from their set-up on; the start of their processes and Ray's daemons do not
  count. The lost loss is that of the chosen student divided by that of the exhaustive choice, minus 1, both on all
  rows. The aim ``frontier`` is also measured; it keeps more candidates, to answer every later budget.
- *search_overhead*: one search with the aim ``frontier`` on Tune, compared with a plain loop over the same lots and
  rungs on as many plain Ray actors. The wall time includes the start of the actors, in alternating rounds; the
  CPU-seconds do not.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.demo_scene import BATCH, LENGTH, DemoScene, local_ray
from benchmarks.record import record
from workloads.answers.choosing import Scored, choose
from workloads.answers.scores_table import read_scores
from workloads.answers.trained import TeacherStage
from workloads.craft.superlm_files import save_superlm
from workloads.documents.job_folder import JobFolder
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import Space
from workloads.spec.autodistil import AutoDistilRequest
from workloads.spec.budgets import Budget
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key

if TYPE_CHECKING:
    from workloads.craft.scoring import Losses
    from workloads.runs.search.board import Board, Work
    from workloads.runs.search.search import SearchInputs
    from workloads.runs.search.trial import Scorer, Shared

BAR, OVERHEAD_BAR, LOSS_BAR = 0.35, 1.05, 0.01
ROWS, FIRST, BUDGETS, ACTORS = 128, 16, 20, 2


class Searches:
    """The scene with trained SuperLMs in its storage."""

    def __init__(self, steps: int) -> None:
        self.scene = DemoScene()
        self.scene.storage.upload(self.scene.teacher.folder, "teacher")
        self.superlms = self._train(steps)
        self.budgets = self._draw_budgets()

    def request(self, aim: str) -> AutoDistilRequest:
        """Build a request with this aim; all else is the same."""
        return AutoDistilRequest.model_validate(
            {
                "teacher": {"model": "teacher"},
                "corpus": {"paths": ["text"]},
                "training": {"batch_size": BATCH, "sequence_length": LENGTH},
                "search": {"heldout_blocks": ROWS, "first_rung_blocks": FIRST, "aim": aim},
                "budgets": [budget.model_dump() for budget in self.budgets],
            }
        )

    def inputs(self, aim: str) -> SearchInputs:
        """The inputs of the search."""
        from workloads.runs.search.search import SearchInputs

        files = Artifact("teacher", Key("teacher", {}).fingerprint, "teacher", {}, {})
        teacher = TeacherStage(files, self.scene.teacher.fingerprint, self.scene.teacher.shape)
        return SearchInputs(self.request(aim), teacher, self.scene.corpus, self.scene.spaces, self.superlms)

    def search(self, aim: str) -> tuple[float, Artifact, list[Scored]]:
        """CPU-seconds, the artefact and the survivors."""
        from workloads.runs.attempt.progress import Progress
        from workloads.runs.attempt.run import News, Run
        from workloads.runs.search.search import search_candidates

        started = time.process_time()
        progress = Progress(JobFolder(self.scene.storage, "cmp_benchmark"), 1)
        news = News.unheard()
        artifact = search_candidates(Run(self.scene.storage, "benchmark-1", progress), self.inputs(aim), news)
        seconds = time.process_time() - started + artifact.summary["cpu_seconds"]
        rows = read_scores(self.scene.storage, artifact)
        return seconds, artifact, [row.scored for row in rows if row.survives]

    def losses_lost(self, everything: list[Scored], survivors: list[Scored]) -> list[float]:
        """Return, for each budget, the relative excess of the loss of the survivors' answer over the exhaustive one."""
        loss_of = {(one.subspace, one.architecture): one.heldout_loss for one in everything}
        lost = []
        for budget in self.budgets:
            best, ours = (
                choose(some, budget, lambda one, length: student_cost(self.scene.teacher.shape, one, length)).chosen
                for some in (everything, survivors)
            )
            assert best is not None and ours is not None, budget
            lost.append(loss_of[ours.subspace, ours.architecture] / best.heldout_loss - 1)
        return lost

    def _train(self, steps: int) -> dict[str, Artifact]:
        trainer = self.scene.trainer(self.scene.spaces, steps, order=self.scene.order)
        with closing(self.scene.batches()) as batches:
            for step, batch in enumerate(itertools.islice(batches, steps)):
                trainer.step(step, batch)
        made = {}
        for name, member in trainer.members.items():
            key = Key("superlm", {"benchmark": name})
            save_superlm(Path(self.scene.storage.path(artifacts.build_folder(key, "b"))), member.superlm)
            order = None if member.head_order is None else member.head_order.tolist()
            made[name] = artifacts.commit(self.scene.storage, key, "b", {"head_order": order})
        return made

    def _draw_budgets(self) -> list[Budget]:
        draw = random.Random(0)
        shape, spaces = self.scene.teacher.shape, self.scene.spaces
        budgets = []
        for number in range(BUDGETS):
            cost = student_cost(shape, draw.choice(spaces).sample(draw), LENGTH)
            room, kinds = draw.uniform(1, 1.15), draw.choice([("params",), ("flops",), ("params", "flops")])
            limits = {f"max_{kind}": int(getattr(cost, kind) * room) for kind in kinds}
            budgets.append(Budget.model_validate({"name": f"b{number}", "sequence_length": LENGTH} | limits))
        return budgets


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as an actor has; also steadier on shared machines
    searches = Searches(arguments.steps)
    with local_ray(ACTORS):
        _halving(searches, arguments.steps)
        _overhead(searches, arguments.steps, arguments.rounds)


def _halving(searches: Searches, steps: int) -> None:
    cpu_all, _, everything = searches.search("all")
    measured: dict[str, dict[str, Any]] = {}
    for aim in ("budgets", "frontier"):
        cpu, artifact, survivors = searches.search(aim)
        lost = searches.losses_lost(everything, survivors)
        measured[aim] = {
            "cpu_seconds": cpu,
            "ratio": cpu / cpu_all,
            "scored_rows": artifact.summary["scored_rows"],
            "survivors": len(survivors),
            "largest_loss_lost": max(lost),
            "exhaustive_choices": sum(one == 0 for one in lost),
        }
    record(
        "search_halving",
        value=measured["budgets"]["ratio"],
        unit="CPU-seconds of the search for 20 budgets in rungs, over those of scoring every candidate on all rows",
        bar=BAR,
        spread=None,
        command="python -m benchmarks.search_halving",
        largest_loss_lost=measured["budgets"]["largest_loss_lost"],
        largest_loss_lost_bar=LOSS_BAR,
        aims=measured,
        exhaustive={"cpu_seconds": cpu_all, "candidates": len(everything), "rows": ROWS},
        budgets=[budget.model_dump(exclude_defaults=True) for budget in searches.budgets],
        training_steps=steps,
        counted="driver, and actors from their set-up on; not the start of processes, not Ray's daemons",
    )


def _overhead(searches: Searches, steps: int, rounds: int) -> None:
    tuned: list[dict[str, float]] = []
    plain: list[dict[str, float]] = []
    for number in range(rounds):
        pair = [(tuned, True), (plain, False)]
        for results, on_tune in pair if number % 2 == 0 else reversed(pair):
            results.append(_timed(searches, on_tune=on_tune))
    walls = [one["wall"] / other["wall"] for one, other in zip(tuned, plain, strict=True)]
    cpus = [one["cpu"] / other["cpu"] for one, other in zip(tuned, plain, strict=True)]
    record(
        "search_overhead",
        value=statistics.median(walls),
        unit="wall time of the search on Ray Tune over a plain loop on the same lots, rungs and number of actors",
        bar=OVERHEAD_BAR,
        spread=sorted(walls),
        command="python -m benchmarks.search_halving",
        cpu_ratio_without_the_start=statistics.median(cpus),
        cpu_ratios=sorted(cpus),
        seconds={"tune": tuned, "plain": plain},
        actors=ACTORS,
        training_steps=steps,
    )


def _timed(searches: Searches, *, on_tune: bool) -> dict[str, float]:
    """Run a fresh board to its end and time it; shared objects are made before the clock starts."""
    import ray

    from cluster.sizing import worker_needs
    from workloads.craft.blocks import Blocks
    from workloads.runs.search.board import Aim, Board
    from workloads.runs.search.proposals import Exhaustive
    from workloads.runs.search.results import Results
    from workloads.runs.search.search import run_on_tune, share
    from workloads.runs.search.trial import CPUS, Actors, Scorer

    scene, request = searches.scene, searches.request("frontier")
    blocks = Blocks.open(scene.storage, scene.corpus, "heldout")
    board = Board(Aim(request.search, scene.teacher.shape), rows=ROWS, actors=ACTORS, on_progress=lambda: None)
    spaces = scene.spaces
    shared = share(scene.storage, searches.inputs("frontier"), blocks, board.rungs)
    results = Results(scene.storage, Key("scores", {"benchmark": time.time()}), "benchmark-1")
    wall, cpu = time.monotonic(), time.process_time()
    if on_tune:
        actors = Actors(ACTORS, worker_needs(CPUS))
        actors_cpu = run_on_tune(board, Exhaustive(spaces), results, shared, actors, lambda why: None)
    else:
        actor = ray.remote(num_cpus=CPUS)(_plain_actor(Scorer))
        pool = [actor.remote(shared) for _ in range(ACTORS)]
        _play(board, spaces, pool)
        actors_cpu = sum(ray.get([one.cpu.remote() for one in pool]))
        for one in pool:
            ray.kill(one)
    return {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu + actors_cpu}


def _plain_actor(scorer: type[Scorer]) -> type:
    class Plain:
        def __init__(self, shared: Shared) -> None:
            self._scorer = scorer(shared, torch.device("cpu"))
            self._started = time.process_time()

        def score(self, work: Work) -> dict[int, Losses]:
            return self._scorer.score(work)

        def cpu(self) -> float:
            return time.process_time() - self._started

    return Plain


def _play(board: Board, spaces: Sequence[Space], pool: list[Any]) -> None:
    """Run the plain loop: send lots to free actors until the board has ended."""
    import ray

    from workloads.runs.search.proposals import Exhaustive

    board.begin(Exhaustive(spaces).propose([]))
    free = list(pool)
    busy: dict[Any, tuple[Any, int]] = {}
    while board.waiting:
        taken = {lot for _, lot in busy.values()}
        ready = [lot for lot in sorted(board.waiting) if lot not in taken]
        while free and ready:
            actor, lot = free.pop(), ready.pop(0)
            busy[actor.score.remote(board.work(lot))] = (actor, lot)
        (done,), _ = ray.wait(list(busy), num_returns=1)
        actor, lot = busy.pop(done)
        free.append(actor)
        board.report(lot, ray.get(done))


if __name__ == "__main__":
    main()
