"""The search: it scores the candidates of every sub-space on held-out text, in rungs, on the cluster.

Ray Tune runs it (:mod:`~workloads.runs.search.scheduler`). Trials are lots of candidates. Actors are reused, and keep
the last SuperLM. The weights and the teacher's signals for the text are in the object store, one copy per node.
Proposers choose the candidates to try (:mod:`~workloads.runs.search.proposals`); rules decide which are dropped after a
rung (:mod:`~workloads.runs.search.rules`). With the aim ``frontier`` the search does not depend on budgets, so a new
budget is answered from the same scores.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import structlog
from ray import tune
from safetensors.numpy import load_file
from torch import Tensor

from cluster.room import OnWait
from cluster.sizing import read_cluster
from workloads.answers.scores_table import FILE
from workloads.answers.trained import TeacherStage
from workloads.craft import superlm_files
from workloads.craft.blocks import Blocks
from workloads.craft.objectives.objective import objective_for
from workloads.craft.scoring import Heldout, heldout_batches, rows_at_once
from workloads.craft.teacher import open_teacher
from workloads.methods.fidelity import fidelity_rows
from workloads.runs.attempt.room_watch import RoomWatch
from workloads.runs.attempt.run import News, Run
from workloads.runs.attempt.start_watch import StartWatch
from workloads.runs.attempt.tuning import lean_tune
from workloads.runs.probing import read_probe
from workloads.runs.search.board import Aim, Board
from workloads.runs.search.fidelity import measure_candidates
from workloads.runs.search.proposals import Proposer, proposer_for
from workloads.runs.search.results import Results
from workloads.runs.search.rules import Candidate, budget_misses
from workloads.runs.search.scheduler import LotSearcher, RungScheduler
from workloads.runs.search.table import summarise, write_table
from workloads.runs.search.trial import Actors, ScoreLots, Shared, actors_for, convert
from workloads.shapes.architecture import TeacherShape
from workloads.shapes.search_space import Space
from workloads.spec.autodistil import AutoDistilRequest
from workloads.spec.budgets import FLOORS, Budget
from workloads.spec.errors import InputError
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage

__all__ = ["scores_key", "search_candidates"]

_log = structlog.get_logger(__name__)


def scores_key(
    request: AutoDistilRequest,
    spaces: Sequence[Space],
    superlms: Mapping[str, Artifact],
    teacher_fingerprint: str,
    corpus_fingerprint: str,
    fidelity_rows: int | None = None,
) -> Key:
    """Make the key of the scores table, from all that decides the scores, the candidates and which are dropped."""
    spec = request.search
    inputs: dict[str, Any] = {
        "teacher": teacher_fingerprint,
        "corpus": corpus_fingerprint,
        "superlms": {space.name: superlms[space.name].fingerprint for space in spaces},
        "spaces": {space.name: space.to_json() for space in spaces},
        "objective": request.objective.key,
        "aim": spec.aim,
        "rungs": list(spec.rungs),
        "searcher": spec.searcher,
    }
    if spec.searcher != "exhaustive":
        inputs |= {"candidates": spec.candidates, "seed": request.seed}
    if spec.searcher == "evolutionary":
        inputs |= {"population": spec.population, "mutation": spec.mutation}
    if spec.aim == "budgets":
        inputs |= {"budgets": [_limits(budget) for budget in request.budgets], "keep": _keep(request)}
    if fidelity_rows is not None:
        inputs["fidelity_rows"] = fidelity_rows
    return Key("scores", inputs)


def _limits(budget: Budget) -> dict[str, Any]:
    """Return what a budget asks for; keys of budgets without floors stay as they were before there were any."""
    unset = {name for name in (*FLOORS, "minimise") if getattr(budget, name) is None}
    return budget.model_dump(mode="json", exclude={"name", *unset})


@dataclass(frozen=True)
class SearchInputs:
    """Inputs of a search.

    Attributes:
        request: The request; used are its objective, ``search``, ``training.batch_size``, and the budgets if they are
            the aim.
        teacher: The teacher, saved in the storage.
        corpus: The corpus; candidates are scored on its held-out rows.
        spaces: The candidates' sub-spaces.
        superlms: The trained SuperLM of each sub-space, by name.
    """

    request: AutoDistilRequest
    teacher: TeacherStage
    corpus: Artifact
    spaces: Sequence[Space]
    superlms: Mapping[str, Artifact]

    @property
    def key(self) -> Key:
        """Key of the scores table."""
        return scores_key(
            self.request,
            self.spaces,
            self.superlms,
            self.teacher.fingerprint,
            self.corpus.fingerprint,
            self.fidelity_rows,
        )

    @property
    def fidelity_rows(self) -> int | None:
        """Most rows to measure the survivors' fidelity on; None if the teacher has no output to compare."""
        return fidelity_rows(self.request, self.teacher.shape)


def search_candidates(run: Run, inputs: SearchInputs, news: News, fidelity_news: News | None = None) -> Artifact:
    """Return the scores table, built by this call or an earlier one (then its builder differs).

    Losses that an earlier attempt saved are not computed again; see :mod:`workloads.runs.search.results`.

    Args:
        run: The storage of artefacts, and the builder.
        inputs: The search's inputs.
        news: Receives the number of candidates done and in all, as far as known, and the reason of a wait.
        fidelity_news: Receives the same of the survivors whose fidelity is measured; None: ``news``.

    Raises:
        InputError: A SuperLM's losses are not finite, or no live node has a CPU.
        NotStartedError: There are free resources for an actor, but none starts.
        RuntimeError: A candidate could not be scored, with the cause, or the search was interrupted.
        OSError: The storage cannot be read or written; nothing is committed.
    """
    assert ray.is_initialized(), "The caller connects to Ray."
    storage, request, key = run.storage, inputs.request, inputs.key
    if (found := artifacts.find(storage, key)) is not None:
        return found
    actors = actors_for(read_cluster())
    results = Results(storage, key, run.builder)
    blocks = Blocks.open(storage, inputs.corpus, "heldout")
    aim = Aim(request.search, inputs.teacher.shape, request.budgets, _keep(request))
    total = request.search.candidates or sum(len(space) for space in inputs.spaces)
    board = Board(
        aim,
        rows=min(request.search.heldout_blocks, blocks.rows),
        group=objective_for(request.objective, inputs.teacher.shape).group,
        actors=actors.count,
        known=results.read(),
        on_progress=_progress_of(news.advance, total, lambda: (board.done, len(board.entries), board.ended)),
    )
    shared = share(storage, inputs, blocks, board.rungs)
    proposer = proposer_for(request.search, inputs.spaces, request.seed, _allowed(request, inputs.teacher.shape))
    cpu_seconds = run_on_tune(board, proposer, results, shared, actors, news.wait)
    figures = _survivors_fidelity(storage, inputs, board, shared, fidelity_news or news)
    weights = {space.name: inputs.superlms[space.name].fingerprint for space in inputs.spaces}
    table = write_table(inputs.teacher.shape, board.entries, weights, figures)
    storage.write_bytes(f"{artifacts.build_folder(key, run.builder)}/{FILE}", table)
    summary = summarise(board, request.search.aim, inputs.teacher.shape) | {"cpu_seconds": round(cpu_seconds, 3)}
    artifact = artifacts.commit(storage, key, run.builder, summary, device=actors.device)
    with contextlib.suppress(OSError):  # the table is committed; leftovers only cost space
        results.remove()
    return artifact


def _survivors_fidelity(
    storage: Storage, inputs: SearchInputs, board: Board, shared: Shared, news: News
) -> dict[int, dict[str, float]] | None:
    """Measure the fidelity of the candidates that were not dropped; None if the teacher has no output to compare."""
    if inputs.fidelity_rows is None:
        return None
    with tempfile.TemporaryDirectory(prefix="stillroom-probe-") as folder:
        teacher = open_teacher(storage.fetch(inputs.teacher.artifact.files, Path(folder)))
        batch = inputs.request.training.batch_size
        probe = read_probe(storage, teacher, inputs.corpus, inputs.fidelity_rows, batch)
    return measure_candidates({one: board.entries[one].candidate for one in board.alive}, probe, shared, news)


def _keep(request: AutoDistilRequest) -> int:
    """Number of candidates of each budget that later steps need."""
    polished = request.polish.top_k if request.polish else 1
    return max(polished, request.proxy_task.candidates if request.proxy_task else 1)


def _allowed(request: AutoDistilRequest, shape: TeacherShape) -> Callable[[Candidate], bool]:
    if request.search.aim != "budgets":
        return lambda candidate: True
    return lambda candidate: any(not budget_misses(candidate, shape, budget) for budget in request.budgets)


def _progress_of(
    progress: Callable[[int, int], None], total: int, state: Callable[[], tuple[int, int, bool]]
) -> Callable[[], None]:
    """Make a callback that reports changed progress; if fewer than ``total`` candidates exist, the end corrects it."""
    reported: tuple[int, int] | None = None

    def report() -> None:
        nonlocal reported
        done, known, ended = state()
        now = (done, known if ended else max(known, total))
        if now != reported:
            reported = now
            progress(*now)

    return report


def share(
    storage: Storage,
    inputs: SearchInputs,
    blocks: Blocks,
    rungs: Sequence[int],
    put: Callable[[Any], Any] = ray.put,
) -> Shared:
    """Compute the teacher's signals on the held-out rows, and put the actors' inputs into the object store."""
    with tempfile.TemporaryDirectory(prefix="stillroom-search-") as temporary:
        folder = Path(temporary)
        teacher = open_teacher(storage.fetch(inputs.teacher.artifact.files, folder))
        objective = objective_for(inputs.request.objective, teacher.shape)
        at_once = rows_at_once(objective, blocks.sequence_length, inputs.request.training.batch_size)
        batches = heldout_batches(blocks.read(range(rungs[-1])), at_once, rungs)
        heldout = put(convert(Heldout.read(teacher, objective, batches), Tensor, Tensor.numpy))
        orders: dict[str, tuple[int, ...] | None] = {}
        weights: dict[str, Any] = {}
        for space in inputs.spaces:
            superlm = inputs.superlms[space.name]
            listed = superlm.summary["head_order"]
            orders[space.name] = None if listed is None else tuple(listed)
            weights[space.name] = put(load_file(storage.fetch(superlm.files, folder) / superlm_files.FILE))
        return Shared(objective, superlm_files.wiring_of(teacher), weights, heldout, orders)


def run_on_tune(
    board: Board, proposer: Proposer, results: Results, shared: Shared, actors: Actors, on_wait: OnWait
) -> float:
    """Run the search to its end, and give the actors' CPU-seconds."""
    searcher = LotSearcher(board, proposer, actors.count)
    scheduler = RungScheduler(board, searcher, results.add)
    starts = StartWatch(RoomWatch(actors.needs, on_wait))
    trainable = tune.with_resources(
        tune.with_parameters(ScoreLots, shared=shared),
        {"cpu": actors.needs["CPU"], "gpu": actors.needs.get("GPU", 0)},
    )
    with (
        tempfile.TemporaryDirectory(prefix="stillroom-tune-") as folder,
        lean_tune(2 * actors.count),  # the lots that start actors, and those that take one over
        contextlib.closing(starts),
    ):
        trials = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(search_alg=searcher, scheduler=scheduler, num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                name="search",
                storage_path=folder,
                verbose=0,
                callbacks=[starts],
                failure_config=tune.FailureConfig(fail_fast=True),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a trial's only result is its losses
            ),
        ).fit()
    if scheduler.failure is None:
        results.flush()
    check_end(board, scheduler.failure, [trial.error for trial in trials if trial.error is not None])
    _log.info(
        "searched", candidates=len(board.entries), survivors=len(board.alive), actors=actors.count, device=actors.device
    )
    return scheduler.cpu_seconds


def check_end(board: Board, failure: OSError | None, errors: Sequence[BaseException]) -> None:
    """Raise the error that ended a search early, if any.

    Args:
        board: The search.
        failure: Why losses could not be saved, if so.
        errors: Errors of the trials.

    Raises:
        InputError: A SuperLM's losses are not finite.
        RuntimeError: A candidate could not be scored, with the cause, or the search was interrupted.
        OSError: The storage cannot be written.
    """
    if failure is not None:
        raise failure
    for error in errors:
        raise RuntimeError(f"A candidate could not be scored: {_cause(error)}") from error
    if board.diverged is not None:
        raise InputError.of(
            "training.learning_rate",
            f"The held-out loss of {board.diverged.architecture.describe()} in {board.diverged.subspace} is not a "
            "finite number: its SuperLM diverged in training.",
            "Use a smaller learning rate, or a smaller training.clip_norm.",
        )
    if not board.ended:
        raise RuntimeError(f"The search was interrupted after {board.done} of {len(board.entries)} candidates.")


def _cause(error: BaseException) -> str:
    """Describe the error of a trial without Ray's tracebacks."""
    inner = getattr(error, "cause", None) or error
    return f"{type(inner).__name__}: {inner}" if inner is not error else str(error)
