"""Students that load as what they are, with the libraries that their teachers are used with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer, pipeline

from tests.teachers import SENTENCES, add_modules
from workloads.craft.card import CardFacts
from workloads.craft.export import export_student
from workloads.craft.families import family_of
from workloads.craft.latency.runtimes import load_student
from workloads.craft.onnx_export import export_onnx, measure_quantisation, quantise_onnx, session
from workloads.craft.outputs import subnet_outputs, teacher_outputs
from workloads.craft.signals import Batch
from workloads.craft.superlm_files import build_superlm
from workloads.craft.teacher import Teacher, open_teacher
from workloads.craft.whole import build_whole
from workloads.shapes.architecture import Architecture, Layer
from workloads.shapes.costs import student_cost
from workloads.shapes.search_space import ListedSpace
from workloads.shapes.teacher_files import shape_of

Make = Callable[..., Path]
STOCK = Architecture.alike(layers=2, hidden_size=32, heads=2, head_width=16, intermediate_size=96, teacher_layers=3)
FREE = Architecture(40, (Layer(1, 16, 96, 0), Layer(3, 16, 40, 2)))
SHAPES = pytest.mark.parametrize("shape", [STOCK, FREE], ids=["stock", "free"])
QUESTIONS = ["What is it?", "Who is small?", "Who greets?", "What is lost?", "What is met?", "Who jumped?"]


def encode(teacher: Teacher, pairs: bool = False) -> Batch:
    texts = (QUESTIONS, SENTENCES) if pairs else (SENTENCES,)
    found = teacher.tokenizer(*texts, return_tensors="pt", padding=True)
    return Batch(found["input_ids"], found["attention_mask"].bool(), found.get("token_type_ids"))


def export(folder: Path, teacher: Teacher, shape: Architecture, pairs: bool = False) -> torch.Tensor:
    """Export a student cut from its teacher, and return what the subnet gives."""
    superlm = build_superlm(teacher, ListedSpace("all", (shape, teacher.shape.architecture)), order=None).superlm
    weights = superlm.extract(shape)
    facts = CardFacts(
        name="a student", teacher="t", corpus=("c",), documents=1, tokens=1, method="m", family="f",
        architecture=shape, cost=student_cost(teacher.shape, shape), objective="o", heldout_loss=None,
        output_trained=True, seed=0, head=teacher.shape.head, onnx=True,
    )  # fmt: skip
    export_student(folder, teacher, shape, weights, facts)
    model = build_whole(teacher, shape, weights)
    export_onnx(model, folder, has_token_types="token_type_ids" in teacher.tokenizer.model_input_names)
    parameters = sum(one.numel() for one in model.parameters())
    assert parameters == facts.cost.params
    opened = open_teacher(folder, shape_of(folder, None).kind)
    assert opened.shape.kind == teacher.shape.kind
    expected = subnet_outputs(superlm.eval(), shape, [encode(teacher, pairs)])
    torch.testing.assert_close(teacher_outputs(opened, [encode(teacher, pairs)]), expected, atol=1e-5, rtol=1e-4)
    return expected


def onnx_of(folder: Path, teacher: Teacher, output: str, pairs: bool = False) -> torch.Tensor:
    runtime, batch = session(folder / "model.onnx"), encode(teacher, pairs)
    given = {"input_ids": batch.input_ids_BL, "attention_mask": batch.mask_BL, "token_type_ids": batch.token_types_BL}
    names = {one.name for one in runtime.get_inputs()}
    return torch.from_numpy(runtime.run([output], {name: given[name].long().numpy() for name in names})[0])


@SHAPES
@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet"])
def test_a_classifier_is_a_pipeline(make_teacher: Make, tmp_path: Path, family: str, shape: Architecture) -> None:
    names = {"id2label": {0: "good", 1: "bad", 2: "so-so"}, "label2id": {"good": 0, "bad": 1, "so-so": 2}}
    folder = make_teacher(tmp_path / "teacher", family, layers=3, head="classification", **names)
    teacher, student = open_teacher(folder, "classification"), tmp_path / "student"
    expected = export(student, teacher, shape)
    trust: Any = {} if shape.stock else {"trust_remote_code": True}
    model, info = AutoModelForSequenceClassification.from_pretrained(student, output_loading_info=True, **trust)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    batch = encode(teacher)
    with torch.inference_mode():
        torch.testing.assert_close(model(batch.input_ids_BL, batch.mask_BL).logits, expected, atol=1e-5, rtol=1e-4)
    answers = pipeline("text-classification", str(student), device="cpu", **trust)(SENTENCES)
    assert [one["label"] for one in answers] == [names["id2label"][int(label)] for label in expected.argmax(-1)]
    torch.testing.assert_close(onnx_of(student, teacher, "logits"), expected, atol=1e-4, rtol=1e-4)


@SHAPES
def test_a_token_classifier_is_a_pipeline(make_teacher: Make, tmp_path: Path, shape: Architecture) -> None:
    folder = make_teacher(tmp_path / "teacher", "bert", layers=3, head="token-classification", labels=5)
    teacher, student = open_teacher(folder, "token-classification"), tmp_path / "student"
    expected = export(student, teacher, shape)
    trust: Any = {} if shape.stock else {"trust_remote_code": True}
    batch = encode(teacher)
    model = AutoModelForTokenClassification.from_pretrained(student, **trust)
    with torch.inference_mode():
        logits = model(batch.input_ids_BL, batch.mask_BL).logits
    torch.testing.assert_close(logits[batch.mask_BL], expected, atol=1e-5, rtol=1e-4)
    assert pipeline("token-classification", str(student), device="cpu", **trust)(SENTENCES[0])


@pytest.mark.parametrize("activation", ["linear.Identity", "activation.Sigmoid", None])
def test_a_reranker_is_a_cross_encoder_with_its_activation(
    make_teacher: Make, tmp_path: Path, activation: str | None
) -> None:
    folder = make_teacher(tmp_path / "teacher", "bert", layers=3, head="classification", labels=1)
    own = {} if activation is None else {"activation_fn": f"torch.nn.modules.{activation}"}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "sentence_transformers": {**own, "version": "5.0"}}))
    teacher, student = open_teacher(folder, "classification"), tmp_path / "student"
    expected = export(student, teacher, STOCK, pairs=True)[:, 0]
    pairs = list(zip(QUESTIONS, SENTENCES, strict=True))
    theirs, ours = (CrossEncoder(str(one), device="cpu") for one in (folder, student))
    scores = torch.from_numpy(ours.predict(pairs))
    expected = expected if activation == "linear.Identity" else expected.sigmoid()
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)
    assert type(ours.activation_fn) is type(theirs.activation_fn)
    assert shape_of(student, None).head == teacher.shape.head


@SHAPES
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("bert", {"pooling": "mean", "prompts": {"query": "ask: "}, "similarity_fn_name": "cosine"}),
        ("mpnet", {"pooling": "cls", "dense": [(48, "Tanh")], "max_seq_length": 70}),
        ("roberta", {"pooling": "max", "normalize": False, "similarity_fn_name": "dot"}),
    ],
)
def test_an_embedding_student_is_a_sentence_transformer(
    make_teacher: Make, tmp_path: Path, family: str, settings: Any, shape: Architecture
) -> None:
    folder = add_modules(make_teacher(tmp_path / "teacher", family, layers=3), **settings)
    teacher, student = open_teacher(folder, "embedding"), tmp_path / "student"
    assert family_of(family)
    expected = export(student, teacher, shape)
    theirs = SentenceTransformer(str(folder), device="cpu")
    ours = SentenceTransformer(str(student), device="cpu", trust_remote_code=not shape.stock)
    short = [text for text in SENTENCES if len(teacher.tokenizer(text)["input_ids"]) <= ours.max_seq_length]
    vectors = torch.from_numpy(ours.encode(short))
    rows = [SENTENCES.index(text) for text in short]
    torch.testing.assert_close(vectors, expected[rows], atol=1e-5, rtol=1e-4)
    assert vectors.shape[-1] == theirs.encode(short).shape[-1]  # the teacher's space
    assert (ours.max_seq_length, ours.similarity_fn_name) == (theirs.max_seq_length, theirs.similarity_fn_name)
    assert ours.prompts == theirs.prompts
    torch.testing.assert_close(onnx_of(student, teacher, "sentence_embedding"), expected, atol=1e-4, rtol=1e-4)
    module = load_student(student)
    assert sum(one.numel() for one in module.parameters()) == student_cost(teacher.shape, shape).params


@pytest.mark.parametrize("dense", [[], [(48, "Tanh")]])
def test_an_embedding_student_may_have_a_smaller_space_of_its_own(
    make_teacher: Make, tmp_path: Path, dense: list[tuple[int, str]]
) -> None:
    folder = add_modules(make_teacher(tmp_path / "teacher", "bert", layers=3), dense=dense)
    teacher, student = open_teacher(folder, "embedding", embedding_size=20), tmp_path / "student"
    assert teacher_outputs(teacher, [encode(teacher)]).shape[-1] == (48 if dense else 64)
    expected = export(student, teacher, STOCK)
    assert expected.shape[-1] == 20
    ours = SentenceTransformer(str(student), device="cpu")
    torch.testing.assert_close(torch.from_numpy(ours.encode(SENTENCES)), expected, atol=1e-5, rtol=1e-4)
    # The largest student starts as the first dimensions of its teacher's vectors.
    superlm = build_superlm(teacher, ListedSpace("all", (teacher.shape.architecture,)), order=None).superlm.eval()
    whole = teacher_outputs(teacher, [encode(teacher)])[:, :20]
    first = subnet_outputs(superlm, teacher.shape.architecture, [encode(teacher)])
    torch.testing.assert_close(first, torch.nn.functional.normalize(whole, dim=-1), atol=1e-4, rtol=1e-4)


def test_int8_files_tell_the_error_of_the_head(make_teacher: Make, tmp_path: Path) -> None:
    for kind, made in (
        ("classification", make_teacher(tmp_path / "a", "bert", layers=3, head="classification")),
        ("embedding", add_modules(make_teacher(tmp_path / "b", "bert", layers=3))),
    ):
        teacher, student = open_teacher(made, kind), tmp_path / f"student-{kind}"
        export(student, teacher, STOCK)
        quantise_onnx(student)
        report = measure_quantisation(student, [encode(teacher)])
        assert report.head_error is not None and 0 < report.head_error < 0.3
        assert (report.hidden_error is None) == (kind == "classification")
        assert (report.rows, len(report.outputs)) == (len(SENTENCES), 1 if kind == "classification" else 3)


def test_the_cards_lines_run(make_teacher: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = add_modules(make_teacher(tmp_path / "teacher", "bert", layers=3))
    student = tmp_path / "path" / "to" / "this" / "folder"
    export(student, open_teacher(folder, "embedding"), STOCK)
    card = (student / "README.md").read_text()
    assert "embedding: a vector of 64 dimensions for a text, in the teacher's space (mean pooling, normalised)" in card
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in card.split("```python\n")[1:]:
        exec(block.split("```")[0], names)
    assert names["vectors"].shape == (1, 64)
    assert names["output"].shape == (1, 64)
    assert AutoTokenizer.from_pretrained(student).model_max_length == 128
