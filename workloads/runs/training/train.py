"""Training of the SuperLMs: one run of Ray Train for each group of the placement, the groups in parallel.

A group of one worker uses Ray Train's local mode: :mod:`workloads.runs.training.lone_worker`.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.util.queue import Empty, Queue

from cluster.launching import Launcher, Launches, Room
from cluster.room import Reservation
from cluster.sizing import Share, read_cluster
from workloads.answers.trained import TeacherStage
from workloads.methods.steps import train_step
from workloads.runs.attempt.progress import Progress as StepProgress
from workloads.runs.attempt.room import share_for
from workloads.runs.attempt.run import Run
from workloads.runs.training.lone_worker import LoneWorkers
from workloads.runs.training.placement import plan_placement
from workloads.runs.training.train_group import GroupJob, Loss, Message, Started, run_group
from workloads.shapes.search_space import Space
from workloads.spec.request import CompressionRequest
from workloads.storage.artifacts import Artifact, Key, build_folder, commit, find

WORKERS_FIELD = "training.workers"
NOT_IN_FINGERPRINT = {
    "tokens_per_superlm",
    "placement",
    "workers",
    "micro_batch_rows",
    "checkpoint_every_steps",
    "max_failures",
}
"""Settings of the training that change no weight; ``tokens_per_superlm`` is in the key as steps."""
_POLL_SECONDS, _START_POLL_SECONDS = 0.5, 0.1
"""Longest seconds between two looks at the groups, and those while none has started."""


@dataclass(frozen=True)
class TrainingInputs:
    """Settings and data of the SuperLMs' training.

    Attributes:
        request: The objective, the settings of the training and the seed.
        teacher: The teacher, saved in the storage.
        corpus: The committed token blocks.
        first_batch: Number of the first batch in the corpus's stream of batches.
    """

    request: CompressionRequest
    teacher: TeacherStage
    corpus: Artifact
    first_batch: int = 0


class TrainingNews(Protocol):
    """Receiver of the progress of SuperLMs' training, by their names."""

    def report(self, name: str, done: int, total: int, metrics: dict[str, float]) -> None:
        """Receive the tokens done and in all, and metrics such as ``loss_largest``."""

    def waiting(self, names: Sequence[str], why: str | None) -> None:
        """Receive the reason that SuperLMs wait for, None at the end of the wait."""


@dataclass(frozen=True)
class PendingSuperLM:
    """A SuperLM to train.

    Attributes:
        space: Its sub-space; no other SuperLM that is trained at the same time has one of this name.
        key: Key of its artefact.
        origin: The trained SuperLM of a wider sub-space that it continues; None if it starts from the teacher.
    """

    space: Space
    key: Key
    origin: Artifact | None = None


def superlm_key(request: CompressionRequest, space: Space, teacher_fingerprint: str, corpus_fingerprint: str) -> Key:
    """Make the key of a trained SuperLM; it does not depend on groups and checkpoints."""
    training = request.training
    return Key(
        "superlm",
        {
            "teacher": teacher_fingerprint,
            "corpus": corpus_fingerprint,
            "space": space.to_json(),
            "importance": request.orders_by_importance,
            "objective": request.objective.key,
            "training": training.model_dump(mode="json", exclude=NOT_IN_FINGERPRINT),
            "steps": training.steps_for(space.name),
            "seed": request.seed,
        },
    )


def train_superlms(run: Run, inputs: TrainingInputs, spaces: Sequence[Space]) -> dict[str, Artifact]:
    """Train the SuperLMs that are not in the storage yet.

    Args:
        run: The run; its progress has a step :func:`workloads.methods.steps.train_step` for each SuperLM.
        inputs: Settings and data of the training.
        spaces: The sub-spaces, one SuperLM each.

    Returns:
        The committed SuperLMs, by name of the sub-space.

    Raises:
        InputError: The live nodes cannot hold the workers, or the training diverged.
        NotStartedError: There are free resources for the workers, but they do not start.
        OSError: A checkpoint could not be written.
    """
    request, teacher = inputs.request, inputs.teacher
    keys = {
        space.name: superlm_key(request, space, teacher.fingerprint, inputs.corpus.fingerprint) for space in spaces
    }  # fmt: skip
    done = {name: artifact for name, key in keys.items() if (artifact := find(run.storage, key))}
    missing = {space.name: PendingSuperLM(space, keys[space.name]) for space in spaces if space.name not in done}
    if not missing:
        return done
    placement = plan_placement(request.training, spaces, teacher.shape, read_cluster())
    groups = [[missing[name] for name in group if name in missing] for group in placement.groups]
    groups = [group for group in groups if group]
    shown = " | ".join(" + ".join(one.space.name for one in group) for group in groups)
    news = _StepNews(run.progress, f"placement {shown}: {placement.reason}", list(missing))
    return done | train_groups(run, inputs, groups, news)


class _StepNews:
    """Reporter of the SuperLMs' steps: tokens, curve, placement, and the reason of a wait."""

    def __init__(self, progress: StepProgress, placement: str, names: Sequence[str]) -> None:
        self._progress, self._placement = progress, placement
        progress.event("placement", placement)
        self.waiting(names, None)

    def report(self, name: str, done: int, total: int, metrics: dict[str, float]) -> None:
        """Report the tokens, and add a point to the SuperLM's curve."""
        self._progress.advance(train_step(name), done, total)
        self._progress.point(train_step(name), done, total, metrics)

    def waiting(self, names: Sequence[str], why: str | None) -> None:
        """Set the steps' notes to the reason of the wait; restore the placement at its end."""
        for name in names:
            self._progress.wait(train_step(name), why)
            if why is None:
                self._progress.note(train_step(name), self._placement)


def train_groups(
    run: Run, inputs: TrainingInputs, groups: Sequence[Sequence[PendingSuperLM]], news: TrainingNews
) -> dict[str, Artifact]:
    """Train groups of SuperLMs side by side, as many at once as the nodes hold, and commit them.

    Args:
        run: The storage of artefacts, and the builder.
        inputs: Settings and data of the training.
        groups: The SuperLMs by group; the members of a group share one teacher forward a batch.
        news: Receives the progress and the waits.

    Returns:
        The committed SuperLMs, by name of the sub-space.

    Raises:
        InputError: The live nodes cannot hold the workers, or the training diverged.
        NotStartedError: There are free resources for the workers, but they do not start.
        OSError: A checkpoint could not be written.
    """
    storage = run.storage
    share = share_for(WORKERS_FIELD, runs=len(groups), workers=inputs.request.training.workers)
    jobs = [_group_job(run, inputs, group, share) for group in groups]
    _run_all(jobs, share.runs_at_once, news)
    done = {}
    for one in itertools.chain(*groups):
        summary = storage.read_json(f"{build_folder(one.key, run.builder)}/summary.json")
        done[one.space.name] = commit(storage, one.key, run.builder, summary, device=summary["device"])
    for job in jobs:
        storage.remove(job.checkpoints)
    return done


def _group_job(run: Run, inputs: TrainingInputs, group: Sequence[PendingSuperLM], share: Share) -> GroupJob:
    together = Key("training", {one.space.name: one.key.fingerprint for one in group})
    return GroupJob(
        storage=run.storage.url,
        request=inputs.request,
        teacher_files=inputs.teacher.artifact.files,
        corpus=inputs.corpus,
        spaces=tuple(one.space for one in group),
        outputs={one.space.name: build_folder(one.key, run.builder) for one in group},
        checkpoints=together.folder,
        builder=run.builder,
        cpus=share.cpus,
        gpu=share.gpus > 0,
        origins={one.space.name: one.origin for one in group if one.origin is not None},
        first_batch=inputs.first_batch,
    )


class _Launcher(Launcher, Protocol):
    """Launcher of groups that also brings their messages."""

    def wait(self, seconds: float) -> None:
        """Wait until one of the groups has ended, at most this long."""

    def messages(self) -> Sequence[Message]:
        """Return the messages that have come since the last call."""

    def close(self) -> None:
        """Release what the groups shared."""


class _OnRayTrain:
    """Launcher of groups on Ray Train, one task per group, so that each group has a Train controller of its own."""

    def __init__(self) -> None:
        self._queue = Queue(actor_options={"num_cpus": 0})
        self._task = ray.remote(num_cpus=0, max_retries=0)(run_group)
        self._running: list[_Running] = []

    def reserve(self, work: GroupJob) -> Reservation:
        return Reservation([work.needs] * work.request.training.workers)

    def start(self, work: GroupJob, room: Room) -> _Running:
        room.release()  # Ray Train makes a placement group of its own
        self._running.append(_Running(self._task.remote(work, self._queue)))
        return self._running[-1]

    def wait(self, seconds: float) -> None:
        if going := [one.reference for one in self._running if not one.is_over]:
            ray.wait(going, timeout=seconds)

    def messages(self) -> list[Message]:
        found: list[Message] = []
        while True:
            try:
                found.append(self._queue.get_nowait())
            except Empty:
                return found

    def close(self) -> None:
        self._queue.shutdown(force=True)


class _Running:
    """A running group.

    Attributes:
        reference: Reference to its failure.
        is_over: Whether it has ended.
    """

    def __init__(self, reference: Any) -> None:
        self.reference, self.is_over = reference, False

    def ended(self) -> tuple[bool, BaseException | None]:
        self.is_over = bool(ray.wait([self.reference], timeout=0)[0])
        return (True, ray.get(self.reference)) if self.is_over else (False, None)

    def cancel(self) -> None:
        ray.cancel(self.reference, force=True)


def _run_all(jobs: Sequence[GroupJob], at_once: int, news: TrainingNews) -> None:
    launcher: _Launcher = LoneWorkers() if jobs[0].request.training.workers == 1 else _OnRayTrain()
    runs = Launches(jobs, at_once, launcher, news.waiting)
    try:
        while not runs.go_on():
            _tell(launcher, runs, news)
            _pause(launcher)
        _tell(launcher, runs, news)
    finally:
        runs.close()
        launcher.close()


def _pause(launcher: _Launcher) -> None:
    """Wait for a poll's length; shorter if a group ends or is yet to be started."""
    began = time.monotonic()
    launcher.wait(_POLL_SECONDS)
    time.sleep(max(0.0, _START_POLL_SECONDS - (time.monotonic() - began)))


def _tell(launcher: _Launcher, runs: Launches, news: TrainingNews) -> None:
    for message in launcher.messages():
        if isinstance(message, Started):
            runs.works(message.names)
            continue
        for name, loss in message.losses.items():
            news.report(name, message.tokens[name], message.totals[name], _metrics(loss))


def _metrics(loss: Loss) -> dict[str, float]:
    metrics = {"loss_largest": loss.largest, "loss_smallest": loss.smallest, "learning_rate": loss.learning_rate}
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
