"""Fidelity of classifiers: of rows with one label or several, and of tokens.

The work is one pass over the answers, and one product with the draws of the bootstrap.

Shape letters: N answers (rows, or tokens), C labels, U texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_expit, log_softmax

from workloads.answers.fidelity import ClassFidelity, Fidelity
from workloads.craft.fidelity.bootstrap import Floats, draws, ratio_interval

Flags = npt.NDArray[np.bool_]


def of_one_label(
    teacher_NC: Floats,
    student_NC: Floats,
    labels: Sequence[str],
    *,
    texts_N: npt.NDArray[np.int64] | None = None,
    intervals: bool = True,
) -> Fidelity:
    """Compare classifiers that give each row, or each token, one label.

    Args:
        teacher_NC: The teacher's logits.
        student_NC: The student's.
        labels: Name of each label.
        texts_N: The text of each answer, from 0, for answers per token; None: a text each.
        intervals: Whether to compute intervals.
    """
    theirs, own = log_softmax(teacher_NC.astype(np.float64), 1), log_softmax(student_NC.astype(np.float64), 1)
    kl_N = (np.exp(theirs) * (theirs - own)).sum(1)
    first, second = teacher_NC.argmax(1), student_NC.argmax(1)
    same_N = first == second
    per_class = {name: _class(first == index, same_N) for index, name in enumerate(labels)}
    return _fidelity(same_N, kl_N, per_class, texts_N, intervals=intervals)


def of_several_labels(
    teacher_NC: Floats, student_NC: Floats, labels: Sequence[str], *, intervals: bool = True
) -> Fidelity:
    """Compare classifiers that decide on each label of a row by itself, at a probability of 0.5.

    Args:
        teacher_NC: The teacher's logits.
        student_NC: The student's.
        labels: Name of each label.
        intervals: Whether to compute intervals.
    """
    theirs, own = teacher_NC.astype(np.float64), student_NC.astype(np.float64)
    yes_N, no_N = (
        (np.exp(log_expit(sign * theirs)) * (log_expit(sign * theirs) - log_expit(sign * own))).sum(1)
        for sign in (1, -1)
    )
    first, second = theirs > 0, own > 0
    per_class = {name: _class(first[:, index], second[:, index]) for index, name in enumerate(labels)}
    return _fidelity((first == second).all(1), yes_N + no_N, per_class, None, intervals=intervals)


def _class(theirs_N: Flags, same_N: Flags) -> ClassFidelity:
    count = int(theirs_N.sum())
    return ClassFidelity(count=count, agreement=float(same_N[theirs_N].mean()) if count else None)


def _fidelity(
    same_N: Flags,
    kl_N: Floats,
    per_class: dict[str, ClassFidelity],
    texts_N: npt.NDArray[np.int64] | None,
    *,
    intervals: bool,
) -> Fidelity:
    texts_N = np.arange(len(same_N)) if texts_N is None else texts_N
    counts_U = np.bincount(texts_N).astype(np.float64)
    found: dict[str, Any] = {}
    if intervals:
        drawn = draws(len(counts_U))
        for name, values_N in (("agreement", same_N.astype(np.float64)), ("kl", kl_N)):
            sums_U = np.zeros(len(counts_U))
            np.add.at(sums_U, texts_N, values_N)
            found[name] = ratio_interval(sums_U, counts_U, drawn)
    return Fidelity(
        rows=int(np.count_nonzero(counts_U)),
        agreement=float(same_N.mean()),
        kl=max(0.0, float(kl_N.mean())),
        per_class=per_class,
        interval={name: one for name, one in found.items() if one is not None},
    )
