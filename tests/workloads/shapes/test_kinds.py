"""Kinds of teachers, recognised from their folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.teachers import add_modules
from workloads.shapes.architecture import TeacherShape
from workloads.shapes.costs import student_cost
from workloads.shapes.heads import Dense, LogitsHead, VectorHead
from workloads.shapes.teacher_files import check_teacher, shape_of
from workloads.spec.errors import InputError
from workloads.spec.request import TeacherSpec

Make = Callable[..., Path]


def edit(file: Path, **changes: Any) -> None:
    document = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in {**document, **changes}.items() if value != "gone"}))


def refused(folder: Path, kind: Any = None) -> str:
    with pytest.raises(InputError) as caught:
        check_teacher(TeacherSpec(model=str(folder)), kind=kind)
    (error,) = caught.value.errors
    return f"{error.field}: {error.problem} {error.remedy}"


def head_of(folder: Path, kind: Any = None) -> Any:
    shape = shape_of(folder, kind)
    assert TeacherShape.from_json(json.loads(json.dumps(shape.to_json()))) == shape
    return shape.head


@pytest.mark.parametrize("head", [None, "masked-lm"])
def test_a_plain_folder_is_an_encoder(make_teacher: Make, tmp_path: Path, head: str | None) -> None:
    folder = make_teacher(tmp_path, "bert", layers=1, head=head)
    assert shape_of(folder, None) == shape_of(folder)
    assert shape_of(folder).kind == "encoder"
    assert "head" not in shape_of(folder).to_json()


def test_a_sentence_transformers_folder_is_an_embedding_model(make_teacher: Make, tmp_path: Path) -> None:
    folder = add_modules(
        make_teacher(tmp_path, "bert", layers=1),
        pooling="cls",
        max_seq_length=40,
        do_lower_case=True,
        prompts={"query": "ask: ", "document": ""},
        default_prompt_name="query",
        similarity_fn_name="dot",
    )
    assert head_of(folder) == VectorHead(
        pooling="cls",
        dense=(Dense(64),),
        projected=True,
        normalize=True,
        longest=40,
        lowercase=True,
        prompts=(("query", "ask: "), ("document", "")),
        default_prompt="query",
        similarity="dot",
    )
    assert shape_of(folder, None).longest == 40
    assert shape_of(folder).longest == 130
    shape = shape_of(folder, None)
    counted, own = (student_cost(one, one.architecture) for one in (shape, shape.of_teacher))
    assert (counted.params - own.params, counted.flops - own.flops) == (64 * 64 + 64, 64 * 64)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"labels": 4}, "single-label"),
        ({"labels": 1}, "regression"),
        ({"labels": 4, "problem_type": "multi_label_classification"}, "multi-label"),
        ({"labels": 4, "problem_type": "regression"}, "regression"),
    ],
)
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_classifier_is_recognised(
    make_teacher: Make, tmp_path: Path, family: str, settings: Any, problem: Any
) -> None:
    folder = make_teacher(tmp_path, family, layers=1, head="classification", **settings)
    assert head_of(folder) == LogitsHead("classification", settings["labels"], problem, longest=128)
    shape = shape_of(folder, None)
    assert shape.vocabulary.pooler
    # A linear map of every layer's width to itself, and the classifier; once a sequence.
    without = student_cost(shape.with_head(None), shape.architecture)
    counted, labels = student_cost(shape, shape.architecture), settings["labels"]
    assert (counted.params - without.params, counted.flops - without.flops) == (65 * labels, 64 * labels)


def test_a_token_classifier_is_recognised(make_teacher: Make, tmp_path: Path) -> None:
    folder = make_teacher(tmp_path, "mpnet", layers=1, head="token-classification", labels=5)
    assert head_of(folder) == LogitsHead("token-classification", 5, longest=128)
    shape = shape_of(folder, None)
    assert not shape.vocabulary.pooler
    per_token = [
        student_cost(one, shape.architecture, 20).flops - student_cost(one, shape.architecture, 10).flops
        for one in (shape, shape.with_head(None))
    ]
    assert per_token[0] - per_token[1] == 10 * 64 * 5


@pytest.mark.parametrize(
    "settings",
    [
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "5.0.0"}},
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
    ],
)
def test_a_cross_encoder_reads_pairs(make_teacher: Make, tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = make_teacher(tmp_path, "bert", layers=1, head="classification", labels=1)
    edit(folder / "config.json", **settings)
    head = head_of(folder)
    assert head.pairs
    assert head.activation == "torch.nn.modules.linear.Identity"


def test_a_cross_encoder_of_version_6_reads_pairs(make_teacher: Make, tmp_path: Path) -> None:
    folder = make_teacher(tmp_path, "bert", layers=1, head="classification", labels=1)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    settings = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.activation.Sigmoid"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    assert head_of(folder) == LogitsHead(
        "classification", 1, "regression", True, settings["activation_fn"], longest=128
    )


def test_a_kind_may_be_asserted(make_teacher: Make, tmp_path: Path) -> None:
    plain = make_teacher(tmp_path / "plain", "bert", layers=1)
    classifier = make_teacher(tmp_path / "classifier", "bert", layers=1, head="classification")
    vectors = add_modules(make_teacher(tmp_path / "vectors", "bert", layers=1))
    for folder in (plain, classifier, vectors):
        assert head_of(folder, "encoder") is None
    head = head_of(plain, "embedding")
    assert (head.pooling, head.normalize, head.projected) == ("mean", False, True)
    assert "teacher.kind" in refused(plain, "classification")
    assert "'embedding', not 'classification'" in refused(vectors, "classification")
    assert "'classification', not 'embedding'" in refused(classifier, "embedding")
    assert "'classification', not 'token-classification'" in refused(classifier, "token-classification")


@pytest.mark.parametrize(
    ("name", "type_", "words"),
    [
        ("WeightedLayerPooling", None, "the module WeightedLayerPooling, which is not supported"),
        ("Dense", None, "modules Transformer, Dense, Normalize"),
        (None, "my_code.Pooling", "'my_code.Pooling', whose code is never run"),
    ],
)
def test_other_modules_are_refused_by_name(
    make_teacher: Make, tmp_path: Path, name: str | None, type_: str | None, words: str
) -> None:
    folder = add_modules(make_teacher(tmp_path, "bert", layers=1))
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = type_ or f"sentence_transformers.models.{name}"
    (folder / "modules.json").write_text(json.dumps(modules))
    message = refused(folder)
    assert words in message
    assert "teacher.kind to 'encoder'" in message
    assert head_of(folder, "encoder") is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pooling_mode": "median"}, "pooling of unknown kind: 'median'"),
        ({"pooling_mode": ["mean", "max"]}, "joins several poolings (mean, max)"),
        ({"pooling_mode": "gone", "pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}, "(cls, max)"),
        ({"pooling_mode": "gone"}, "pooling of unknown kind"),
        ({"embedding_dimension": 65}, "pools 65 dimensions, and the Transformer's config.json says 64"),
    ],
)
def test_other_poolings_are_refused(make_teacher: Make, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = add_modules(make_teacher(tmp_path, "bert", layers=1))
    edit(folder / "1_Pooling" / "config.json", **changes)
    assert words in refused(folder)


def test_a_pooling_without_the_prompt_is_refused(make_teacher: Make, tmp_path: Path) -> None:
    folder = add_modules(make_teacher(tmp_path, "bert", layers=1), prompts={"query": "ask: "})
    edit(folder / "1_Pooling" / "config.json", include_prompt=False)
    assert "leaves the prompt's tokens out" in refused(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"in_features": 63}, "in_features: 63, and the module before it gives 64"),
        ({"out_features": 31}, "should hold linear.weight of [31, 64] in floats, and has one of [32, 64]"),
        ({"activation_function": "my_code.Tanh"}, "activation_function: 'my_code.Tanh', which is not supported"),
        ({"use_residual": True}, "more than a map of the vector"),
    ],
)
def test_other_dense_modules_are_refused(
    make_teacher: Make, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    folder = add_modules(make_teacher(tmp_path, "bert", layers=1), dense=[(32, "Tanh")])
    edit(folder / "2_Dense" / "config.json", **changes)
    assert words in refused(folder)


def test_dense_weights_that_are_pickled_are_refused(make_teacher: Make, tmp_path: Path) -> None:
    folder = add_modules(make_teacher(tmp_path, "bert", layers=1), dense=[(32, "Tanh")])
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    assert "2_Dense/model.safetensors is missing" in refused(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id2label": {"0": "a", "1": "b"}}, "gives 3 numbers, and config.json has 2 labels (id2label)"),
        ({"id2label": {"1": "a", "2": "b", "3": "c"}}, "other numbers than 0 to 2"),
        ({"id2label": "gone", "label2id": "gone", "num_labels": 7}, "has 7 labels (num_labels)"),
        ({"problem_type": "ranking"}, "problem_type: 'ranking', which is not allowed"),
    ],
)
def test_a_head_that_contradicts_its_labels_is_refused(
    make_teacher: Make, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    folder = make_teacher(tmp_path, "bert", layers=1, head="classification")
    edit(folder / "config.json", **changes)
    assert words in refused(folder)


def test_a_class_without_its_head_is_refused(make_teacher: Make, tmp_path: Path) -> None:
    folder = make_teacher(tmp_path, "roberta", layers=1)
    edit(folder / "config.json", architectures=["RobertaForSequenceClassification"])
    message = refused(folder)
    assert "no weights of a classification head" in message
    assert "'encoder'" in message
