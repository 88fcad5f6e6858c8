from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest

from workloads.craft.text import lines
from workloads.craft.text.lines import documents_of_lines, parts_of, read_lines, start_near


def _file(data: bytes) -> pa.NativeFile:
    return pa.PythonFile(io.BytesIO(data), "r")


def test_lines_come_with_their_offsets_and_without_their_ends() -> None:
    assert list(read_lines(_file(b"ab\n\nc"), 0, 5)) == [(0, b"ab"), (3, b""), (4, b"c")]


def test_lines_are_whole_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_CHUNK", 3)
    data = "\n".join(f"line {number} é" for number in range(50)).encode()
    found = list(read_lines(_file(data), 0, len(data)))
    assert b"\n".join(line for _, line in found) == data
    assert all(data[offset : offset + len(line)] == line for offset, line in found)


@pytest.mark.parametrize("chunk", [4, 1 << 20])
def test_a_long_line_is_cut_at_spaces_or_between_characters(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(lines, "_CHUNK", chunk)
    data = ("one two three " + "é" * 20 + "\nend").encode()
    found = list(read_lines(_file(data), 0, len(data), longest=9))
    assert all(len(line) <= 9 and line.decode() is not None for _, line in found)
    assert all(data[offset : offset + len(line)] == line for offset, line in found)
    assert b"".join(line for _, line in found) == data.replace(b"\n", b"")
    assert found[0][1] == b"one two"


def test_a_line_that_must_be_whole_but_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_CHUNK", 8)
    monkeypatch.setattr(lines, "LONGEST_LINE", 32)
    with pytest.raises(lines.LineTooLongError) as caught:
        list(read_lines(_file(b"a\n" + b"x" * 100), 0, 102))
    assert caught.value.offset == 2


@pytest.mark.parametrize(
    ("mode", "documents"),
    [("file", ["a\nb\n\nc"]), ("paragraph", ["a\nb", "c"]), ("line", ["a", "b", "c"])],
)
def test_what_a_document_is_follows_the_mode(mode: Any, documents: list[str]) -> None:
    found = documents_of_lines(["", "a", "b", "", "c", " "], mode)
    assert [document.strip() for document in found] == documents


def test_a_long_document_is_parted_at_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_DOCUMENT", 12)
    assert list(documents_of_lines(["aaaaa", "bbbbb", "ccccc", "ddddd"], "file")) == ["aaaaa\nbbbbb", "ccccc\nddddd"]


def test_parts_lose_nothing_and_end_at_line_ends() -> None:
    text = "one\ntwo\nthree four five\n" + "x" * 30
    parts = list(parts_of(text, 10))
    assert "".join(parts) == text
    assert max(map(len, parts)) <= 10
    assert parts[0] == "one\ntwo"


def test_ranges_start_at_lines_or_paragraphs() -> None:
    data = b"one\ntwo\n\nthree\nfour\n \nfive"

    def start(after: int, offset: int, paragraphs: bool) -> bytes:
        return data[start_near(_file(data), after, offset, len(data), paragraphs=paragraphs) :]

    assert start(0, 6, False) == data[4:]
    assert start(0, 4, False) == data[4:]
    assert start(0, 12, True) == data[9:]
    assert start(0, 24, True) == b"five"
    assert start(9, 18, True) == data[15:]  # no paragraph starts there: a line
    assert start(0, 2, False) == data[4:]  # nor a line: the next one
    assert start(23, 25, False) == b""


def test_a_start_is_looked_for_within_a_mebibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_DOCUMENT", 8)
    data = b"one\n\ntwo three\nfour five\n"
    assert start_near(_file(data), 0, 18, len(data), paragraphs=True) == 15
