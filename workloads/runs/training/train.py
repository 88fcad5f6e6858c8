"""Training the SuperLMs: one Ray Train run for each group of the placement, the groups in parallel."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.queue import Empty, Queue

from cluster.sizing import Resources, cpus_per_worker, read_resources
from workloads.craft.objectives.objective import objective_for
from workloads.runs.training.placement import plan_placement
from workloads.runs.training.train_group import GroupJob, Loss, Progress, run_group
from workloads.shapes.search_space import Space
from workloads.shapes.spaces import orders_by_importance
from workloads.shapes.teacher_files import shape_of
from workloads.spec.request import CompressionRequest
from workloads.storage.artifacts import Artifact, Key, build_folder, commit, find
from workloads.storage.storage import Storage

NOT_IN_FINGERPRINT = {
    "tokens_per_superlm",
    "placement",
    "workers",
    "micro_batch_rows",
    "checkpoint_every_steps",
    "max_failures",
}
"""Settings of the training that change no weight; ``tokens_per_superlm`` goes in as steps."""


Report = Callable[[str, int, int, dict[str, float]], None]
"""Called with a member's name, tokens done, tokens in all, and metrics (``loss_largest``, ``loss_smallest``)."""


@dataclass(frozen=True)
class PendingSuperLM:
    """A SuperLM to train.

    Attributes:
        space: Its sub-space; the name is unique among those trained at once.
        key: What it is kept as.
        origin: The trained SuperLM of a wider sub-space that it continues; None: it starts from the teacher.
    """

    space: Space
    key: Key
    origin: Artifact | None = None


def superlm_key(request: CompressionRequest, space: Space, teacher_fingerprint: str, corpus_fingerprint: str) -> Key:
    """What decides a trained SuperLM; how it is grouped and checkpointed does not."""
    training = request.training
    return Key(
        "superlm",
        {
            "teacher": teacher_fingerprint,
            "corpus": corpus_fingerprint,
            "space": space.to_json(),
            "importance": orders_by_importance(request.subspaces),
            "objective": request.objective.model_dump(mode="json"),
            "training": training.model_dump(mode="json", exclude=NOT_IN_FINGERPRINT),
            "steps": training.steps_for(space.name),
            "seed": request.seed,
        },
    )


def train_superlms(
    storage: Storage,
    request: CompressionRequest,
    *,
    teacher_files: str,
    teacher_fingerprint: str,
    corpus: Artifact,
    spaces: list[Space],
    builder: str,
    report: Report,
    note: Callable[[str], None],
) -> dict[str, Artifact]:
    """Train the SuperLMs that are not there yet.

    Args:
        storage: Where the artefacts are.
        request: Objective, training and seed.
        teacher_files: Folder of the teacher's files, relative to the storage.
        teacher_fingerprint: Of these files.
        corpus: The committed token blocks.
        spaces: The sub-spaces, one SuperLM each.
        builder: Job and attempt; names the folders that are written.
        report: Told how far each sub-space's is.
        note: Called with the placement and its reason.

    Returns:
        The committed SuperLMs, by name of the sub-space.

    Raises:
        InputError: The training diverged.
        OSError: A checkpoint could not be written.
    """
    keys = {space.name: superlm_key(request, space, teacher_fingerprint, corpus.fingerprint) for space in spaces}
    done = {name: artifact for name, key in keys.items() if (artifact := find(storage, key))}
    missing = {space.name: PendingSuperLM(space, keys[space.name]) for space in spaces if space.name not in done}
    if not missing:
        return done
    with tempfile.TemporaryDirectory() as temporary:
        shape = shape_of(storage.fetch(teacher_files, Path(temporary)))
    objective_for(request.objective, shape)
    placement = plan_placement(request.training, spaces, shape, read_resources())
    groups = [[missing[name] for name in group if name in missing] for group in placement.groups]
    groups = [group for group in groups if group]
    shown = " | ".join(" + ".join(one.space.name for one in group) for group in groups)
    note(f"placement {shown}: {placement.reason}")
    return done | train_groups(
        storage, request, groups, teacher_files=teacher_files, corpus=corpus, builder=builder, report=report
    )


def train_groups(
    storage: Storage,
    request: CompressionRequest,
    groups: Sequence[Sequence[PendingSuperLM]],
    *,
    teacher_files: str,
    corpus: Artifact,
    builder: str,
    report: Report,
    first_batch: int = 0,
) -> dict[str, Artifact]:
    """Train groups of SuperLMs side by side, and commit them.

    Args:
        storage: Where the artefacts are.
        request: Objective, training and seed.
        groups: What is trained together, one teacher forward a batch for each group.
        teacher_files: Folder of the teacher's files, relative to the storage.
        corpus: The committed token blocks.
        builder: Job and attempt; names the folders that are written.
        report: Told how far each is.
        first_batch: Where in the corpus's stream of batches the training begins.

    Returns:
        The committed SuperLMs, by name of the sub-space.

    Raises:
        InputError: The training diverged.
        OSError: A checkpoint could not be written.
    """
    resources = read_resources()
    jobs = [
        _group_job(storage, request, group, teacher_files, corpus, builder, resources, len(groups), first_batch)
        for group in groups
    ]
    _run_all(jobs, report)
    done = {}
    for one in itertools.chain(*groups):
        summary = storage.read_json(f"{build_folder(one.key, builder)}/summary.json")
        done[one.space.name] = commit(storage, one.key, builder, summary, device=summary["device"])
    for job in jobs:
        storage.remove(job.checkpoints)
    return done


def _group_job(
    storage: Storage,
    request: CompressionRequest,
    group: Sequence[PendingSuperLM],
    teacher_files: str,
    corpus: Artifact,
    builder: str,
    resources: Resources,
    groups: int,
    first_batch: int,
) -> GroupJob:
    together = Key("training", {one.space.name: one.key.fingerprint for one in group})
    return GroupJob(
        storage=storage.url,
        request=request,
        teacher_files=teacher_files,
        corpus=corpus,
        spaces=tuple(one.space for one in group),
        outputs={one.space.name: build_folder(one.key, builder) for one in group},
        checkpoints=together.folder,
        builder=builder,
        cpus=cpus_per_worker(resources, runs_at_once=groups, workers=request.training.workers),
        gpu=resources.gpus >= 1,
        origins={one.space.name: one.origin for one in group if one.origin is not None},
        first_batch=first_batch,
    )


def _run_all(jobs: Sequence[GroupJob], report: Report) -> None:
    queue = Queue(actor_options={"num_cpus": 0})
    # A task each, so that each has a Train controller of its own; the work is in the runs' workers.
    waiting = [ray.remote(num_cpus=0, max_retries=0)(run_group).remote(job, queue) for job in jobs]
    try:
        while waiting:
            finished, waiting = ray.wait(waiting, num_returns=1, timeout=0.5)
            _drain(queue, report)
            for reference in finished:
                _raise_failure(ray.get(reference))
        _drain(queue, report)
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)
        queue.shutdown(force=True)


def _raise_failure(failure: BaseException | None) -> None:
    if failure is not None:
        raise failure


def _drain(queue: Any, report: Report) -> None:
    while True:
        try:
            message: Progress = queue.get_nowait()
        except Empty:
            return
        for name, loss in message.losses.items():
            report(name, message.tokens[name], message.totals[name], _metrics(loss))


def _metrics(loss: Loss) -> dict[str, float]:
    metrics = {"loss_largest": loss.largest, "loss_smallest": loss.smallest, "learning_rate": loss.learning_rate}
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
