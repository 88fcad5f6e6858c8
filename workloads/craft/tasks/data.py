"""Labelled rows of a task, read from Parquet, JSONL or CSV files, and the fingerprint of these files."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from workloads.spec.errors import InputError
from workloads.spec.json_text import JsonError, parse_json
from workloads.spec.search import TASK_FILES, TaskSpec
from workloads.storage.outages import cannot_use
from workloads.storage.places import confined
from workloads.storage.storage import Storage

FIELD = "proxy_task"
"""The part of a request that errors name by default."""


@dataclass(frozen=True)
class LabelledRows:
    """Rows of one side of a task.

    Attributes:
        texts: Texts of the rows by column: one column, or two for pairs.
        labels: int64 classes from 0, or float32 values for a regression.
    """

    texts: tuple[tuple[str, ...], ...]
    labels: npt.NDArray[np.generic]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class TaskData:
    """The rows and classes of a task.

    Attributes:
        train: Rows for fine-tuning.
        validation: Rows for scoring.
        classes: Label of each class, in order; empty for a regression.
    """

    train: LabelledRows
    validation: LabelledRows
    classes: tuple[int, ...]

    @property
    def outputs(self) -> int:
        """Number of outputs of the head: one per class, or one for a regression."""
        return len(self.classes) or 1


def read_task(spec: TaskSpec, field: str = FIELD) -> TaskData:
    """Read both sides of a task.

    Args:
        spec: Files and columns; the metric ``spearman`` makes the task a regression.
        field: The part of the request that errors name.

    Raises:
        InputError: A file cannot be read, lacks a column, or holds other values than text and labels; or the training
            rows have fewer than two classes.
    """
    train = _read_side(spec, "train", field)
    if spec.max_train_rows is not None:
        most = spec.max_train_rows
        train = _Side(train.texts[:most], train.labels[:most], train.places[:most])
    validation = _read_side(spec, "validation", field)
    if spec.metric == "spearman":
        return TaskData(_values(train, spec, field), _values(validation, spec, field), ())
    for side in (train, validation):
        _check_whole(side, spec, field)
    classes = tuple(sorted({int(label) for label in train.labels}))
    if len(classes) < 2:
        raise InputError.of(
            f"{field}.train",
            f"Its rows have only one class, {classes[0]}.",
            "Use files (or more of their rows) with at least two classes.",
        )
    return TaskData(_numbered(train, classes, field), _numbered(validation, classes, field), classes)


def task_fingerprint(spec: TaskSpec, field: str = FIELD) -> dict[str, Any]:
    """Return everything that decides a task, as JSON: its settings, and size and SHA-256 of each file, not its path.

    Raises:
        InputError: A file cannot be read.
    """
    settings = spec.model_dump(mode="json", include=set(TaskSpec.model_fields) - {"train", "validation"})
    files = {
        side: [_identity(url, f"{field}.{side}.{index}") for index, url in enumerate(urls)]
        for side, urls in (("train", spec.train), ("validation", spec.validation))
    }
    return settings | files


@dataclass(frozen=True)
class _Side:
    """Rows as read from the files; ``places`` names file and row number of each in words, for errors."""

    texts: Sequence[tuple[str, ...]]
    labels: Sequence[Any]
    places: Sequence[str]


def _read_side(spec: TaskSpec, side: Literal["train", "validation"], field: str) -> _Side:
    texts: list[tuple[str, ...]] = []
    labels: list[Any] = []
    places: list[str] = []
    urls: list[str] = getattr(spec, side)
    for index, url in enumerate(urls):
        rows = _read_file(url, spec, f"{field}.{side}.{index}", field)
        for number, row in enumerate(rows, start=1):
            place = f"row {number} of {url}"
            for column, text in zip(spec.text_columns, row, strict=False):
                if not isinstance(text, str):
                    raise InputError.of(
                        f"{field}.text_columns",
                        f"Column {column!r} holds {_shown(text)} instead of text in {place}.",
                        "Name columns that hold text in every row, or leave such rows out.",
                    )
            texts.append(tuple(row[:-1]))
            labels.append(row[-1])
            places.append(place)
    if not labels:
        raise InputError.of(f"{field}.{side}", "Its files hold no rows.", "Give files with labelled rows.")
    return _Side(texts, labels, places)


def _read_file(url: str, spec: TaskSpec, at: str, field: str) -> list[tuple[Any, ...]]:
    """Read the rows of a file: the texts and, last, the label."""
    wanted = [*spec.text_columns, spec.label_column]
    storage, ending = _open(url, at), Path(url.partition("?")[0]).suffix.lower()
    try:
        data = storage.read_bytes("")
        if ending == ".jsonl":
            return _read_jsonl(data, url, wanted, spec, at, field)
        if ending == ".csv":
            as_text = pa.csv.ConvertOptions(column_types=dict.fromkeys(spec.text_columns, pa.string()))
            parsing = pa.csv.ParseOptions(newlines_in_values=True)
            table = pa.csv.read_csv(io.BytesIO(data), parse_options=parsing, convert_options=as_text)
        else:
            table = pq.read_table(io.BytesIO(data))
    except InputError:
        raise
    except Exception as error:  # damaged files make the libraries raise all kinds of errors
        raise _unreadable(url, at, error) from error
    for column in wanted:
        if column not in table.column_names:
            raise _no_column(column, url, table.column_names, spec, field)
        if table.column_names.count(column) > 1:
            problem = f"{url} has {table.column_names.count(column)} columns of the name {column!r}."
            raise InputError.of(at, problem, "Keep the one to use, and rename or remove the others.")
    try:
        columns = [table.column(column).to_pylist() for column in wanted]
    except Exception as error:  # as above: invalid UTF-8, times that Python cannot hold
        raise _unreadable(url, at, error) from error
    return list(zip(*columns, strict=True))


def _read_jsonl(
    data: bytes, url: str, wanted: Sequence[str], spec: TaskSpec, at: str, field: str
) -> list[tuple[Any, ...]]:
    rows = []
    for number, line in enumerate(data.decode("utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except JsonError as error:
            raise _no_row(url, at, f"line {number} is {error}") from error
        if not isinstance(row, dict):
            raise _no_row(url, at, f"line {number} is not a JSON object")
        for column in wanted:
            if column not in row:
                raise _no_column(column, f"line {number} of {url}", list(row), spec, field)
        rows.append(tuple(row[column] for column in wanted))
    return rows


def _check_whole(side: _Side, spec: TaskSpec, field: str) -> None:
    for label, place in zip(side.labels, side.places, strict=True):
        if not isinstance(label, int | float) or label != label or not float(label).is_integer():
            raise InputError.of(
                f"{field}.label_column",
                f"Column {spec.label_column!r} holds {_shown(label)} instead of a whole number in {place}.",
                "Number the classes, or use the metric 'spearman' for labels that are floats.",
            )


def _numbered(side: _Side, classes: Sequence[int], field: str) -> LabelledRows:
    """Number the classes from 0."""
    numbers = {label: number for number, label in enumerate(classes)}
    for label, place in zip(side.labels, side.places, strict=True):
        if int(label) not in numbers:
            raise InputError.of(
                f"{field}.validation",
                f"The class {int(label)} of {place} does not occur in the training rows.",
                "Leave such rows out, or give training rows of that class.",
            )
    return _rows(side, np.array([numbers[int(label)] for label in side.labels], np.int64))


def _values(side: _Side, spec: TaskSpec, field: str) -> LabelledRows:
    for label, place in zip(side.labels, side.places, strict=True):
        if isinstance(label, bool) or not isinstance(label, int | float) or not math.isfinite(label):
            raise InputError.of(
                f"{field}.label_column",
                f"Column {spec.label_column!r} holds {_shown(label)} instead of a number in {place}.",
                "Name the column with the similarities, or use another metric for classes.",
            )
    return _rows(side, np.array(side.labels, np.float32))


def _rows(side: _Side, labels: npt.NDArray[np.generic]) -> LabelledRows:
    return LabelledRows(tuple(zip(*side.texts, strict=True)), labels)


def _open(url: str, at: str) -> Storage:
    if not url.partition("?")[0].lower().endswith(TASK_FILES):
        raise InputError.of(
            at, f"{url} has none of the endings {', '.join(TASK_FILES)}.", "Convert or rename the file."
        )
    try:
        storage = Storage.open(url, confined())
        there = storage.exists("")
    except InputError as error:
        raise InputError.of(at, error.errors[0].problem, error.errors[0].remedy) from error
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(url, at, error) from error
    if not there:
        raise InputError.of(at, f"There is no file {url}.", "Correct the path; the cluster must be able to read it.")
    return storage


def _identity(url: str, at: str) -> dict[str, Any]:
    storage, content, size = _open(url, at), hashlib.sha256(), 0
    try:
        for piece in storage.stream("", 1 << 22):
            content.update(piece)
            size += len(piece)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(url, at, error) from error
    return {"size": size, "sha256": content.hexdigest()}


def _no_row(url: str, at: str, problem: str) -> InputError:
    return InputError.of(at, f"{url} cannot be read: {problem}.", "Repair or replace the file.")


def _unreadable(url: str, at: str, error: BaseException) -> InputError:
    return cannot_use(at, f"{url} cannot be read: {error}.", "Repair or replace the file.", error)


def _no_column(column: str, where: str, there: Sequence[str], spec: TaskSpec, field: str) -> InputError:
    name = "label_column" if column == spec.label_column else "text_columns"
    return InputError.of(
        f"{field}.{name}", f"{where} has no {column!r}.", f"Use one of: {', '.join(there) or '(there is none)'}."
    )


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:40]
