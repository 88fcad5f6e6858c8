"""Stages from the teacher to the scores table, run on the cluster and saved in the storage."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Sequence

from typing_extensions import override

from workloads.answers.latency import known_targets
from workloads.answers.trained import TeacherStage
from workloads.craft.objectives.objective import objective_for
from workloads.craft.teacher import fetch_teacher, mark_kind, open_teacher
from workloads.craft.text.forms import form_of
from workloads.craft.text.tokenizer import Tokenizer
from workloads.methods.fitting import fitting_spaces
from workloads.methods.stages import TrainingStages
from workloads.methods.steps import CORPUS, SEARCH, TEACHER, train_step
from workloads.runs.attempt.attempt import Attempt
from workloads.runs.attempt.room import share_for
from workloads.runs.attempt.run import News
from workloads.runs.corpus import CorpusPlan, build_corpus, check_corpus, plan_corpus
from workloads.runs.latency.places import Asked, find_place
from workloads.runs.proxy import check_task
from workloads.runs.search.search import SearchInputs, search_candidates
from workloads.runs.training.train import WORKERS_FIELD, TrainingInputs, superlm_key, train_superlms
from workloads.shapes import teacher_files
from workloads.shapes.search_space import Space
from workloads.spec.autodistil import AutoDistilRequest
from workloads.spec.request import TeacherSpec
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.places import confined


class StoredTraining(TrainingStages):
    """Stages that are saved in the storage; if several jobs need one, one of them builds it."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._storage, self._builder = attempt.storage, attempt.builder
        self._progress, self._cache = attempt.progress, attempt.cache

    @property
    def request(self) -> AutoDistilRequest:
        """The attempt's request; its open lengths are set once the teacher is known."""
        request = self._attempt.request
        assert isinstance(request, AutoDistilRequest), request.method
        return request

    @override
    def teacher(self) -> TeacherStage:
        """Save the teacher in the storage.

        Raises:
            InputError: The teacher cannot be fetched or used.
        """
        self._progress.start(TEACHER)
        spec = self.request.teacher
        fetched = self._attempt.work / "fetched"
        # With restricted roots, copy the teacher first and use only the copy: what was checked is what is used.
        in_place = teacher_files.is_path(spec.model) and "://" not in spec.model and confined().roots is None
        found = spec if in_place else TeacherSpec(model=str(fetch_teacher(spec, fetched, spec.kind)))
        files = teacher_files.open_files(found, kind=spec.kind).sized(spec.embedding_size)
        fingerprint, shape = files.fingerprint(), files.shape
        key = Key("teacher", {"files": fingerprint})

        def build() -> Artifact:
            if in_place:
                fetch_teacher(spec, fetched, spec.kind)
            mark_kind(fetched, shape.kind, spec.embedding_size)
            open_teacher(fetched)  # some defects show only on loading; find them before any training
            self._storage.upload(fetched, artifacts.build_folder(key, self._builder))
            summary = {"model": spec.model, "fingerprint": fingerprint, "shape": shape.to_json()}
            return artifacts.commit(self._storage, key, self._builder, summary)

        artifact = self._cache.get_or_build(TEACHER, key, build)
        notes = [] if shape.kind == "encoder" else [f"The teacher is of the kind {shape.kind}."]
        if teacher_files.is_path(spec.model) and (place := teacher_files.locate(spec, confined())) != spec.model:
            notes.append(f"The model was found in {place}.")
        if notes:
            self._progress.note(TEACHER, " ".join(notes))
        shutil.rmtree(fetched, ignore_errors=True)  # the storage has the files, and training may take hours
        self._cache.record(TEACHER, artifact)
        self._attempt.settle(shape)
        return TeacherStage(artifact, fingerprint, shape)

    @override
    def spaces(self, teacher: TeacherStage) -> list[Space]:
        """Make the spaces, and check the settings of later stages.

        Raises:
            InputError: The spaces, or the settings of their training, do not fit the teacher; the live nodes cannot
                hold the training's workers; no node can measure a latency target; the proxy task cannot be read.
        """
        spaces = fitting_spaces(self.request, teacher.shape)
        # Check now what would otherwise end the run hours later.
        objective = objective_for(self.request.objective, teacher.shape)
        if self.request.orders_by_importance:
            objective.check_order(teacher.shape.layers)
        share_for(WORKERS_FIELD, workers=self.request.training.workers)
        for budget in self.request.budgets:
            if budget.latency_target is not None:
                target = known_targets(self.request.latency_targets)[budget.latency_target]
                find_place(Asked.by(self.request, target, functools.partial(self._progress.wait, TEACHER)))
        if self.request.proxy_task is not None:
            check_task(self.request.proxy_task, self._attempt.teacher(teacher))
        return spaces

    @override
    def corpus(self, teacher: TeacherStage) -> Artifact:
        """Tokenise the corpus.

        Raises:
            InputError: The corpus cannot be read, or is too short.
        """
        self._progress.start(CORPUS, unit="bytes")
        request = self.request
        plan = self.corpus_plan(teacher)

        def build() -> Artifact:
            return build_corpus(self._storage, plan, self._builder, News.of_step(self._progress, CORPUS))

        artifact = self._cache.get_or_build(CORPUS, plan.key, build)
        group = objective_for(request.objective, teacher.shape).group
        check_corpus(artifact, request.corpus, request.training.batch_size, group)
        self._cache.record(CORPUS, artifact)
        return artifact

    def corpus_plan(self, teacher: TeacherStage) -> CorpusPlan:
        """Plan the corpus: list and hash its files, without tokenising.

        Raises:
            InputError: The corpus cannot be read.
        """
        request = self.request
        layout = objective_for(request.objective, teacher.shape).layout
        tokenizer = Tokenizer.load(self._cache.local(teacher.artifact))
        form = form_of(teacher.shape.head)
        return plan_corpus(request.corpus, tokenizer, request.training.sequence_length, layout, form)

    @override
    def train(self, teacher: TeacherStage, corpus: Artifact, spaces: Sequence[Space]) -> dict[str, Artifact]:
        request, progress = self.request, self._progress
        keys = {
            space.name: superlm_key(request, space, teacher.fingerprint, corpus.fingerprint) for space in spaces
        }  # fmt: skip
        for name in keys:
            progress.start(train_step(name), request.training.tokens_for(name), "tokens")

        with contextlib.ExitStack() as leases:
            missing = {name: key for name, key in keys.items() if artifacts.find(self._storage, key) is None}
            # Every job takes leases in the same order, so that two jobs never wait for each other.
            for name, key in sorted(missing.items(), key=lambda item: item[1].fingerprint):
                leases.enter_context(self._cache.lease(train_step(name), key))
            inputs = TrainingInputs(request, teacher, corpus)
            superlms = train_superlms(self._attempt.run, inputs, spaces)
        for name, artifact in superlms.items():
            self._cache.record(train_step(name), artifact)
        return superlms

    @override
    def search(
        self, teacher: TeacherStage, corpus: Artifact, spaces: Sequence[Space], superlms: dict[str, Artifact]
    ) -> Artifact:
        self._progress.start(SEARCH, unit="candidates")
        inputs = SearchInputs(self.request, teacher, corpus, spaces, superlms)

        def build() -> Artifact:
            news = News.of_step(self._progress, SEARCH)

            def tell(done: int, total: int | None) -> None:
                self._progress.note(SEARCH, f"fidelity of the survivors: {done} of {total}")

            return search_candidates(self._attempt.run, inputs, news, News(tell, news.wait))

        scores = self._cache.get_or_build(SEARCH, inputs.key, build)
        self._progress.note(SEARCH, None)
        self._cache.record(SEARCH, scores)
        return scores
