"""Reading tasks: formats, columns, labels, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workloads.craft.tasks.data import read_task, task_fingerprint
from workloads.spec.errors import InputError
from workloads.spec.search import TaskSpec

ROWS = [
    {"sentence": "A fox, \"quick\"\nand red", "other": "12", "label": 3},
    {"sentence": "a dog", "other": "", "label": 7},
    {"sentence": "2024-01-02", "other": "x", "label": 3},
]  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n", encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines = [",".join(rows[0])]
        lines += [",".join(_quoted(value) for value in row.values()) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def _quoted(value: Any) -> str:
    return '"' + value.replace('"', '""') + '"' if isinstance(value, str) else str(value)


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., TaskSpec]:
    def make(rows: list[dict[str, Any]] = ROWS, ending: str = ".jsonl", **changes: Any) -> TaskSpec:
        path = write(tmp_path / f"rows{ending}", rows)
        return TaskSpec(**{"train": [path], "validation": [path], "text_columns": ["sentence"], **changes})

    return make


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_every_format_gives_the_same_rows(spec: Callable[..., TaskSpec], ending: str) -> None:
    data = read_task(spec(ending=ending, text_columns=["sentence", "other"]))
    assert data.train.texts == (tuple(row["sentence"] for row in ROWS), ("12", "", "x"))
    assert data.classes == (3, 7)
    assert data.outputs == 2
    assert data.train.labels.tolist() == [0, 1, 0]
    assert data.train.labels.dtype == np.int64


def test_similarities_are_values_with_one_output(spec: Callable[..., TaskSpec]) -> None:
    rows = [row | {"label": label} for row, label in zip(ROWS, (0.5, 5, 2.25), strict=True)]
    data = read_task(spec(rows, text_columns=["sentence", "other"], metric="spearman"))
    assert (data.classes, data.outputs) == ((), 1)
    assert data.train.labels.tolist() == [0.5, 5.0, 2.25]
    assert data.train.labels.dtype == np.float32


def test_only_the_first_training_rows_are_used(spec: Callable[..., TaskSpec]) -> None:
    data = read_task(spec(max_train_rows=2))
    assert (len(data.train), len(data.validation)) == (2, 3)


def test_several_files_are_read_one_after_the_other(spec: Callable[..., TaskSpec], tmp_path: Path) -> None:
    more = write(tmp_path / "more.csv", ROWS[:1])
    data = read_task(spec().model_copy(update={"train": [*spec().train, more]}))
    assert data.train.texts[0] == tuple(row["sentence"] for row in [*ROWS, ROWS[0]])


REFUSED: list[tuple[str, Callable[[Callable[..., TaskSpec]], TaskSpec], str, str]] = [
    ("no file", lambda make: make(train=["/nowhere/rows.jsonl"]), "proxy_task.train.0", "no file"),
    ("wrong ending", lambda make: make(validation=["/x/rows.txt"]), "proxy_task.validation.0", ".txt"),
    ("no text column", lambda make: make(text_columns=["text"]), "proxy_task.text_columns", "'text'"),
    ("no label column", lambda make: make(label_column="y", ending=".csv"), "proxy_task.label_column", "'y'"),
    ("text in labels", lambda make: make(label_column="other"), "proxy_task.label_column", "'12'"),
    ("floats as classes", lambda make: make([{"sentence": "a", "label": 0.5}]), "proxy_task.label_column", "0.5"),
    ("no label", lambda make: make([{"sentence": "a", "label": None}]), "proxy_task.label_column", "nothing"),
    ("no text", lambda make: make([{"sentence": None, "label": 1}]), "proxy_task.text_columns", "row 1"),
    ("one class", lambda make: make(ROWS[::2]), "proxy_task.train", "one class"),
    ("an unknown class", lambda make: make(max_train_rows=1), "proxy_task.train", "one class"),
    ("text as value", lambda make: make(label_column="other", metric="spearman"), "proxy_task.label_column", "'12'"),
]


@pytest.mark.parametrize(("change", "field", "told"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_cannot_be_used_is_refused_by_its_field(
    spec: Callable[..., TaskSpec], change: Callable[[Callable[..., TaskSpec]], TaskSpec], field: str, told: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_task(change(spec))
    assert caught.value.errors[0].field == field
    assert told in caught.value.errors[0].problem
    assert caught.value.errors[0].remedy


def test_a_class_that_training_does_not_know_is_refused(spec: Callable[..., TaskSpec], tmp_path: Path) -> None:
    validation = write(tmp_path / "validation.jsonl", [{"sentence": "a", "label": 5}])
    with pytest.raises(InputError, match="class 5 of row 1"):
        read_task(spec(validation=[validation]))


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.jsonl", b'{"sentence": "a", "label"'), ("x.jsonl", b"[1]"), ("x.parquet", b"no parquet"), ("x.csv", b"")],
)
def test_a_damaged_file_is_refused_by_its_place(
    spec: Callable[..., TaskSpec], tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_task(spec().model_copy(update={"train": [*spec().train, str(tmp_path / name)]}))
    assert caught.value.errors[0].field == "proxy_task.train.1"


def test_a_task_is_known_by_content_and_settings_not_by_place(spec: Callable[..., TaskSpec], tmp_path: Path) -> None:
    one = task_fingerprint(spec())
    copied = write(tmp_path / "copy.jsonl", ROWS)
    assert task_fingerprint(spec(train=[copied])) == one
    assert task_fingerprint(spec(train=[write(tmp_path / "less.jsonl", ROWS[1:])])) != one
    assert task_fingerprint(spec(epochs=4)) != one
    with pytest.raises(InputError) as caught:
        task_fingerprint(spec(validation=[str(tmp_path / "gone.csv")]))
    assert caught.value.errors[0].field == "proxy_task.validation.0"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"sentence": ' + b"[" * 5000),
        ("a.jsonl", b'{"sentence": "a", "label": 1' + b"0" * 5000 + b"}"),
        ("a.jsonl", b"\xff\xfe"),
        ("a.csv", b"sentence,label\n\xff,1\n"),
        ("a.csv", b"sentence,sentence,label\na,b,1\n"),
        ("a.csv", b"\0" * 100),
        ("a.csv", b""),
        ("a.parquet", b"PAR1" + b"\xff" * 100 + b"PAR1"),
    ],
)
def test_a_damaged_file_is_a_finding_about_it(
    spec: Callable[..., TaskSpec], tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_task(spec(validation=[str(tmp_path / name)]))
    assert caught.value.errors[0].field.startswith("proxy_task.")
    assert name in caught.value.errors[0].problem
