"""Datasets on the hub, streamed through the `datasets` library.

`datasets` is imported lazily: it takes seconds to load, and most corpora are files. Every error of the hub's
libraries is reported as an error of the dataset, since the classes of their exceptions change between versions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workloads.craft.text.splits import HubPiece, Split
from workloads.spec.errors import InputError
from workloads.spec.request import CorpusSpec
from workloads.storage.outages import cannot_use
from workloads.storage.walking import kind_of


def is_hub_id(dataset: str) -> bool:
    """Whether ``dataset`` names a dataset on the hub rather than a folder."""
    folder = "://" in dataset or dataset.startswith(("/", ".", "~")) or dataset.count("/") > 1
    return not folder and kind_of(dataset) is None


def resolve_revision(dataset: str) -> str:
    """Return the commit of the dataset's main branch.

    Raises:
        InputError: The hub cannot be reached, or has no such dataset.
    """
    from huggingface_hub import HfApi

    try:
        info = HfApi().dataset_info(dataset, timeout=30)
    except Exception as error:
        raise _not_found(dataset, error) from error
    return str(info.sha)


def plan_hub_splits(spec: CorpusSpec, revision: str | None) -> list[Split]:
    """Return one split for each shard (usually a file) of a dataset on the hub.

    Raises:
        InputError: The hub cannot be reached, or has no such dataset, configuration or split.
    """
    assert spec.dataset is not None
    whole = HubPiece(spec.dataset, spec.dataset_config, spec.split, revision, 0, 1)
    count = int(_open(whole).num_shards)
    return [
        Split(shard, (HubPiece(spec.dataset, spec.dataset_config, spec.split, revision, shard, count),))
        for shard in range(count)
    ]


def read(piece: HubPiece, column: str) -> Iterator[str]:
    """Yield the texts of a shard.

    Raises:
        InputError: The shard cannot be read, has no such column, or the column holds other values than text.
    """
    dataset = _open(piece)
    rows = iter(dataset.shard(piece.shards, piece.shard) if piece.shards > 1 else dataset)
    while True:
        try:
            row = next(rows, None)
        except Exception as error:
            raise _not_found(piece.name, error) from error
        if row is None:
            return
        if column not in row:
            raise InputError.of(
                "corpus.text_column", f"{piece.name} has no {column!r}.", f"Use one of: {', '.join(row)}."
            )
        value = row[column]
        if isinstance(value, bytes):
            value = _decoded(value, piece, column)
        if value is not None and not isinstance(value, str):
            raise InputError.of(
                "corpus.text_column", f"{column!r} of {piece.name} does not hold text.", "Name the column of the text."
            )
        if value:
            yield value


def _decoded(value: bytes, piece: HubPiece, column: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        problem = f"{column!r} of {piece.name} is not UTF-8 (byte {error.start} of a value)."
        raise InputError.of("corpus.text_column", problem, "Name a column that holds text.") from None


def _open(piece: HubPiece) -> Any:
    import datasets

    try:
        return datasets.load_dataset(
            piece.name, piece.config, split=piece.split, revision=piece.revision, streaming=True
        )
    except Exception as error:
        raise _not_found(piece.name, error) from error


def _not_found(dataset: str, error: Exception) -> InputError:
    return cannot_use(
        "corpus.dataset",
        f"{dataset!r} cannot be loaded from the hub: {type(error).__name__}: {' '.join(str(error).split())}.",
        "Correct the id, dataset_config and split, check the network, or use a folder written by save_to_disk.",
        error,
    )
