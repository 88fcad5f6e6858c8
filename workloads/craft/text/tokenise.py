"""Tokenising one split: read, hold out by document, tokenise, pack, write. Runs in a Ray task or a plain loop."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from workloads.craft.text.forms import TextForm
from workloads.craft.text.packing import Layout, Packer, Rows, TextRows, make_packer
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
        form: How a document becomes a row of its own as its teacher reads it; None for its bare tokens.
    """

    spec: CorpusSpec
    sequence_length: int
    layout: Layout
    threshold: int
    form: TextForm | None = None


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


def document_hash(*texts: str) -> int:
    """Hash a document's texts to a number below 2**64, which decides its side; so equal documents fall on one side."""
    return int.from_bytes(hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest(), "big")


@dataclass
class _Bare:
    """Maker of rows of bare text."""

    tokenizer: Tokenizer
    packer: Packer

    def add(self, texts: Sequence[str], digest: int) -> None:
        (text,) = texts
        self.packer.add(self.tokenizer.encode(text))

    def take(self, *, final: bool = False) -> Rows:
        return self.packer.take(final=final)


@dataclass
class _Formed:
    """Maker of rows as a teacher reads them."""

    tokenizer: Tokenizer
    form: TextForm
    length: int
    rows: TextRows

    def add(self, texts: Sequence[str], digest: int) -> None:
        self.rows.add(*self.tokenizer.encode_whole(self.form.apply(texts, digest), self.length))

    def take(self, *, final: bool = False) -> Rows:
        return self.rows.take()


def _maker(recipe: Recipe, tokenizer: Tokenizer) -> _Bare | _Formed:
    length, pad = recipe.sequence_length, tokenizer.pad_id
    if recipe.form is not None:
        return _Formed(tokenizer, recipe.form, length, TextRows(length, pad))
    return _Bare(tokenizer, make_packer(recipe.layout, length, tokenizer.cls_id, tokenizer.sep_id, pad))


def tokenise_split(storage: Storage, folder: str, split: Split, recipe: Recipe, tokenizer: Tokenizer) -> SplitStats:
    """Write the shards of a split; names and contents depend on the arguments alone.

    Raises:
        InputError: A file cannot be read, or its content does not match its ending.
        OSError: The storage cannot be written.
    """
    length = recipe.sequence_length
    makers = {side: _maker(recipe, tokenizer) for side in SIDES}
    writers = {side: ShardWriter(storage, folder, side, split.index, length) for side in SIDES}
    stats = SplitStats(split.index, split.size, {side: SideStats() for side in SIDES})
    waiting = 0
    for piece in split.pieces:
        for texts in read_documents(piece, recipe.spec):
            digest = document_hash(*texts)
            side: Side = "heldout" if digest < recipe.threshold else "train"
            stats.smallest = digest if stats.smallest is None else min(stats.smallest, digest)
            stats.largest = digest if stats.largest is None else max(stats.largest, digest)
            stats.sides[side].documents += 1
            stats.sides[side].bytes += sum(len(text.encode()) for text in texts)
            makers[side].add(texts, digest)
            waiting += sum(map(len, texts)) + length
            if waiting >= _TAKE_EVERY:
                waiting = 0
                for name in SIDES:
                    writers[name].add(makers[name].take())
    for name in SIDES:
        writers[name].add(makers[name].take(final=True))
        writers[name].flush()
        stats.sides[name].shards = writers[name].shards
    if not stats.size:
        stats.size = sum(side.bytes for side in stats.sides.values())
    return stats
