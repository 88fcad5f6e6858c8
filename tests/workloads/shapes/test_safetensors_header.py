from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError, safe_open

from tests.teacher_files import CONFIG, expected_shapes, write_header, write_teacher, write_weights
from workloads.shapes.teacher_files import check_teacher
from workloads.spec.errors import InputError
from workloads.spec.request import TeacherSpec

WORDS = "embeddings.word_embeddings.weight"
F32 = {"dtype": "F32", "shape": [100, 384], "data_offsets": [0, 153_600]}


def refusal(folder: Path) -> str:
    started = time.process_time()
    with pytest.raises(InputError) as caught:
        check_teacher(TeacherSpec(model=str(folder)))
    assert time.process_time() - started < 1
    (finding,) = caught.value.errors
    assert finding.field == "teacher.model" and finding.remedy
    return finding.problem


@pytest.mark.parametrize(
    "changes",
    [
        {"data_offsets": [0]},
        {"data_offsets": [0, 153_600, 1]},
        {"data_offsets": [0, "153600"]},
        {"data_offsets": [-4, 153_596]},
        {"data_offsets": [153_600, 0]},
        {"data_offsets": [0, 1 << 80]},
        {"data_offsets": [4, 153_604]},
        {"data_offsets": None},
        {"shape": [100, 385]},
        {"shape": [-100, -384]},
        {"shape": [1 << 70, 0]},
        {"shape": "wide"},
        {"shape": [1.5]},
        {"shape": [1] * 10_000},
        {"shape": [True]},
        {"dtype": "F31"},
        {"dtype": ["F32"]},
        {"dtype": None},
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = write_teacher(tmp_path)
    write_weights(folder / "model.safetensors", expected_shapes(CONFIG), **{WORDS: changes})
    assert WORDS in refusal(folder)


@pytest.mark.parametrize(
    "header",
    [
        b"", b"[]", b"null", b"{", b"{}", b"\xff\xfe", b"[" * 5000, b'{"a":' * 5000, b'{"a": 1}', b'{"a": {}}',
        b'{"__metadata__": 3}', json.dumps({WORDS: F32, "a": F32}).encode(),
    ],
)  # fmt: skip
def test_what_is_no_header_of_the_file_is_refused(tmp_path: Path, header: bytes) -> None:
    folder = write_teacher(tmp_path)
    write_header(folder / "model.safetensors", header, 153_600)
    refusal(folder)


@pytest.mark.parametrize("length", [1 << 63, 1 << 20, (64 << 20) - 8, 0])
def test_a_header_longer_than_its_file_or_than_is_read_is_refused(tmp_path: Path, length: int) -> None:
    folder = write_teacher(tmp_path)
    write_header(folder / "model.safetensors", b"{}", 0, length)
    if length == (64 << 20) - 8:
        with (folder / "model.safetensors").open("r+b") as file:
            file.truncate(64 << 20)
    assert "header" in refusal(folder)


def test_a_cut_or_a_longer_file_is_refused(tmp_path: Path) -> None:
    file = write_teacher(tmp_path) / "model.safetensors"
    size = file.stat().st_size
    for wrong in (size - 1, size + 1, 9, 7, 0):
        with file.open("r+b") as target:
            target.truncate(wrong)
        assert "model.safetensors" in refusal(tmp_path)
        with pytest.raises(SafetensorError):
            safe_open(file, "np").__enter__()


@pytest.mark.parametrize(
    "index",
    [
        {"weight_map": {"a": "../../etc/passwd"}}, {"weight_map": {"a": "/etc/passwd"}}, {"weight_map": {"a": ["b"]}},
        {"weight_map": ["a"]}, {"weight_map": {}}, {}, {"weight_map": {"a": "config.json"}},
        {"weight_map": {str(number): f"{number}.safetensors" for number in range(1000)}},
        {"weight_map": {"a": "sub/model.safetensors"}}, {"weight_map": {"a": "\ud800.safetensors"}},
    ],
)  # fmt: skip
def test_an_index_that_names_other_files_is_refused(tmp_path: Path, index: dict[str, Any]) -> None:
    folder = write_teacher(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refusal(folder)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    folder = write_teacher(tmp_path)
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    write_weights(folder / "b.safetensors", {WORDS: (100, 384)})
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}})
    )
    assert WORDS in refusal(folder)
