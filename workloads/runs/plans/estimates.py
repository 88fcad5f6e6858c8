"""Estimate of a compression's time, step by step, computed from the figures of a short calibration."""

from __future__ import annotations

import functools
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster.sizing import Cluster, Needs, Share, describe_needs
from workloads.answers.latency_model import candidates_to_measure
from workloads.answers.trained import TeacherStage
from workloads.craft.calibration import Calibration, ScoringCalibration, TaskCalibration
from workloads.craft.latency.measure import REPEATS
from workloads.craft.polishing import polish_training
from workloads.documents.job_folder import KnownTeacherDocument, PlanDocument, PlanStepDocument
from workloads.methods.steps import CORPUS, LATENCY, POLISH, PROXY_TASK, SEARCH, STUDENTS, TEACHER, train_step
from workloads.runs import proxy
from workloads.runs.attempt.room import share_for
from workloads.runs.corpus import DIRECT_BYTES
from workloads.runs.latency.latency import ForwardTimes
from workloads.runs.plans.shortlist import Candidate, Shortlist, each_once
from workloads.runs.search import trial
from workloads.runs.training.placement import Placement, plan_placement
from workloads.runs.training.train import WORKERS_FIELD
from workloads.shapes.architecture import Architecture
from workloads.shapes.heads import describe_head
from workloads.shapes.search_space import Space
from workloads.spec.autodistil import AutoDistilRequest

# From the events of a run of the demo on an idle machine with two cores (2026-11-21), and of benchmarks.fixed_cost.
TRAIN_START_SECONDS, RAY_TRAIN_START_SECONDS = 10.0, 26.0
"""Start and end of a training run of one worker, from the placement to the first step (start of the worker, importance,
building the SuperLMs), and from the last step to the search; and that of several workers, which Ray Train starts."""
SEARCH_START_SECONDS = 6.5
"""Start and end of Ray Tune for a search or a proxy task: 120 candidates took 12.2 s, and their scoring took 11.5
CPU-seconds of it on two cores."""
STUDENT_SECONDS = 0.5
"""Time to save a student: three took 1.6 s."""
CORPUS_BYTES_A_SECOND = 3.6e6
"""Text that one core tokenises and packs in a second: 12.2 MB took 3.3 CPU-s, with a WordPiece tokenizer."""


@dataclass(frozen=True)
class Subject:
    """Subject of a plan.

    Attributes:
        request: The request.
        teacher: The teacher.
        spaces: The sub-spaces.
        cluster: The live nodes.
        corpus_bytes: Bytes of text; None if unknown, as for a dataset of the hub.
        reused: Map of step to whether the result of an earlier run is reused.
    """

    request: AutoDistilRequest
    teacher: TeacherStage
    spaces: Sequence[Space]
    cluster: Cluster
    corpus_bytes: int | None
    reused: Mapping[str, bool]

    @functools.cached_property
    def shortlist(self) -> Shortlist:
        """Sample of the spaces' candidates, with their costs."""
        return Shortlist(self.teacher, self.spaces)

    @functools.cached_property
    def placement(self) -> Placement:
        """Placement of the SuperLMs' training."""
        return plan_placement(self.request.training, self.spaces, self.teacher.shape, self.cluster)

    def share(self, runs: int) -> Share:
        """Resources of each worker when this many training runs go side by side.

        Raises:
            InputError: The live nodes cannot hold the workers.
        """
        return share_for(WORKERS_FIELD, runs=runs, workers=self.request.training.workers, cluster=self.cluster)

    @property
    def search_needs(self) -> dict[str, float]:
        """Resources of an actor of the search."""
        return trial.actors_for(self.cluster).needs

    @property
    def task_needs(self) -> dict[str, float]:
        """Resources for fine-tuning one candidate."""
        return proxy.candidate_needs(self.cluster.gpus > 0)

    def finalists(self, forwards: Mapping[str, ForwardTimes], count: int) -> list[list[Candidate]]:
        """Guess the best candidates of each budget; see :meth:`Shortlist.finalists`."""
        return self.shortlist.finalists(self.request.budgets, forwards, count)


@dataclass(frozen=True)
class Measured:
    """Measurements of a calibration.

    Attributes:
        training: Times of the sub-spaces' training steps, taken on a training worker.
        scoring: Times of scoring the sub-spaces and ``single``, taken on an actor of the search.
        polishing: Times of the training steps of ``single``, taken on a polishing worker; None without polishing.
        forwards: Map of latency target to the times of its forwards, for the targets that budgets name.
        sampled: Names of the targets whose candidates an earlier run has measured.
        task: Times of the proxy task; None without one.
        single: Map of sub-space to a sub-space of one candidate that may be polished.
        seconds: Time that the calibration took.
    """

    training: Calibration
    scoring: ScoringCalibration
    polishing: Calibration | None = None
    forwards: Mapping[str, ForwardTimes] = field(default_factory=dict)
    sampled: frozenset[str] = frozenset()
    task: TaskCalibration | None = None
    single: Mapping[str, Space] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class _Estimate:
    """Estimate of a step, with the seconds that it occupies devices: GPUs if the cluster has any, else CPU cores."""

    step: PlanStepDocument
    device_seconds: float = 0.0


def make_plan(subject: Subject, measured: Measured) -> PlanDocument:
    """Make the plan: the estimates of all steps.

    Raises:
        InputError: The live nodes cannot hold the training's workers.
    """
    request, spaces = subject.request, subject.spaces
    trained, seconds = _training(subject, measured.training)
    others = [
        _Estimate(_step(TEACHER, 0.0, subject.reused, "copied before")),
        _corpus(subject),
        _search(subject, measured.scoring),
        *_Answering(subject, measured).steps(),
        _Estimate(_step(STUDENTS, STUDENT_SECONDS * len(request.budgets), {}, "one a budget")),
    ]
    steps = [one.step for one in (*others[:2], *trained, *others[2:])]
    return PlanDocument(
        candidates={space.name: len(space) for space in spaces},
        budgets=[subject.shortlist.count(budget) for budget in request.budgets],
        steps=steps,
        seconds=seconds + sum(one.step.seconds for one in others),
        device_hours=sum(one.device_seconds for one in (*trained, *others)) / 3600,
        device="GPU" if subject.cluster.gpus else "CPU core",
        calibration_seconds=measured.seconds,
        teacher=KnownTeacherDocument(kind=subject.teacher.shape.kind, gives=describe_head(subject.teacher.shape.head)),
    )


def _corpus(subject: Subject) -> _Estimate:
    size, cores = subject.corpus_bytes, max(1, subject.cluster.cpus)
    if size is not None and size < DIRECT_BYTES:
        cores = 1
    seconds = 0.0 if size is None else size / CORPUS_BYTES_A_SECOND / cores
    words = (
        "unknown size: not estimated"
        if size is None
        else f"{size:,} bytes of text, on {describe_needs({'CPU': cores})}"
    )
    step = _step(CORPUS, seconds, subject.reused, words)
    return _Estimate(step, 0.0 if subject.cluster.gpus else step.seconds * cores)


def _training(subject: Subject, calibration: Calibration) -> tuple[list[_Estimate], float]:
    """Estimate each SuperLM's training in the order of the spaces, and how long all take together."""
    training, groups = subject.request.training, subject.placement.groups
    share = subject.share(len(groups))
    by_name: dict[str, _Estimate] = {}
    runs = []
    for group in groups:
        todo = [name for name in group if not subject.reused.get(train_step(name), False)]
        lengths = {name: training.steps_for(name) for name in todo}
        run = sum(calibration.step_seconds[name] * count for name, count in lengths.items())
        run += calibration.teacher_seconds * max(lengths.values(), default=0)
        run += _train_start(training.workers) if todo else 0.0
        runs.append(run)
        held = run * training.workers * (share.gpus or share.cpus)
        for name in group:
            # A group saves its SuperLMs together when its last one is trained.
            basis = f"{training.steps_for(name)} steps, {calibration.step_seconds[name]:.3g} s a step of its own, "
            basis += f"{calibration.teacher_seconds:.3g} s of the teacher's for {', '.join(group)}, "
            basis += f"on {_words(share.needs, training.workers)}"
            step = _step(train_step(name), run, subject.reused, basis)
            by_name[name] = _Estimate(step, held if todo and name == todo[0] else 0.0)  # count a group's devices once
    return [by_name[space.name] for space in subject.spaces], _makespan(runs, share.runs_at_once)


def _train_start(workers: int) -> float:
    return TRAIN_START_SECONDS if workers == 1 else RAY_TRAIN_START_SECONDS


def _makespan(runs: Sequence[float], at_once: int) -> float:
    """Time until all runs have ended, if a limited number run at once and each starts when another ends."""
    ends = [0.0] * at_once
    for run in runs:
        heapq.heapreplace(ends, ends[0] + run)
    return max(ends)


def _search(subject: Subject, scoring: ScoringCalibration) -> _Estimate:
    request, needs = subject.request, subject.search_needs
    rows = request.search.heldout_blocks
    counts = {space.name: _candidates(request, space) for space in subject.spaces}
    actors = max(1, min(subject.cluster.holds(needs), sum(counts.values())))
    work = sum(count * scoring.row_seconds[name] * rows for name, count in counts.items())
    seconds = SEARCH_START_SECONDS + rows * scoring.teacher_seconds + work / actors
    words = f"every candidate on all rows, on {_words(needs, actors)}; dropping candidates early takes less"
    step = _step(SEARCH, seconds, subject.reused, words)
    held = needs.get("GPU", 0.0) if subject.cluster.gpus else needs["CPU"]
    return _Estimate(step, step.seconds * actors * held)


def _candidates(request: AutoDistilRequest, space: Space) -> int:
    return len(space) if request.search.candidates is None else min(len(space), request.search.candidates)


def _words(needs: Needs, count: int) -> str:
    return describe_needs(needs) if count == 1 else f"{count} x ({describe_needs(needs)})"


def _step(name: str, seconds: float, reused: Mapping[str, bool], basis: str) -> PlanStepDocument:
    is_reused = reused.get(name, False)
    return PlanStepDocument(name=name, seconds=0.0 if is_reused else seconds, reused=is_reused, basis=basis)


@dataclass(frozen=True)
class _Answering:
    """Estimates of the steps between the scores and the students."""

    subject: Subject
    measured: Measured

    @property
    def request(self) -> AutoDistilRequest:
        return self.subject.request

    def steps(self) -> list[_Estimate]:
        found = []
        if self.measured.forwards:
            found.append(self._latency())
        if self.request.proxy_task is not None:
            candidates = self._finalists(self.request.proxy_task.candidates)
            words = f"{len(candidates)} candidates, {self._task_words()}"
            seconds, held = self._fine_tuning(candidates)
            found.append(_Estimate(_step(PROXY_TASK, seconds, {}, words), held))
        if self.request.polish is not None:
            found.append(self._polish(self._finalists(self.request.polish.top_k)))
        return found

    def _finalists(self, count: int) -> list[Candidate]:
        return each_once(self.subject.finalists(self.measured.forwards, count))

    def _latency(self) -> _Estimate:
        request, seconds, held, words = self.request, 0.0, 0.0, []
        top = request.polish.top_k if request.polish is not None else 1
        by_budget = self.subject.finalists(self.measured.forwards, top)
        for name, times in self.measured.forwards.items():
            target, before = times.target, seconds
            chosen = [] if name in self.measured.sampled else candidates_to_measure(self.subject.spaces, request.seed)
            seconds += times.start if chosen else 0.0
            # Each candidate is measured twice, without the teacher.
            seconds += sum(2 * times.of(self._flops(one, target.sequence_length)).seconds(target) for one in chosen)
            groups = [
                best for best, budget in zip(by_budget, request.budgets, strict=True) if budget.latency_target == name
            ]
            students = each_once(groups)
            if request.polish is not None:  # the best of each budget is measured again after polishing
                students += each_once([best[:1] for best in groups])
            for _, one in students:
                own = times.of(self._flops(one, target.sequence_length))
                seconds += times.start + REPEATS * (own.seconds(target) + times.teacher.seconds(target))
            on_gpus = target.device == "cuda"
            holds = 1 if on_gpus else target.threads
            held += (seconds - before) * (holds if on_gpus == (self.subject.cluster.gpus > 0) else 0)
            words.append(
                f"{2 * len(chosen)} measurements of candidates and {len(students)} of students beside the teacher on "
                f"{name}, a forward {times.small.forward:.3g} to {times.large.forward:.3g} s, the teacher's "
                f"{times.teacher.forward:.3g} s"
            )
        return _Estimate(_step(LATENCY, seconds, {}, "; ".join(words)), held)

    def _fine_tuning(self, candidates: Sequence[Candidate]) -> tuple[float, float]:
        """Estimate the duration, and the device-seconds."""
        spec, task = self.request.proxy_task, self.measured.task
        if spec is None or task is None or not candidates:
            return 0.0, 0.0
        timed = self._flops(task.architecture, spec.sequence_length)
        flops = [self._flops(one, spec.sequence_length) for _, one in candidates]
        epoch = task.epoch_seconds * sum(flops) / len(flops) / timed
        work = len(candidates) * task.start_seconds + halved_epochs(len(candidates), spec.epochs) * epoch
        longest = task.start_seconds + spec.epochs * task.epoch_seconds * max(flops) / timed
        needs = self.subject.task_needs
        at_once = max(1, min(self.subject.cluster.holds(needs), len(candidates)))
        seconds = SEARCH_START_SECONDS + max(work / at_once, longest)
        return seconds, seconds * at_once * (needs.get("GPU") or needs["CPU"])

    def _task_words(self) -> str:
        task = self.measured.task
        if task is None:
            return "none of which meets a budget"
        return f"an epoch of {task.architecture.describe()} {task.epoch_seconds:.3g} s, about half stopped at each rung"

    def _polish(self, candidates: Sequence[Candidate]) -> _Estimate:
        request, training, scoring = self.request, self.measured.polishing, self.measured.scoring
        if not candidates:
            return _Estimate(_step(POLISH, 0.0, {}, "no candidate meets a budget"))
        assert training is not None, "candidates to polish are calibrated"
        length = request.training.sequence_length
        step, score = training.teacher_seconds, scoring.teacher_seconds
        for space, one in candidates:
            timed = self.measured.single[space.name]
            part = self._flops(one, length) / self._flops(timed.largest, length)
            step += training.step_seconds[timed.name] * part
            score += scoring.row_seconds[timed.name] * part
        steps = polish_training(request).steps_for(candidates[0][0].name)
        share, workers = self.subject.share(1), request.training.workers
        trained = _train_start(workers) + steps * step
        held = trained * workers * (share.gpus or share.cpus)
        seconds = trained + request.search.heldout_blocks * score  # the driver scores one student after the other
        words = f"{len(candidates)} students side by side, {steps} steps, {step:.3g} s a step, "
        words += f"on {_words(share.needs, workers)}"
        if request.proxy_task is not None:
            again, held_again = self._fine_tuning(candidates)
            seconds, held = seconds + again, held + held_again
            words += "; the proxy task once more"
        return _Estimate(_step(POLISH, seconds, {}, words), held)

    def _flops(self, architecture: Architecture, length: int) -> int:
        return self.subject.teacher.cost(architecture, length).flops


def halved_epochs(candidates: int, epochs: int) -> float:
    """Expected number of epochs over all candidates under asynchronous successive halving.

    At each rung (after 1, 2, 4, ... epochs) a candidate continues if it is above the median of those that reached the
    rung before it. So the first one always continues, and of the others, in random order, every other one.
    """
    going, done, rung = float(candidates), 0.0, 1
    for epoch in range(1, epochs + 1):
        done += going
        if epoch == rung:
            going, rung = 1 + (going - 1) / proxy.HALVING, rung * proxy.HALVING
    return done
