from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.teachers import FAMILIES
from workloads.shapes.architecture import Architecture, TeacherShape, Vocabulary
from workloads.shapes.teacher_files import check_teacher, fingerprint, is_path, named_shape, shape_of
from workloads.spec.errors import InputError
from workloads.spec.request import TeacherSpec

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def bert(make_teacher: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tmp_path_factory.mktemp("teacher"), "bert", layers=2)


@pytest.fixture
def folder(bert: Path, tmp_path: Path) -> Path:
    """A copy of a good teacher, to spoil."""
    return Path(shutil.copytree(bert, tmp_path / "teacher"))


def refusal(folder: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        check_teacher(TeacherSpec(model=str(folder)))
    (finding,) = caught.value.errors
    assert finding.field == "teacher.model"
    assert finding.remedy
    return finding.problem


def edit_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_whole_teacher_passes(folder: Path) -> None:
    check_teacher(TeacherSpec(model=str(folder)))


def test_a_hub_id_passes_until_it_is_downloaded() -> None:
    check_teacher(TeacherSpec(model="sentence-transformers/all-MiniLM-L6-v2"))
    check_teacher(TeacherSpec(model="bert-base-uncased"))


def test_what_looks_like_a_path_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(is_path(model) for model in ("/a/b", "./a", "../a", "~/a", "s3://bucket/a", "gs://bucket/a"))
    assert not is_path("org/name")
    (tmp_path / "org/name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert is_path("org/name")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "no folder" in refusal(tmp_path / "nowhere")


def test_an_address_of_an_unknown_kind_is_refused() -> None:
    assert "cannot be opened" in refusal("ftp://host/teacher")


def test_a_file_in_place_of_a_folder_is_refused(folder: Path) -> None:
    assert "no folder" in refusal(folder / "config.json")


def test_a_folder_without_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "no config.json" in refusal(folder)


def test_a_configuration_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    assert "not valid JSON" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model_type": "gpt2"}, "'gpt2', which is not supported"),
        ({"model_type": None}, "not supported"),
        ({"auto_map": {"AutoModel": "modeling.Model"}}, "code of its own"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"is_decoder": True}, "decoder"),
        ({"position_embedding_type": "relative_key"}, "position embeddings"),
        ({"model_type": "mpnet", "relative_attention_num_buckets": 64}, "relative_attention_num_buckets: 64"),
    ],
)
def test_a_configuration_that_is_not_supported_is_refused(
    folder: Path, changes: dict[str, object], problem: str
) -> None:
    edit_config(folder, **changes)
    assert problem in refusal(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_alone_are_refused(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    assert "only pickled weights" in refusal(folder)


def test_pickled_weights_beside_safetensors_do_no_harm(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"")
    check_teacher(TeacherSpec(model=str(folder)))


def test_no_weights_at_all_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no weights" in refusal(folder)


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_weights_that_are_cut_short_are_refused(folder: Path, length: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    assert "cut short" in refusal(folder)


def test_a_missing_part_of_the_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks model-00002-of-00002.safetensors" in refusal(folder)


def test_a_missing_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert "no tokenizer" in refusal(folder)


def test_a_vocabulary_stands_in_for_a_tokenizer_file(folder: Path) -> None:
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)))
    check_teacher(TeacherSpec(model=str(folder)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("pooler", "head"), [(True, None), (False, None), (False, "masked-lm")])
def test_the_shape_is_read_from_the_files(
    make_teacher: Make, tmp_path: Path, family: str, pooler: bool, head: str | None
) -> None:
    folder = make_teacher(tmp_path, family, layers=2, pooler=pooler, head=head)
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    token_types = {"bert": 2, "mpnet": 0}.get(family, 1)
    buckets = 32 if family == "mpnet" else 0
    # RoBERTa-like families and MPNet count positions from behind the padding id, 1.
    reserved = 0 if family == "bert" else 2
    read = Vocabulary(family, vocabulary, 130, token_types, buckets, pooler, reserved)
    assert shape_of(folder) == TeacherShape(Architecture.of_teacher(2, 64, 4, 256), read)


def test_a_configuration_without_a_size_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["hidden_size"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="'hidden_size'"):
        shape_of(folder)


def test_well_known_teachers_have_names(folder: Path) -> None:
    assert (named_shape("bert-base").layers, named_shape("bert-base").hidden_size) == (12, 768)
    assert named_shape(str(folder)) == shape_of(folder)
    with pytest.raises(InputError, match="bert-base, bert-large"):
        named_shape("bert-bse")


def test_the_fingerprint_is_of_the_contents(folder: Path, bert: Path) -> None:
    assert fingerprint(folder) == fingerprint(bert)
    (folder / "notes.txt").write_text("not part of the teacher")
    assert fingerprint(folder) == fingerprint(bert)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        before = fingerprint(folder)
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        (folder / name).write_bytes(content)
        if name == "config.json":
            (folder / name).write_bytes((bert / name).read_bytes() + b"\n")
        assert fingerprint(folder) != before, name


def test_it_is_light_to_import() -> None:
    heavy = ("torch", "transformers")
    code = f"import sys, workloads.shapes.teacher_files; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
