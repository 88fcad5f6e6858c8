"""One Ray Train run: a group of SuperLMs, any number of data-parallel workers, restartable at any point."""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import structlog
import torch
import torch.distributed as dist
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError
from torch import Tensor

from cluster.launching import LostError, NoRoomYetError
from cluster.sizing import worker_needs
from workloads.craft.blocks import Blocks
from workloads.craft.importance import Order, importance_order
from workloads.craft.objectives.objective import objective_for
from workloads.craft.precision import set_up_torch
from workloads.craft.sandwich import trains_smallest
from workloads.craft.signals import Batch
from workloads.craft.superlm import Wiring
from workloads.craft.superlm_files import Built, build_superlm, continue_superlm, save_superlm, wiring_of
from workloads.craft.teacher import Teacher, open_teacher
from workloads.craft.training import GroupTrainer, Member, Worker, learning_rate
from workloads.runs.training.checkpoints import Checkpoints, CheckpointWriter, ray_folder, remove_older_ray_folders
from workloads.shapes.search_space import Space
from workloads.shapes.teacher_files import FIELD
from workloads.spec.errors import FieldError, InputError
from workloads.spec.request import CompressionRequest
from workloads.storage.artifacts import Artifact
from workloads.storage.storage import Storage

_REPORT_EVERY = 5  # steps between two checks of the losses; all workers check at the same steps
_CALIBRATION_BATCHES = 8
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class GroupJob:
    """Settings of a training run; small, since they are sent to its workers.

    Attributes:
        outputs: Map of sub-space to the folder that this attempt writes its SuperLM into.
        checkpoints: Folder of the group's checkpoints, shared by all attempts.
        cpus: CPUs of each worker; also its number of threads.
        origins: Map of sub-space to the trained SuperLM that its SuperLM continues; the others start from the teacher.
        first_batch: Number of the first batch in the corpus's stream of batches.
    """

    storage: str
    request: CompressionRequest
    teacher_files: str
    corpus: Artifact
    spaces: tuple[Space, ...]
    outputs: dict[str, str]
    checkpoints: str
    builder: str
    cpus: int
    gpu: bool
    origins: dict[str, Artifact] = field(default_factory=dict)
    first_batch: int = 0

    @property
    def needs(self) -> dict[str, float]:
        """Ray resources of each worker."""
        return worker_needs(self.cpus, int(self.gpu))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the SuperLMs' sub-spaces."""
        return tuple(space.name for space in self.spaces)

    @property
    def retries(self) -> int:
        """Most restarts of the group after a worker's death."""
        return self.request.training.max_failures


@dataclass(frozen=True)
class Started:
    """Message that a worker of the group of these SuperLMs has started."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Loss:
    """Training losses of the largest and the smallest subnet, as last trained, with the learning rate."""

    largest: float
    smallest: float
    learning_rate: float


@dataclass(frozen=True)
class Progress:
    """Message with the tokens done and in all, and the losses, by SuperLM."""

    tokens: dict[str, int]
    totals: dict[str, int]
    losses: dict[str, Loss]


Message = Started | Progress
"""A message of a training to its driver."""


def run_alone(job: GroupJob, queue: Any) -> BaseException | None:
    """Run a group of one worker in this process from its last checkpoint; see :func:`run_group`."""
    assert job.request.training.workers == 1, job.request.training.workers
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job, "queue": queue},
        scaling_config=ScalingConfig(num_workers=0, use_gpu=job.gpu),  # Ray Train's local mode
    )
    try:
        trainer.fit()
    except OSError as error:
        return LostError(error)
    except Exception as error:
        _log.exception("training_failed", names=job.names)
        return LostError(RuntimeError(f"{type(error).__name__}: {error}"))
    return _read_failure(Storage.open(job.storage), job)


def run_group(job: GroupJob, queue: Any) -> BaseException | None:
    """Run a group from its last checkpoint, and give the failure that ended it, None if there was none.

    Args:
        job: The group's settings.
        queue: A Ray queue for messages :class:`Started` and :class:`Progress`.
    """
    storage = Storage.open(job.storage)
    training = job.request.training
    own = ray_folder(job.checkpoints, job.builder)
    remove_older_ray_folders(storage, job.checkpoints, job.builder)
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job, "queue": queue},
        scaling_config=ScalingConfig(num_workers=training.workers, use_gpu=job.gpu, resources_per_worker=job.needs),
        run_config=RunConfig(
            name="train",
            storage_path=storage.path(own),
            storage_filesystem=storage.filesystem,
            # The caller restarts the group: it waits for room and bounds each start, which Ray Train does not.
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        return _cause(error)
    finally:
        storage.remove(own)
    return _read_failure(storage, job)


def _cause(error: Any) -> BaseException:
    """Return the failure below Ray Train's error, as one that a restart may mend unless an input is at fault."""
    if isinstance(error, ray.train.PreemptionError):
        return NoRoomYetError(str(error))
    if (start := getattr(error, "controller_failure", None)) is not None:
        if isinstance(start, WorkerGroupStartupTimeoutError):
            return NoRoomYetError(str(start))
        if isinstance(start, WorkerGroupStartupFailedError):
            return LostError(RuntimeError(str(start)))
        return RuntimeError(str(start))
    workers = list(getattr(error, "worker_failures", {}).values())
    failures = [getattr(one, "_base_exc", one) for one in workers]  # below Ray's wrapper
    for failure in failures:
        if isinstance(failure, InputError):
            return failure
    for failure in failures:
        if isinstance(failure, OSError):
            return LostError(failure)
    return LostError(RuntimeError(str(workers[0] if workers else error)))


def _read_failure(storage: Storage, job: GroupJob) -> BaseException | None:
    """Read a failure that a restart cannot fix. Workers write it to a file, so that Ray does not restart them."""
    path = _failure_path(job)
    if not storage.exists(path):
        return None
    errors = storage.read_json(path)
    storage.remove(path)
    return InputError([FieldError(**found) for found in errors])


def _failure_path(job: GroupJob) -> str:
    return f"{job.outputs[job.spaces[0].name]}/failure.json"


def _worker(config: dict[str, Any]) -> None:
    job: GroupJob = config["job"]
    set_up_torch(job.cpus)
    context = ray.train.get_context()
    worker = Worker(ray.train.torch.get_device(), context.get_world_rank(), context.get_world_size())
    if worker.rank == 0:
        config["queue"].put_nowait(Started(job.names))
    train_group(job, worker, config["queue"])


def train_group(job: GroupJob, worker: Worker, queue: Any) -> None:
    """Train a group in this process, one of ``worker.world``; the first process writes the SuperLMs.

    Args:
        job: The group's settings.
        worker: This process.
        queue: A queue for messages :class:`Progress`.

    Raises:
        OSError: A checkpoint could not be written.
    """
    storage = Storage.open(job.storage)
    checkpoints = Checkpoints(storage, job.checkpoints, job.builder)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            teacher = open_teacher(storage.fetch(job.teacher_files, Path(temporary)))
            begun = _start(job, teacher, storage, checkpoints, worker)
            losses = _train(job, begun, storage, checkpoints, queue)
    except InputError as error:  # all workers compute the same losses and raise it together, so none waits for another
        _write_failure(job, worker.rank, storage, error)
        return
    if worker.rank == 0:
        _write_superlms(job, begun.trainer, storage, losses)
    _barrier(worker.world)


@dataclass(frozen=True)
class _Begun:
    """A training as it stood at its last committed checkpoint.

    Attributes:
        step: The next step.
        losses: The last losses, by SuperLM; empty before the first step.
    """

    trainer: GroupTrainer
    step: int
    losses: dict[str, Loss]


def _start(job: GroupJob, teacher: Teacher, storage: Storage, checkpoints: Checkpoints, worker: Worker) -> _Begun:
    """Build the trainer in the state of the last committed checkpoint, the same on all workers."""
    request, training, device = job.request, job.request.training, worker.device
    objective = objective_for(request.objective, teacher.shape)
    found = _from_first(checkpoints.latest(), worker.world)
    state = checkpoints.load(found[1]) if found else None
    teacher.model.to(device)
    ordered = request.orders_by_importance and state is None and len(job.origins) < len(job.spaces)
    order = _order(job, teacher, storage, worker) if ordered else None
    members = {}
    for space in job.spaces:
        if (origin := job.origins.get(space.name)) is None:
            built = build_superlm(teacher, space, order=order, maps=objective.maps)
        else:
            built = _continue(origin, space, storage, wiring_of(teacher))
        head_order = built.head_order if state is None else state.get(f"{space.name}/head_order")
        head_order = None if head_order is None else head_order.to(device)
        members[space.name] = Member(space, built.superlm.to(device), head_order, training.steps_for(space.name))
    trainer = GroupTrainer(teacher, members, objective, training, seed=request.seed, worker=worker)
    if state is not None:
        trainer.load_state(state)
    marks = {name: (state or {}).get(f"{name}/last_loss") for name in members}
    last = {name: Loss(*mark.tolist()) for name, mark in marks.items() if mark is not None}
    return _Begun(trainer, found[0] if found else 0, last)


def _order(job: GroupJob, teacher: Teacher, storage: Storage, worker: Worker) -> Order:
    """Measure the importance on the first worker, and give its order to the others."""
    order = None
    if worker.rank == 0:
        with closing(_batches(job, storage, 0)) as batches:
            order = importance_order(teacher, itertools.islice(batches, _CALIBRATION_BATCHES))
    agreed: Order = _from_first(order, worker.world)
    return agreed


def _continue(origin: Artifact, space: Space, storage: Storage, wiring: Wiring) -> Built:
    with tempfile.TemporaryDirectory() as temporary:
        superlm = continue_superlm(storage.fetch(origin.files, Path(temporary)), space, wiring)
    order = origin.summary["head_order"]
    return Built(superlm, None if order is None else torch.tensor(order))


def _train(job: GroupJob, begun: _Begun, storage: Storage, checkpoints: Checkpoints, queue: Any) -> dict[str, Loss]:
    """Train to the end, and give the last losses.

    Raises:
        InputError: The training diverged.
        OSError: A checkpoint could not be written.
    """
    every = job.request.training.checkpoint_every_steps
    trainer, last, sent = begun.trainer, dict(begun.losses), 0.0
    smallest: dict[str, Tensor] = {}
    first = trainer.worker.rank == 0
    with closing(_batches(job, storage, begun.step)) as batches, CheckpointWriter(checkpoints) as writer:
        for step in range(begun.step, trainer.steps):
            shares = trainer.step(step, next(batches))
            if trains_smallest(trainer.training, step):
                smallest = {name: share[min(1, len(share) - 1)] for name, share in shares.items()}
            ends = any(member.steps == step + 1 for member in trainer.members.values())
            keeps = (step + 1) % every == 0 and step + 1 < trainer.steps
            if ends or keeps or step % _REPORT_EVERY == 0:
                writer.check()
                last |= _losses(trainer, shares, smallest, last, step)
                if not all(math.isfinite(loss.largest + loss.smallest) for loss in last.values()):
                    raise _divergence(job, step)
                if first and (ends or time.monotonic() - sent > 0.5):
                    sent = time.monotonic()
                    queue.put_nowait_batch([_progress(job, trainer, step + 1, last)])
            if keeps and first:
                writer.save(step + 1, _full_state(trainer, last))
    return last


def _full_state(trainer: GroupTrainer, last: dict[str, Loss]) -> dict[str, Tensor]:
    state = trainer.state()
    for name, member in trainer.members.items():
        if member.head_order is not None:
            state[f"{name}/head_order"] = member.head_order
        loss = last[name]
        state[f"{name}/last_loss"] = torch.tensor([loss.largest, loss.smallest, loss.learning_rate])
    return state


def _batches(job: GroupJob, storage: Storage, start: int) -> Any:
    blocks = Blocks.open(storage, job.corpus, "train")
    for rows in blocks.batches(job.request.seed, job.request.training.batch_size, job.first_batch + start):
        yield Batch(*(None if part is None else torch.as_tensor(part) for part in rows))  # type: ignore[arg-type]


def _losses(
    trainer: GroupTrainer,
    shares: Mapping[str, Tensor],
    smallest: Mapping[str, Tensor],
    last: Mapping[str, Loss],
    step: int,
) -> dict[str, Loss]:
    """Add up the workers' shares of the losses.

    Args:
        trainer: The trainer.
        shares: This worker's shares of the step, by SuperLM, ``[subnets]``.
        smallest: Its shares of the smallest subnets' losses, scalars, of the last step that trained them; empty if
            this attempt has not trained them yet.
        last: The losses known so far.
        step: The step.
    """
    losses = {}
    for name, share in shares.items():
        ends = torch.stack([share[0], smallest.get(name, share[0])])
        if trainer.worker.world > 1:
            dist.all_reduce(ends)
        values = ends.tolist()
        rate = learning_rate(trainer.training, step, trainer.members[name].steps)
        losses[name] = Loss(values[0], values[1] if name in smallest else last[name].smallest, rate)
    return losses


def _progress(job: GroupJob, trainer: GroupTrainer, steps: int, losses: dict[str, Loss]) -> Progress:
    per_step = job.request.training.batch_size * job.request.training.sequence_length
    lengths = {name: member.steps for name, member in trainer.members.items()}
    tokens = {name: min(steps, length) * per_step for name, length in lengths.items()}
    return Progress(tokens, {name: length * per_step for name, length in lengths.items()}, losses)


def _divergence(job: GroupJob, step: int) -> InputError:
    if step == 0:  # no weight has been updated yet, so the learning rate is not the cause
        return InputError.of(
            FIELD,
            "The training loss is not a finite number at the first step, before any weight was updated.",
            "Check the teacher's weights and outputs.",
        )
    return InputError.of(
        "polish.learning_rate" if job.origins else "training.learning_rate",
        f"The training diverged: the loss is not a finite number at step {step}.",
        "Use a smaller learning rate or a longer warm-up.",
    )


def _write_failure(job: GroupJob, rank: int, storage: Storage, error: InputError) -> None:
    if rank == 0:
        storage.write_json(_failure_path(job), [asdict(found) for found in error.errors])


def _write_superlms(job: GroupJob, trainer: GroupTrainer, storage: Storage, losses: dict[str, Loss]) -> None:
    per_step = job.request.training.batch_size * job.request.training.sequence_length
    worker = trainer.worker
    for name, member in trainer.members.items():
        origin = job.origins.get(name)
        before = 0 if origin is None else origin.summary["tokens"]
        with tempfile.TemporaryDirectory() as temporary:
            save_superlm(Path(temporary), member.superlm)
            storage.upload(Path(temporary), job.outputs[name])
        summary = {
            "steps": member.steps,
            "tokens": before + member.steps * per_step,
            "final_loss": {"largest": losses[name].largest, "smallest": losses[name].smallest},
            "head_order": None if member.head_order is None else member.head_order.tolist(),
            "device": f"{worker.device.type} x {worker.world}, {torch.get_num_threads()} threads",
        }
        storage.write_json(f"{job.outputs[name]}/summary.json", summary)


def _from_first(value: Any, world: int) -> Any:
    """Send the first worker's value to all workers."""
    if world == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]


def _barrier(world: int) -> None:
    if world > 1:
        dist.barrier()
