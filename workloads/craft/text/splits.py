"""Splits of a corpus: parts of about equal bytes, independent of the number of workers.

A split is the unit of work and of packing. Its size depends on the corpus alone (a 64th of it, between 1 and
32 MiB), so that small corpora show progress and large ones have few enough splits. Large text and JSONL files are
cut at line (or paragraph) starts, large Parquet files at row groups; small files share a split.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.parquet as pq

from workloads.craft.text.lines import start_near
from workloads.craft.text.sources import Source, reading
from workloads.spec.request import CorpusSpec
from workloads.storage.places import Places

_SMALLEST, _LARGEST, _SPLITS = 1 << 20, 32 << 20, 64
_LISTING_THREADS = 16


@dataclass(frozen=True)
class FilePiece:
    """A part of a file.

    Attributes:
        source: The file.
        start: First byte (text, JSONL) or row group (Parquet).
        stop: Byte or row group after the last; None for the file's end.
        size: Bytes of input, for progress.
    """

    source: Source
    start: int
    stop: int | None
    size: int


@dataclass(frozen=True)
class HubPiece:
    """A shard of a dataset on the hub; see :mod:`workloads.craft.text.hub`."""

    name: str
    config: str | None
    split: str
    revision: str | None
    shard: int
    shards: int
    size: int = 0


@dataclass(frozen=True)
class Split:
    """Pieces that are read, tokenised and packed one after the other."""

    index: int
    pieces: tuple[FilePiece | HubPiece, ...]

    @property
    def size(self) -> int:
        """Bytes of input; 0 if they are unknown before reading."""
        return sum(piece.size for piece in self.pieces)

    def to_json(self) -> str:
        """Return the split as JSON text; :meth:`from_json` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Split:
        """Read what :meth:`to_json` wrote."""
        document = json.loads(text)
        return cls(document["index"], tuple(_piece(piece) for piece in document["pieces"]))


def _piece(document: dict[str, Any]) -> FilePiece | HubPiece:
    if "source" in document:
        source = document["source"]
        roots, hub = source["places"]["roots"], source["places"]["hub"]
        places = Places(None if roots is None else tuple(roots), tuple(hub))
        return FilePiece(**{**document, "source": Source(**{**source, "places": places})})
    return HubPiece(**document)


def split_size(total: int) -> int:
    """Return the target size of a split, in bytes, for a corpus of ``total`` bytes."""
    return min(max(total // _SPLITS, _SMALLEST), _LARGEST)


def plan_splits(sources: Sequence[Source], spec: CorpusSpec) -> list[Split]:
    """Divide files into splits, in the order given.

    Raises:
        InputError: A large file cannot be read, or a large Parquet file has a broken footer.
    """
    target = split_size(sum(source.size for source in sources))
    with ThreadPoolExecutor(_LISTING_THREADS) as pool:
        cut = list(pool.map(lambda source: _cut(source, spec, target), sources))
    splits: list[Split] = []
    held: list[FilePiece] = []
    for piece in (piece for pieces in cut for piece in pieces):
        if held and sum(item.size for item in held) + piece.size > target:
            splits.append(Split(len(splits), tuple(held)))
            held = []
        held.append(piece)
    if held:
        splits.append(Split(len(splits), tuple(held)))
    return splits


def _cut(source: Source, spec: CorpusSpec, target: int) -> list[FilePiece]:
    # An Arrow stream has no index, so a file is a piece; `datasets` writes at most 500 MB per file.
    if source.size <= target or source.kind == "arrow":
        return [FilePiece(source, 0, None, source.size)]
    with source.open() as file, reading(source):
        if source.kind == "parquet":
            return _row_groups(source, pq.ParquetFile(file).metadata, target)
        paragraphs = source.kind == "text" and spec.documents == "paragraph"
        starts = [0]
        while (near := starts[-1] + target) < source.size:
            starts.append(start_near(file, starts[-1], near, source.size, paragraphs=paragraphs))
    ends = [*starts[1:], source.size]
    return [FilePiece(source, start, end, end - start) for start, end in zip(starts, ends, strict=True) if end > start]


def _row_groups(source: Source, metadata: pq.FileMetaData, target: int) -> list[FilePiece]:
    # Sizes are of the file, not of the column: other columns have about the same share in every row group.
    rows = max(metadata.num_rows, 1)
    pieces: list[FilePiece] = []
    start, held = 0, 0.0
    for group in range(metadata.num_row_groups):
        held += source.size * metadata.row_group(group).num_rows / rows
        if held >= target or group + 1 == metadata.num_row_groups:
            pieces.append(FilePiece(source, start, group + 1, round(held)))
            start, held = group + 1, 0.0
    return pieces
