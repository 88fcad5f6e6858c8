"""Fingerprint of a corpus: its contents and settings, not the names or places of its files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workloads.craft.text.sources import Source, reading
from workloads.spec.request import CorpusSpec

_CHUNK = 1 << 20


def digest_of(source: Source) -> str:
    """Compute the SHA-256 of a file's kind and content, read piece by piece.

    Raises:
        InputError: The file cannot be read.
    """
    digest = hashlib.sha256(f"{source.kind}\n".encode())
    with source.open() as file, reading(source):
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def order_by_content(sources: Sequence[Source]) -> list[tuple[str, Source]]:
    """Hash files side by side and sort them by (hash, path).

    Splits are planned in this order, so that they depend on the contents alone. Files of equal hash have equal
    content, so their order does not matter.

    Raises:
        InputError: A file cannot be read.
    """
    with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as pool:
        digests = list(pool.map(digest_of, sources))
    return sorted(zip(digests, sources, strict=True))


def corpus_fingerprint(digests: Sequence[str], sources: Sequence[Source], spec: CorpusSpec) -> dict[str, Any]:
    """Return everything that decides a corpus of files, for a stage's key; settings without effect are left out.

    Args:
        digests: Hashes of all files, sorted.
        sources: The files.
        spec: The settings.
    """
    kinds = {source.kind for source in sources}
    return {
        "content": hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        **columns_key(spec, named=bool(kinds - {"text"})),
        "documents": spec.documents if "text" in kinds else None,
        "heldout_fraction": spec.heldout_fraction,
    }


def columns_key(spec: CorpusSpec, *, named: bool = True) -> dict[str, Any]:
    """Return the columns of the texts, for a stage's key; ``named`` tells whether the corpus has columns."""
    if len(spec.columns) == 1:
        return {"text_column": spec.columns[0] if named else None}
    return {"text_columns": list(spec.columns)}
