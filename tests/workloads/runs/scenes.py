"""Scenes of the tests of the runs: a tiny teacher and corpus, and whole compressions."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

from tests.teachers import SENTENCES
from workloads.answers.trained import TeacherStage
from workloads.craft.text.tokenizer import Tokenizer
from workloads.documents.job_folder import JobFolder, OrderDocument, ProgressDocument, ResultDocument
from workloads.methods.steps import train_step
from workloads.runs.attempt.progress import Progress
from workloads.runs.attempt.run import News, Run
from workloads.runs.corpus import plan_corpus, prepare_corpus
from workloads.runs.training.train import TrainingInputs, superlm_key, train_superlms
from workloads.shapes import teacher_files
from workloads.shapes.search_space import ProductSpace
from workloads.shapes.spaces import relative_spaces
from workloads.spec.request import CompressionRequest, parse_request
from workloads.storage.artifacts import Artifact, Key
from workloads.storage.storage import Storage

ROOT = Path(__file__).parents[3]
TIMEOUT = 480
STEPS, LENGTH, BATCH = 6, 16, 8


class Heard(Progress):
    """Records progress reports.

    Attributes:
        reports: Step, units done, units in total and metrics of each report.
        placements: Events of this type.
        notes: Notes of all steps.
        waits: Reasons for which steps waited.
    """

    def __init__(self, storage: Storage, steps: list[str], listener: Callable[..., None] = lambda *_: None) -> None:
        super().__init__(JobFolder(storage, "cmp_heard"), 1)
        self.declare(steps)
        self.reports: list[Any] = []
        self.placements: list[str] = []
        self.notes: list[str] = []
        self.waits: list[tuple[str, str]] = []
        self._listener = listener

    def point(self, name: str, done: int, total: int, metrics: dict[str, float]) -> None:
        self.reports.append((name, done, total, metrics))
        self._listener(name, done, total, metrics)

    def event(self, type: str, message: str, **data: Any) -> None:
        if type == "placement":
            self.placements.append(message)

    def note(self, name: str, note: str | None) -> None:
        super().note(name, note)
        if note is not None:
            self.notes.append(note)

    def wait(self, name: str, why: str | None) -> None:
        super().wait(name, why)
        if why is not None:
            self.waits.append((name, why))


class Scene:
    """A tiny teacher and corpus in a storage, ready to train on."""

    def __init__(self, folder: Path, make_teacher: Callable[..., Path]) -> None:
        self.storage = Storage.open(str(folder / "storage"))
        teacher = make_teacher(folder / "teacher", "bert")
        self.storage.upload(teacher, "teacher")
        self.fingerprint = teacher_files.fingerprint(teacher)
        self.shape = teacher_files.shape_of(teacher)
        files = Artifact("teacher", Key("teacher", {}).fingerprint, "teacher", {}, {})
        self.teacher = TeacherStage(files, self.fingerprint, self.shape)
        words = ["the", "quick", "fox", "jumps", "over", "a", "dog", "while", "many", "rivers", "run", "to", "sea"]
        lines = [" ".join(words[(i * j) % len(words)] for j in range(5, 40)) for i in range(200)]
        (folder / "text.txt").write_text("\n".join(lines))
        self.text = folder / "text.txt"
        request = self.request()
        plan = plan_corpus(request.corpus, Tokenizer.load(teacher), LENGTH, "packed")
        self.corpus: Artifact = prepare_corpus(self.storage, plan, BATCH, "cmp_corpus-1", News.unheard())

    def request(self, **training: Any) -> CompressionRequest:
        base = {
            "tokens_per_superlm": STEPS * LENGTH * BATCH, "sequence_length": LENGTH, "batch_size": BATCH,
            "max_failures": 0, **training,
        }  # fmt: skip
        return parse_request(
            {
                "teacher": {"model": "x"},
                "corpus": {"paths": [str(self.text)], "documents": "line", "heldout_fraction": 0.1},
                "training": base,
                "budgets": [{"name": "any", "max_params": 10**9}],
                "seed": 3,
            }
        )

    @property
    def spaces(self) -> list[ProductSpace]:
        return relative_spaces(self.shape, 2)

    def train(
        self, request: CompressionRequest, builder: str, report: Callable[..., None] = lambda *_: None
    ) -> tuple[dict[str, Artifact], list[str], list[Any]]:
        progress = Heard(self.storage, [train_step(space.name) for space in self.spaces], report)
        done = train_superlms(Run(self.storage, builder, progress), self.inputs(request), self.spaces)
        return done, progress.placements, progress.reports

    def inputs(self, request: CompressionRequest) -> TrainingInputs:
        return TrainingInputs(request, self.teacher, self.corpus)

    def weights(self, artifact: Artifact) -> dict[str, torch.Tensor]:
        return superlm_weights(self.storage, artifact.files)

    def forget(self, request: CompressionRequest) -> None:
        for space in self.spaces:
            self.storage.remove(superlm_key(request, space, self.fingerprint, self.corpus.fingerprint).folder)


@dataclass
class House:
    """Runner of whole compressions with real drivers.

    Attributes:
        address: Address of the Ray that the drivers join.
    """

    storage: Storage
    teacher: Path
    corpus: Path
    address: str

    @classmethod
    def furnish(cls, folder: Path, storage: str, make_teacher: Callable[..., Path], address: str) -> House:
        """Put a tiny teacher and corpus into ``folder``."""
        corpus = folder / "corpus.txt"
        corpus.write_text("\n".join(f"{sentence} {number}" for number in range(40) for sentence in SENTENCES))
        return cls(Storage.open(storage), make_teacher(folder / "teacher"), corpus, address)

    def request(self, **changes: Any) -> dict[str, Any]:
        spaces = [
            {"name": "thin", "layers": [1, 2], "hidden_sizes": [16], "mlp_ratios": [2.0]},
            {"name": "wide", "layers": [2], "hidden_sizes": [32, 48], "mlp_ratios": [3.0]},
        ]
        return {
            "teacher": {"model": str(self.teacher)},
            "corpus": {"paths": [str(self.corpus)], "documents": "line", "heldout_fraction": 0.2},
            "subspaces": {"spaces": spaces},
            "training": {
                "tokens_per_superlm": 6 * 4 * 32, "sequence_length": 32, "batch_size": 4, "checkpoint_every_steps": 3,
            },
            "search": {"heldout_blocks": 8},
            "budgets": [{"name": "any", "max_params": 10**9}, {"name": "none", "max_params": 10}],
            "seed": 1,
        } | changes  # fmt: skip

    def longer_request(self, steps: int, **training: Any) -> dict[str, Any]:
        """The request with ``steps`` steps and other settings of the training."""
        request = self.request()
        request["training"] |= {"tokens_per_superlm": steps * 4 * 32, **training}
        return request

    def start(
        self, job: str, attempt: int, request: dict[str, Any], order: OrderDocument | None = None
    ) -> subprocess.Popen[str]:
        folder = JobFolder(self.storage, job)
        folder.write_request(request)
        folder.write_order(order or OrderDocument())
        return start_driver(self.storage.url, job, attempt, self.address)

    def run(
        self, job: str, attempt: int, request: dict[str, Any], order: OrderDocument | None = None
    ) -> tuple[int, ResultDocument]:
        return self.end(self.start(job, attempt, request, order), job, attempt)

    def end(self, process: subprocess.Popen[str], job: str, attempt: int) -> tuple[int, ResultDocument]:
        output, _ = process.communicate(timeout=TIMEOUT)
        result = JobFolder(self.storage, job).read_result(attempt)
        assert result is not None, output
        if result.error is not None:
            sys.stdout.write(output)
        return process.returncode, result

    def progress(self, job: str, attempt: int = 1) -> ProgressDocument:
        document = JobFolder(self.storage, job).read_progress(attempt)
        assert document is not None
        return document

    def wait(self, process: subprocess.Popen[str], condition: Callable[[], Any], what: str) -> Any:
        """Wait until a condition holds while a driver runs, and return its value; end the driver if it never holds."""
        deadline = time.monotonic() + 120
        while not (found := condition()):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"{what} did not happen:\n{process.communicate()[0]}")
            time.sleep(0.1)
        return found

    def trained(self, job: str, attempt: int = 1) -> int:
        """Tokens that the attempt has reported, over all its SuperLMs."""
        document = JobFolder(self.storage, job).read_progress(attempt)
        return sum(step.done for step in document.steps if step.name.startswith("train")) if document else 0


def start_driver(storage: str, job: str, attempt: int, address: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "workloads.runs.job", "--storage", storage]
    return subprocess.Popen(
        [*command, "--job", job, "--attempt", str(attempt)],
        env=os.environ | {"RAY_ADDRESS": address},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def last_checkpoint(storage: Storage) -> int:
    """Step of the last committed checkpoint of any training run, 0 for none."""
    marks = [path for path in storage.list("artifacts/training", recursive=True) if path.endswith("/commit.json")]
    return max((int(mark.split("/")[-2].removeprefix("step-")) for mark in marks), default=0)


def superlm_weights(storage: Storage, files: str) -> dict[str, torch.Tensor]:
    return load_file(Path(storage.path(files)) / "superlm.safetensors")


def assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        if name.endswith("key.bias"):
            continue  # softmax cancels this bias, so its gradient is rounding noise, which Adam scales up to full steps
        torch.testing.assert_close(tensor, other[name], rtol=1e-4, atol=1e-5, msg=name)


def until(condition: Callable[[], Any], what: str, seconds: float = 30) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} took more than {seconds} s"
        time.sleep(0.1)


_TRAINING = ("ray::TrainingWorker", "ray::RayTrainWorker")
"""Titles of a lone worker's process, and of one of several."""


def training_workers() -> list[psutil.Process]:
    """Find the processes of the training's workers of this test's Ray."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith(_TRAINING):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


@dataclass
class Watch:
    """Observed workers, by process id."""

    seen: set[int] = field(default_factory=set)


@contextmanager
def watching_workers() -> Iterator[Watch]:
    """Record every training worker in the meantime; each lives for seconds, so polling finds it."""
    watch, ended = Watch(), threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            watch.seen.update(process.pid for process in training_workers())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()
