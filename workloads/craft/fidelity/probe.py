"""The probe: held-out rows with the teacher's outputs, which students are compared with.

Shape letters: N rows, or tokens for a head with an output for every token; C labels or dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workloads.answers.fidelity import Fidelity
from workloads.craft.fidelity.labels import of_one_label, of_several_labels
from workloads.craft.fidelity.values import lists_of, of_values
from workloads.craft.fidelity.vectors import of_vectors
from workloads.craft.outputs import subnet_outputs, teacher_outputs
from workloads.craft.signals import Batch
from workloads.craft.superlm import SuperLM
from workloads.shapes.architecture import Architecture
from workloads.shapes.heads import Head, VectorHead

if TYPE_CHECKING:  # it imports models of transformers, which workers do not need
    from workloads.craft.teacher import Teacher


@dataclass(frozen=True)
class Probe:
    """Rows to compare students with their teacher on.

    Attributes:
        head: The teacher's head.
        labels: Names of the outputs of a classifier.
        batches: The rows.
        outputs_NC: The teacher's outputs.
        kept_N: Which of the outputs count: those of special tokens do not; None if all do.
        texts_N: The row of each output that counts, for a head with an output for every token; else None.
        lists_N: The list of each row; see :func:`workloads.craft.fidelity.values.lists_of`.
    """

    head: Head
    labels: tuple[str, ...]
    batches: tuple[Batch, ...]
    outputs_NC: Tensor
    kept_N: Tensor | None = None
    texts_N: npt.NDArray[np.int64] | None = None
    lists_N: npt.NDArray[np.int64] | None = None

    @classmethod
    def read(cls, teacher: Teacher, batches: Sequence[Batch]) -> Probe:
        """Run a teacher with a head on the rows, on its device."""
        head = teacher.shape.vocabulary.head
        assert head is not None, teacher.folder
        outputs = teacher_outputs(teacher, batches)
        labels: tuple[str, ...] = ()
        kept = texts = lists = None
        if not isinstance(head, VectorHead):
            names: dict[int, str] = teacher.config.id2label
            labels = tuple(str(names.get(index, index)) for index in range(head.labels))
            if head.every_token:
                kept, texts = _tokens_of(teacher, batches)
            elif head.problem == "regression":
                lists = lists_of([segments for batch in batches for segments in _segments(teacher, batch)])
        return cls(head, labels, tuple(batches), outputs, kept, texts, lists)

    def of_saved(self, student: Teacher, *, intervals: bool = True) -> Fidelity:
        """Compare a saved student, opened as a teacher of the same kind."""
        return self.compare(teacher_outputs(student, self.batches), intervals=intervals)

    def of_subnet(self, superlm: SuperLM, architecture: Architecture) -> Fidelity:
        """Compare a subnet of a SuperLM, without intervals."""
        return self.compare(subnet_outputs(superlm, architecture, self.batches), intervals=False)

    def compare(self, outputs_NC: Tensor, *, intervals: bool = True) -> Fidelity:
        """Compare a student's outputs for the same rows with the teacher's."""
        given = (self.outputs_NC, outputs_NC)
        if self.kept_N is not None:
            given = (self.outputs_NC[self.kept_N], outputs_NC[self.kept_N])
        theirs, own = (one.numpy().astype(np.float64) for one in given)
        if isinstance(self.head, VectorHead):
            return of_vectors(theirs, own, intervals=intervals)
        if self.head.problem == "regression":
            return of_values(theirs, own, self.lists_N, intervals=intervals)
        if self.head.problem == "multi-label":
            return of_several_labels(theirs, own, self.labels, intervals=intervals)
        return of_one_label(theirs, own, self.labels, texts_N=self.texts_N, intervals=intervals)


def _special_ids(teacher: Teacher) -> Tensor:
    """Return the ids of the tokens around texts; an unknown word's token stands for a word."""
    names = ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id", "pad_token_id")
    found = {getattr(teacher.tokenizer, name) for name in names} - {None}
    return torch.tensor(sorted(found))


def _tokens_of(teacher: Teacher, batches: Sequence[Batch]) -> tuple[Tensor, npt.NDArray[np.int64]]:
    """Return which of the real tokens are of texts, and the row of each of those; rows without any are left out."""
    special = _special_ids(teacher)
    kept, counts = [], []
    for batch in batches:
        of_text_BL = ~torch.isin(batch.input_ids_BL, special)
        real_BL = torch.ones_like(of_text_BL) if batch.mask_BL is None else batch.mask_BL
        kept.append(of_text_BL[real_BL])
        counts.append((of_text_BL & real_BL).sum(1))
    counts_N = torch.cat(counts).numpy()
    counts_N = counts_N[counts_N > 0]
    return torch.cat(kept), np.repeat(np.arange(len(counts_N)), counts_N)


def _segments(teacher: Teacher, batch: Batch) -> list[tuple[tuple[int, ...], ...]]:
    """Return the tokens of the texts of each row: two for a pair, else one."""
    special = set(_special_ids(teacher).tolist())
    found = []
    for row, ids in enumerate(batch.input_ids_BL.tolist()):
        real = ids if batch.mask_BL is None else batch.input_ids_BL[row][batch.mask_BL[row]].tolist()
        texts: list[list[int]] = [[]]
        for one in real:
            if one not in special:
                texts[-1].append(one)
            elif texts[-1]:  # some families have two separators
                texts.append([])
        found.append(tuple(tuple(text) for text in texts if text))
    return found
