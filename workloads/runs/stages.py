"""The stages over the storage and the cluster: each finished one is kept, and built by one job at a time."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import structlog

from cluster.sizing import read_resources
from workloads import artifacts, teacher_files
from workloads.artifacts import Artifact, Key
from workloads.budgets import LatencyTarget
from workloads.choosing import Scored
from workloads.craft.objectives import objective_for
from workloads.craft.polishing import polish_training
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import load_superlm, wiring_of
from workloads.craft.teacher import Teacher, fetch_teacher, open_teacher
from workloads.craft.text.tokenizer import Tokenizer
from workloads.job_folder import JobKind, PlanDocument
from workloads.latency import LatencyMeasure, known_targets
from workloads.latency_model import LatencyModels
from workloads.methods.stages import Polished
from workloads.places import confined
from workloads.request import CompressionRequest
from workloads.runs.building import WAITING, Building
from workloads.runs.checks import check_fits
from workloads.runs.corpus import build_corpus, check_corpus, plan_corpus
from workloads.runs.latency import build_measure, build_samples, find_place, read_measure, read_samples
from workloads.runs.planning import calibrate_on_cluster, make_plan
from workloads.runs.polish import PolishJob, polish_students, score_polished
from workloads.runs.progress import Progress
from workloads.runs.proxy import check_task, read_task_scores, score_on_task
from workloads.runs.search import scores_key, search_candidates
from workloads.runs.students import Origin, build_student, student_key
from workloads.runs.train import superlm_key, train_superlms
from workloads.scores_table import choosable, read_scores
from workloads.spaces import SubSpace, space_names, spaces_for
from workloads.storage import Storage
from workloads.trained import TeacherStage, Trained, recall

TEACHER, CORPUS, CALIBRATION, SEARCH = "teacher", "corpus", "calibration", "search"
LATENCY, PROXY_TASK, POLISH, STUDENTS = "latency", "proxy-task", "polish", "students"

_log = structlog.get_logger(__name__)


def step_names(request: CompressionRequest, kind: JobKind = "compression") -> list[str]:
    """The steps of a job, in their order."""
    if kind == "plan":
        return [TEACHER, CALIBRATION]
    answering = [
        *([LATENCY] if any(budget.latency_target for budget in request.budgets) else []),
        *([PROXY_TASK] if request.proxy_task is not None else []),
        *([POLISH] if request.polish is not None else []),
        STUDENTS,
    ]
    if kind == "selection":
        return answering
    return [TEACHER, CORPUS, *map(train_step, space_names(request.subspaces)), SEARCH, *answering]


def train_step(superlm: str) -> str:
    """The step that trains one SuperLM."""
    return f"train-{superlm}"


class StoredStages:
    """Implements :class:`workloads.methods.stages.Stages`; the caller has joined the Ray cluster.

    Args:
        storage: Where finished stages are kept.
        request: What is asked for.
        job: The job's id.
        attempt: Its attempt.
        progress: Told of every step; the steps are those of :func:`step_names`.
        work: A local folder for temporary files.
        used: Where fingerprints of the stages that the run comes by are put, by stage.
    """

    def __init__(
        self,
        storage: Storage,
        request: CompressionRequest,
        *,
        job: str,
        attempt: int,
        progress: Progress,
        work: Path,
        used: dict[str, list[str]],
    ) -> None:
        self._storage = storage
        self._request = request
        self._builder = f"{job}-{attempt}"
        self._progress = progress
        self._work = work
        self._building = Building(storage, job=job, builder=self._builder, progress=progress, work=work, used=used)
        self._saved: list[Artifact] = []

    def teacher(self) -> TeacherStage:
        """See the protocol.

        Raises:
            InputError: The teacher cannot be had or used.
        """
        self._progress.start(TEACHER)
        spec = self._request.teacher
        fetched = self._work / "fetched"
        # Where a request may not read everywhere, what was looked at is what is read from then on: a copy of our own.
        if teacher_files.is_path(spec.model) and "://" not in spec.model and confined().roots is None:
            teacher_files.check_teacher(spec)
            folder = Path(spec.model).expanduser()
        else:
            folder = fetch_teacher(spec, fetched)
        fingerprint = teacher_files.fingerprint(folder)
        key = Key("teacher", {"files": fingerprint})

        def build() -> Artifact:
            if folder != fetched:
                fetch_teacher(spec, fetched)
            self._storage.upload(fetched, artifacts.build_folder(key, self._builder))
            shape = asdict(teacher_files.shape_of(folder))
            summary = {"model": spec.model, "fingerprint": fingerprint, "shape": shape}
            return artifacts.commit(self._storage, key, self._builder, summary)

        artifact = self._building.once(TEACHER, key, build)
        self._building.end(TEACHER, artifact)
        return TeacherStage(artifact, fingerprint, teacher_files.shape_of(self._building.local(artifact)))

    def spaces(self, teacher: TeacherStage) -> list[SubSpace]:
        """See the protocol.

        Raises:
            InputError: They, or the settings of their training, do not fit the teacher; no node can measure a
                latency target; the proxy task cannot be read.
        """
        spaces = spaces_for(self._request.subspaces, teacher.shape)
        pad_id = Tokenizer.load(self._building.local(teacher.artifact)).pad_id
        check_fits(self._request, teacher.shape, pad_id, spaces)
        if self._request.polish is not None:
            polish_training(self._request)
        # What would end the run hours later is found out now.
        for budget in self._request.budgets:
            if budget.latency_target is not None:
                target = self.targets()[budget.latency_target]
                find_place(target, self._target_field(target))
        if self._request.proxy_task is not None:
            check_task(self._request.proxy_task, self._opened(teacher))
        return spaces

    def corpus(self, teacher: TeacherStage) -> Artifact:
        """See the protocol.

        Raises:
            InputError: The corpus cannot be read, or is too short.
        """
        self._progress.start(CORPUS, unit="bytes")
        request = self._request
        layout = objective_for(request.objective, teacher.shape).layout
        tokenizer = Tokenizer.load(self._building.local(teacher.artifact))
        plan = plan_corpus(request.corpus, tokenizer, request.training.sequence_length, layout)

        def report(done: int, total: int | None, unit: str) -> None:
            self._progress.advance(CORPUS, done, total)

        def build() -> Artifact:
            return build_corpus(self._storage, plan, self._builder, report)

        artifact = self._building.once(CORPUS, plan.key, build)
        check_corpus(artifact, request.corpus, request.training.batch_size)
        self._building.end(CORPUS, artifact)
        return artifact

    def train(self, teacher: TeacherStage, corpus: Artifact, spaces: Sequence[SubSpace]) -> dict[str, Artifact]:
        """See the protocol."""
        request, progress = self._request, self._progress
        keys = {
            space.name: superlm_key(request, space, teacher.fingerprint, corpus.fingerprint) for space in spaces
        }  # fmt: skip
        for name in keys:
            progress.start(train_step(name), request.training.tokens_for(name), "tokens")

        def report(name: str, done: int, total: int, metrics: dict[str, float]) -> None:
            progress.advance(train_step(name), done, total)
            progress.point(train_step(name), done, total, metrics)

        def note(text: str) -> None:
            progress.event("placement", text)
            for name, key in keys.items():
                if artifacts.find(self._storage, key) is None:
                    progress.note(train_step(name), text)

        with contextlib.ExitStack() as leases:
            missing = {name: key for name, key in keys.items() if artifacts.find(self._storage, key) is None}
            # Always in the same order, so that two jobs never wait for each other.
            for name, key in sorted(missing.items(), key=lambda item: item[1].fingerprint):
                leases.enter_context(self._building.lease(train_step(name), key))
            superlms = train_superlms(
                self._storage,
                request,
                teacher_files=teacher.artifact.files,
                teacher_fingerprint=teacher.fingerprint,
                corpus=corpus,
                spaces=list(spaces),
                builder=self._builder,
                report=report,
                note=note,
            )
        for name, artifact in superlms.items():
            self._building.end(train_step(name), artifact)
        return superlms

    def search(
        self, teacher: TeacherStage, corpus: Artifact, spaces: Sequence[SubSpace], superlms: dict[str, Artifact]
    ) -> Artifact:
        """See the protocol."""
        self._progress.start(SEARCH, unit="candidates")
        key = scores_key(self._request, list(spaces), superlms, teacher.fingerprint, corpus.fingerprint)

        def build() -> Artifact:
            return search_candidates(
                self._storage,
                self._request,
                teacher_files=teacher.artifact.files,
                teacher_fingerprint=teacher.fingerprint,
                corpus=corpus,
                spaces=list(spaces),
                superlms=superlms,
                builder=self._builder,
                progress=functools.partial(self._progress.advance, SEARCH),
            )

        scores = self._building.once(SEARCH, key, build)
        self._building.end(SEARCH, scores)
        return scores

    def candidates(self, trained: Trained) -> list[Scored]:
        """See the protocol."""
        return choosable(trained, read_scores(self._storage, trained.scores))

    def targets(self) -> dict[str, LatencyTarget]:
        """See the protocol."""
        return known_targets(self._request.latency_targets)

    def latency_models(self, trained: Trained, target: LatencyTarget) -> LatencyModels:
        """See the protocol.

        Raises:
            InputError: No node can measure the target.
        """
        self._progress.start(LATENCY, unit="measurements")
        samples = build_samples(
            self._storage,
            target=target,
            teacher_files=trained.teacher.artifact.files,
            teacher_fingerprint=trained.teacher.fingerprint,
            spaces=trained.spaces,
            seed=self._request.seed,
            builder=self._builder,
            progress=functools.partial(self._progress.advance, LATENCY),
            field=self._target_field(target),
            waiting=functools.partial(self._progress.note, LATENCY, WAITING),
        )
        self._progress.note(LATENCY, None)
        self._building.end(LATENCY, samples)
        return LatencyModels.fit(read_samples(samples))

    def measure(self, trained: Trained, student: Artifact, target: LatencyTarget) -> LatencyMeasure:
        """See the protocol."""
        artifact = build_measure(
            self._storage,
            target=target,
            teacher_files=trained.teacher.artifact.files,
            teacher_fingerprint=trained.teacher.fingerprint,
            student_files=student.files,
            student_fingerprint=student.fingerprint,
            builder=self._builder,
            field=self._target_field(target),
        )
        return read_measure(artifact)

    def task_scores(self, trained: Trained, candidates: Sequence[Scored]) -> list[Scored]:
        """See the protocol.

        Raises:
            InputError: The task's files cannot be used.
        """
        self._progress.start(PROXY_TASK, len(candidates), "candidates")
        scores = score_on_task(
            self._storage,
            self._request,
            teacher_files=trained.teacher.artifact.files,
            teacher_fingerprint=trained.teacher.fingerprint,
            superlms=trained.superlms,
            candidates=candidates,
            builder=self._builder,
            progress=functools.partial(self._progress.advance, PROXY_TASK),
        )
        self._building.end(PROXY_TASK, scores)
        return read_task_scores(self._storage, scores)

    def polish(self, trained: Trained, candidates: Sequence[Scored]) -> list[Polished]:
        """See the protocol.

        Raises:
            InputError: ``polish.tokens`` is less than a step, or the training diverged.
        """
        assert self._request.polish is not None
        tokens = self._request.polish.tokens
        self._progress.start(POLISH, tokens * len(candidates), "tokens")
        jobs = [
            PolishJob(trained.space(one.subspace), one.architecture, trained.superlms[one.subspace])
            for one in candidates
        ]
        done: dict[str, int] = {}

        def report(name: str, tokens_done: int, total: int, metrics: dict[str, float]) -> None:
            done[name] = tokens_done
            self._progress.advance(POLISH, sum(done.values()))
            named = {f"{name} {metric}": value for metric, value in metrics.items()}
            self._progress.point(POLISH, tokens_done, total, named)

        polished = polish_students(
            self._storage,
            self._request,
            teacher_files=trained.teacher.artifact.files,
            teacher_fingerprint=trained.teacher.fingerprint,
            corpus=trained.corpus,
            chosen=jobs,
            builder=self._builder,
            report=report,
            note=functools.partial(self._progress.note, POLISH),
        )
        losses = score_polished(
            self._storage,
            self._request,
            teacher_files=trained.teacher.artifact.files,
            corpus=trained.corpus,
            polished=polished,
            builder=self._builder,
        )
        self._building.end(POLISH, *polished.values())
        return [
            Polished(replace(one, heldout_loss=losses[job.id]), polished[job.id])
            for one, job in zip(candidates, jobs, strict=True)
        ]

    def students(self, total: int, done: int) -> None:
        """See the protocol."""
        if done == 0:
            self._progress.start(STUDENTS, total, "students")
        else:
            self._progress.advance(STUDENTS, done)
        if done == total:
            self._building.end(STUDENTS, *self._saved)

    def student(self, trained: Trained, scored: Scored, superlm: Artifact) -> Artifact:
        """See the protocol."""
        stages = {"teacher": trained.teacher.artifact, "corpus": trained.corpus, "superlm": superlm}
        key = student_key(superlm, scored.architecture, self._request.export)

        def build() -> Artifact:
            origin = Origin(
                self._request, self._opened(trained.teacher), self._superlm(trained.teacher, superlm), stages
            )
            rows = read_scores(self._storage, trained.scores)
            work = self._work / "students" / key.fingerprint
            return build_student(self._storage, origin, scored, rows, self._builder, work)

        artifact = self._building.once(STUDENTS, key, build)
        self._saved.append(artifact)
        return artifact

    def recall(self, scores: str) -> Trained:
        """Find the finished search that a selection answers from.

        Raises:
            InputError: Its artefacts have been removed.
        """
        return recall(self._storage, scores)

    def plan(self) -> PlanDocument:
        """Estimate the compression, after a short calibration on the cluster.

        Raises:
            InputError: The request, or what it points to, cannot be worked with.
        """
        teacher = self.teacher()
        spaces = self.spaces(teacher)
        self._progress.start(CALIBRATION)
        request, resources = self._request, read_resources()
        tokenizer = Tokenizer.load(self._building.local(teacher.artifact))
        layout = objective_for(request.objective, teacher.shape).layout
        corpus = plan_corpus(request.corpus, tokenizer, request.training.sequence_length, layout)
        found = artifacts.find(self._storage, corpus.key)
        keys = {
            train_step(space.name): superlm_key(request, space, teacher.fingerprint, corpus.key.fingerprint)
            for space in spaces
        }
        reused = {name: artifacts.find(self._storage, key) is not None for name, key in keys.items()}
        plan = make_plan(
            request,
            teacher,
            spaces,
            resources,
            calibrate_on_cluster(self._storage, request, teacher, spaces, resources),
            corpus_bytes=corpus.size,
            reused=reused | {CORPUS: found is not None},
            not_estimated=[name for name in step_names(request, "selection") if name != STUDENTS],
        )
        self._progress.finish(CALIBRATION)
        return plan

    def _target_field(self, target: LatencyTarget) -> str:
        for index, budget in enumerate(self._request.budgets):
            if budget.latency_target == target.name:
                return f"budgets.{index}.latency_target"
        return f"latency_targets.{target.name}"

    def _opened(self, teacher: TeacherStage) -> Teacher:
        return _open_once(self._building.local(teacher.artifact))

    def _superlm(self, teacher: TeacherStage, artifact: Artifact) -> SuperLM:
        return load_superlm(self._building.local(artifact), wiring_of(self._opened(teacher))).eval()


@functools.cache
def _open_once(folder: Path) -> Teacher:
    return open_teacher(folder)
