"""A whole compression in one process without Ray: the product's own stages, called one after the other.

    python -c 'from benchmarks.plain_process import main; main()' REQUEST FOLDER

REQUEST is a JSON file, FOLDER an empty folder. It prints a JSON object: its seconds and the losses of the students.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from typing_extensions import override

from workloads.answers.scores_table import FILE
from workloads.answers.trained import TeacherStage
from workloads.craft.blocks import Blocks
from workloads.craft.objectives.objective import objective_for
from workloads.craft.precision import set_up_torch
from workloads.craft.training import Worker
from workloads.documents.job_folder import JobFolder
from workloads.methods.answering import answer
from workloads.methods.autodistil import autodistil
from workloads.methods.fitting import fitting_spaces
from workloads.methods.steps import step_names, train_step
from workloads.runs import corpus as corpus_stage
from workloads.runs.attempt.attempt import Attempt
from workloads.runs.attempt.progress import Progress
from workloads.runs.attempt.run import JobAttempt
from workloads.runs.attempt.stage_cache import StageCache
from workloads.runs.attempt.stage_log import StageLog
from workloads.runs.describing import describe
from workloads.runs.search.board import Aim, Board
from workloads.runs.search.proposals import proposer_for
from workloads.runs.search.search import SearchInputs, share
from workloads.runs.search.table import summarise, write_table
from workloads.runs.search.trial import Scorer
from workloads.runs.stages.answering import StoredAnswering
from workloads.runs.stages.training import StoredTraining
from workloads.runs.training.train import superlm_key
from workloads.runs.training.train_group import GroupJob, train_group
from workloads.runs.training.train_group import Progress as GroupProgress
from workloads.shapes.search_space import Space
from workloads.spec.autodistil import AutoDistilRequest
from workloads.spec.request import parse_request
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage

THREADS = 2


class _Cache(StageCache):
    """Cache without leases: no other job is there."""

    @override
    @contextlib.contextmanager
    def lease(self, step: str, key: Key) -> Iterator[None]:
        yield


class _Queue:
    """Queue of a training that nobody watches."""

    def put_nowait_batch(self, messages: Sequence[GroupProgress]) -> None:
        """Drop the messages."""


def _as_it_is(value: Any) -> Any:
    """Stand in for the object store."""
    return value


class PlainTraining(StoredTraining):
    """The stages up to the scores, in this process."""

    @override
    def spaces(self, teacher: TeacherStage) -> list[Space]:
        return fitting_spaces(self.request, teacher.shape)

    @override
    def train(self, teacher: TeacherStage, corpus: Artifact, spaces: Sequence[Space]) -> dict[str, Artifact]:
        request, storage, builder = self.request, self._storage, self._builder
        keys = {one.name: superlm_key(request, one, teacher.fingerprint, corpus.fingerprint) for one in spaces}
        job = GroupJob(
            storage=storage.url,
            request=request,
            teacher_files=teacher.artifact.files,
            corpus=corpus,
            spaces=tuple(spaces),
            outputs={name: artifacts.build_folder(key, builder) for name, key in keys.items()},
            checkpoints="checkpoints",
            builder=builder,
            cpus=THREADS,
            gpu=False,
        )
        train_group(job, Worker(torch.device("cpu")), _Queue())
        made = {}
        for name, key in keys.items():
            summary = storage.read_json(f"{job.outputs[name]}/summary.json")
            made[name] = artifacts.commit(storage, key, builder, summary, device=summary["device"])
            self._cache.record(train_step(name), made[name])
        return made

    @override
    def search(
        self, teacher: TeacherStage, corpus: Artifact, spaces: Sequence[Space], superlms: dict[str, Artifact]
    ) -> Artifact:
        request, storage = self.request, self._storage
        inputs = SearchInputs(request, teacher, corpus, spaces, superlms)
        blocks = Blocks.open(storage, corpus, "heldout")
        board = Board(
            Aim(request.search, teacher.shape, request.budgets),
            rows=min(request.search.heldout_blocks, blocks.rows),
            group=objective_for(request.objective, teacher.shape).group,
            actors=1,
            on_progress=lambda: None,
        )
        scorer = Scorer(
            share(storage, inputs, blocks, board.rungs, put=lambda value: value),
            torch.device("cpu"),
            lambda value: value,
        )
        set_up_torch(THREADS)  # a scorer takes one thread, since a search has an actor for each core
        board.begin(proposer_for(request.search, spaces, request.seed, lambda _: True).propose([]))
        while board.waiting:
            lot = min(board.waiting)
            board.report(lot, scorer.score(board.work(lot)))
        weights = {space.name: superlms[space.name].fingerprint for space in spaces}
        folder = artifacts.build_folder(inputs.key, self._builder)
        storage.write_bytes(f"{folder}/{FILE}", write_table(teacher.shape, board.entries, weights))
        summary = summarise(board, request.search.aim, teacher.shape)
        return artifacts.commit(storage, inputs.key, self._builder, summary, device="cpu")


def compress(request: AutoDistilRequest, folder: Path) -> dict[str, float]:
    """Compress in this process, with files below ``folder``; give the students' losses by budget."""
    set_up_torch(THREADS)
    corpus_stage.DIRECT_BYTES = sys.maxsize  # a corpus of any size is tokenised here
    storage = Storage.open(str(folder))
    job = JobFolder(storage, "plain")
    with Progress(job, 1) as progress, TemporaryDirectory() as work:
        progress.declare(step_names(request, "compression"))
        given = JobAttempt(job, 1, progress, StageLog(storage, job.job))
        attempt = Attempt(given, request, Path(work))
        attempt.cache = _Cache(attempt.run, given.log, Path(work))
        trained = autodistil(PlainTraining(attempt))
        found = answer(attempt.request, StoredAnswering(attempt), trained)
        job.write_result(1, describe(storage, job, 1, attempt.request, found))
    return {one.budget.name: one.scored.heldout_loss for one in found.students}


def main() -> None:
    """Compress, and print seconds and losses."""
    began = time.monotonic()
    request, folder = (Path(given) for given in sys.argv[1:])
    asked = parse_request(json.loads(request.read_text()))
    assert isinstance(asked, AutoDistilRequest), asked.method
    losses = compress(asked, folder)
    sys.stdout.write(json.dumps({"seconds": time.monotonic() - began, "losses": losses}) + "\n")
