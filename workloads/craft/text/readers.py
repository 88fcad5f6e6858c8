"""Readers: yield the documents of a piece of a corpus in constant memory.

A reader checks the file as it reads. For a fault of the file it raises an :class:`InputError` that names the file (and
the line). Errors of the consumer (such as a full disk) pass through unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from workloads.craft.text import hub
from workloads.craft.text.lines import LONGEST_DOCUMENT, LineTooLongError, documents_of_lines, parts_of, read_lines
from workloads.craft.text.sources import Source, reading
from workloads.craft.text.splits import FilePiece, HubPiece
from workloads.spec.errors import InputError
from workloads.spec.json_text import JsonError, parse_json, shown
from workloads.spec.request import CorpusSpec

_LONGEST_NAME, _MOST_NAMES = 80, 20
"""Most characters of a name, and most names, in a message."""
_TEXTS = (
    pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary,
    pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary, pa.types.is_null,
)  # fmt: skip
_ROWS = 256
_BUFFER = 1 << 20


Texts = tuple[str, ...]
"""The texts of one document: one, or the two of a pair."""


@dataclass(frozen=True)
class _Columns:
    """The columns (or keys) of a document's texts.

    Attributes:
        names: One or two.
        field: The field of the request that names them.
    """

    names: Texts
    field: str


def read_documents(piece: FilePiece | HubPiece, spec: CorpusSpec) -> Iterator[Texts]:
    """Yield the non-empty documents of a piece, stripped, each text of about one MiB at most.

    A longer text becomes several documents, but is cut off in a pair, where both texts must have content.

    Raises:
        InputError: The file cannot be read, or its content does not match its ending.
    """
    columns = _Columns(spec.columns, spec.columns_field)
    if isinstance(piece, HubPiece):
        rows = hub.read(piece, columns.names, columns.field)
    elif piece.source.kind == "text":
        rows = _text(piece, spec)
    elif piece.source.kind == "jsonl":
        rows = _jsonl(piece, columns)
    elif piece.source.kind == "parquet":
        rows = _parquet(piece, columns)
    else:
        rows = _arrow(piece, columns)
    for texts in rows:
        if len(texts) > 1:
            pair = tuple(text[:LONGEST_DOCUMENT].strip() for text in texts)
            if all(pair):
                yield pair
            continue
        for part in parts_of(texts[0]):
            if stripped := part.strip():
                yield (stripped,)


def _text(piece: FilePiece, spec: CorpusSpec) -> Iterator[Texts]:
    if len(spec.columns) > 1:
        raise InputError.of(
            spec.columns_field, f"{piece.source.url} has no columns, so it holds no pairs.",
            "Write the pairs as .jsonl or .parquet.",
        )  # fmt: skip
    lines = (_decode(piece.source, offset, line) for offset, line in _lines(piece, LONGEST_DOCUMENT))
    return ((text,) for text in documents_of_lines(lines, spec.documents))


def _jsonl(piece: FilePiece, columns: _Columns) -> Iterator[Texts]:
    source = piece.source
    for offset, line in _lines(piece, None):
        text = _decode(source, offset, line)
        if not text or text.isspace():
            continue
        try:
            row = parse_json(text)
        except JsonError as error:
            raise _bad_line(source, offset, f"is {error}") from None
        if isinstance(row, list):
            raise _bad_line(source, offset, "is a JSON array")
        if not isinstance(row, dict):
            raise _bad_line(source, offset, "is not a JSON object")
        texts = list[str]()
        for column in columns.names:
            if column not in row:
                where = f", line {_line_number(source, offset)},"
                raise _no_column(source, column, [str(key) for key in row], columns.field, where)
            value = row[column]
            if value is not None and not isinstance(value, str):
                raise InputError.of(
                    columns.field,
                    f"{source.url}, line {_line_number(source, offset)}: {column!r} is {shown(value)}, not text.",
                    "Name the key that holds the text.",
                )
            if value is not None:
                texts.append(value.encode("utf-8", "replace").decode())  # JSON can hold lone surrogates; UTF-8 cannot
        if len(texts) == len(columns.names):
            yield tuple(texts)


def _parquet(piece: FilePiece, columns: _Columns) -> Iterator[Texts]:
    source = piece.source
    with source.open() as file:
        with reading(source):
            # Without pre-buffering a column is read through a buffer instead of a whole row group at once.
            parquet = pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True)
            check_columns(source, parquet.schema_arrow, columns.names, columns.field)
            stop = parquet.num_row_groups if piece.stop is None else piece.stop
            groups = range(piece.start, stop)
            batches = parquet.iter_batches(
                _ROWS, row_groups=list(groups), columns=list(columns.names), use_threads=False
            )
        yield from _values(source, batches, columns)


def _arrow(piece: FilePiece, columns: _Columns) -> Iterator[Texts]:
    source = piece.source
    with source.open() as file:
        with reading(source):
            reader = pa.ipc.open_stream(file)
            check_columns(source, reader.schema, columns.names, columns.field)
        yield from _values(source, reader, columns)


def _values(source: Source, batches: Iterable[pa.RecordBatch], columns: _Columns) -> Iterator[Texts]:
    rest, rows = iter(batches), 0
    while True:
        with reading(source):  # without the yield below, at which the consumer's errors are raised
            batch = next(rest, None)
            if batch is None:
                return
            values = [batch.column(batch.schema.get_field_index(name)).to_pylist() for name in columns.names]
        for number, row in enumerate(zip(*values, strict=True), start=rows + 1):
            if all(value is not None for value in row):
                yield tuple(
                    value if isinstance(value, str) else _decoded(source, column, columns.field, number, value)
                    for column, value in zip(columns.names, row, strict=True)
                )
        rows += len(batch)


def _decoded(source: Source, column: str, field: str, row: int, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InputError.of(
            field,
            f"{source.url}: {column!r} is not UTF-8 in row {row} of the part that is read (byte {error.start}).",
            "Name a column that holds text, or write the values as UTF-8.",
        ) from None


def _lines(piece: FilePiece, longest: int | None) -> Iterator[tuple[int, bytes]]:
    source = piece.source
    stop = source.size if piece.stop is None else piece.stop
    with source.open(piece.start) as file:
        lines = read_lines(file, piece.start, stop, longest)
        while True:
            try:
                with reading(source):
                    found = next(lines, None)
            except LineTooLongError as error:
                raise _bad_line(source, error.offset, "is over 64 MiB (is the file one JSON array?)") from None
            if found is None:
                return
            yield found


def _decode(source: Source, offset: int, line: bytes) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise InputError.of(
            source.field,
            f"{source.url} is not UTF-8 (byte {offset + error.start}, line {_line_number(source, offset)}).",
            "Convert it to UTF-8, or leave it out.",
        ) from None
    return text.removeprefix("\ufeff").removesuffix("\r") if offset == 0 else text.removesuffix("\r")


def check_columns(source: Source, schema: pa.Schema, columns: Sequence[str], field: str) -> None:
    """Refuse a file of which a text column is missing, occurs twice, or holds other values than text.

    Raises:
        InputError: A column cannot be used; the error names it and ``field``.
    """
    for column in columns:
        _check_column(source, schema, column, field)


def _check_column(source: Source, schema: pa.Schema, column: str, field: str) -> None:
    places = schema.get_all_field_indices(column)
    if not places:
        raise _no_column(source, column, schema.names, field)
    if len(places) > 1:
        problem = f"{source.url} has {len(places)} columns of the name {column!r}."
        raise InputError.of(field, problem, "Rename all but the one that holds the text.")
    kind = schema.field(places[0]).type
    if not _holds_text(kind):
        problem = f"Column {column!r} of {source.url} holds {str(kind)[:_LONGEST_NAME]}, not text."
        raise InputError.of(field, problem, "Name the column of the text.")


def _holds_text(kind: pa.DataType) -> bool:
    """Whether values of the type are text, bytes (which may be UTF-8), or all null."""
    if isinstance(kind, pa.BaseExtensionType):
        return _holds_text(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _holds_text(kind.value_type)
    return any(is_text(kind) for is_text in _TEXTS)


def _no_column(source: Source, column: str, there: list[str], field: str, where: str = "") -> InputError:
    return InputError.of(
        field,
        f"{source.url}{where} has no {column!r}.",
        f"Use one of: {_names(there)}.",
    )


def _names(there: list[str]) -> str:
    more = ", …" if len(there) > _MOST_NAMES else ""
    return ", ".join(name[:_LONGEST_NAME] for name in there[:_MOST_NAMES]) + more or "(there is none)"


def _bad_line(source: Source, offset: int, problem: str) -> InputError:
    return InputError.of(
        source.field,
        f"{source.url}, line {_line_number(source, offset)}, {problem}.",
        "Write one JSON object a line, or leave the file out.",
    )


def _line_number(source: Source, offset: int) -> int:
    """Find the number (from 1) of the line that holds a byte, for errors: it reads the file again from the start."""
    number, unread = 1, offset
    with source.open() as file, reading(source):
        while unread > 0 and (chunk := file.read(min(_BUFFER, unread))):
            number += chunk.count(b"\n")
            unread -= len(chunk)
    return number
