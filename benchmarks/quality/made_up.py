"""A tiny random teacher and made-up data in the layout of the real ones, for the profile ``smoke``."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.quality.places import Places
from benchmarks.quality.tasks import COLUMNS
from tests.teachers import SENTENCES, make_teacher

_WORDS = sorted({word.strip(".,").lower() for sentence in SENTENCES for word in sentence.split()})
_DOCUMENTS, _ROWS = 60, 24


def made_up_places(work: Path) -> Places:
    """Write teacher and data below the work folder, unless they are there, and return the places."""
    places = Places(work, work / "data", work / "teachers")
    if not (work / "teachers" / "tiny").is_dir():
        make_teacher(work / "teachers" / "tiny")
    _write(places.data / "corpus" / "train.parquet", {"text": [_text(number, 30) for number in range(_DOCUMENTS)]})
    for task, columns in COLUMNS.items():
        for offset, side in ((0, "train"), (1000, "validation")):
            _write(places.data / "tasks" / task / f"{side}.parquet", _task(task, columns, offset))
    return places


def _task(task: str, columns: tuple[str, ...], offset: int) -> dict[str, list[object]]:
    numbers = range(offset, offset + _ROWS)
    texts: dict[str, list[object]] = {
        column: [_text(7 * number + place, 5) for number in numbers] for place, column in enumerate(columns)
    }
    labels: list[object] = [number % 6 * 0.8 if task == "stsb" else number % 2 for number in numbers]
    return {**texts, "label": labels}


def _text(seed: int, words: int) -> str:
    return " ".join(random.Random(seed).choices(_WORDS, k=words))


def _write(path: Path, columns: dict[str, list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
