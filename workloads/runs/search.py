"""Search: score every candidate of every sub-space on held-out text, once, on the cluster.

Each candidate is a trial of Ray Tune. Trials run one after another in actors that are reused and keep the SuperLM
they scored last; weights and the teacher's side of the text lie in the object store, a copy a node. Budgets are no
input of it: a new budget is answered from the same scores.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import structlog
import torch
from ray import tune
from safetensors.numpy import load_file
from torch import Tensor

from workloads import artifacts
from workloads.architecture import Architecture, TeacherShape
from workloads.artifacts import Artifact, Key
from workloads.choosing import Scored
from workloads.costs import student_cost
from workloads.craft import superlm_files
from workloads.craft.blocks import Blocks
from workloads.craft.objectives import Objective, objective_for
from workloads.craft.scoring import HeldoutTargets, heldout_batches, read_teacher, score
from workloads.craft.superlm import SuperLM, Wiring
from workloads.craft.teacher import open_teacher
from workloads.errors import InputError
from workloads.request import CompressionRequest
from workloads.spaces import SubSpace
from workloads.storage import Storage

SCORES = "scores.parquet"
FLOPS_LENGTH = 128
"""Tokens that the ``flops`` column is counted at."""
_CPUS = 1
_METRIC = "heldout_loss"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Candidate:
    subspace: str
    architecture: Architecture


@dataclass(frozen=True)
class _Shared:
    """What the actors need; refs are to numpy arrays, which a node's actors read without copies.

    Attributes:
        candidates: By the number that a trial's configuration gives.
        weights: By sub-space, a ref to the SuperLM's weights by name.
        heldout: By sub-space, a ref to its :class:`HeldoutTargets` as arrays.
    """

    candidates: list[_Candidate]
    objective: Objective
    wiring: Wiring
    weights: dict[str, Any]
    heldout: dict[str, Any]


def scores_key(
    request: CompressionRequest,
    spaces: list[SubSpace],
    superlms: dict[str, Artifact],
    teacher_fingerprint: str,
    corpus_fingerprint: str,
) -> Key:
    """Give the key of the scores table: all that decides a score or which candidates there are."""
    ranges = {space.name: json.loads(json.dumps(dataclasses.asdict(space))) for space in spaces}
    return Key(
        "scores",
        {
            "teacher": teacher_fingerprint,
            "corpus": corpus_fingerprint,
            "superlms": {space.name: superlms[space.name].fingerprint for space in spaces},
            "spaces": ranges,
            "objective": request.objective.model_dump(mode="json"),
            "heldout_blocks": request.search.heldout_blocks,
        },
    )


def search_candidates(
    storage: Storage,
    request: CompressionRequest,
    *,
    teacher_files: str,
    teacher_fingerprint: str,
    corpus: Artifact,
    spaces: list[SubSpace],
    superlms: dict[str, Artifact],
    builder: str,
    progress: Callable[[int, int], None],
) -> Artifact:
    """Give the scores table, built by this call or by an earlier one (then ``builder`` is another).

    Args:
        storage: Where artefacts are kept.
        request: For its objective, ``search.heldout_blocks`` and ``training.batch_size``.
        teacher_files: The teacher's folder, relative to the storage.
        teacher_fingerprint: Of the teacher.
        corpus: Its held-out side is scored on.
        spaces: All their architectures are scored.
        superlms: The trained SuperLM of each sub-space, by name.
        builder: Names the job and attempt.
        progress: Called with candidates done and candidates in all, while it runs.

    Raises:
        InputError: A SuperLM gives losses that are no numbers.
        RuntimeError: A candidate could not be scored, with the cause, or the search was interrupted.
        OSError: The storage cannot be read or written; nothing is committed.
    """
    assert ray.is_initialized(), "The caller connects to Ray."
    key = scores_key(request, spaces, superlms, teacher_fingerprint, corpus.fingerprint)
    if (found := artifacts.find(storage, key)) is not None:
        return found
    with tempfile.TemporaryDirectory(prefix="stillroom-search-") as folder:
        shape, shared = _share(storage, Path(folder), request, teacher_files, corpus, spaces, superlms)
        losses = _run(shared, Path(folder), progress)
    folder_of_build = artifacts.build_folder(key, builder)
    storage.write_bytes(f"{folder_of_build}/{SCORES}", _table(shape, shared.candidates, losses))
    return artifacts.commit(storage, key, builder, _summary(shared.candidates, losses))


def read_scores(storage: Storage, artifact: Artifact) -> list[Scored]:
    """Read the scores table's rows back, in the order of the sub-spaces."""
    table = pq.read_table(io.BytesIO(storage.read_bytes(f"{artifact.files}/{SCORES}")))
    return [
        Scored(row["subspace"], Architecture.from_json(json.loads(row["architecture"])), row[_METRIC])
        for row in table.to_pylist()
    ]


def _share(
    storage: Storage,
    folder: Path,
    request: CompressionRequest,
    teacher_files: str,
    corpus: Artifact,
    spaces: list[SubSpace],
    superlms: dict[str, Artifact],
) -> tuple[TeacherShape, _Shared]:
    """Read the teacher on the held-out text and put what the actors need into the object store."""
    teacher = open_teacher(storage.download(teacher_files, folder / "teacher"))
    objective = objective_for(request.objective, teacher.shape)
    blocks = Blocks.open(storage, corpus, "heldout")
    rows = blocks.read(range(min(request.search.heldout_blocks, blocks.rows)))
    batches = heldout_batches(rows, request.training.batch_size)
    signals = read_teacher(teacher, objective, batches)
    targets: dict[tuple[int, ...] | None, Any] = {}  # SuperLMs mostly share one head order, and then the targets
    heldout: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    for space in spaces:
        listed = superlms[space.name].summary["head_order"]
        order = None if listed is None else tuple(listed)
        if order not in targets:
            prepared = HeldoutTargets.prepare(objective, batches, signals, order)
            targets[order] = ray.put(_convert(prepared, Tensor, Tensor.numpy))
        heldout[space.name] = targets[order]
        local = storage.download(superlms[space.name].files, folder / "superlms" / space.name)
        weights[space.name] = ray.put(load_file(local / superlm_files.FILE))
    candidates = [_Candidate(space.name, one) for space in spaces for one in space.architectures()]
    shared = _Shared(candidates, objective, superlm_files.wiring_of(teacher), weights, heldout)
    return teacher.shape, shared


def _run(shared: _Shared, folder: Path, progress: Callable[[int, int], None]) -> list[float]:
    """Score all candidates, in their order."""
    total = len(shared.candidates)
    watcher = _Watcher(total, progress)
    trainable = tune.with_resources(tune.with_parameters(_ScoreCandidate, shared=shared), {"cpu": _CPUS})
    concurrent = max(1, int(ray.cluster_resources().get("CPU", 1)) // _CPUS)
    # verbose=0 alone leaves Tune's opening table on standard output, and some log lines.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    logging.getLogger("ray.tune").setLevel(logging.WARNING)
    progress(0, total)
    results = tune.Tuner(
        trainable,
        param_space={"candidate": tune.grid_search(list(range(total)))},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=min(concurrent, total)),
        run_config=tune.RunConfig(
            name="search",
            storage_path=str(folder / "tune"),
            verbose=0,
            callbacks=[watcher],
            failure_config=tune.FailureConfig(fail_fast=True),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a score is all a trial leaves
        ),
    ).fit()
    for result in results:
        if result.error is not None:
            raise RuntimeError(f"A candidate could not be scored: {_cause(result.error)}") from result.error
    if len(watcher.losses) < total:
        raise RuntimeError(f"The search was interrupted after {len(watcher.losses)} of {total} candidates.")
    losses = [watcher.losses[index] for index in range(total)]
    for candidate, loss in zip(shared.candidates, losses, strict=True):
        if not math.isfinite(loss):
            raise InputError.of(
                "training.learning_rate",
                f"The held-out loss of {candidate.architecture.describe()} in {candidate.subspace} is {loss}: "
                "its SuperLM diverged in training.",
                "Lower it, or lower training.clip_norm.",
            )
    _log.info("scored all candidates", candidates=total, concurrent=min(concurrent, total))
    return losses


def _cause(error: BaseException) -> str:
    """What went wrong in a trial, without Ray's traces around it."""
    inner = getattr(error, "cause", None) or error
    return f"{type(inner).__name__}: {inner}" if inner is not error else str(error)


class _Watcher(tune.Callback):  # type: ignore[misc]
    """Collects losses as trials end, and tells how far the search is."""

    def __init__(self, total: int, progress: Callable[[int, int], None]) -> None:
        self.losses: dict[int, float] = {}
        self._total = total
        self._progress = progress

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles the callbacks for a restore, which we never ask for; what listens may hold locks.
        return self.__dict__ | {"_progress": None}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.losses[trial.config["candidate"]] = trial.last_result[_METRIC]
        self._progress(len(self.losses), self._total)


class _ScoreCandidate(tune.Trainable):  # type: ignore[misc]
    """One candidate in an actor that keeps the SuperLM of the last one."""

    def setup(self, config: dict[str, Any], shared: _Shared) -> None:
        torch.set_num_threads(_CPUS)
        self._shared = shared
        self._held: tuple[str, SuperLM, HeldoutTargets] | None = None
        self._number = int(config["candidate"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._number = int(new_config["candidate"])
        return True

    def step(self) -> dict[str, Any]:
        candidate = self._shared.candidates[self._number]
        superlm, heldout = self._hold(candidate.subspace)
        loss = score(superlm, candidate.architecture, self._shared.objective, heldout)
        return {_METRIC: loss, "done": True}

    def _hold(self, subspace: str) -> tuple[SuperLM, HeldoutTargets]:
        if self._held is None or self._held[0] != subspace:
            self._held = None  # not two at once in memory
            weights = _convert(ray.get(self._shared.weights[subspace]), np.ndarray, _as_tensor)
            heldout = _convert(ray.get(self._shared.heldout[subspace]), np.ndarray, _as_tensor)
            self._held = (subspace, SuperLM(weights, self._shared.wiring), heldout)
        return self._held[1:]


def _as_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    with warnings.catch_warnings():
        # Arrays of the object store are read-only, and nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _convert(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Rebuild nested dataclasses, tuples and dicts with every ``kind`` in them changed."""
    if isinstance(value, kind):
        return change(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return dataclasses.replace(value, **{f.name: _convert(getattr(value, f.name), kind, change) for f in fields})
    if isinstance(value, tuple):
        return tuple(_convert(item, kind, change) for item in value)
    if isinstance(value, dict):
        return {name: _convert(item, kind, change) for name, item in value.items()}
    return value


def _table(shape: TeacherShape, candidates: list[_Candidate], losses: list[float]) -> bytes:
    costs = [student_cost(shape, candidate.architecture, FLOPS_LENGTH) for candidate in candidates]
    table = pa.table(
        {
            "subspace": [candidate.subspace for candidate in candidates],
            "architecture": [json.dumps(candidate.architecture.to_json()) for candidate in candidates],
            _METRIC: pa.array(losses, pa.float64()),
            "params": [cost.params for cost in costs],
            "params_without_embeddings": [cost.params_without_embeddings for cost in costs],
            "flops": [cost.flops for cost in costs],
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _summary(candidates: list[_Candidate], losses: list[float]) -> dict[str, Any]:
    best: dict[str, float] = {}
    for candidate, loss in zip(candidates, losses, strict=True):
        best[candidate.subspace] = min(loss, best.get(candidate.subspace, math.inf))
    return {"candidates": len(candidates), "best": best, "flops_sequence_length": FLOPS_LENGTH}
