from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workloads.craft.text import splits
from workloads.craft.text.readers import read_documents
from workloads.craft.text.sources import Source, list_sources
from workloads.craft.text.splits import FilePiece, Split, plan_splits
from workloads.spec.errors import FieldError, InputError
from workloads.spec.request import CorpusSpec

TEXTS = [f"Document {number} says é, and \u2028 more." for number in range(40)]


def _read(spec: CorpusSpec) -> list[str]:
    found = plan_splits(list_sources(spec), spec)
    found = [Split.from_json(split.to_json()) for split in found]
    return [text for split in found for piece in split.pieces for (text,) in read_documents(piece, spec)]


def _error(spec: CorpusSpec) -> FieldError:
    with pytest.raises(InputError) as caught:
        _read(spec)
    return caught.value.errors[0]


def _txt(root: Path) -> CorpusSpec:
    (root / "a.txt").write_text("\n".join(TEXTS))
    return CorpusSpec(paths=[str(root / "a.txt")], documents="line")


def _paragraphs(root: Path) -> CorpusSpec:
    (root / "a.txt").write_bytes("\r\n \r\n".join(TEXTS).encode("utf-8-sig"))
    return CorpusSpec(paths=[str(root / "a.txt")], documents="paragraph")


def _jsonl(root: Path) -> CorpusSpec:
    rows = [json.dumps({"id": 1, "body": text}) for text in TEXTS]
    (root / "a.jsonl").write_text("\n".join([*rows[:5], "", json.dumps({"body": None}), *rows[5:]]) + "\n")
    return CorpusSpec(paths=[str(root / "a.jsonl")], text_column="body")


def _parquet(root: Path) -> CorpusSpec:
    table = pa.table({"id": range(40), "text": pa.array(TEXTS)})
    pq.write_table(table, root / "a.parquet", row_group_size=7)
    return CorpusSpec(paths=[str(root / "*.parquet")])


def _dictionary_parquet(root: Path) -> CorpusSpec:
    pq.write_table(pa.table({"text": pa.array(TEXTS).dictionary_encode()}), root / "a.parquet")
    return CorpusSpec(paths=[str(root / "*.parquet")])


def _saved(root: Path) -> CorpusSpec:
    import datasets

    datasets.Dataset.from_dict({"text": TEXTS}).save_to_disk(root / "saved", num_shards=3)
    return CorpusSpec(dataset=str(root / "saved"))


def _saved_splits(root: Path) -> CorpusSpec:
    import datasets

    one = datasets.Dataset.from_dict({"text": TEXTS, "other": TEXTS})
    datasets.DatasetDict(fit=one, test=one.select([1, 2])).save_to_disk(root / "saved")
    return CorpusSpec(dataset=str(root / "saved"), split="fit", text_column="other")


FORMATS = [_txt, _paragraphs, _jsonl, _parquet, _dictionary_parquet, _saved, _saved_splits]


@pytest.mark.parametrize("make", FORMATS)
def test_every_format_gives_the_same_documents(tmp_path: Path, make: Callable[[Path], CorpusSpec]) -> None:
    assert _read(make(tmp_path)) == TEXTS


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize("target", [1, 100, 300])
def test_splits_of_any_size_lose_and_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], CorpusSpec], target: int
) -> None:
    monkeypatch.setattr(splits, "split_size", lambda total: target)
    spec = make(tmp_path)
    planned = plan_splits(list_sources(spec), spec)
    sizes = sum(source.size for source in list_sources(spec))
    assert sum(split.size for split in planned) == pytest.approx(sizes, abs=len(planned))
    assert len(planned) > 1 or make in (_dictionary_parquet, _saved_splits)  # of one row group, one Arrow file
    assert _read(spec) == TEXTS


def test_a_file_is_one_document_by_default_and_small_files_share_a_split(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"speech {number}\n\nends")
    spec = CorpusSpec(paths=[str(tmp_path)])
    assert len(plan_splits(list_sources(spec), spec)) == 1
    assert _read(spec) == [f"speech {number}\n\nends" for number in range(3)]


def test_a_document_over_a_mebibyte_is_parted_in_every_format(tmp_path: Path) -> None:
    text = "\n".join(["words and words"] * 150_000)
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": text}))
    pq.write_table(pa.table({"text": [text]}), tmp_path / "c.parquet")
    for name in ("a.txt", "b.jsonl", "c.parquet"):
        parts = _read(CorpusSpec(paths=[str(tmp_path / name)]))
        assert len(parts) == 3
        assert max(map(len, parts)) <= 1 << 20
        assert "\n".join(parts) == text


def test_json_that_spells_half_a_character_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "broken \\ud83d emoji"}\n')
    assert _read(CorpusSpec(paths=[str(tmp_path)])) == ["broken ? emoji"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"text": "cut off', "line 3, is not valid JSON"),
        ('["a list"]', "line 3, is a JSON array"),
    ],
)
def test_a_broken_json_line_is_named_with_its_number(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n\n' + line + '\n{"text": "fine"}\n')
    error = _error(CorpusSpec(paths=[str(tmp_path)]))
    assert error.field == "corpus.paths"
    assert f"a.jsonl, {problem}" in error.problem


def test_a_line_number_counts_from_the_file_s_start_in_a_later_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "split_size", lambda total: 50)
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' * 20 + "{\n" + '{"text": "fine"}\n' * 20)
    assert "line 21," in _error(CorpusSpec(paths=[str(tmp_path)])).problem


def test_text_that_is_not_utf8_is_named_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine\ncaf\xe9\n")
    error = _error(CorpusSpec(paths=[str(tmp_path)]))
    assert "a.txt is not UTF-8 (byte 8, line 2)" in error.problem
    assert error.field == "corpus.paths"


DEEP = ["[" * 5000, '{"text": ' * 5000, '{"text": "a", "more": ' + "[" * 100_000 + "]" * 100_000 + "}"]
BAD_LINES = [
    *DEEP,
    '{"text": 1' + "0" * 5000 + "}",
    "[{}]",
    "7",
    '"a"',
    '{"text": "a"} {"text": "b"}',
    "\0",
    "{'text': 'a'}",
]


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_line_that_is_no_object_is_a_finding_with_its_number_whatever_it_is(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.json").write_text('{"text": "fine"}\n' + line + "\n")
    error = _error(CorpusSpec(paths=[str(tmp_path)]))
    assert error.field in {"corpus.paths", "corpus.text_column"}
    assert "a.json, line 2" in error.problem and error.remedy and len(error.problem) < 600


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "cp1252", "cp037"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_another_encoding_is_a_finding(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_text('{"text": "café"}\n', encoding=encoding)
    error = _error(CorpusSpec(paths=[str(tmp_path)]))
    assert name in error.problem and error.remedy


def test_nul_characters_are_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\0b")
    assert _read(CorpusSpec(paths=[str(tmp_path)])) == ["a\0b"]


TEXT_TYPES = [
    pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(),
    pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.large_string()),
    pa.dictionary(pa.int32(), pa.binary()),
]  # fmt: skip


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_text_of_every_type_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    given: list[str | bytes | None] = [None, "é", "b"]
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if "binary" in str(plain):
        given = [None, "é".encode(), b"b"]
    values = pa.array(given, plain)
    column = values.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else values
    table = pa.table({"id": [1, 2, 3], "text": column})
    pq.write_table(table, tmp_path / "a.parquet")
    assert _read(CorpusSpec(paths=[str(tmp_path)])) == ["é", "b"]
    source = Source(str(tmp_path / "a.arrow"), str(tmp_path / "a.arrow"), "arrow", 0)
    with pa.OSFile(source.path, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert list(read_documents(FilePiece(source, 0, None, 0), CorpusSpec(paths=["x"]))) == [("é",), ("b",)]


def test_a_column_of_nothing_but_null_gives_no_document(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.nulls(3)}), tmp_path / "a.parquet")
    assert _read(CorpusSpec(paths=[str(tmp_path)])) == []


NO_TEXT = [
    (pa.array([["a"]]), "list"), (pa.array([{"text": "a"}]), "struct"), (pa.array([1.5]), "double"),
    (pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string())), "map"), (pa.array([True]), "bool"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "told"), NO_TEXT, ids=[told for _, told in NO_TEXT])
def test_a_column_of_another_type_is_told_to_be_one(tmp_path: Path, values: pa.Array, told: str) -> None:
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    error = _error(CorpusSpec(paths=[str(tmp_path)]))
    assert (error.field, told in error.problem) == ("corpus.text_column", True)


def test_a_doubled_column_is_told_to_be_double(tmp_path: Path) -> None:
    pq.write_table(
        pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), tmp_path / "a.parquet"
    )
    error = _error(CorpusSpec(paths=[str(tmp_path)]))
    assert error.field == "corpus.text_column"
    assert "2 columns of the name 'text'" in error.problem


def test_another_doubled_column_is_no_matter(tmp_path: Path) -> None:
    arrays = [pa.array(["a"]), pa.array([1]), pa.array([2])]
    pq.write_table(pa.Table.from_arrays(arrays, names=["text", "x", "x"]), tmp_path / "a.parquet")
    assert _read(CorpusSpec(paths=[str(tmp_path)])) == ["a"]


def test_bytes_that_are_no_utf8_are_told_with_their_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [b"a"] * 300 + [b"caf\xe9"]}), tmp_path / "a.parquet")
    error = _error(CorpusSpec(paths=[str(tmp_path)]))
    assert "row 301" in error.problem and "a.parquet" in error.problem


def test_a_parquet_file_with_any_byte_changed_is_read_or_is_a_finding(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": range(40), "text": TEXTS}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for place in range(0, len(whole), 29):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / "a.parquet").write_bytes(damaged)
        try:
            _read(CorpusSpec(paths=[str(tmp_path)]))
        except InputError as error:
            assert "a.parquet" in str(error)


@pytest.mark.parametrize("kind", ["arrow", "parquet", "jsonl", "text"])
def test_random_bytes_are_a_finding_about_the_file(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "a.file"
    for seed in range(20):
        path.write_bytes(random.Random(seed).randbytes(2000))
        source = Source(str(path), str(path), kind, 2000)
        with pytest.raises(InputError, match=r"a\.file"):
            list(read_documents(FilePiece(source, 0, None, 2000), CorpusSpec(paths=["x"])))


@pytest.mark.parametrize(
    "state",
    [
        "[" * 5000,
        "[]",
        "{}",
        '{"_data_files": 3}',
        '{"_data_files": [{"filename": "../../a"}]}',
        '{"_data_files": [{}]}',
    ],
)
def test_a_saved_datasets_state_that_is_none_is_a_finding(tmp_path: Path, state: str) -> None:
    (tmp_path / "state.json").write_text(state)
    assert _error(CorpusSpec(dataset=str(tmp_path))).field == "corpus.dataset"
    (tmp_path / "dataset_dict.json").write_text(state)
    assert _error(CorpusSpec(dataset=str(tmp_path))).field == "corpus.dataset"


def test_a_file_whose_name_is_no_utf8_is_read_and_a_fault_in_it_named(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    path.write_text("fine")
    assert _read(CorpusSpec(paths=[str(tmp_path)])) == ["fine"]
    path.write_bytes(b"\xff")
    problem = _error(CorpusSpec(paths=[str(tmp_path)])).problem
    assert "caf" in problem and problem.encode()


def test_a_file_that_has_gone_is_a_finding(tmp_path: Path) -> None:
    spec = _txt(tmp_path)
    sources = list_sources(spec)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(InputError, match=r"a\.txt cannot be read"):
        list(read_documents(FilePiece(sources[0], 0, None, 1), spec))


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_missing_text_column_is_answered_with_those_that_are_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "x", "title": "y"}\n')
    pq.write_table(pa.table({"body": ["x"], "title": ["y"]}), tmp_path / "a.parquet")
    error = _error(CorpusSpec(paths=[str(tmp_path / name)]))
    assert error.field == "corpus.text_column"
    assert name in error.problem
    assert "'text'" in error.problem
    assert "body, title" in error.remedy


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_text_column_without_text_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": 7}\n')
    pq.write_table(pa.table({"text": [7]}), tmp_path / "a.parquet")
    error = _error(CorpusSpec(paths=[str(tmp_path / name)]))
    assert error.field == "corpus.text_column"
    assert name in error.problem


@pytest.mark.parametrize("large", [False, True])
def test_a_truncated_parquet_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    _parquet(tmp_path)
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    if large:
        monkeypatch.setattr(splits, "split_size", lambda total: 10)
    error = _error(CorpusSpec(paths=[str(tmp_path)]))
    assert error.field == "corpus.paths"
    assert "a.parquet cannot be read" in error.problem


def test_a_parquet_file_with_a_damaged_page_is_named(tmp_path: Path) -> None:
    texts = [f"{number} {text}" for number in range(50) for text in TEXTS]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    damaged = bytearray((tmp_path / "a.parquet").read_bytes())
    damaged[200:2000] = bytes(1800)
    (tmp_path / "a.parquet").write_bytes(damaged)
    assert "a.parquet cannot be read" in _error(CorpusSpec(paths=[str(tmp_path)])).problem


def test_a_folder_that_is_no_saved_dataset_is_refused(tmp_path: Path) -> None:
    error = _error(CorpusSpec(dataset=str(tmp_path)))
    assert error.field == "corpus.dataset"
    assert "save_to_disk" in error.remedy


def test_an_unknown_split_of_a_saved_dataset_is_answered_with_those_that_are_there(tmp_path: Path) -> None:
    error = _error(_saved_splits(tmp_path).model_copy(update={"split": "train"}))
    assert error.field == "corpus.split"
    assert "fit, test" in error.remedy


def test_a_saved_dataset_that_lost_a_file_is_refused(tmp_path: Path) -> None:
    spec = _saved(tmp_path)
    next((tmp_path / "saved").glob("*00001*.arrow")).unlink()
    assert "00001" in _error(spec).problem
