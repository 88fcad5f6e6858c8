"""Training on Ray: groups, workers, restarts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from workloads import teacher_files
from workloads.artifacts import Artifact
from workloads.request import CompressionRequest, parse_request
from workloads.runs.checkpoints import Checkpoints
from workloads.runs.corpus import prepare_corpus
from workloads.runs.train import superlm_key, train_superlms
from workloads.spaces import SubSpace, relative_spaces
from workloads.storage import Storage

pytestmark = pytest.mark.ray

_STEPS, _LENGTH, _BATCH = 6, 16, 8


class Scene:
    """A tiny teacher and corpus in a storage, ready to train on."""

    def __init__(self, folder: Path, make_teacher: Callable[..., Path]) -> None:
        self.storage = Storage.open(str(folder / "storage"))
        teacher = make_teacher(folder / "teacher", "bert")
        self.storage.upload(teacher, "teacher")
        self.fingerprint = teacher_files.fingerprint(teacher)
        self.shape = teacher_files.shape_of(teacher)
        words = ["the", "quick", "fox", "jumps", "over", "a", "dog", "while", "many", "rivers", "run", "to", "sea"]
        lines = [" ".join(words[(i * j) % len(words)] for j in range(5, 40)) for i in range(200)]
        (folder / "text.txt").write_text("\n".join(lines))
        self.text = folder / "text.txt"
        request = self.request()
        self.corpus: Artifact = prepare_corpus(
            self.storage, request.corpus, tokenizer_folder=teacher, sequence_length=_LENGTH, layout="packed",
            batch_size=_BATCH, builder="cmp_corpus-1", progress=lambda *_: None,
        )  # fmt: skip

    def request(self, **training: Any) -> CompressionRequest:
        base = {
            "tokens_per_superlm": _STEPS * _LENGTH * _BATCH, "sequence_length": _LENGTH, "batch_size": _BATCH,
            "dropout": 0.0, "max_failures": 0, **training,
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
    def spaces(self) -> list[SubSpace]:
        return relative_spaces(self.shape, 2)

    def train(self, request: CompressionRequest, builder: str) -> tuple[dict[str, Artifact], list[str], list[Any]]:
        notes: list[str] = []
        reports: list[Any] = []
        done = train_superlms(
            self.storage, request, teacher_files="teacher", teacher_fingerprint=self.fingerprint, corpus=self.corpus,
            spaces=self.spaces, builder=builder, report=lambda *a: reports.append(a), note=notes.append,
        )  # fmt: skip
        return done, notes, reports

    def weights(self, artifact: Artifact) -> dict[str, torch.Tensor]:
        return load_file(Path(self.storage.path(artifact.files)) / "superlm.safetensors")

    def forget(self, request: CompressionRequest) -> None:
        for space in self.spaces:
            self.storage.remove(superlm_key(request, space, self.fingerprint, self.corpus.fingerprint).folder)


@pytest.fixture
def scene(tmp_path: Path, make_teacher: Callable[..., Path], ray_cluster: Any) -> Scene:
    return Scene(tmp_path, make_teacher)


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        if name.endswith("key.bias"):
            continue  # softmax cancels it, so its gradient is rounding noise, which Adam blows up to full steps
        torch.testing.assert_close(tensor, other[name], rtol=1e-4, atol=1e-5, msg=name)


def test_apart_and_together_give_the_same_superlms_and_the_second_time_they_are_reused(scene: Scene) -> None:
    together = scene.request(placement="together")
    first, notes, reports = scene.train(together, "cmp_a-1")
    assert "small + base" in notes[0]
    assert {report[0] for report in reports} == {"small", "base"}
    assert all(report[1] <= report[2] == _STEPS * _LENGTH * _BATCH for report in reports)
    kept = {name: scene.weights(artifact) for name, artifact in first.items()}

    again, notes, reports = scene.train(together, "cmp_b-1")
    assert again == first and not notes and not reports

    scene.forget(together)
    apart, notes, _ = scene.train(scene.request(placement="apart"), "cmp_c-1")
    assert "small | base" in notes[0]
    for name, artifact in apart.items():
        assert artifact.builder == "cmp_c-1"
        _same(kept[name], scene.weights(artifact))


@pytest.mark.slow
def test_two_workers_give_the_weights_of_one(scene: Scene) -> None:
    one = {name: scene.weights(artifact) for name, artifact in scene.train(scene.request(), "cmp_a-1")[0].items()}
    two, _, _ = scene.train(scene.request(workers=2), "cmp_b-1")
    for name, artifact in two.items():
        _same(one[name], scene.weights(artifact))


@pytest.mark.slow
def test_a_run_continued_from_a_checkpoint_ends_with_the_same_weights(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {name: scene.weights(artifact) for name, artifact in scene.train(scene.request(), "cmp_a-1")[0].items()}
    scene.forget(scene.request())
    # A storage whose checkpoints of a first attempt were kept: its end is taken away, as a kill would.
    request = scene.request(checkpoint_every_steps=4)
    cleared: list[str] = []
    real = Storage.remove
    monkeypatch.setattr(
        Storage, "remove", lambda self, path: cleared.append(path) if "artifacts/training" in path else real(self, path)
    )
    scene.train(request, "cmp_b-1")
    monkeypatch.undo()
    folder = next(path for path in cleared if "-ray" not in path)
    latest = Checkpoints(scene.storage, folder, "cmp_c-1").latest()
    assert latest is not None and latest[0] == 4
    scene.forget(request)
    continued, _, reports = scene.train(request, "cmp_c-1")
    assert min(report[1] for report in reports) > 4 * _LENGTH * _BATCH  # nothing was trained twice
    for name, artifact in continued.items():
        _same(whole[name], scene.weights(artifact))
    assert not scene.storage.exists(folder)
