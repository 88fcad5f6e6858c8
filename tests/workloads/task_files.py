"""Small labelled datasets with a learnable rule: whether a word occurs, in one text or in both of a pair."""

from __future__ import annotations

import csv
import random
from pathlib import Path

WORDS = ["house", "teacher", "student", "text", "senate", "run", "budget", "lazy", "silence", "geese"]


def write_rows(path: Path, header: list[str], rows: list[list[object]]) -> str:
    """Write a CSV file and return its path."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def write_words(path: Path, rows: int, seed: int, *, length: int = 6) -> str:
    """Write rows ``sentence``, ``label``: whether ``fox`` is among the ``length`` words."""
    draw, made = random.Random(seed), []
    for _ in range(rows):
        words, label = draw.choices(WORDS, k=length), draw.random() < 0.5
        if label:
            words[draw.randrange(len(words))] = "fox"
        made.append([" ".join(words), int(label)])
    return write_rows(path, ["sentence", "label"], made)


def write_similarities(path: Path, rows: int, seed: int) -> str:
    """Write rows ``first``, ``second``, ``label``: how many of the second text's words are ``fox``."""
    draw, made = random.Random(seed), []
    for _ in range(rows):
        count = draw.randint(0, 5)
        second = ["fox"] * count + ["dog"] * (5 - count)
        made.append([" ".join(draw.choices(WORDS, k=4)), " ".join(second), count / 2])
    return write_rows(path, ["first", "second", "label"], made)
