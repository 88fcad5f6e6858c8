"""One split: read, held out by document, tokenised, packed, written. The same code in a task and in a plain loop."""

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
"""Characters, and a row's tokens for each document, after which full rows are handed on."""


@dataclass(frozen=True)
class Recipe:
    """How splits become rows.

    Attributes:
        spec: Text column, what a document is.
        sequence_length: L, tokens of a row.
        layout: ``packed`` or ``documents``.
        threshold: Documents whose :func:`document_hash` is below it are held out.
    """

    spec: CorpusSpec
    sequence_length: int
    layout: Layout
    threshold: int


@dataclass
class SideStats:
    """What a split gave to one side."""

    documents: int = 0
    bytes: int = 0
    shards: list[Shard] = field(default_factory=list)


@dataclass
class SplitStats:
    """What became of a split.

    Attributes:
        index: The split's.
        size: Bytes of input; where the input's are not known before, of its text.
        sides: What each side got.
        smallest: Smallest document hash; None where there was no document.
        largest: Largest document hash.
    """

    index: int
    size: int
    sides: dict[Side, SideStats]
    smallest: int | None = None
    largest: int | None = None


def document_hash(text: str) -> int:
    """A number below 2**64 that follows from the text alone, so that doubled documents fall on one side."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def tokenise_split(storage: Storage, folder: str, split: Split, recipe: Recipe, tokenizer: Tokenizer) -> SplitStats:
    """Write the shards of a split; names and contents follow from the arguments alone.

    Raises:
        InputError: A file of it cannot be read or is not what its ending says.
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
