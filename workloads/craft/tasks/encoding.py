"""Tokens of a task's rows, in flat arrays, and batches of them.

Shape letters: B rows of a batch, L tokens of its longest row, T tokens of all rows, N rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from workloads.craft.signals import Batch
from workloads.craft.tasks.data import FIELD, LabelledRows, TaskData
from workloads.shapes.architecture import TeacherShape
from workloads.spec.errors import InputError
from workloads.spec.search import TaskSpec

_AT_ONCE = 1024
"""Number of rows tokenised at once."""


@dataclass(frozen=True)
class EncodedRows:
    """Tokens of one side of a task.

    Attributes:
        ids_T: int32 tokens, row after row.
        types_T: int8 token types; None if the model has only one type.
        starts_N1: int64 start of each row, and the end of the last row.
        labels_N: See :class:`LabelledRows`.
    """

    ids_T: npt.NDArray[np.int32]
    types_T: npt.NDArray[np.int8] | None
    starts_N1: npt.NDArray[np.int64]
    labels_N: npt.NDArray[np.generic]

    def __len__(self) -> int:
        return len(self.labels_N)

    def shuffled(self, batch_size: int, draw: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the row numbers of each batch, shuffled by ``draw``."""
        order = draw.permutation(len(self))
        return (order[start : start + batch_size] for start in range(0, len(self), batch_size))

    def by_length(self, batch_size: int) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the row numbers of each batch, with rows of similar length together."""
        order = np.argsort(np.diff(self.starts_N1), kind="stable")
        return (order[start : start + batch_size] for start in range(0, len(self), batch_size))

    def batch(self, rows: npt.NDArray[np.int64], pad_id: int) -> tuple[Batch, Tensor]:
        """Return the rows, padded to the longest of them, and their labels ``[B]``."""
        starts, ends = self.starts_N1[rows], self.starts_N1[rows + 1]
        lengths = ends - starts
        ids_BL = np.full((len(rows), lengths.max()), pad_id, np.int64)
        types_BL = None if self.types_T is None else np.zeros_like(ids_BL)
        for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
            ids_BL[index, : end - start] = self.ids_T[start:end]
            if types_BL is not None and self.types_T is not None:
                types_BL[index, : end - start] = self.types_T[start:end]
        mask_BL = torch.from_numpy(np.arange(ids_BL.shape[1]) < lengths[:, None])
        types = None if types_BL is None else torch.from_numpy(types_BL)
        return Batch(torch.from_numpy(ids_BL), mask_BL, types), torch.from_numpy(self.labels_N[rows])


@dataclass(frozen=True)
class EncodedTask:
    """A task, ready to fine-tune on.

    Attributes:
        outputs: Number of outputs of the head: one per class, or one for a regression.
        regression: Whether labels are values, not classes.
        pad_id: Id of the padding token.
    """

    train: EncodedRows
    validation: EncodedRows
    outputs: int
    regression: bool
    pad_id: int


def encode_task(
    data: TaskData,
    spec: TaskSpec,
    tokenizer: PreTrainedTokenizerBase,
    shape: TeacherShape,
    field: str = FIELD,
) -> EncodedTask:
    """Tokenise a task's texts or pairs with the teacher's tokenizer, cut to ``sequence_length``.

    Args:
        data: The task's rows.
        spec: The task's settings, for the sequence length.
        tokenizer: The teacher's tokenizer.
        shape: The teacher's shape.
        field: The part of the request that errors name.

    Raises:
        InputError: ``sequence_length`` is over the teacher's longest input.
    """
    if spec.sequence_length > shape.longest:
        raise InputError.of(
            f"{field}.sequence_length",
            f"The teacher reads at most {shape.longest} tokens, not {spec.sequence_length}.",
            f"Use at most {shape.longest}.",
        )
    types, length = shape.vocabulary.token_types > 1, spec.sequence_length
    train, validation = (encode_rows(side, length, tokenizer, types) for side in (data.train, data.validation))
    return EncodedTask(train, validation, data.outputs, not data.classes, tokenizer.pad_token_id)


def encode_rows(side: LabelledRows, length: int, tokenizer: PreTrainedTokenizerBase, with_types: bool) -> EncodedRows:
    """Tokenise rows, cut to ``length`` tokens, with token types if the model has two of them."""
    ids: list[npt.NDArray[np.int32]] = []
    types: list[npt.NDArray[np.int8]] = []
    for start in range(0, len(side), _AT_ONCE):
        columns: Sequence[list[str]] = [list(texts[start : start + _AT_ONCE]) for texts in side.texts]
        found = tokenizer(*columns, truncation=True, max_length=length, return_token_type_ids=with_types)
        ids += [np.asarray(row, np.int32) for row in found["input_ids"]]
        types += [np.asarray(row, np.int8) for row in found.get("token_type_ids", [])]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in ids])]).astype(np.int64)
    return EncodedRows(np.concatenate(ids), np.concatenate(types) if types else None, starts, side.labels)
