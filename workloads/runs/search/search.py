"""Search: score the candidates of every sub-space on held-out text, in rungs, on the cluster.

Ray Tune runs it (:mod:`~workloads.runs.search.scheduler`): trials are lots of candidates, in actors that are reused and
keep the SuperLM they scored last; weights and the teacher's side of the text lie in the object store, a copy a node.
Who is tried is the proposer's to say (:mod:`~workloads.runs.search.proposals`), who goes after a rung the rules'
(:mod:`~workloads.runs.search.rules`). With the aim ``frontier``, budgets are no input of it: a new budget is answered
from the same scores.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import structlog
from ray import tune
from safetensors.numpy import load_file
from torch import Tensor

from cluster.room import OnWait
from workloads.answers.scores_table import FILE
from workloads.craft import superlm_files
from workloads.craft.blocks import Blocks
from workloads.craft.objectives.objective import objective_for
from workloads.craft.scoring import Heldout, heldout_batches
from workloads.craft.teacher import Teacher, open_teacher
from workloads.runs.attempt.room import most_at_once
from workloads.runs.attempt.start_watch import StartWatch
from workloads.runs.attempt.tuning import lean_tune
from workloads.runs.search.board import Aim, Board
from workloads.runs.search.proposals import Proposer, proposer_for
from workloads.runs.search.results import Results
from workloads.runs.search.rules import Candidate, budget_misses
from workloads.runs.search.scheduler import LotSearcher, RungScheduler
from workloads.runs.search.table import summarise, write_table
from workloads.runs.search.trial import CPUS, ScoreLots, Shared, actor_needs, convert
from workloads.shapes.architecture import TeacherShape
from workloads.shapes.search_space import Space
from workloads.spec.autodistil import AutoDistilRequest
from workloads.spec.errors import InputError
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage

__all__ = ["scores_key", "search_candidates"]

_log = structlog.get_logger(__name__)


def scores_key(
    request: AutoDistilRequest,
    spaces: list[Space],
    superlms: dict[str, Artifact],
    teacher_fingerprint: str,
    corpus_fingerprint: str,
) -> Key:
    """Give the key of the scores table: all that decides a score, which candidates there are, or which of them go."""
    spec = request.search
    inputs: dict[str, Any] = {
        "teacher": teacher_fingerprint,
        "corpus": corpus_fingerprint,
        "superlms": {space.name: superlms[space.name].fingerprint for space in spaces},
        "spaces": {space.name: space.to_json() for space in spaces},
        "objective": request.objective.model_dump(mode="json"),
        "aim": spec.aim,
        "rungs": list(spec.rungs),
        "searcher": spec.searcher,
    }
    if spec.searcher != "exhaustive":
        inputs |= {"candidates": spec.candidates, "seed": request.seed}
    if spec.searcher == "evolutionary":
        inputs |= {"population": spec.population, "mutation": spec.mutation}
    if spec.aim == "budgets":
        inputs |= {
            "budgets": [budget.model_dump(mode="json", exclude={"name"}) for budget in request.budgets],
            "keep": _keep(request),
        }
    return Key("scores", inputs)


def search_candidates(
    storage: Storage,
    request: AutoDistilRequest,
    *,
    teacher_files: str,
    teacher_fingerprint: str,
    corpus: Artifact,
    spaces: list[Space],
    superlms: dict[str, Artifact],
    builder: str,
    progress: Callable[[int, int], None],
    on_wait: OnWait = lambda _: None,
) -> Artifact:
    """Give the scores table, built by this call or by an earlier one (then ``builder`` is another).

    What an attempt that was cut off had scored is not scored again; see :mod:`workloads.runs.search.results`.

    Args:
        storage: Where artefacts are kept.
        request: For its objective, ``search``, ``training.batch_size``, and the budgets where they are the aim.
        teacher_files: The teacher's folder, relative to the storage.
        teacher_fingerprint: Of the teacher.
        corpus: Its held-out side is scored on.
        spaces: Where candidates are taken from.
        superlms: The trained SuperLM of each sub-space, by name.
        builder: Names the job and attempt.
        progress: Called with candidates done and candidates in all as far as they are known, while it runs.
        on_wait: Called with what the first actor waits for and since when, and with None when it has started.

    Raises:
        InputError: No node that is up can hold an actor, or a SuperLM gives losses that are no numbers.
        NotStartedError: There is room for an actor and none starts.
        RuntimeError: A candidate could not be scored, with the cause, or the search was interrupted.
        OSError: The storage cannot be read or written; nothing is committed.
    """
    assert ray.is_initialized(), "The caller connects to Ray."
    key = scores_key(request, spaces, superlms, teacher_fingerprint, corpus.fingerprint)
    if (found := artifacts.find(storage, key)) is not None:
        return found
    results = Results(storage, key, builder)
    blocks = Blocks.open(storage, corpus, "heldout")
    rows = min(request.search.heldout_blocks, blocks.rows)
    with tempfile.TemporaryDirectory(prefix="stillroom-search-") as folder:
        teacher = open_teacher(storage.download(teacher_files, Path(folder) / "teacher"))
        aim = Aim(request.search, teacher.shape, request.budgets, _keep(request))
        total = request.search.candidates or sum(len(space) for space in spaces)
        actors = most_at_once("search", actor_needs())
        board = Board(
            aim,
            rows=rows,
            actors=actors,
            known=results.read(),
            on_progress=_teller(progress, total, lambda: (board.done, len(board.entries), board.ended)),
        )
        shared = share(storage, Path(folder), request, teacher, blocks, rows, board.rungs, spaces, superlms)
        proposer = proposer_for(request.search, spaces, request.seed, _allowed(request, teacher.shape))
        cpu_seconds = run_on_tune(board, proposer, results, shared, Path(folder), actors, on_wait)
    folder_of_build = artifacts.build_folder(key, builder)
    storage.write_bytes(f"{folder_of_build}/{FILE}", write_table(teacher.shape, board.entries))
    summary = summarise(board, request.search.aim, teacher.shape) | {"cpu_seconds": round(cpu_seconds, 3)}
    artifact = artifacts.commit(storage, key, builder, summary)
    with contextlib.suppress(OSError):  # only room is at stake
        results.remove()
    return artifact


def _keep(request: AutoDistilRequest) -> int:
    """How many of each budget are needed after the search."""
    polished = request.polish.top_k if request.polish else 1
    return max(polished, request.proxy_task.candidates if request.proxy_task else 1)


def _allowed(request: AutoDistilRequest, shape: TeacherShape) -> Callable[[Candidate], bool]:
    if request.search.aim != "budgets":
        return lambda candidate: True
    return lambda candidate: any(not budget_misses(candidate, shape, budget) for budget in request.budgets)


def _teller(
    progress: Callable[[int, int], None], total: int, state: Callable[[], tuple[int, int, bool]]
) -> Callable[[], None]:
    """Tell of progress when there is any; a search that ends before its candidates are used up corrects the total."""
    told: tuple[int, int] | None = None

    def tell() -> None:
        nonlocal told
        done, known, ended = state()
        now = (done, known if ended else max(known, total))
        if now != told:
            told = now
            progress(*now)

    return tell


def share(
    storage: Storage,
    folder: Path,
    request: AutoDistilRequest,
    teacher: Teacher,
    blocks: Blocks,
    rows: int,
    rungs: tuple[int, ...],
    spaces: list[Space],
    superlms: dict[str, Artifact],
) -> Shared:
    """Read the teacher on the held-out text and put what the actors need into the object store."""
    objective = objective_for(request.objective, teacher.shape)
    batches = heldout_batches(blocks.read(range(rows)), request.training.batch_size, rungs)
    heldout = ray.put(convert(Heldout.read(teacher, objective, batches), Tensor, Tensor.numpy))
    orders: dict[str, tuple[int, ...] | None] = {}
    weights: dict[str, Any] = {}
    for space in spaces:
        listed = superlms[space.name].summary["head_order"]
        orders[space.name] = None if listed is None else tuple(listed)
        local = storage.download(superlms[space.name].files, folder / "superlms" / space.name)
        weights[space.name] = ray.put(load_file(local / superlm_files.FILE))
    return Shared(objective, superlm_files.wiring_of(teacher), weights, heldout, orders)


def run_on_tune(
    board: Board,
    proposer: Proposer,
    results: Results,
    shared: Shared,
    folder: Path,
    actors: int,
    on_wait: OnWait = lambda _: None,
) -> float:
    """Bring the board to its end, and give the actors' CPU-seconds."""
    scheduler = RungScheduler(board, actors, results.add)
    trainable = tune.with_resources(tune.with_parameters(ScoreLots, shared=shared), {"cpu": CPUS})
    starts = StartWatch(actor_needs(), on_wait)
    with lean_tune(actors), contextlib.closing(starts):
        trials = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=LotSearcher(board, proposer), scheduler=scheduler, num_samples=-1, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=str(folder / "tune"),
                verbose=0,
                callbacks=[starts],
                failure_config=tune.FailureConfig(fail_fast=True),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # scores are all a trial leaves
            ),
        ).fit()
    if scheduler.failure is not None:
        raise scheduler.failure
    results.flush()
    for trial in trials:
        if trial.error is not None:
            raise RuntimeError(f"A candidate could not be scored: {_cause(trial.error)}") from trial.error
    if board.diverged is not None:
        raise InputError.of(
            "training.learning_rate",
            f"The held-out loss of {board.diverged.architecture.describe()} in {board.diverged.subspace} is no "
            "number: its SuperLM diverged in training.",
            "Lower it, or lower training.clip_norm.",
        )
    if not board.ended:
        raise RuntimeError(f"The search was interrupted after {board.done} of {len(board.entries)} candidates.")
    _log.info("searched", candidates=len(board.entries), survivors=len(board.alive), actors=actors)
    return scheduler.cpu_seconds


def _cause(error: BaseException) -> str:
    """What went wrong in a trial, without Ray's traces around it."""
    inner = getattr(error, "cause", None) or error
    return f"{type(inner).__name__}: {inner}" if inner is not error else str(error)
