"""The header of a safetensors file: names, types and shapes of its tensors, checked against the file's length.

The format: a little-endian u64 with the length of a JSON header, the header, and the data without gaps.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workloads.spec.json_text import JsonError, parse_json, shown

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 8 << 20
"""A tensor takes some 120 bytes of header, so this is enough for 1,000 layers many times over."""
METADATA = "__metadata__"

_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
_MAX_AXES = 8
_MAX_SIZE = 1 << 40


class HeaderError(ValueError):
    """A header that does not fit its file; the message names the tensor, and is to stand after the file's name."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as the header describes it.

    Attributes:
        dtype: Type as safetensors names it, such as ``F32``.
        shape: Size along each axis.
    """

    dtype: str
    shape: tuple[int, ...]


def header_length(start: bytes, size: int) -> int:
    """Return the header's length in bytes, from a file's first eight bytes.

    Args:
        start: The bytes; fewer if the file is shorter.
        size: Bytes of the file.

    Raises:
        HeaderError: The file is too short for the header, or the header is over :data:`MAX_HEADER_BYTES`.
    """
    if len(start) < LENGTH_BYTES:
        raise HeaderError("is damaged or cut short: it has no header")
    length = int(struct.unpack("<Q", start)[0])
    if length > size - LENGTH_BYTES:
        raise HeaderError(f"is damaged or cut short: its header would take {length:,} bytes of {size:,}")
    if length > MAX_HEADER_BYTES:
        raise HeaderError(f"has a header of {length:,} bytes; {MAX_HEADER_BYTES:,} are read at most")
    return length


def parse_header(text: bytes, data_bytes: int) -> dict[str, StoredTensor]:
    """Read a header and check that its tensors fill the data exactly, without overlaps.

    Args:
        text: The JSON header.
        data_bytes: Bytes of the file after it.

    Raises:
        HeaderError: The text is not a header, or does not fit the data.
    """
    try:
        document = parse_json(text)
    except JsonError as error:
        raise HeaderError(f"is damaged: its header is {error}") from error
    if not isinstance(document, dict):
        raise HeaderError("is damaged: its header is not a JSON object")
    tensors: dict[str, StoredTensor] = {}
    places: list[tuple[int, int, str]] = []
    for name, entry in document.items():
        if name == METADATA:
            continue
        tensors[name], begin, end = _entry(name, entry)
        places.append((begin, end, name))
    filled = 0
    for begin, end, name in sorted(places):
        if begin != filled:
            problem = "overlaps the tensor before it" if begin < filled else "leaves a gap before it"
            raise HeaderError(f"is damaged: {shown(name)} {problem} (data_offsets {begin}, {end})")
        filled = end
    if filled != data_bytes:
        raise HeaderError(f"is damaged or cut short: its tensors take {filled:,} bytes, and {data_bytes:,} are there")
    return tensors


def _entry(name: str, entry: Any) -> tuple[StoredTensor, int, int]:
    if not isinstance(entry, Mapping):
        raise HeaderError(f"is damaged: the header's entry {shown(name)} is not a JSON object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise HeaderError(f"holds {shown(name)} in the type {shown(dtype)}, which is not supported")
    if not isinstance(shape, list) or len(shape) > _MAX_AXES or not all(map(_is_size, shape)):
        raise HeaderError(f"is damaged: the shape of {shown(name)} is not a list of at most {_MAX_AXES} whole numbers")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise HeaderError(f"is damaged: data_offsets of {shown(name)} are not two whole numbers from 0 on")
    begin, end = offsets
    needed = math.prod(shape) * _BYTES[dtype]
    if end - begin != needed:
        raise HeaderError(
            f"is damaged: {shown(name)} of shape {shape} in {dtype} takes {needed:,} bytes, "
            f"and its data_offsets {begin}, {end} say {end - begin:,}"
        )
    return StoredTensor(dtype, tuple(shape)), begin, end


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_SIZE
