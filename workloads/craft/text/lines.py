"""Reading of lines in a byte range, and of documents of at most one MiB, in constant memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

import pyarrow as pa

LONGEST_DOCUMENT = 1 << 20
"""Longest document, in bytes (of a text file) or characters (of a value); a longer one becomes several."""

LONGEST_LINE = 64 << 20
"""Longest line in bytes if lines must be read whole (JSONL); a longer one usually is a JSON array."""

_CHUNK = 1 << 20
_BLANK_LINE = re.compile(rb"(?<=\n)[ \t\r]*\n")


class LineTooLongError(Exception):
    """A line that must be read whole is longer than :data:`LONGEST_LINE`; ``offset`` is the line's first byte."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


def read_lines(file: pa.NativeFile, start: int, stop: int, longest: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, line without its end) for the bytes ``start`` to ``stop`` of a file.

    Args:
        file: An open file, positioned at ``start``.
        start: Offset of the first byte, which must begin a line.
        stop: Offset after the last byte.
        longest: Longest line in bytes; longer ones are cut, at a space if possible. With None no line is cut.

    Raises:
        LineTooLongError: ``longest`` is None, and a line is longer than :data:`LONGEST_LINE`.
    """
    held, offset, unread = b"", start, stop - start
    while unread > 0 and (chunk := file.read(min(_CHUNK, unread))):
        unread -= len(chunk)
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            for piece in _cut_bytes(line, longest):
                yield offset, piece
                offset += len(piece)
            offset += 1
        if longest is None and len(held) > LONGEST_LINE:
            raise LineTooLongError(offset)
        if longest is not None and len(held) > longest:
            *pieces, held = _cut_bytes(held, longest)
            for piece in pieces:
                yield offset, piece
                offset += len(piece)
    for piece in _cut_bytes(held, longest) if held else ():
        yield offset, piece
        offset += len(piece)


def _cut_bytes(line: bytes, longest: int | None) -> Iterator[bytes]:
    while longest is not None and len(line) > longest:
        cut = line.rfind(b" ", 1, longest)
        if cut < 0:
            cut = longest
            while cut > 1 and line[cut] & 0xC0 == 0x80:  # within a UTF-8 character
                cut -= 1
        yield line[:cut]
        line = line[cut:]
    yield line


def documents_of_lines(lines: Iterable[str], mode: Literal["file", "paragraph", "line"]) -> Iterator[str]:
    """Join lines to documents: the whole file, paragraphs (separated by blank lines), or single lines.

    A document ends before the line that would take it beyond :data:`LONGEST_DOCUMENT`.
    """
    held: list[str] = []
    size = 0
    for line in lines:
        blank = not line or line.isspace()
        full = size + len(line) > LONGEST_DOCUMENT
        if held and (full or mode == "line" or (mode == "paragraph" and blank)):
            yield "\n".join(held)
            held, size = [], 0
        if not blank or (held and mode == "file"):
            held.append(line)
            size += len(line) + 1
    if held:
        yield "\n".join(held)


def parts_of(text: str, longest: int = LONGEST_DOCUMENT) -> Iterator[str]:
    """Cut a text into parts of at most ``longest`` characters: at a line end, else a space, else anywhere."""
    start = 0
    while len(text) - start > longest:
        cut = text.rfind("\n", start + 1, start + longest)
        if cut < 0:
            cut = text.rfind(" ", start + 1, start + longest)
        if cut < 0:
            cut = start + longest
        yield text[start:cut]
        start = cut
    yield text[start:] if start else text


def start_near(file: pa.NativeFile, after: int, offset: int, size: int, *, paragraphs: bool) -> int:
    """Find the last start of a line at or before ``offset``; with ``paragraphs``, of a paragraph if one is near.

    It looks back one MiB at most, so that a piece is at most that much shorter than planned. If no line starts there,
    the result is the start of the next line, or ``size`` if there is none.

    Args:
        file: A file open for random access.
        after: Offset that the start must lie beyond.
        offset: Offset to search at.
        size: Bytes of the file.
        paragraphs: Prefer a line after an empty one.
    """
    first = max(after, offset - LONGEST_DOCUMENT)
    file.seek(first)
    head = bytes(file.read(offset - first))
    if paragraphs and (ends := [match.end() for match in _BLANK_LINE.finditer(head)]):
        return first + ends[-1]
    if (end := head.rfind(b"\n")) >= 0:
        return first + end + 1
    while offset < size and (chunk := bytes(file.read(min(_CHUNK, size - offset)))):
        if (end := chunk.find(b"\n")) >= 0:
            return offset + end + 1
        offset += len(chunk)
    return size
