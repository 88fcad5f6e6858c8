"""What a compression would take, step by step, by what a short calibration has measured; nothing is run here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster.sizing import Resources, cpus_per_worker
from workloads.answers.choosing import misses
from workloads.answers.latency_model import candidates_to_measure
from workloads.answers.trained import TeacherStage
from workloads.craft.calibration import Calibration, TaskCalibration
from workloads.craft.latency.measure import REPEATS
from workloads.craft.polishing import polish_training
from workloads.documents.job_folder import PlanBudgetDocument, PlanDocument, PlanStepDocument
from workloads.runs.attempt.steps import CORPUS, LATENCY, POLISH, PROXY_TASK, SEARCH, STUDENTS, TEACHER, train_step
from workloads.runs.latency.latency import ForwardTimes
from workloads.runs.proxy import CPUS, HALVING
from workloads.runs.training.placement import plan_placement
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import LISTED, Space, members_or_draws
from workloads.spec.budgets import Budget
from workloads.spec.request import CompressionRequest

# Read off the events of a run of the demo on an idle machine of two cores (2026-11-21).
TRAIN_START_SECONDS = 26.0
"""A training's first step came 23 s after its placement (Ray Train's start, importance, the SuperLMs), and about
3 s passed from its last step to the search."""
SEARCH_START_SECONDS = 6.5
"""Ray Tune's start and end, of a search or a proxy task: 120 candidates took 12.2 s, of which their scoring was 11.5
CPU-seconds on two cores."""
STUDENT_SECONDS = 0.5
"""Three students took 1.6 s."""
CORPUS_BYTES_A_SECOND = 1.1e6
"""Text that one core tokenises and packs in a second: 12.2 MB came at 2.2 MB/s on two, with a WordPiece tokenizer."""


Candidate = tuple[Space, Architecture]


@dataclass(frozen=True)
class Measured:
    """What a calibration found.

    Attributes:
        training: Of the sub-spaces, and of ``alone``.
        forwards: By name of the latency targets that budgets name.
        sampled: Those of them whose candidates an earlier run has measured.
        task: Of the proxy task.
        alone: By sub-space, a candidate that may be polished, as the sub-space of nothing else.
        seconds: What the calibration took.
    """

    training: Calibration
    forwards: Mapping[str, ForwardTimes] = field(default_factory=dict)
    sampled: frozenset[str] = frozenset()
    task: TaskCalibration | None = None
    alone: Mapping[str, Space] = field(default_factory=dict)
    seconds: float = 0.0


def finalists(
    request: CompressionRequest,
    teacher: TeacherStage,
    spaces: Sequence[Space],
    forwards: Mapping[str, ForwardTimes],
    count: int,
) -> list[list[Candidate]]:
    """Guess the best ``count`` candidates of each budget: the largest within it, for the loss falls with size."""
    found = []
    for budget in request.budgets:
        within = []
        for space in spaces:
            for one in members_or_draws(space):
                latency_ms = None
                if budget.latency_target is not None:
                    times = forwards[budget.latency_target]
                    latency_ms = 1e3 * times.of(teacher.cost(one, times.target.sequence_length).flops).forward
                cost = teacher.cost(one, budget.sequence_length)
                if not misses(cost, budget, latency_ms):
                    within.append((cost.flops, (space, one)))
        within.sort(key=lambda item: item[0], reverse=True)
        found.append([candidate for _, candidate in within[:count]])
    return found


def each_once(groups: Sequence[Sequence[Candidate]]) -> list[Candidate]:
    """The candidates of several budgets."""
    return list({(space.name, one): (space, one) for group in groups for space, one in group}.values())


def make_plan(
    request: CompressionRequest,
    teacher: TeacherStage,
    spaces: Sequence[Space],
    resources: Resources,
    measured: Measured,
    *,
    corpus_bytes: int | None,
    reused: Mapping[str, bool],
) -> PlanDocument:
    """Put the estimate together.

    Args:
        request: What is asked for.
        teacher: The teacher.
        spaces: The sub-spaces.
        resources: The cluster's.
        measured: There.
        corpus_bytes: Text to read; None where it is not known (the hub).
        reused: By step, whether an earlier run has left its result.
    """
    training, calibration = request.training, measured.training
    placement = plan_placement(training, spaces, teacher.shape, resources)
    steps = [
        _step(TEACHER, 0.0, reused, "copied before"),
        _step(
            CORPUS,
            0.0 if corpus_bytes is None else corpus_bytes / CORPUS_BYTES_A_SECOND / max(1, resources.cluster_cpus),
            reused,
            "unknown size: not estimated" if corpus_bytes is None else f"{corpus_bytes:,} bytes of text",
        ),
    ]
    longest = device_seconds = 0.0
    by_name: dict[str, PlanStepDocument] = {}
    for group in placement.groups:
        todo = [name for name in group if not reused.get(train_step(name), False)]
        lengths = {name: training.steps_for(name) for name in todo}
        forward = calibration.teacher_seconds * max(lengths.values(), default=0)
        run = sum(calibration.step_seconds[name] * steps_ for name, steps_ in lengths.items()) + forward
        run += TRAIN_START_SECONDS if todo else 0.0
        for name in group:
            # SuperLMs of a group are trained side by side: each is done when the group is.
            basis = f"{training.steps_for(name)} steps, {calibration.step_seconds[name]:.3g} s a step of its own, "
            basis += f"{calibration.teacher_seconds:.3g} s of the teacher's for {', '.join(group)}"
            by_name[name] = _step(train_step(name), run, reused, basis)
        longest = max(longest, run)
        per_worker = 1 if resources.gpus else cpus_per_worker(resources, len(placement.groups), training.workers)
        device_seconds += run * training.workers * per_worker
    steps += [by_name[space.name] for space in spaces]
    trained = {step.name for step in by_name.values()}
    rows = request.search.heldout_blocks
    scoring = sum(_candidates(request, space) * calibration.score_seconds[space.name] * rows for space in spaces)
    search = SEARCH_START_SECONDS + scoring
    steps.append(_step(SEARCH, search, reused, "every candidate on all rows; halving takes less"))
    answering = _Answering(request, teacher, spaces, resources, measured)
    steps += answering.steps()
    steps.append(_step(STUDENTS, STUDENT_SECONDS * len(request.budgets), {}, "one a budget"))
    others = sum(step.seconds for step in steps if step.name not in trained)
    cores = 1 if resources.gpus else resources.cluster_cpus
    return PlanDocument(
        candidates={space.name: len(space) for space in spaces},
        budgets=[_budget(budget, teacher, spaces) for budget in request.budgets],
        steps=steps,
        seconds=longest + others,
        device_hours=(device_seconds + others * cores) / 3600,
        device="GPU" if resources.gpus else "CPU core",
        calibration_seconds=measured.seconds,
    )


def _candidates(request: CompressionRequest, space: Space) -> int:
    return len(space) if request.search.candidates is None else min(len(space), request.search.candidates)


def _step(name: str, seconds: float, reused: Mapping[str, bool], basis: str) -> PlanStepDocument:
    is_reused = reused.get(name, False)
    return PlanStepDocument(name=name, seconds=0.0 if is_reused else seconds, reused=is_reused, basis=basis)


def _budget(budget: Budget, teacher: TeacherStage, spaces: Sequence[Space]) -> PlanBudgetDocument:
    counted = budget.model_copy(update={"max_latency_ms": None, "latency_target": None})
    counts = {space.name: _within(space, budget.sequence_length, counted, teacher) for space in spaces}
    notes = []
    if budget.max_latency_ms is not None:
        notes.append(f"max_latency_ms is measured on {budget.latency_target} by the run; the counts leave it out")
    if drawn := [space.name for space in spaces if len(space) > LISTED]:
        notes.append(f"the counts of {', '.join(drawn)} are estimated from a sample")
    return PlanBudgetDocument(
        budget=budget.name, candidates=counts, feasible=any(counts.values()), note="; ".join(notes) or None
    )


def _within(space: Space, length: int, budget: Budget, teacher: TeacherStage) -> int:
    """How many members meet a budget; of a large space an estimate."""
    members = members_or_draws(space)
    met = sum(not misses(teacher.cost(one, length), budget) for one in members)
    if met == 0 and not misses(teacher.cost(space.smallest, length), budget):
        return 1
    return round(met * len(space) / len(members))


@dataclass(frozen=True)
class _Answering:
    """Estimates the steps between the scores and the students."""

    request: CompressionRequest
    teacher: TeacherStage
    spaces: Sequence[Space]
    resources: Resources
    measured: Measured

    def steps(self) -> list[PlanStepDocument]:
        found = []
        if self.measured.forwards:
            found.append(self._latency())
        if self.request.proxy_task is not None:
            candidates = self._finalists(self.request.proxy_task.candidates)
            words = f"{len(candidates)} candidates, {self._task_words()}"
            found.append(_step(PROXY_TASK, self._fine_tuning(candidates), {}, words))
        if self.request.polish is not None:
            found.append(self._polish(self._finalists(self.request.polish.top_k)))
        return found

    def _finalists(self, count: int) -> list[Candidate]:
        return each_once(finalists(self.request, self.teacher, self.spaces, self.measured.forwards, count))

    def _latency(self) -> PlanStepDocument:
        request, seconds, words = self.request, 0.0, []
        top = request.polish.top_k if request.polish is not None else 1
        by_budget = finalists(request, self.teacher, self.spaces, self.measured.forwards, top)
        for name, times in self.measured.forwards.items():
            target = times.target
            chosen = [] if name in self.measured.sampled else candidates_to_measure(self.spaces, request.seed)
            seconds += times.start if chosen else 0.0
            # Twice each, alone.
            seconds += sum(2 * times.of(self._flops(one, target.sequence_length)).seconds(target) for one in chosen)
            groups = [
                best for best, budget in zip(by_budget, request.budgets, strict=True) if budget.latency_target == name
            ]
            students = each_once(groups)
            if request.polish is not None:  # the best of each is measured again when it is polished
                students += each_once([best[:1] for best in groups])
            for _, one in students:
                own = times.of(self._flops(one, target.sequence_length))
                seconds += times.start + REPEATS * (own.seconds(target) + times.teacher.seconds(target))
            words.append(
                f"{2 * len(chosen)} measurements of candidates and {len(students)} of students beside the teacher on "
                f"{name}, a forward {times.small.forward:.3g} to {times.large.forward:.3g} s, the teacher's "
                f"{times.teacher.forward:.3g} s"
            )
        return _step(LATENCY, seconds, {}, "; ".join(words))

    def _fine_tuning(self, candidates: Sequence[Candidate]) -> float:
        spec, task = self.request.proxy_task, self.measured.task
        if spec is None or task is None or not candidates:
            return 0.0
        timed = self._flops(task.architecture, spec.sequence_length)
        flops = [self._flops(one, spec.sequence_length) for _, one in candidates]
        epoch = task.epoch_seconds * sum(flops) / len(flops) / timed
        work = len(candidates) * task.start_seconds + halved_epochs(len(candidates), spec.epochs) * epoch
        longest = task.start_seconds + spec.epochs * task.epoch_seconds * max(flops) / timed
        at_once = min(self.resources.gpus or max(1, self.resources.cluster_cpus // CPUS), len(candidates))
        return SEARCH_START_SECONDS + max(work / at_once, longest)

    def _task_words(self) -> str:
        task = self.measured.task
        if task is None:
            return "none of which meets a budget"
        return f"an epoch of {task.architecture.describe()} {task.epoch_seconds:.3g} s, about half stopped at each rung"

    def _polish(self, candidates: Sequence[Candidate]) -> PlanStepDocument:
        request, training = self.request, self.measured.training
        if not candidates:
            return _step(POLISH, 0.0, {}, "no candidate meets a budget")
        length = request.training.sequence_length
        step = score = 0.0
        for space, one in candidates:
            timed = self.measured.alone[space.name]
            share = self._flops(one, length) / self._flops(timed.largest, length)
            step += training.step_seconds[timed.name] * share
            score += training.score_seconds[timed.name] * share
        steps = polish_training(request).steps_for(candidates[0][0].name)
        rows = request.search.heldout_blocks
        teacher_row = training.teacher_seconds / (request.training.batch_size // request.training.workers)
        seconds = TRAIN_START_SECONDS + steps * (step + training.teacher_seconds) + rows * (score + teacher_row)
        words = (
            f"{len(candidates)} students side by side, {steps} steps, {step + training.teacher_seconds:.3g} s a step"
        )
        if request.proxy_task is not None:
            seconds += self._fine_tuning(candidates)
            words += "; the proxy task once more"
        return _step(POLISH, seconds, {}, words)

    def _flops(self, architecture: Architecture, length: int) -> int:
        return self.teacher.cost(architecture, length).flops


def halved_epochs(candidates: int, epochs: int) -> float:
    """Epochs that candidates are fine-tuned for in all, as many as asynchronous halving lets go on.

    At each rung (after 1, 2, 4, ... epochs) one goes on that is above the median of those before it: the first, and of
    candidates in any order every other one of the rest.
    """
    going, done, rung = float(candidates), 0.0, 1
    for epoch in range(1, epochs + 1):
        done += going
        if epoch == rung:
            going, rung = 1 + (going - 1) / HALVING, rung * HALVING
    return done
