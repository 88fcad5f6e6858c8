from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from tests.teachers import FAMILIES, SENTENCES
from workloads.craft import stillroom_model
from workloads.craft.card import CardFacts, load_lines
from workloads.craft.cutting import cut_student
from workloads.craft.export import build_student, export_student, stillroom_student
from workloads.craft.teacher import Teacher, open_teacher
from workloads.shapes.architecture import Architecture, Layer
from workloads.shapes.costs import student_cost

Make = Callable[..., Path]

STOCK = Architecture.alike(layers=2, hidden_size=48, heads=3, head_width=16, intermediate_size=120, teacher_layers=3)
PAPER = Architecture.alike(layers=2, hidden_size=40, heads=3, head_width=16, intermediate_size=100, teacher_layers=3)
RAGGED = Architecture(40, (Layer(1, 16, 30, 0), Layer(4, 16, 200, 1), Layer(2, 16, 77, 2)))
SHAPES = pytest.mark.parametrize("architecture", [STOCK, PAPER, RAGGED], ids=["stock", "paper", "ragged"])


@pytest.fixture(scope="module", params=FAMILIES)
def teacher(request: pytest.FixtureRequest, make_teacher: Make, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return open_teacher(make_teacher(tmp_path_factory.mktemp("teacher"), request.param, layers=3))


def card(teacher: Teacher, architecture: Architecture, **changes: Any) -> CardFacts:
    facts = CardFacts(
        name="edge",
        teacher=str(teacher.folder),
        corpus=("sotu",),
        documents=240,
        tokens=160_000,
        method="autodistil",
        family=teacher.shape.vocabulary.family,
        architecture=architecture,
        cost=student_cost(teacher.shape, architecture),
        objective="kl relations",
        heldout_loss=0.25,
        output_trained=False,
        seed=1,
        pooler=teacher.shape.vocabulary.pooler,
    )
    return replace(facts, **changes)


def encode(teacher: Teacher) -> dict[str, torch.Tensor]:
    return dict(teacher.tokenizer(SENTENCES[:3], SENTENCES[3:], padding=True, return_tensors="pt"))


def assert_loaded_whole(info: dict[str, Any]) -> None:
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info


@SHAPES
@torch.inference_mode()
def test_what_is_saved_loads_with_transformers_and_gives_the_same(
    teacher: Teacher, architecture: Architecture, tmp_path: Path
) -> None:
    weights = cut_student(teacher.weights, architecture)
    export_student(tmp_path / "student", teacher, architecture, weights, card(teacher, architecture))
    trust = {} if architecture.stock else {"trust_remote_code": True}
    loaded, info = AutoModel.from_pretrained(tmp_path / "student", output_loading_info=True, **trust)
    assert_loaded_whole(info)
    given = encode(teacher)
    ours, theirs = build_student(teacher, architecture, weights)(**given), loaded(**given)
    assert torch.equal(ours.last_hidden_state, theirs.last_hidden_state)
    assert torch.equal(ours.pooler_output, theirs.pooler_output)
    assert loaded.num_parameters() == student_cost(teacher.shape, architecture).params
    assert type(loaded).__module__.startswith("transformers.") == architecture.stock
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "student", **trust)
    assert tokenizer(SENTENCES)["input_ids"] == teacher.tokenizer(SENTENCES)["input_ids"]


@SHAPES
def test_a_student_carries_its_teachers_tokenizer_files(
    make_teacher: Make, architecture: Architecture, tmp_path: Path
) -> None:
    folder = make_teacher(tmp_path / "teacher", "bert", layers=3)
    # As transformers 4 writes it: without a class the model's own decides.
    names = {"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names | {"unk_token": "[UNK]", "model_max_length": 128}))
    teacher = open_teacher(folder)
    student = tmp_path / "student"
    export_student(
        student, teacher, architecture, cut_student(teacher.weights, architecture), card(teacher, architecture)
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (student / name).read_bytes() == (folder / name).read_bytes()
    assert not any(b"local_files_only" in file.read_bytes() for file in student.glob("*.json"))
    loaded = AutoTokenizer.from_pretrained(student, trust_remote_code=True)
    assert loaded(SENTENCES)["input_ids"] == AutoTokenizer.from_pretrained(folder)(SENTENCES)["input_ids"]


@torch.inference_mode()
def test_our_module_gives_what_the_stock_class_gives(teacher: Teacher) -> None:
    weights, given = cut_student(teacher.weights, STOCK), encode(teacher)
    stock, ours = (build(teacher, STOCK, weights)(**given) for build in (build_student, stillroom_student))
    torch.testing.assert_close(ours.last_hidden_state, stock.last_hidden_state)
    torch.testing.assert_close(ours.pooler_output, stock.pooler_output)
    without_mask = {"input_ids": given["input_ids"]}
    stock, ours = (build(teacher, STOCK, weights)(**without_mask) for build in (build_student, stillroom_student))
    torch.testing.assert_close(ours.last_hidden_state, stock.last_hidden_state)


@torch.inference_mode()
def test_our_module_counts_positions_and_distances_like_the_stock_class_over_long_texts(
    make_teacher: Make, tmp_path: Path
) -> None:
    teacher = open_teacher(make_teacher(tmp_path, "mpnet", layers=1, positions=514))
    whole = teacher.shape.architecture
    ids = torch.randint(5, teacher.shape.vocabulary.vocab_size, (2, 512), generator=torch.Generator().manual_seed(0))
    ours = stillroom_student(teacher, whole, teacher.weights)(ids).last_hidden_state
    torch.testing.assert_close(ours, teacher.model(ids).last_hidden_state)


@torch.inference_mode()
def test_eager_and_sdpa_attention_agree_in_our_module(teacher: Teacher) -> None:
    student, given = stillroom_student(teacher, RAGGED, cut_student(teacher.weights, RAGGED)), encode(teacher)
    sdpa = student(**given).last_hidden_state
    student.set_attn_implementation("eager")
    torch.testing.assert_close(student(**given).last_hidden_state, sdpa)


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("architecture", [PAPER, RAGGED], ids=["paper", "ragged"])
def test_students_with_and_without_a_pooler_cost_what_is_counted(
    make_teacher: Make, tmp_path: Path, architecture: Architecture, pooler: bool
) -> None:
    teacher = open_teacher(make_teacher(tmp_path / "teacher", "mpnet", layers=3, pooler=pooler))
    weights = cut_student(teacher.weights, architecture)
    export_student(tmp_path / "student", teacher, architecture, weights, card(teacher, architecture))
    loaded, info = AutoModel.from_pretrained(tmp_path / "student", trust_remote_code=True, output_loading_info=True)
    assert_loaded_whole(info)
    assert (loaded.pooler is not None) == pooler
    assert loaded.num_parameters() == student_cost(teacher.shape, architecture).params


@pytest.mark.parametrize("length", [8, 60])
@SHAPES
def test_flops_are_half_of_what_torch_counts(teacher: Teacher, architecture: Architecture, length: int) -> None:
    student = build_student(teacher, architecture, cut_student(teacher.weights, architecture))
    student.set_attn_implementation("eager")  # the counter leaves SDPA out on a CPU
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        student(torch.full((1, length), 10))
    assert counter.get_total_flops() == 2 * student_cost(teacher.shape, architecture, length).flops


def test_a_student_with_our_modelling_file_can_be_fine_tuned_saved_and_loaded_again(
    teacher: Teacher, tmp_path: Path
) -> None:
    weights = cut_student(teacher.weights, RAGGED)
    export_student(tmp_path / "student", teacher, RAGGED, weights, card(teacher, RAGGED))
    classifier, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "student", trust_remote_code=True, num_labels=3, output_loading_info=True
    )
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not info["unexpected_keys"]
    given = encode(teacher)
    loss = classifier.train()(**given, labels=torch.tensor([0, 1, 2])).loss
    loss.backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())
    torch.optim.SGD(classifier.parameters(), 0.1).step()
    classifier.eval().save_pretrained(tmp_path / "tuned")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "tuned", trust_remote_code=True)
    with torch.inference_mode():
        assert torch.equal(again(**given).logits, classifier(**given).logits)


def test_a_stock_student_takes_a_classifier_too(teacher: Teacher, tmp_path: Path) -> None:
    export_student(tmp_path, teacher, STOCK, cut_student(teacher.weights, STOCK), card(teacher, STOCK))
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3)
    assert classifier(**encode(teacher)).logits.shape == (3, 3)


@pytest.mark.parametrize("architecture", [STOCK, PAPER], ids=["stock", "paper"])
def test_the_card_loads_the_student_and_its_projection(
    teacher: Teacher, architecture: Architecture, tmp_path: Path
) -> None:
    weights = cut_student(teacher.weights, architecture)
    weights["projection.weight"] = torch.randn(64, architecture.hidden_size)
    weights["projection.bias"] = torch.randn(64)
    folder = tmp_path / "student"
    facts = card(teacher, architecture, projection=True, output_trained=True)
    export_student(folder, teacher, architecture, weights, facts)
    assert torch.equal(load_file(folder / "projection.safetensors")["weight"], weights["projection.weight"])
    text = (folder / "README.md").read_text()
    assert yaml.safe_load(text.split("---")[1])["library_name"] == "transformers"
    blocks = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    names: dict[str, Any] = {}
    exec("\n".join(blocks).replace("path/to/this/folder", str(folder)), names)
    assert names["embedding"].shape == (1, 64)


@pytest.mark.parametrize("architecture", [STOCK, RAGGED], ids=["stock", "ragged"])
def test_the_lines_of_the_card_ask_nothing_warn_of_nothing_and_load_what_was_counted(
    make_teacher: Make,
    architecture: Architecture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    teacher = open_teacher(make_teacher(tmp_path / "teacher", "roberta", layers=3, head="masked-lm"))
    assert not teacher.shape.vocabulary.pooler
    export_student(
        tmp_path, teacher, architecture, cut_student(teacher.weights, architecture), card(teacher, architecture)
    )
    lines = load_lines(architecture, str(tmp_path), pooler=False)
    asked: list[object] = []
    monkeypatch.setattr("builtins.input", lambda *prompt: asked.append(prompt) or "n")
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    names: dict[str, Any] = {}
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        exec("\n".join(lines), names)
    assert not asked
    assert "instantiate a model of type" not in caplog.text and "MISSING" not in caplog.text, caplog.text
    assert names["model"].num_parameters() == student_cost(teacher.shape, architecture).params
    assert names["tokenizer"](SENTENCES)["input_ids"] == teacher.tokenizer(SENTENCES)["input_ids"]


def test_exporting_leaves_the_global_random_state_alone(teacher: Teacher, tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for architecture in (STOCK, PAPER):
        build_student(teacher, architecture, cut_student(teacher.weights, architecture))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_modelling_files_import_what_transformers_4_has_too() -> None:
    folder = Path(stillroom_model.__file__).parent
    assert not [file.name for file in folder.glob("*.py") if "PreTrainedConfig" in file.read_text()]
