"""Packing: token ids of documents into rows of one length.

Shape letters: N rows, L tokens of a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Layout = Literal["packed", "documents"]


@dataclass(frozen=True)
class Rows:
    """Token rows.

    Attributes:
        ids_NL: Token ids, filled up with the padding token.
        lengths_N: Real tokens of each row, special ones included.
        seconds_N: Place of the first token of type 1 in each row, its length if there is none; None if no row of the
            corpus has any.
    """

    ids_NL: Ids
    lengths_N: Ids
    seconds_N: Ids | None = None

    def between(self, start: int, stop: int | None) -> Rows:
        """Return some consecutive rows."""
        part = slice(start, stop)
        return Rows(self.ids_NL[part], self.lengths_N[part], None if self.seconds_N is None else self.seconds_N[part])


class Packer(Protocol):
    """Packs documents, one by one, into rows."""

    def add(self, pieces: Iterable[list[int]]) -> None:
        """Add one document, as pieces of token ids without special tokens."""

    def take(self, *, final: bool = False) -> Rows:
        """Remove and return the full rows; with ``final`` also the last one, padded."""


class PackedRows:
    """Layout ``packed``: one stream of documents with separators between them, cut into rows ``[CLS] … [SEP]``.

    Args:
        length: L, at least 3.
        cls_id: Id of the first token of each row.
        sep_id: Id of the last token of each row, and of the separator of documents.
        pad_id: Id of the token that fills up the last row.
    """

    def __init__(self, length: int, cls_id: int, sep_id: int, pad_id: int) -> None:
        assert length >= 3
        self._length, self._cls, self._sep, self._pad = length, cls_id, sep_id, pad_id
        self._held: list[Ids] = []
        self._count = 0

    def add(self, pieces: Iterable[list[int]]) -> None:
        """Append a document to the stream."""
        if self._count % (self._length - 2):  # a row's start separates documents too
            self._append([self._sep])
        for piece in pieces:
            self._append(piece)

    def take(self, *, final: bool = False) -> Rows:
        """Cut the stream into rows; an incomplete row is held back unless ``final``."""
        width = self._length - 2
        stream = np.concatenate([np.zeros(0, np.int32), *self._held])
        full = len(stream) // width
        rest = stream[full * width :]
        rows = full + bool(final and len(rest))
        ids_NL = np.full((rows, self._length), self._pad, np.int32)
        lengths_N = np.full(rows, self._length, np.int32)
        ids_NL[:, 0] = self._cls
        ids_NL[:full, 1:-1] = stream[: full * width].reshape(full, width)
        ids_NL[:full, -1] = self._sep
        if rows > full:
            ids_NL[full, 1 : len(rest) + 1] = rest
            ids_NL[full, len(rest) + 1] = self._sep
            lengths_N[full] = len(rest) + 2
            rest = rest[:0]
        self._held, self._count = [rest.copy()], len(rest)
        return Rows(ids_NL, lengths_N)

    def _append(self, ids: list[int]) -> None:
        self._held.append(np.asarray(ids, np.int32))
        self._count += len(ids)


class DocumentRows:
    """Layout ``documents``: one document per row, ``[CLS] … [SEP]``, truncated and padded.

    The arguments are those of :class:`PackedRows`.
    """

    def __init__(self, length: int, cls_id: int, sep_id: int, pad_id: int) -> None:
        assert length >= 3
        self._length, self._cls, self._sep, self._pad = length, cls_id, sep_id, pad_id
        self._held: list[list[int]] = []

    def add(self, pieces: Iterable[list[int]]) -> None:
        """Make a row of a document's first tokens; later pieces are not tokenised."""
        ids: list[int] = []
        for piece in pieces:
            ids += piece[: self._length - 2 - len(ids)]
            if len(ids) == self._length - 2:
                break
        if ids:
            self._held.append([self._cls, *ids, self._sep])

    def take(self, *, final: bool = False) -> Rows:
        """Remove and return all rows; each document makes a whole row."""
        ids_NL = np.full((len(self._held), self._length), self._pad, np.int32)
        lengths_N = np.array([len(row) for row in self._held], np.int32)
        for row, ids in zip(ids_NL, self._held, strict=True):
            row[: len(ids)] = ids
        self._held = []
        return Rows(ids_NL, lengths_N)


class TextRows:
    """Rows that a tokenizer has made whole, padded.

    Args:
        length: L, the longest row.
        pad_id: Id of the token that fills up a row.
    """

    def __init__(self, length: int, pad_id: int) -> None:
        self._length, self._pad = length, pad_id
        self._held: list[tuple[list[int], int]] = []

    def add(self, ids: list[int], second: int) -> None:
        """Add a row of at most L tokens, of which those from ``second`` on have the type 1."""
        assert len(ids) <= self._length
        self._held.append((ids, second))

    def take(self) -> Rows:
        """Remove and return all rows."""
        ids_NL = np.full((len(self._held), self._length), self._pad, np.int32)
        for row, (ids, _) in zip(ids_NL, self._held, strict=True):
            row[: len(ids)] = ids
        lengths_N = np.array([len(ids) for ids, _ in self._held], np.int32)
        seconds_N = np.array([second for _, second in self._held], np.int32)
        self._held = []
        return Rows(ids_NL, lengths_N, seconds_N)


def make_packer(layout: Layout, length: int, cls_id: int, sep_id: int, pad_id: int) -> Packer:
    """Make an empty packer of a layout."""
    kind = PackedRows if layout == "packed" else DocumentRows
    return kind(length, cls_id, sep_id, pad_id)
