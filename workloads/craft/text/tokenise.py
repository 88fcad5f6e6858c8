"""Tokenising one split: read, hold out by document, tokenise, pack, write. Runs in a Ray task or a plain loop."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from workloads.craft.text.packing import Layout, make_packer
from workloads.craft.text.readers import read_documents
from workloads.craft.text.shards import SIDES, Shard, ShardWriter, Side
from workloads.craft.text.splits import Split
from workloads.craft.text.tokenizer import Tokenizer
from workloads.spec.request import CorpusSpec
from workloads.storage.storage import Storage

HASHES = 1 << 64
_TAKE_EVERY = 1 << 18
"""Characters (plus a row's tokens per document) after which full rows are passed on."""


@dataclass(frozen=True)
class Recipe:
    """Settings that turn splits into rows.

    Attributes:
        spec: The corpus's settings, such as the text column and the kind of document.
        sequence_length: L, tokens of a row.
        layout: ``packed`` or ``documents``.
        threshold: Bound of :func:`document_hash`; documents below it are held out.
    """

    spec: CorpusSpec
    sequence_length: int
    layout: Layout
    threshold: int


@dataclass
class SideStats:
    """Counts of a split on one side."""

    documents: int = 0
    bytes: int = 0
    shards: list[Shard] = field(default_factory=list)


@dataclass
class SplitStats:
    """Counts of a tokenised split.

    Attributes:
        index: Index of the split.
        size: Bytes of input, or of its text if the input's are unknown before reading.
        sides: Counts by side.
        smallest: Smallest document hash; None without documents.
        largest: Largest document hash; None without documents.
    """

    index: int
    size: int
    sides: dict[Side, SideStats]
    smallest: int | None = None
    largest: int | None = None


def document_hash(text: str) -> int:
    """Hash a text to a number below 2**64, which decides its side; so equal documents fall on one side."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def tokenise_split(storage: Storage, folder: str, split: Split, recipe: Recipe, tokenizer: Tokenizer) -> SplitStats:
    """Write the shards of a split; names and contents depend on the arguments alone.

    Raises:
        InputError: A file cannot be read, or its content does not match its ending.
        OSError: The storage cannot be written.
    """
    length = recipe.sequence_length
    ids = tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id
    packers = {side: make_packer(recipe.layout, length, *ids) for side in SIDES}
    writers = {side: ShardWriter(storage, folder, side, split.index, length) for side in SIDES}
    stats = SplitStats(split.index, split.size, {side: SideStats() for side in SIDES})
    waiting = 0
    for piece in split.pieces:
        for text in read_documents(piece, recipe.spec):
            digest = document_hash(text)
            side: Side = "heldout" if digest < recipe.threshold else "train"
            stats.smallest = digest if stats.smallest is None else min(stats.smallest, digest)
            stats.largest = digest if stats.largest is None else max(stats.largest, digest)
            stats.sides[side].documents += 1
            stats.sides[side].bytes += len(text.encode())
            packers[side].add(tokenizer.encode(text))
            waiting += len(text) + length
            if waiting >= _TAKE_EVERY:
                waiting = 0
                for name in SIDES:
                    writers[name].add(packers[name].take())
    for name in SIDES:
        writers[name].add(packers[name].take(final=True))
        writers[name].flush()
        stats.sides[name].shards = writers[name].shards
    if not stats.size:
        stats.size = sum(side.bytes for side in stats.sides.values())
    return stats
