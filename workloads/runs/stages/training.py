"""From the teacher to the scores table, over the storage and the cluster: each finished stage is kept."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Sequence
from pathlib import Path

from workloads.answers.latency import known_targets
from workloads.answers.trained import TeacherStage
from workloads.craft.objectives.objective import objective_for
from workloads.craft.teacher import fetch_teacher, open_teacher
from workloads.craft.text.tokenizer import Tokenizer
from workloads.methods.fitting import fitting_spaces
from workloads.methods.steps import CORPUS, SEARCH, TEACHER, train_step
from workloads.runs.attempt.attempt import Attempt
from workloads.runs.attempt.room import share_for
from workloads.runs.corpus import CorpusPlan, build_corpus, check_corpus, plan_corpus
from workloads.runs.latency.places import Asked, find_place
from workloads.runs.proxy import check_task
from workloads.runs.search.search import scores_key, search_candidates
from workloads.runs.training.train import WORKERS_FIELD, TrainingInputs, superlm_key, train_superlms
from workloads.shapes import teacher_files
from workloads.shapes.search_space import Space
from workloads.spec.autodistil import AutoDistilRequest
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.places import confined


class StoredTraining:
    """Implements :class:`workloads.methods.stages.TrainingStages`; of several jobs one builds a stage."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._storage, self._builder = attempt.storage, attempt.builder
        self._progress, self._building = attempt.progress, attempt.building

    @property
    def request(self) -> AutoDistilRequest:
        """The attempt's, with lengths set once the teacher is known."""
        request = self._attempt.request
        assert isinstance(request, AutoDistilRequest), request.method
        return request

    def teacher(self) -> TeacherStage:
        """See the protocol.

        Raises:
            InputError: The teacher cannot be had or used.
        """
        self._progress.start(TEACHER)
        spec = self.request.teacher
        fetched = self._attempt.work / "fetched"
        # Where a request may not read everywhere, what was looked at is what is read from then on: a copy of our own.
        if teacher_files.is_path(spec.model) and "://" not in spec.model and confined().roots is None:
            teacher_files.check_teacher(spec)
            folder = Path(teacher_files.locate(spec))
            if folder != Path(spec.model).expanduser():
                self._progress.note(TEACHER, f"The model was found in {folder}.")
        else:
            folder = fetch_teacher(spec, fetched)
        fingerprint = teacher_files.fingerprint(folder)
        key = Key("teacher", {"files": fingerprint})

        def build() -> Artifact:
            if folder != fetched:
                fetch_teacher(spec, fetched)
            open_teacher(fetched)  # what only loading shows is found before anything is trained
            self._storage.upload(fetched, artifacts.build_folder(key, self._builder))
            shape = teacher_files.shape_of(folder).to_json()
            summary = {"model": spec.model, "fingerprint": fingerprint, "shape": shape}
            return artifacts.commit(self._storage, key, self._builder, summary)

        artifact = self._building.once(TEACHER, key, build)
        shutil.rmtree(fetched, ignore_errors=True)  # hours of training are to come, and its files are in the storage
        self._building.end(TEACHER, artifact)
        shape = teacher_files.shape_of(self._building.local(artifact))
        self._attempt.set_lengths(shape.longest)
        return TeacherStage(artifact, fingerprint, shape)

    def spaces(self, teacher: TeacherStage) -> list[Space]:
        """See the protocol.

        Raises:
            InputError: They, or the settings of their training, do not fit the teacher; the nodes that are up cannot
                hold the training's workers; no node can measure a latency target; the proxy task cannot be read.
        """
        spaces = fitting_spaces(self.request, teacher.shape)
        # What would end the run hours later is found out now.
        share_for(WORKERS_FIELD, workers=self.request.training.workers)
        for budget in self.request.budgets:
            if budget.latency_target is not None:
                target = known_targets(self.request.latency_targets)[budget.latency_target]
                find_place(Asked.by(self.request, target, functools.partial(self._progress.wait, TEACHER)))
        if self.request.proxy_task is not None:
            check_task(self.request.proxy_task, self._attempt.teacher(teacher))
        return spaces

    def corpus(self, teacher: TeacherStage) -> Artifact:
        """See the protocol.

        Raises:
            InputError: The corpus cannot be read, or is too short.
        """
        self._progress.start(CORPUS, unit="bytes")
        request = self.request
        plan = self.corpus_plan(teacher)

        def report(done: int, total: int | None, unit: str) -> None:
            self._progress.advance(CORPUS, done, total)

        def build() -> Artifact:
            return build_corpus(self._storage, plan, self._builder, report)

        artifact = self._building.once(CORPUS, plan.key, build)
        check_corpus(artifact, request.corpus, request.training.batch_size)
        self._building.end(CORPUS, artifact)
        return artifact

    def corpus_plan(self, teacher: TeacherStage) -> CorpusPlan:
        """Look at the text without tokenising any of it.

        Raises:
            InputError: It cannot be read.
        """
        request = self.request
        layout = objective_for(request.objective, teacher.shape).layout
        tokenizer = Tokenizer.load(self._building.local(teacher.artifact))
        return plan_corpus(request.corpus, tokenizer, request.training.sequence_length, layout)

    def train(self, teacher: TeacherStage, corpus: Artifact, spaces: Sequence[Space]) -> dict[str, Artifact]:
        """See the protocol."""
        request, progress = self.request, self._progress
        keys = {
            space.name: superlm_key(request, space, teacher.fingerprint, corpus.fingerprint) for space in spaces
        }  # fmt: skip
        for name in keys:
            progress.start(train_step(name), request.training.tokens_for(name), "tokens")

        with contextlib.ExitStack() as leases:
            missing = {name: key for name, key in keys.items() if artifacts.find(self._storage, key) is None}
            # Always in the same order, so that two jobs never wait for each other.
            for name, key in sorted(missing.items(), key=lambda item: item[1].fingerprint):
                leases.enter_context(self._building.lease(train_step(name), key))
            inputs = TrainingInputs(request, teacher, corpus)
            superlms = train_superlms(self._attempt.run, inputs, spaces)
        for name, artifact in superlms.items():
            self._building.end(train_step(name), artifact)
        return superlms

    def search(
        self, teacher: TeacherStage, corpus: Artifact, spaces: Sequence[Space], superlms: dict[str, Artifact]
    ) -> Artifact:
        """See the protocol."""
        self._progress.start(SEARCH, unit="candidates")
        key = scores_key(self.request, list(spaces), superlms, teacher.fingerprint, corpus.fingerprint)

        def build() -> Artifact:
            return search_candidates(
                self._storage,
                self.request,
                teacher_files=teacher.artifact.files,
                teacher_fingerprint=teacher.fingerprint,
                corpus=corpus,
                spaces=list(spaces),
                superlms=superlms,
                builder=self._builder,
                progress=functools.partial(self._progress.advance, SEARCH),
                on_wait=functools.partial(self._progress.wait, SEARCH),
            )

        scores = self._building.once(SEARCH, key, build)
        self._building.end(SEARCH, scores)
        return scores
