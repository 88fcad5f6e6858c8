"""The stages over the storage and the cluster: each finished one is kept, and built by one job at a time."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog

from workloads import artifacts, teacher_files
from workloads.artifacts import Artifact, Key
from workloads.choosing import Choice, Scored
from workloads.craft.objectives import objective_for
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import load_superlm, wiring_of
from workloads.craft.teacher import Teacher, fetch_teacher, open_teacher
from workloads.craft.text.tokenizer import Tokenizer
from workloads.job_folder import StudentDocument
from workloads.methods.stages import TeacherStage
from workloads.request import CompressionRequest
from workloads.runs.checks import check_fits
from workloads.runs.corpus import build_corpus, check_corpus, plan_corpus
from workloads.runs.leases import lease
from workloads.runs.progress import Progress
from workloads.runs.search import read_scores, scores_key, search_candidates
from workloads.runs.students import Origin, build_student, student_key
from workloads.runs.train import superlm_key, train_superlms
from workloads.spaces import SubSpace, space_names, spaces_for
from workloads.storage import Storage

TEACHER, CORPUS, SEARCH, STUDENTS = "teacher", "corpus", "search", "students"
WAITING = "waiting for another job that builds this"

_log = structlog.get_logger(__name__)


def step_names(request: CompressionRequest) -> list[str]:
    """The steps of a compression, in their order."""
    return [TEACHER, CORPUS, *map(train_step, space_names(request.subspaces)), SEARCH, STUDENTS]


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
    """

    def __init__(
        self, storage: Storage, request: CompressionRequest, *, job: str, attempt: int, progress: Progress, work: Path
    ) -> None:
        self.used: dict[str, list[str]] = {}
        """Fingerprints of the stages that the run came by, by stage."""
        self._storage = storage
        self._request = request
        self._job = job
        self._builder = f"{job}-{attempt}"
        self._progress = progress
        self._work = work

    def teacher(self) -> TeacherStage:
        """See the protocol.

        Raises:
            InputError: The teacher cannot be had or used.
        """
        self._progress.start(TEACHER)
        spec = self._request.teacher
        fetched = self._work / "fetched"
        if teacher_files.is_path(spec.model) and "://" not in spec.model:
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
            return artifacts.commit(
                self._storage, key, self._builder, {"model": spec.model, "fingerprint": fingerprint}
            )

        artifact = self._once(TEACHER, key, build)
        self._end(TEACHER, artifact)
        return TeacherStage(artifact, fingerprint, teacher_files.shape_of(self._local(artifact)))

    def spaces(self, teacher: TeacherStage) -> list[SubSpace]:
        """See the protocol.

        Raises:
            InputError: They, or the settings of their training, do not fit the teacher.
        """
        spaces = spaces_for(self._request.subspaces, teacher.shape)
        pad_id = Tokenizer.load(self._local(teacher.artifact)).pad_id
        check_fits(self._request, teacher.shape, pad_id, spaces)
        return spaces

    def corpus(self, teacher: TeacherStage) -> Artifact:
        """See the protocol.

        Raises:
            InputError: The corpus cannot be read, or is too short.
        """
        self._progress.start(CORPUS, unit="bytes")
        request = self._request
        layout = objective_for(request.objective, teacher.shape).layout
        tokenizer = Tokenizer.load(self._local(teacher.artifact))
        plan = plan_corpus(request.corpus, tokenizer, request.training.sequence_length, layout)

        def report(done: int, total: int | None, unit: str) -> None:
            self._progress.advance(CORPUS, done, total)

        def build() -> Artifact:
            return build_corpus(self._storage, plan, self._builder, report)

        artifact = self._once(CORPUS, plan.key, build)
        check_corpus(artifact, request.corpus, request.training.batch_size)
        self._end(CORPUS, artifact)
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
                leases.enter_context(self._lease(train_step(name), key))
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
            self._end(train_step(name), artifact)
        return superlms

    def search(
        self, teacher: TeacherStage, corpus: Artifact, spaces: Sequence[SubSpace], superlms: dict[str, Artifact]
    ) -> list[Scored]:
        """See the protocol."""
        self._progress.start(SEARCH, sum(len(space) for space in spaces), "candidates")
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

        scores = self._once(SEARCH, key, build)
        self._end(SEARCH, scores)
        return read_scores(self._storage, scores, survivors_only=True)

    def students(
        self, teacher: TeacherStage, corpus: Artifact, superlms: dict[str, Artifact], choices: Sequence[Choice]
    ) -> list[StudentDocument]:
        """See the protocol."""
        met = [(choice, choice.chosen) for choice in choices if choice.chosen is not None]
        self._progress.start(STUDENTS, len(met), "students")
        documents: list[StudentDocument] = []
        saved: list[Artifact] = []
        for choice, chosen in met:
            superlm = superlms[chosen.subspace]
            stages = {"teacher": teacher.artifact, "corpus": corpus, "superlm": superlm}
            build = functools.partial(self._save_student, teacher, chosen, stages)
            artifact = self._once(STUDENTS, student_key(superlm, chosen.architecture), build)
            saved.append(artifact)
            cost = teacher.cost(chosen.architecture, choice.budget.sequence_length)
            documents.append(
                StudentDocument(
                    id=_student_id(self._job, choice.budget.name),
                    budget=choice.budget.name,
                    subspace=chosen.subspace,
                    architecture=chosen.architecture.to_json(),
                    params=cost.params,
                    flops=cost.flops,
                    sequence_length=cost.sequence_length,
                    heldout_loss=chosen.heldout_loss,
                    files=artifact.files,
                )
            )
            self._progress.advance(STUDENTS, len(documents))
        self._end(STUDENTS, *saved)
        return documents

    def _save_student(self, teacher: TeacherStage, chosen: Scored, stages: dict[str, Artifact]) -> Artifact:
        superlm = self._superlm(teacher, stages["superlm"])
        origin = Origin(self._request, self._opened(teacher), superlm, stages)
        key = student_key(stages["superlm"], chosen.architecture)
        return build_student(self._storage, origin, chosen, self._builder, self._work / "students" / key.fingerprint)

    def _opened(self, teacher: TeacherStage) -> Teacher:
        return _open_once(self._local(teacher.artifact))

    def _superlm(self, teacher: TeacherStage, artifact: Artifact) -> SuperLM:
        return load_superlm(self._local(artifact), wiring_of(self._opened(teacher))).eval()

    def _local(self, artifact: Artifact) -> Path:
        """The artefact's files on this machine: in place where the storage is local, else a copy made once."""
        if self._storage.local:
            return Path(self._storage.path(artifact.files))
        folder = self._work / artifact.stage / artifact.fingerprint
        return folder if folder.exists() else self._storage.download(artifact.files, folder)

    def _once(self, step: str, key: Key, build: Callable[[], Artifact]) -> Artifact:
        """Give the artefact of ``key``, built here only if it is not there and no other job builds it."""
        found = artifacts.find(self._storage, key)
        if found is not None:
            return found
        with self._lease(step, key):
            found = artifacts.find(self._storage, key)
            if found is not None:
                return found
            try:
                return build()
            except BaseException:
                self._clear(key)
                raise

    @contextlib.contextmanager
    def _lease(self, step: str, key: Key) -> Iterator[None]:
        waited = False

        def waiting() -> None:
            nonlocal waited
            waited = True
            self._progress.note(step, WAITING)

        with lease(key.fingerprint, self._builder, waiting):
            if waited:
                self._progress.note(step, None)
            yield

    def _clear(self, key: Key) -> None:
        # Only room is at stake: without a manifest nothing counts. The error that brought us here is the one to tell.
        try:
            self._storage.remove(artifacts.build_folder(key, self._builder))
        except OSError as error:
            _log.warning("unfinished_stage_not_removed", stage=key.stage, error=str(error))

    def _end(self, step: str, *made: Artifact) -> None:
        for artifact in made:
            known = self.used.setdefault(artifact.stage, [])
            if artifact.fingerprint not in known:
                known.append(artifact.fingerprint)
        if made and all(artifact.builder != self._builder for artifact in made):
            self._progress.reuse(step)
        else:
            self._progress.finish(step)


@functools.cache
def _open_once(folder: Path) -> Teacher:
    return open_teacher(folder)


def _student_id(job: str, budget: str) -> str:
    return f"stu_{hashlib.sha256(f'{job}/{budget}'.encode()).hexdigest()[:16]}"
