"""The GPU kit: a whole run with a tiny teacher, on a CPU, without the packages that a plain PyTorch machine lacks."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, AutoTokenizer

from benchmarks.gpu import students
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.checks import Check, Checks
from benchmarks.gpu.figures import Figures
from benchmarks.gpu.kit import BEFORE, ROOT, Kit, KitError
from benchmarks.gpu.paces import Deadline, fitting_tokens
from benchmarks.gpu.peaks import PEAKS, share_of_peak
from benchmarks.gpu.pieces import ROWS, Limits, Run
from benchmarks.gpu.prepare import MIB, PACKAGES, Written, prepare_tiny
from benchmarks.gpu.sizes import FULL, TINY
from benchmarks.gpu.subjects import random_batch, teacher_in, trainer_of
from benchmarks.gpu.utilisation import measure
from benchmarks.quality.plan import Planner
from benchmarks.quality.rows import append_rows, read_rows
from benchmarks.quality.scene import Scene
from workloads.answers.heldout_record import HeldoutRecord
from workloads.craft.objectives.relation import RelationLoss
from workloads.craft.precision import autocast
from workloads.craft.saved_student import open_student
from workloads.craft.training import GroupTrainer
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ListedSpace
from workloads.storage.tarfiles import tarfile

CPU = torch.device("cpu")
BASE = ("torch", "transformers", "numpy", "pyarrow", "safetensors", "sentence-transformers")
"""Packages of a plain PyTorch machine; they bring along what they need."""
RUN_BARE = """
import importlib.machinery
import importlib.metadata
import importlib.util
import sys


class Bare(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in {blocked!r} else super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, context):
        return iter(()) if context.name in {blocked!r} else super().find_distributions(context)


sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Bare
assert importlib.util.find_spec("ray") is None
try:
    importlib.metadata.version("ray")
except importlib.metadata.PackageNotFoundError:
    pass
else:
    raise AssertionError("Ray is still there.")
from benchmarks.gpu.__main__ import main
kit, out = {folders!r}
sys.exit(main(["run", "--kit", kit, "--device", "cpu", "--out", out]))
"""


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Prepare a tiny kit, run it as on a bare machine, and give its folder and the folder of what came back."""
    folder = tmp_path_factory.mktemp("gpu")
    kit, out = folder / "kit", folder / "out"
    blocked = _blocked()
    assert {"ray", "datasets", "fastapi", "structlog", "onnxruntime", "sqlalchemy"} <= set(blocked)
    assert not {"torch", "pydantic", "psutil", "scipy", "tqdm"} & set(blocked)
    prepare_tiny(kit)
    code = RUN_BARE.format(blocked=blocked, folders=(str(kit), str(out)))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        (sys.executable, "-c", code), cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return kit, out


def _blocked() -> list[str]:
    """Packages of this machine that neither a plain PyTorch machine nor the kit's wheels have."""
    there: set[str] = set()
    waiting = [*BASE, *PACKAGES]
    while waiting:
        name = _canonical(waiting.pop())
        if name in there:
            continue
        there.add(name)
        try:
            needed = map(Requirement, importlib.metadata.requires(name) or [])
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    own = {"benchmarks", "workloads", "tests"}
    found = importlib.metadata.packages_distributions().items()
    return sorted(top for top, of in found if top not in own and not {_canonical(one) for one in of} & there)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _figures(out: Path) -> dict:
    return json.loads((out / "figures.json").read_text())


def test_a_run_checks_measures_and_makes_every_piece(ran):
    found = _figures(ran[1])
    assert "failed" not in found and "left_out" not in found
    assert found["all_pieces"] is True and found["card"] is None and found["tokens"] == TINY.profile.tokens
    assert [one["passed"] for one in found["checks"]] == [True] * 6
    measured = {(one["teacher"], *one["members"], one["rows"]) for one in found["utilisation"]}
    assert len(measured) == 2 * 3 * len(TINY.batches) and ("3 x 48, random weights", "base", 4) in measured
    assert all(one["tflops"] > 0 and "share_of_peak" not in one for one in found["utilisation"])
    assert found["matrix_tflops"] > 0 and found["utilisation_is_whole"] is True
    rows = read_rows(ran[1] / ROWS)
    assert {row.kind for row in rows.values()} == {"scene", "labels", "distil", "search", "task", "untuned"}
    assert {row.profile for row in rows.values()} == {"gpu-tiny"}
    assert len(found["pieces"]) == len(rows)


def test_few_files_of_few_bytes_come_back(ran):
    files = list(ran[1].iterdir())
    assert len(files) <= 2 + students.MOST_PARTS and all(path.stat().st_size <= 16 * MIB for path in files)


def test_a_chosen_student_loads_and_has_its_loss(ran, tmp_path):
    kit, out = Kit.open(ran[0]), ran[1]
    parts = sorted(out.glob("students.tar.*"))
    with tarfile.open(fileobj=BytesIO(b"".join(path.read_bytes() for path in parts))) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / "chosen-0.5"
    record = HeldoutRecord.read(folder)
    assert record is not None
    ids = AutoTokenizer.from_pretrained(folder)("the small student", return_tensors="pt")
    assert AutoModel.from_pretrained(folder, dtype=torch.float32)(**ids).last_hidden_state.isfinite().all()
    scene = Scene(Planner(kit.sizes.profile, {}).scene.inputs, kit.places(tmp_path / "work"))
    student = open_student(folder, scene.teacher, scene.objective, "FOLDER")
    heldout = scene.heldout.ordered(record.head_order)
    losses = student.score(scene.objective, heldout, range(heldout.counts.rows), CPU)
    assert record.text.rows == len(losses)
    assert float(losses.mean()) == pytest.approx(record.heldout_loss, rel=0.02)


def test_the_report_names_the_card_and_shows_every_model(ran, tmp_path):
    rows = [replace(row, machine={**row.machine, "card": "NVIDIA H200"}) for row in read_rows(ran[1] / ROWS).values()]
    append_rows(tmp_path / "rows.parquet", rows)
    options = ["--rows", str(tmp_path / "rows.parquet"), "--profile", "gpu-tiny", "--out", str(tmp_path / "report")]
    assert main(["report", *options, "--tokens", str(TINY.profile.tokens)]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "with one NVIDIA H200" in text
    # Which hand-made students are the best two depends on scores that are close to chance here.
    for role in ("| teacher |", "| chosen |", "| alone |", "| hand-made, ", "| truncated teacher |"):
        assert role in text, role


def test_pieces_of_an_earlier_run_are_not_run_again(ran, tmp_path):
    options = ["run", "--kit", str(ran[0]), "--device", "cpu", "--out", str(tmp_path), "--only", "pieces"]
    assert main([*options, "--rows", str(ran[1] / ROWS)]) == 1  # of which length they are is not known
    assert main([*options, "--rows", str(ran[1] / ROWS), "--tokens", str(TINY.profile.tokens)]) == 0
    found = _figures(tmp_path)
    assert "pieces" not in found and found["all_pieces"] is True


def test_a_piece_that_fails_keeps_no_other_from_running(ran, tmp_path):
    kit = copytree(ran[0], tmp_path / "kit")
    (kit / "data" / "tasks" / "stsb" / "validation.parquet").unlink()
    options = ["run", "--kit", str(kit), "--device", "cpu", "--out", str(tmp_path / "out"), "--only", "pieces"]
    assert main([*options, "--tokens", "64"]) == 1
    found = _figures(tmp_path / "out")
    assert [one["name"] for one in found["failed"]] == ["labels of stsb"]
    assert found["all_pieces"] is False
    names = [one["name"] for one in found["pieces"]]
    assert "truncated teacher at 0.5: rte, seed 1" in names and not any("stsb" in name for name in names)


def test_no_piece_begins_that_would_end_too_late(ran, tmp_path):
    kit = Kit.open(ran[0])
    figures = Figures(tmp_path / "out", kit, CPU)
    run = Run(kit, tmp_path / "work", tmp_path / "out", figures, CPU)
    assert run.run(Limits(Deadline.after(1), 256), lambda line: None)
    assert figures.of("left_out")[0]["name"] == "teacher tiny and text"
    assert read_rows(tmp_path / "out" / ROWS) == {}
    with pytest.raises(TimeoutError, match="--minutes"):
        run.run(Limits(Deadline.after(1)), lambda line: None)


@pytest.mark.slow
def test_fine_tunings_side_by_side_have_the_results_of_one_after_the_other(ran, tmp_path):
    kit = copytree(ran[0], tmp_path / "kit")
    options = ["run", "--kit", str(kit), "--device", "cpu", "--only", "pieces", "--tokens", str(TINY.profile.tokens)]
    assert main([*options, "--out", str(tmp_path / "out"), "--jobs", "2"]) == 0
    assert _figures(tmp_path / "out")["all_pieces"] is True
    alone, beside = (read_rows(folder / ROWS) for folder in (ran[1], tmp_path / "out"))
    assert alone.keys() == beside.keys()
    for name, row in alone.items():
        if row.values is not None:
            assert np.allclose(row.values, beside[name].values, atol=1e-4), row.name
    # Without their weights, one process trains them, and the others wait.
    kept = [row for row in beside.values() if row.kind != "task" or row.inputs["seed"] == 0]
    append_rows(tmp_path / "kept.parquet", kept)
    (kit / "data" / "tasks" / "rte" / "validation.parquet").unlink()  # its tasks fail in their own process
    options += ["--out", str(tmp_path / "again"), "--jobs", "2", "--rows", str(tmp_path / "kept.parquet")]
    assert main(options) == 1
    found = _figures(tmp_path / "again")
    assert {one["name"].partition(": ")[2] for one in found["failed"]} == {"rte, seed 1"}
    assert {one["name"].partition(": ")[2] for one in found["pieces"]} == {"stsb, seed 1"}


@pytest.mark.slow
def test_the_utilisation_is_measured_with_the_code_of_the_commit_before_too(ran, tmp_path):
    kit = copytree(ran[0], tmp_path / "kit")
    copytree(ROOT / "workloads", kit / BEFORE / "workloads")
    sandwich = kit / BEFORE / "workloads" / "craft" / "sandwich.py"
    sandwich.write_text(sandwich.read_text() + "\n# another version\n")
    (kit / BEFORE / "commit").write_text("123456789abc\n")
    out = tmp_path / "out"
    assert main(["run", "--kit", str(kit), "--device", "cpu", "--out", str(out), "--only", "utilisation"]) == 0
    now, before = _figures(out), _figures(out / BEFORE)
    assert before["commit"] == "123456789abc" and now["commit"] != before["commit"] and now["code"] != before["code"]
    assert len(now["utilisation"]) == len(before["utilisation"]) > 0


def test_a_state_that_is_not_restored_whole_fails_its_check(ran, monkeypatch):
    checks = Checks(teacher_in(Kit.open(ran[0]).teacher, CPU), TINY)
    assert [one.passed for one in checks.resuming()] == [True]
    real = GroupTrainer.load_state

    def without_moments(self: GroupTrainer, state: dict[str, torch.Tensor]) -> None:
        real(self, {name: value * 0 if name.endswith("exp_avg") else value for name, value in state.items()})

    monkeypatch.setattr(GroupTrainer, "load_state", without_moments)
    (found,) = checks.resuming()
    assert not found.passed and found.difference > 0.05  # the bound on a GPU


def test_a_relation_loss_with_another_gradient_fails_its_check(ran, monkeypatch):
    checks = Checks(teacher_in(Kit.open(ran[0]).teacher, CPU), TINY)
    real = RelationLoss.__call__

    def halved(self: RelationLoss, x_BLA: torch.Tensor, *others: object) -> torch.Tensor:
        return real(self, x_BLA.detach() / 2 + x_BLA / 2, *others)

    assert [one.passed for one in checks.relations()] == [True]
    monkeypatch.setattr(RelationLoss, "__call__", halved)
    assert [one.passed for one in checks.relations()] == [False]


def test_micro_batches_that_are_weighed_wrongly_fail_their_check(ran, monkeypatch):
    checks = Checks(teacher_in(Kit.open(ran[0]).teacher, CPU), TINY)
    real = GroupTrainer._add_rows

    def twice(self: GroupTrainer, step, part, rows, counts, subnets, losses) -> None:
        real(self, step, part, rows, counts, subnets, losses)
        if rows.start == 0 and len(rows) < TINY.check_rows:
            real(self, step, part, rows, counts, subnets, losses)

    monkeypatch.setattr(GroupTrainer, "_add_rows", twice)
    assert [one.passed for one in checks.micro_batches()] == [False]


def test_a_difference_that_is_no_number_does_not_pass():
    assert not Check("gradients", math.nan, 1.0).passed
    assert Check("gradients", 1.0, 1.0).passed


def test_operations_are_those_of_the_teacher_once_and_of_each_subnet_three_times(ran):
    teacher, length, rows = teacher_in(Kit.open(ran[0]).teacher, CPU), 16, 2
    shape = teacher.shape.architecture
    trainer = trainer_of(
        teacher,
        [ListedSpace("whole", (shape,))],
        {"micro_batch_rows": 1, "dropout": 0.0},
        length=length,
        rows=rows,
    )
    rate = measure(trainer, rows=rows, length=length, least_steps=3, seconds=0)
    macs = student_cost(teacher.shape, shape, length).flops
    assert rate.flops == 2 * rows * macs * (1 + 3) and rate.tokens == rows * length
    superlm = trainer.members["whole"].superlm
    wants = trainer.objective.student_wants(shape)
    own = autocast(CPU, low=True)  # PyTorch counts its own products, and not those of oneDNN, which are in float32
    with torch.no_grad(), own, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        superlm(random_batch(teacher, rows, length), shape, wants)
    pooler = 2 * rows * shape.hidden_size**2  # which a student has, and a SuperLM does not compute
    assert rate.computed / 4 == counter.get_total_flops() + pooler
    assert rate.computed < 0.9 * rate.flops


def test_a_card_without_a_known_peak_has_no_share_of_it():
    assert share_of_peak(PEAKS["NVIDIA H200"] / 2, "NVIDIA H200") == 0.5
    assert share_of_peak(100.0, "Another card") is None
    assert share_of_peak(100.0, None) is None


def test_the_length_is_what_fits_the_time():
    assert fitting_tokens(1e6, 1000, 50_000_000) == 50_000_000
    assert fitting_tokens(123_456, 110, 50_000_000) == 12_000_000
    assert fitting_tokens(1e6, 5, 50_000_000) == 0


def test_students_that_do_not_fit_one_part_come_in_several(tmp_path, monkeypatch):
    made = tmp_path / "made" / "chosen-0.25"
    made.mkdir(parents=True)
    (made / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(students, "PART_BYTES", 8192)
    parts = students._split(tmp_path / "made", tmp_path / "out")
    assert len(parts) > 1
    with tarfile.open(fileobj=BytesIO(b"".join(part.read_bytes() for part in parts))) as archive:
        file = archive.extractfile("chosen-0.25/model.safetensors")
        assert file is not None and file.read() == bytes(range(256)) * 40
    monkeypatch.setattr(students, "PART_BYTES", 512)
    with pytest.raises(ValueError, match="more than 5 parts"):
        students._split(tmp_path / "made", tmp_path / "out")


@pytest.mark.parametrize(
    ("teachers", "wheels", "refused"),
    [(53, 3, None), (55, 0, "The kit without wheels has 55.0 MiB"), (53, 6, "together has 63.0 MiB")],
)
def test_a_kit_that_is_too_large_is_refused(teachers, wheels, refused):
    written = Written({"teachers": teachers * MIB}, wheels * MIB, 4 * MIB)
    if refused is None:
        written.check()
    else:
        with pytest.raises(KitError, match=refused):
            written.check()


def test_a_folder_without_a_kit_and_one_of_another_version_are_refused(tmp_path):
    with pytest.raises(KitError, match="prepare --to"):
        Kit.open(tmp_path)
    (tmp_path / "kit.json").write_text('{"profile": "gpu"}')
    with pytest.raises(KitError, match="prepare the kit again"):
        Kit.open(tmp_path)


def test_other_files_are_not_removed(tmp_path, capsys):
    (tmp_path / "precious").write_text("mine")
    assert main(["prepare", "--tiny", "--to", str(tmp_path)]) == 1
    assert (tmp_path / "precious").read_text() == "mine"
    assert "empty folder" in capsys.readouterr().err


def test_without_a_gpu_a_full_run_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["run", "--kit", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "--tiny --device cpu" in capsys.readouterr().err
    assert FULL.profile.name == "gpu"
