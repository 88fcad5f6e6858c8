from __future__ import annotations

import numpy as np
import pytest

from workloads.craft.text.packing import DocumentRows, PackedRows, Rows

CLS, SEP, PAD = 101, 102, 0


def _packed(documents: list[list[int]], length: int, take_every: int = 1) -> Rows:
    packer = PackedRows(length, CLS, SEP, PAD)
    taken = []
    for number, document in enumerate(documents):
        packer.add([document[:2], document[2:]])
        if number % take_every == 0:
            taken.append(packer.take())
    taken.append(packer.take(final=True))
    return Rows(np.concatenate([r.ids_NL for r in taken]), np.concatenate([r.lengths_N for r in taken]))


def test_documents_are_parted_and_rows_begin_and_end_with_special_tokens() -> None:
    rows = _packed([[1, 2, 3], [4], [5, 6]], 6)
    assert rows.ids_NL.tolist() == [[CLS, 1, 2, 3, SEP, SEP], [CLS, 4, SEP, 5, 6, SEP]]
    assert rows.lengths_N.tolist() == [6, 6]


def test_no_separator_follows_a_row_s_start() -> None:
    assert _packed([[1, 2, 3, 4], [5]], 6).ids_NL.tolist()[1] == [CLS, 5, SEP, PAD, PAD, PAD]


@pytest.mark.parametrize("take_every", [1, 3, 100])
def test_rows_do_not_depend_on_when_they_are_taken_and_lose_no_token(take_every: int) -> None:
    documents = [list(range(1, 2 + number % 9)) for number in range(60)]
    rows = _packed(documents, 7, take_every)
    assert (rows.ids_NL == _packed(documents, 7, 1).ids_NL).all()
    inner = [row[1 : n - 1].tolist() for row, n in zip(rows.ids_NL, rows.lengths_N, strict=True)]
    tokens = [token for row in inner for token in row if token != SEP]
    assert tokens == [token for document in documents for token in document]
    assert (rows.lengths_N[:-1] == 7).all()


def test_an_empty_stream_gives_no_row() -> None:
    assert PackedRows(8, CLS, SEP, PAD).take(final=True).ids_NL.shape == (0, 8)


def test_a_document_a_row_is_truncated_and_padded() -> None:
    packer = DocumentRows(5, CLS, SEP, PAD)
    packer.add([[1]])
    packer.add([[1, 2], [3, 4], [5]])
    packer.add([[]])
    rows = packer.take(final=True)
    assert rows.ids_NL.tolist() == [[CLS, 1, SEP, PAD, PAD], [CLS, 1, 2, 3, SEP]]
    assert rows.lengths_N.tolist() == [3, 5]


def test_pieces_beyond_a_row_are_not_asked_for() -> None:
    def pieces():  # type: ignore[no-untyped-def]
        yield [1, 2, 3]
        raise AssertionError("asked for more than the row holds")

    packer = DocumentRows(5, CLS, SEP, PAD)
    packer.add(pieces())
    assert packer.take().lengths_N.tolist() == [5]
