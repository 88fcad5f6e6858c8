from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workloads.craft.text import splits
from workloads.craft.text.readers import read_documents
from workloads.craft.text.sources import list_sources
from workloads.craft.text.splits import Split, plan_splits
from workloads.spec.errors import FieldError, InputError
from workloads.spec.request import CorpusSpec

TEXTS = [f"Document {number} says é, and \u2028 more." for number in range(40)]


def _read(spec: CorpusSpec) -> list[str]:
    found = plan_splits(list_sources(spec), spec)
    found = [Split.from_json(split.to_json()) for split in found]
    return [text for split in found for piece in split.pieces for text in read_documents(piece, spec)]


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
        ('["a list"]', "line 3, is not a JSON object"),
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
