"""Datasets on the hub, streamed through the `datasets` library.

`datasets` is imported lazily: it takes seconds to load, and most corpora are files. Every error of the hub's
libraries is reported as an error of the dataset, since the classes of their exceptions change between versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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


def read(piece: HubPiece, columns: Sequence[str], field: str) -> Iterator[tuple[str, ...]]:
    """Yield the texts of each row of a shard; rows that lack one are left out.

    Args:
        piece: The shard.
        columns: The columns of the texts.
        field: The field of the request that names them.

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
        texts = tuple(_text(row, piece, column, field) for column in columns)
        if all(texts):
            yield texts


def _text(row: Mapping[str, Any], piece: HubPiece, column: str, field: str) -> str:
    if column not in row:
        raise InputError.of(field, f"{piece.name} has no {column!r}.", f"Use one of: {', '.join(row)}.")
    value = row[column]
    if isinstance(value, bytes):
        return _decoded(value, piece, column, field)
    if value is not None and not isinstance(value, str):
        raise InputError.of(field, f"{column!r} of {piece.name} does not hold text.", "Name the column of the text.")
    return value or ""


def _decoded(value: bytes, piece: HubPiece, column: str, field: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        problem = f"{column!r} of {piece.name} is not UTF-8 (byte {error.start} of a value)."
        raise InputError.of(field, problem, "Name a column that holds text.") from None


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
