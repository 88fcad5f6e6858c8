"""Fidelity of embedding models: do vectors stay where they were, and do rows keep their neighbours?

The work: cosines take ``N * D``; neighbours ``N * N * D`` for the teacher and for the student, :data:`QUERIES` rows at
a time; similarities are taken of at most :data:`PAIRS` pairs, and each draw of the bootstrap is one pass over these. On
one core it takes 1.3 s for 2,000 rows of 384 dimensions, most of it for the draws, and 5.6 s for 10,000.

Shape letters: N rows, D the teacher's size, E the student's, K neighbours, P pairs, Q queries.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.answers.fidelity import Fidelity
from workloads.craft.fidelity.bootstrap import Floats, RankCorrelation, draws, interval_of, ratio_interval

NEIGHBOURS = 10
PAIRS = 200_000
"""Most pairs whose similarities are compared; of more, as many are drawn."""
QUERIES = 512
_SEED = 12
_DIGITS = 6
"""Similarities are rounded to this, so that copies of a text are in the same order for teacher and student."""


def of_vectors(teacher_ND: Floats, student_NE: Floats, *, intervals: bool = True) -> Fidelity:
    """Compare models that give vectors, by cosines.

    Args:
        teacher_ND: The teacher's vectors.
        student_NE: The student's. If they have the teacher's size, they are taken to be in the teacher's space; else
            each is compared within its own.
        intervals: Whether to compute intervals.
    """
    theirs, own = _unit(teacher_ND), _unit(student_NE)
    rows, drop_in = len(theirs), theirs.shape[1] == own.shape[1]
    by_row: dict[str, Floats] = {}
    if drop_in:
        by_row["cosine"] = (theirs * own).sum(1)
    if rows - 1 > NEIGHBOURS:  # of fewer, all are neighbours
        by_row["neighbours_at_10"] = _overlaps(theirs, own, theirs if drop_in else own)
    found: dict[str, Any] = {name: float(values.mean()) for name, values in by_row.items()}
    ends: dict[str, Any] = {}
    drawn = draws(rows) if intervals else None
    if drawn is not None:
        ends = {name: ratio_interval(values, np.ones(rows), drawn) for name, values in by_row.items()}
    if rows > 2:
        one_P, other_P = _pairs(rows)
        correlation = RankCorrelation(*(_similarities(vectors, one_P, other_P) for vectors in (theirs, own)))
        found["similarity_spearman"] = correlation(np.ones(len(one_P)))
        if drawn is not None:
            values = np.array([correlation(counts[one_P] * counts[other_P]) for counts in drawn])
            ends["similarity_spearman"] = interval_of(values)
    return Fidelity(
        rows=rows,
        **{name: value for name, value in found.items() if np.isfinite(value)},
        interval={name: value for name, value in ends.items() if value is not None},
    )


def _unit(vectors_ND: Floats) -> Floats:
    vectors = vectors_ND.astype(np.float64)
    unit: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def _pairs(rows: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return all pairs of different rows, or as many as allowed, drawn; the same in every call."""
    if rows * (rows - 1) // 2 <= PAIRS:
        one, other = np.triu_indices(rows, 1)
        return one.astype(np.int64), other.astype(np.int64)
    draw = np.random.default_rng([_SEED, rows])
    one = draw.integers(0, rows, PAIRS)
    return one, (one + draw.integers(1, rows, PAIRS)) % rows


def _similarities(vectors_ND: Floats, one_P: npt.NDArray[np.int64], other_P: npt.NDArray[np.int64]) -> Floats:
    found = np.empty(len(one_P))
    for begin in range(0, len(one_P), 1 << 14):
        part = slice(begin, begin + (1 << 14))
        found[part] = np.einsum("pd,pd->p", vectors_ND[one_P[part]], vectors_ND[other_P[part]])
    return np.round(found, _DIGITS)


def _overlaps(theirs_ND: Floats, own_NE: Floats, index_NE: Floats) -> Floats:
    """Return the share of each row's nearest rows by the teacher that the student finds in ``index_NE``: ``[N]``."""
    found = np.empty(len(own_NE))
    for begin in range(0, len(own_NE), QUERIES):
        part = slice(begin, min(begin + QUERIES, len(own_NE)))
        itself = np.arange(part.start, part.stop)
        near = [_nearest(queries[part] @ index.T, itself) for queries, index in
                ((theirs_ND, theirs_ND), (own_NE, index_NE))]  # fmt: skip
        found[part] = (near[0] & near[1]).sum(1) / NEIGHBOURS
    return found


def _nearest(similarities_QN: Floats, itself_Q: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Mark the nearest rows of each query, itself left out; of equally near ones the first."""
    near = np.round(similarities_QN, _DIGITS)
    near[np.arange(len(near)), itself_Q] = -np.inf
    least_Q1 = np.partition(near, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS, None]
    nearer, equal = near > least_Q1, near == least_Q1
    room_Q1 = NEIGHBOURS - nearer.sum(1, keepdims=True)
    marks: npt.NDArray[np.bool_] = nearer | (equal & (np.cumsum(equal, axis=1) <= room_Q1))
    return marks
