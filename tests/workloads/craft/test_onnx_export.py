from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from transformers import PreTrainedModel

from tests.teachers import FAMILIES, SENTENCES
from workloads.craft import onnx_export
from workloads.craft.card import onnx_lines
from workloads.craft.cutting import cut_student
from workloads.craft.export import build_student
from workloads.craft.onnx_export import OnnxMismatch, export_onnx, measure_quantisation, quantise_onnx, session
from workloads.craft.signals import Batch
from workloads.craft.teacher import Teacher, open_teacher
from workloads.shapes.architecture import Architecture, Layer

Make = Callable[..., Path]

STOCK = Architecture.alike(layers=2, hidden_size=48, heads=3, head_width=16, intermediate_size=120, teacher_layers=3)
PAPER = Architecture.alike(layers=2, hidden_size=40, heads=3, head_width=16, intermediate_size=100, teacher_layers=3)
RAGGED = Architecture(40, (Layer(1, 16, 30, 0), Layer(4, 16, 200, 1), Layer(2, 16, 77, 2)))


SHAPES = {"stock": STOCK, "paper": PAPER, "ragged": RAGGED}
FAST = {("bert", "stock"), ("xlm-roberta", "paper"), ("mpnet", "ragged")}  # each family's wiring, each shape's class


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((family, shape), marks=[] if (family, shape) in FAST else pytest.mark.slow, id=f"{family}-{shape}")
        for family in FAMILIES
        for shape in SHAPES
    ],
)
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A family, and a kind of shape."""
    family, shape = request.param
    return family, shape


@pytest.fixture(scope="module")
def teacher(kind: tuple[str, str], make_teacher: Make, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return open_teacher(make_teacher(tmp_path_factory.mktemp("teacher"), kind[0], layers=3))


@pytest.fixture(scope="module")
def exported(
    kind: tuple[str, str], teacher: Teacher, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PreTrainedModel, Path]:
    """A student and the folder with its ONNX file."""
    student, folder = student_of(teacher, SHAPES[kind[1]]), tmp_path_factory.mktemp("exported")
    types = "token_type_ids" in teacher.tokenizer.model_input_names
    assert export_onnx(student, folder, has_token_types=types) == folder / "model.onnx"
    return student, folder


@pytest.fixture(scope="module")
def bert(make_teacher: Make, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return open_teacher(make_teacher(tmp_path_factory.mktemp("bert"), "bert", layers=3, pooler=False))


def student_of(teacher: Teacher, architecture: Architecture) -> PreTrainedModel:
    return build_student(teacher, architecture, cut_student(teacher.weights, architecture))


def spoil(file: Path, factor: float) -> None:
    """Scale the norm of a layer."""
    model = onnx.load(file)
    scale = next(part for part in model.graph.initializer if part.name.endswith("output.LayerNorm.weight"))
    scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * factor, scale.name))
    onnx.save(model, file)


@torch.inference_mode()
def test_the_file_takes_what_the_tokenizer_gives_and_answers_as_pytorch_does(
    teacher: Teacher, exported: tuple[PreTrainedModel, Path]
) -> None:
    student, folder = exported
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]
    runtime = session(folder / "model.onnx")
    assert {value.name for value in runtime.get_inputs()} == set(teacher.tokenizer.model_input_names)
    assert [value.name for value in runtime.get_outputs()] == ["last_hidden_state", "pooler_output"]
    for texts in (SENTENCES[:1], SENTENCES, [" ".join(SENTENCES)] * 2):  # other rows and lengths than the example
        given = dict(teacher.tokenizer(texts, padding=True, truncation=True, return_tensors="pt"))
        hidden, pooled = map(torch.from_numpy, runtime.run(None, {name: part.numpy() for name, part in given.items()}))
        ours, real = student(**given), given["attention_mask"].bool()
        torch.testing.assert_close(hidden[real], ours.last_hidden_state[real], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(pooled, ours.pooler_output, rtol=1e-4, atol=1e-4)


def test_the_cards_lines_run_the_file(teacher: Teacher, exported: tuple[PreTrainedModel, Path]) -> None:
    student, folder = exported
    names: dict[str, Any] = {"tokenizer": teacher.tokenizer}
    exec("\n".join(onnx_lines(str(folder))), names)
    assert names["output"].shape == (1, names["batch"]["input_ids"].shape[1], student.config.hidden_size)


def test_a_student_without_a_pooler_gives_the_last_state_alone(bert: Teacher, tmp_path: Path) -> None:
    runtime = session(export_onnx(student_of(bert, PAPER), tmp_path, has_token_types=True))
    assert [value.name for value in runtime.get_outputs()] == ["last_hidden_state"]


def test_exporting_leaves_the_student_and_the_random_state_as_they_were_and_tells_nothing_of_the_machine(
    bert: Teacher, tmp_path: Path
) -> None:
    student, before = student_of(bert, STOCK), torch.get_rng_state()
    file = export_onnx(student, tmp_path, has_token_types=True)
    assert student.config._attn_implementation == "sdpa"
    assert torch.equal(torch.get_rng_state(), before)
    assert str(Path(onnx_export.__file__).parents[2]).encode() not in file.read_bytes()


def test_a_file_that_gives_something_else_is_not_kept_and_the_error_says_by_how_much(
    bert: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = onnx_export._write

    def spoiled(module: onnx_export._Flat, file: Path, longest: int) -> None:
        whole(module, file, longest)
        spoil(file, 1.01)

    monkeypatch.setattr(onnx_export, "_write", spoiled)
    with pytest.raises(OnnxMismatch, match=r"last_hidden_state for 1 rows of 1 tokens differs .* by \d\.\d\de-0\d"):
        export_onnx(student_of(bert, STOCK), tmp_path, has_token_types=True)
    assert not list(tmp_path.iterdir())


def test_weights_beyond_one_file_lie_beside_it(bert: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "_ONE_FILE_BYTES", 1000)
    file = export_onnx(student_of(bert, STOCK), tmp_path, has_token_types=True)
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    ids = torch.ones(2, 5, dtype=torch.int64).numpy()
    names = ("input_ids", "attention_mask", "token_type_ids")
    (hidden,) = session(file).run(None, dict.fromkeys(names, ids))
    assert hidden.shape == (2, 5, 48)


def rows_of(teacher: Teacher, *, padded: bool = True) -> Batch:
    given = teacher.tokenizer(SENTENCES, padding=True, return_tensors="pt")
    return Batch(given["input_ids"], given["attention_mask"].bool() if padded else None)


def test_int8_files_run_are_smaller_and_their_loss_is_small(
    teacher: Teacher, exported: tuple[PreTrainedModel, Path], tmp_path: Path
) -> None:
    student, folder = exported
    shutil.copy(folder / "model.onnx", tmp_path)
    file = quantise_onnx(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.int8.onnx"}
    weights = onnx.load(file).graph.initializer
    assert not [part.name for part in weights if part.data_type == onnx.TensorProto.FLOAT and len(part.dims) > 1]
    kept = [part for part in weights if part.name.endswith("_quantized") and len(part.dims) > 1]
    assert sum(part.data_type == onnx.TensorProto.INT8 for part in kept) == 6 * student.config.num_hidden_layers + 1
    rows = rows_of(teacher)
    report = measure_quantisation(tmp_path, [rows])
    assert (report.float32_bytes, report.int8_bytes) == ((tmp_path / "model.onnx").stat().st_size, file.stat().st_size)
    assert report.int8_bytes < 0.5 * report.float32_bytes
    assert rows.mask_BL is not None
    assert (report.rows, report.tokens) == (len(SENTENCES), int(rows.mask_BL.sum()))
    assert 0.99 < report.hidden_cosine < 1
    assert 0.99 < report.pooled_cosine_worst <= report.pooled_cosine < 1
    assert 0 < report.hidden_error < 0.2
    assert 0 < report.pooled_error < 0.2


def test_the_loss_does_not_depend_on_how_rows_are_batched_or_padded(bert: Teacher, tmp_path: Path) -> None:
    export_onnx(student_of(bert, STOCK), tmp_path, has_token_types=True)
    (tmp_path / "model.int8.onnx").write_bytes((tmp_path / "model.onnx").read_bytes())
    same = measure_quantisation(tmp_path, [rows_of(bert, padded=False)])
    assert same.hidden_cosine == pytest.approx(1)
    assert same.hidden_error == same.pooled_error == 0
    spoil(tmp_path / "model.int8.onnx", 1.1)  # hardly changes with the row's company, unlike ranges of activations
    rows = rows_of(bert)
    assert rows.mask_BL is not None
    whole = measure_quantisation(tmp_path, [rows])
    alone = [Batch(ids[real][None]) for ids, real in zip(rows.input_ids_BL, rows.mask_BL, strict=True)]
    apart = measure_quantisation(tmp_path, alone)
    given, wanted = apart.model_dump(exclude_none=True), whole.model_dump(exclude_none=True)
    assert given == pytest.approx(wanted, rel=1e-4)
    assert whole.head_error is None
    assert whole.hidden_error is not None and whole.hidden_error > 0.01
