"""Configuration, tokenizer and weights that disagree, and folders as the field's tools write them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.teacher_files import CONFIG, TOKENIZER, expected_shapes, write_teacher, write_weights
from workloads.shapes.teacher_files import check_teacher, is_path, locate
from workloads.spec.errors import InputError
from workloads.spec.request import TeacherSpec
from workloads.storage.places import Places

SHAPES = expected_shapes(CONFIG)
WORDS = "embeddings.word_embeddings.weight"


def refusal(folder: Path | str, places: Places | None = None) -> str:
    with pytest.raises(InputError) as caught:
        check_teacher(TeacherSpec(model=str(folder)), *([places] if places else []))
    (finding,) = caught.value.errors
    assert finding.field == "teacher.model" and finding.remedy
    str(finding).encode()
    return str(finding)


@pytest.mark.parametrize(
    ("key", "value", "tensor", "stored"),
    [
        ("vocab_size", 200, WORDS, "100"),
        ("hidden_size", 768, WORDS, "384"),
        ("max_position_embeddings", 64, "embeddings.position_embeddings.weight", "128"),
        ("type_vocab_size", 1, "embeddings.token_type_embeddings.weight", "2"),
        ("intermediate_size", 1024, "encoder.layer.0.intermediate.dense.weight", "1,536"),
        ("num_hidden_layers", 4, "6 layers", "6"),
        ("num_hidden_layers", 12, "6 layers", "6"),
    ],
)
def test_a_configuration_that_the_weights_do_not_fit_is_refused_with_both_sizes_and_the_key(
    tmp_path: Path, key: str, value: int, tensor: str, stored: str
) -> None:
    text = refusal(write_teacher(tmp_path, **{key: value}))
    assert key in text and str(value) in text and tensor in text and stored in text


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder.layer.3.output.dense.bias": None},
        {"encoder.layer.3.output.dense.bias": (384, 1)},
        {"encoder.layer.0.attention.self.query.lora_A.weight": (8, 384)},
        {"embeddings.extra.weight": (3,)},
        {"pooler.dense.weight": (384, 384)},
        {WORDS: None},
    ],
)
def test_a_tensor_that_is_missing_unknown_or_of_another_shape_is_named(
    tmp_path: Path, changes: dict[str, tuple[int, ...] | None]
) -> None:
    folder = write_teacher(tmp_path)
    shapes = {name: shape for name, shape in (SHAPES | changes).items() if shape is not None}
    write_weights(folder / "model.safetensors", shapes)
    assert next(iter(changes)).removesuffix(".weight") in refusal(folder)


def test_weights_that_are_no_floats_are_refused(tmp_path: Path) -> None:
    folder = write_teacher(tmp_path)
    write_weights(folder / "model.safetensors", SHAPES, **{WORDS: {"dtype": "I32"}})
    assert "I32" in refusal(folder)


@pytest.mark.parametrize("prefix", ["question_encoder.", "_orig_mod.student.", "model.encoder."])
def test_a_prefix_that_is_no_wrappers_is_named(tmp_path: Path, prefix: str) -> None:
    folder = write_teacher(tmp_path)
    write_weights(folder / "model.safetensors", {prefix + name: shape for name, shape in SHAPES.items()})
    assert prefix in refusal(folder)


def test_a_wrappers_prefix_before_some_names_only_is_named(tmp_path: Path) -> None:
    folder = write_teacher(tmp_path)
    shapes = {f"module.{name}": shape for name, shape in SHAPES.items()} | {"head.weight": (3,)}
    write_weights(folder / "model.safetensors", shapes)
    assert "module." in refusal(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", {"model": TOKENIZER["model"] | {"vocab": {"[UNK]": 0, "a": 100}}}),  # type: ignore[operator]
        ("added_tokens.json", {f"<{number}>": number for number in range(100, 200)}),
        ("tokenizer_config.json", {"additional_special_tokens": [f"<{number}>" for number in range(96)]}),
        ("special_tokens_map.json", {"extra_special_tokens": [{"content": f"<{number}>"} for number in range(96)]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {str(n): {"content": f"<{n}>"} for n in range(96)}}),
    ],
)
def test_a_token_beyond_the_models_table_is_named(tmp_path: Path, name: str, content: dict[str, Any]) -> None:
    folder = write_teacher(tmp_path)
    (folder / name).write_text(json.dumps(TOKENIZER | content if name == "tokenizer.json" else content))
    assert "vocab_size: 100" in refusal(folder)


def test_the_ids_of_a_plain_vocabulary_are_looked_at(tmp_path: Path) -> None:
    folder = write_teacher(tmp_path)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(f"w{number}" for number in range(100)) + "\n")
    check_teacher(TeacherSpec(model=str(folder)))
    (folder / "vocab.txt").write_text("\n".join(f"w{number}" for number in range(101)))
    assert "'w100'" in refusal(folder)


def _hub_cache(folder: Path, *commits: str) -> Path:
    for commit in commits:
        write_teacher(folder / "snapshots" / commit)
    return folder


def test_a_model_of_the_hubs_cache_is_found_by_its_ref(tmp_path: Path) -> None:
    model = _hub_cache(tmp_path / "models--acme--tiny", "aaa", "bbb")
    text = refusal(model)
    assert f"{model}/snapshots/aaa" in text and f"{model}/snapshots/bbb" in text
    (model / "refs").mkdir()
    (model / "refs/main").write_text("bbb")
    assert locate(TeacherSpec(model=str(model))) == f"{model}/snapshots/bbb"
    assert locate(TeacherSpec(model=str(model), revision="aaa")) == f"{model}/snapshots/aaa"
    (model / "refs/main").write_text("../../../../etc")
    assert "no config.json" in refusal(model)
    assert f"{model}" in refusal(tmp_path)


def test_a_path_out_of_the_folder_or_the_roots_is_not_followed(tmp_path: Path) -> None:
    outside = write_teacher(tmp_path / "outside")
    root = tmp_path / "root"
    root.mkdir()
    places = Places((str(root),))
    kind = "sentence_transformers.models.Transformer"
    for path in ("../outside", str(outside), "link", ".", "a/../../outside"):
        (root / "modules.json").write_text(json.dumps([{"path": path, "type": kind}]))
        (root / "link").is_symlink() or (root / "link").symlink_to(outside)
        assert "no config.json" in refusal(root, places) or "leads out" in refusal(root, places)
    (root / "modules.json").write_text("[" * 5000)
    assert "nested" in refusal(root, places)
    (root / "modules.json").unlink()
    _hub_cache(root, "aaa")
    shutil.rmtree(root / "snapshots/aaa")
    (root / "snapshots/aaa").symlink_to(outside)
    assert "leads out" in refusal(root, places) or "no config.json" in refusal(root, places)


@pytest.mark.parametrize("name", ["a" * 300, "/".join(["a" * 200] * 18), "~nobody-of-that-name/x", "loop", "pipe"])
def test_a_path_that_no_folder_can_have_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    refusal(name if name.startswith("~") else f"{tmp_path}/{name}")
    is_path(name)


def test_a_folder_of_very_many_entries_is_no_teachers(tmp_path: Path) -> None:
    for number in range(10_001):
        (tmp_path / str(number)).touch()
    assert "10,000" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_what_is_no_plain_file_holds_nobody_up(tmp_path: Path, name: str) -> None:
    folder = write_teacher(tmp_path)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refusal(folder)
