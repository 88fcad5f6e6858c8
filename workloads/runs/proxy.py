"""Proxy task: candidates are fine-tuned on a labelled dataset and ranked by their scores.

Each candidate is a trial of Ray Tune with one epoch per step; actors are reused. Asynchronous successive halving
(ASHA) stops candidates that fall behind. The scores of a finished candidate are saved in the storage. A new attempt
or another job that finds them reports them again without training.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import structlog
import torch
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from safetensors.numpy import load_file

from cluster.sizing import read_cluster, worker_needs
from workloads.answers.choosing import Scored
from workloads.answers.scores_table import TASK_FILE, read_task_table
from workloads.answers.trained import TeacherStage
from workloads.craft import superlm_files
from workloads.craft.export import build_student
from workloads.craft.precision import set_up_torch
from workloads.craft.superlm import SuperLM
from workloads.craft.tasks.data import read_task, task_fingerprint
from workloads.craft.tasks.encoding import EncodedTask, encode_task
from workloads.craft.tasks.finetuning import FineTuning, classifier
from workloads.craft.teacher import Teacher, open_teacher
from workloads.runs.attempt.room import most_at_once
from workloads.runs.attempt.room_watch import RoomWatch
from workloads.runs.attempt.run import News, Run
from workloads.runs.attempt.start_watch import StartWatch
from workloads.runs.attempt.tuning import lean_tune
from workloads.spec.errors import InputError
from workloads.spec.request import CompressionRequest
from workloads.spec.search import ProxyTaskSpec
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage

HALVING = 2
"""Reduction factor of ASHA: about one in so many of the candidates at a rung continues."""
CPUS = 1
CANDIDATES_OF_GPU = 4
"""Candidates that share a GPU; one alone is too small to use it fully."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Shared:
    """Inputs of the actors; arrays are in the object store, one copy per node.

    Attributes:
        candidates: The candidates; a trial's configuration holds an index.
        teacher: The teacher without its weights.
        superlms: Fingerprint of each candidate's SuperLM.
        weights: Map of fingerprint to a ref to the SuperLM's weights by name.
        task: Ref to the :class:`EncodedTask`.
        known: Map of index to scores by epoch, for candidates finished earlier.
    """

    candidates: tuple[Scored, ...]
    superlms: tuple[str, ...]
    teacher: Teacher
    weights: dict[str, Any]
    task: Any
    spec: ProxyTaskSpec
    seed: int
    known: dict[int, tuple[float, ...]]
    gpu: bool


@dataclass(frozen=True)
class Entrants:
    """Candidates to fine-tune.

    Attributes:
        candidates: Each once; the most promising first, since ASHA compares later ones with them.
        superlms: The SuperLM of each: that of its sub-space, or its own if it was polished.
    """

    candidates: Sequence[Scored]
    superlms: Sequence[Artifact]


def candidate_needs(gpu: bool) -> dict[str, float]:
    """Resources that fine-tuning one candidate needs on a node: a CPU, and a share of a GPU if the cluster has any."""
    return worker_needs(CPUS, 1 / CANDIDATES_OF_GPU if gpu else 0)


def check_task(spec: ProxyTaskSpec, teacher: Teacher) -> None:
    """Check before any training that a task can be used.

    Raises:
        InputError: It cannot be used; the error names the field of ``proxy_task``.
    """
    encode_task(read_task(spec), spec, teacher.tokenizer, teacher.shape)


def score_on_task(
    run: Run, request: CompressionRequest, teacher: TeacherStage, entrants: Entrants, news: News
) -> Artifact:
    """Return the candidates' scores on the proxy task, from this call or an earlier one.

    Args:
        run: The storage of artefacts, and the builder.
        request: A request with a ``proxy_task``; its seed decides the heads' initial values, dropout and the order of
            the rows.
        teacher: The candidates' teacher.
        entrants: The candidates.
        news: Told the number of candidates done and in all, and the reason of a wait.

    Raises:
        InputError: The task cannot be used, no live node can hold a candidate, or fine-tuning diverged.
        NotStartedError: There are free resources for a candidate, but none starts.
        RuntimeError: A candidate could not be fine-tuned, with the cause, or the search was interrupted.
        OSError: The storage cannot be read or written.
    """
    assert ray.is_initialized(), "The caller connects to Ray."
    assert request.proxy_task is not None
    assert entrants.candidates
    keys = _candidate_keys(request, entrants, teacher.fingerprint)
    key = _all_key(keys)
    if (found := artifacts.find(run.storage, key)) is not None:
        return found
    records = _Records(run, key, keys, request.proxy_task.epochs)
    with tempfile.TemporaryDirectory(prefix="stillroom-proxy-") as folder:
        local = run.storage.fetch(teacher.artifact.files, Path(folder))
        shared = _share(run.storage, Path(folder), request, open_teacher(local), entrants)
        shared = dataclasses.replace(shared, known=records.known())
        curves = _run(shared, Path(folder), records, news)
    run.storage.write_bytes(
        f"{artifacts.build_folder(key, run.builder)}/{TASK_FILE}", _table(shared.candidates, curves)
    )
    summary = {
        "metric": request.proxy_task.metric,
        "candidates": len(curves),
        "stopped_early": sum(len(curve) < request.proxy_task.epochs for curve in curves),
        "best": max(max(curve) for curve in curves),
    }
    return artifacts.commit(run.storage, key, run.builder, summary, device="cuda" if shared.gpu else "cpu")


def read_task_scores(storage: Storage, artifact: Artifact, candidates: Sequence[Scored]) -> list[Scored]:
    """Return the candidates with their scores on the task, in the order of their scoring.

    A candidate's score is its best over the epochs, so that more epochs never lower it. Losses are not kept: they
    belong to the search at hand, which may be another than the one that chose the fine-tuned candidates.
    """
    scores = read_task_table(storage, artifact)
    assert [shape for _, shape in scores] == [one.architecture for one in candidates], (artifact, candidates)
    return [dataclasses.replace(one, task_score=score) for one, score in zip(candidates, scores.values(), strict=True)]


def _candidate_keys(request: CompressionRequest, entrants: Entrants, teacher_fingerprint: str) -> list[Key]:
    """Return each candidate's key: all that decides its scores, independent of the other candidates."""
    assert request.proxy_task is not None
    task = task_fingerprint(request.proxy_task)
    return [
        Key(
            "task-score",
            {
                "teacher": teacher_fingerprint,
                "superlm": superlm.fingerprint,
                "architecture": candidate.architecture.to_json(),
                "task": task,
                "seed": request.seed,
            },
        )
        for candidate, superlm in zip(entrants.candidates, entrants.superlms, strict=True)
    ]


def _all_key(candidates: Sequence[Key]) -> Key:
    return Key("task-scores", {"candidates": [key.fingerprint for key in candidates]})


class _Records:
    """Saved scores by epoch of finished candidates.

    The scores of a candidate that was stopped early hold only for the same set of candidates.
    """

    def __init__(self, run: Run, among: Key, candidates: Sequence[Key], epochs: int) -> None:
        self._storage, self._builder = run.storage, run.builder
        self._among, self._candidates, self._epochs = among, candidates, epochs

    def known(self) -> dict[int, tuple[float, ...]]:
        """Return the scores of the finished candidates, by index."""
        known = {}
        for number, key in enumerate(self._candidates):
            found = artifacts.find(self._storage, key) or artifacts.find(self._storage, self._stopped(key))
            if found is not None:
                known[number] = tuple(found.summary["scores"])
        return known

    def keep(self, number: int, scores: Sequence[float]) -> None:
        """Save the scores of a candidate that has just finished."""
        key = self._candidates[number]
        key = key if len(scores) == self._epochs else self._stopped(key)
        artifacts.commit(self._storage, key, self._builder, {"scores": list(scores)})

    def _stopped(self, key: Key) -> Key:
        return Key(key.stage, key.inputs | {"stopped_among": self._among.fingerprint})


def _share(
    storage: Storage, folder: Path, request: CompressionRequest, teacher: Teacher, entrants: Entrants
) -> _Shared:
    """Tokenise the task, and put the actors' inputs into the object store."""
    spec = request.proxy_task
    assert spec is not None
    task = encode_task(read_task(spec), spec, teacher.tokenizer, teacher.shape)
    files = {superlm.fingerprint: superlm.files for superlm in entrants.superlms}
    weights = {one: ray.put(load_file(storage.fetch(path, folder) / superlm_files.FILE)) for one, path in files.items()}
    bare = dataclasses.replace(teacher, model=teacher.model.to("meta"))
    gpu = read_cluster().gpus >= 1
    held = tuple(superlm.fingerprint for superlm in entrants.superlms)
    return _Shared(tuple(entrants.candidates), held, bare, weights, ray.put(task), spec, request.seed, {}, gpu)


def _run(shared: _Shared, folder: Path, records: _Records, news: News) -> list[tuple[float, ...]]:
    """Fine-tune all candidates, and give their scores by epoch, in the candidates' order."""
    total, needs = len(shared.candidates), candidate_needs(shared.gpu)
    watcher = _Watcher(shared, records, news.advance)
    starts = StartWatch(RoomWatch(needs, news.wait))
    concurrent = most_at_once("proxy_task", needs)
    at_once = min(concurrent, total)
    news.advance(0, total)
    # Candidates with known scores come first: they take no time, and ASHA compares the others with them.
    trainable = tune.with_parameters(_FineTuneCandidate, shared=shared)
    order = sorted(range(total), key=lambda number: number not in shared.known)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": needs["CPU"], "gpu": needs.get("GPU", 0)}),
        param_space={"candidate": tune.grid_search(order)},
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=at_once,
            scheduler=_halving(shared.spec.epochs),
        ),
        run_config=tune.RunConfig(
            name="proxy",
            storage_path=str(folder / "tune"),
            verbose=0,
            callbacks=[watcher, starts],
            failure_config=tune.FailureConfig(fail_fast=True),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a trial's only results are its scores
        ),
    )
    with lean_tune(at_once), contextlib.closing(starts):
        results = tuner.fit()
    for result in results:
        if result.error is not None:
            inner = getattr(result.error, "cause", None) or result.error
            if isinstance(inner, InputError):
                raise inner
            raise RuntimeError(f"A candidate could not be fine-tuned: {inner}") from result.error
    if len(watcher.finished) < total:
        raise RuntimeError(f"The proxy task was interrupted after {len(watcher.finished)} of {total} candidates.")
    _log.info("fine-tuned all candidates", candidates=total, known=len(shared.known), concurrent=concurrent)
    return [watcher.finished[number] for number in range(total)]


def _halving(epochs: int) -> TrialScheduler:
    if epochs == 1:
        return FIFOScheduler()
    return AsyncHyperBandScheduler(
        time_attr="training_iteration",
        metric="score",
        mode="max",
        max_t=epochs,
        grace_period=1,
        reduction_factor=HALVING,
    )


class _Watcher(tune.Callback):  # type: ignore[misc]
    """Callback of Tune that collects scores, saves those of finished candidates, and reports progress."""

    def __init__(self, shared: _Shared, records: _Records, progress: Callable[[int, int], None]) -> None:
        self.finished: dict[int, tuple[float, ...]] = {}
        self._scores: dict[int, dict[int, float]] = {number: {} for number in range(len(shared.candidates))}
        self._known = shared.known
        self._records, self._progress = records, progress

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles callbacks for a restore, which we never do; listeners may hold locks, which cannot be pickled.
        return self.__dict__ | {"_progress": None, "_records": None}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        self._scores[trial.config["candidate"]][result["training_iteration"]] = result["score"]

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number = trial.config["candidate"]
        # Use the stored scores: that run may have trained for more epochs than this one.
        scores = self._known.get(number) or tuple(self._scores[number][epoch] for epoch in sorted(self._scores[number]))
        if number not in self._known:
            self._records.keep(number, scores)
        self.finished[number] = scores
        self._progress(len(self.finished), len(self._scores))


class _FineTuneCandidate(tune.Trainable):  # type: ignore[misc]
    """Trainable that fine-tunes a candidate, one epoch per step; its actor is reused for the next candidate."""

    def setup(self, config: dict[str, Any], shared: _Shared) -> None:
        set_up_torch(CPUS)
        self._shared = shared
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._number, self._epoch = int(new_config["candidate"]), 0
        self._tuning: FineTuning | None = None
        return True

    def step(self) -> dict[str, Any]:
        self._epoch += 1
        if (known := self._shared.known.get(self._number)) is not None:
            return {"score": known[self._epoch - 1], "done": self._epoch == len(known)}
        if self._tuning is None:
            self._tuning = self._start()
        found = self._tuning.run_epoch()
        if not math.isfinite(found.train_loss):
            raise InputError.of(
                "proxy_task.learning_rate",
                f"Fine-tuning of {self._shared.candidates[self._number].architecture.describe()} diverged in epoch "
                f"{found.epoch}.",
                "Use a smaller learning rate.",
            )
        return {"score": found.score, "done": self._epoch == self._shared.spec.epochs}

    def _start(self) -> FineTuning:
        shared, candidate = self._shared, self._shared.candidates[self._number]
        arrays = ray.get(shared.weights[shared.superlms[self._number]])
        weights = {name: torch.tensor(array) for name, array in arrays.items()}
        superlm = SuperLM(weights, superlm_files.wiring_of(shared.teacher))
        student = build_student(shared.teacher, candidate.architecture, superlm.extract(candidate.architecture))
        task: EncodedTask = ray.get(shared.task)
        model = classifier(student, task, shared.seed)
        device = torch.device("cuda" if shared.gpu else "cpu")
        return FineTuning(model, task, shared.spec, seed=shared.seed, device=device)


def _table(candidates: Sequence[Scored], curves: Sequence[tuple[float, ...]]) -> bytes:
    table = pa.table(
        {
            "subspace": [one.subspace for one in candidates],
            "architecture": [json.dumps(one.architecture.to_json()) for one in candidates],
            "task_score": pa.array([max(curve) for curve in curves], pa.float64()),
            "scores_by_epoch": pa.array([list(curve) for curve in curves], pa.list_(pa.float64())),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()
