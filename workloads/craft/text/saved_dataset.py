"""Saved datasets: folders that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote.

Such a folder holds Arrow streams, and a ``state.json`` that names them.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import fs as pafs

from workloads.spec.errors import InputError
from workloads.spec.json_text import parse_json
from workloads.spec.request import CorpusSpec
from workloads.storage.places import confined

_FIELD = "corpus.dataset"
_MAX_BYTES = 16 << 20
"""Most bytes of a JSON file of the dataset."""


def list_saved_dataset(filesystem: pafs.FileSystem, base: str, spec: CorpusSpec) -> list[tuple[str, int]]:
    """List the Arrow files of a saved dataset as (path, bytes), in the dataset's order.

    Raises:
        InputError: The folder does not exist, is not a saved dataset, or has no such split.
    """
    document = _read(filesystem, f"{base}/dataset_dict.json")
    if document is not None:
        splits = document.get("splits")
        if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
            raise _damaged(f"{base}/dataset_dict.json")
        if spec.split not in splits:
            problem = f"{spec.dataset} has no split {spec.split!r}."
            raise InputError.of("corpus.split", problem, f"Use one of {', '.join(splits)}.")
        base = f"{base}/{spec.split}"
    state = _read(filesystem, f"{base}/state.json")
    if state is None:
        raise InputError.of(
            _FIELD,
            f"{spec.dataset} is not a folder saved by `datasets`: it has no state.json.",
            "Give a folder written by save_to_disk, or a hub id; name plain files under corpus.paths.",
        )
    infos = filesystem.get_file_info([f"{base}/{name}" for name in _data_files(state, f"{base}/state.json")])
    for info in infos:
        if info.type != pafs.FileType.File:
            raise InputError.of(_FIELD, f"{info.path} is missing from the saved dataset.", "Save the dataset again.")
    return [(info.path, info.size) for info in infos]


def _data_files(state: dict[str, Any], where: str) -> list[str]:
    """Return the names of the Arrow files, all in the same folder."""
    files = state.get("_data_files")
    entries = files if isinstance(files, list) else [None]
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in entries]
    plain = [name for name in names if isinstance(name, str) and name and "/" not in name and name.isprintable()]
    if len(plain) != len(names):
        raise _damaged(where)
    return plain


def _damaged(where: str) -> InputError:
    return InputError.of(_FIELD, f"{where} is not in the format that `datasets` writes.", "Save the dataset again.")


def _read(filesystem: pafs.FileSystem, path: str) -> dict[str, Any] | None:
    try:
        with confined().open_file(filesystem, path) as stream:
            text = bytes(stream.read(_MAX_BYTES + 1))
        document = parse_json(text) if len(text) <= _MAX_BYTES else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError.of(_FIELD, f"{path} cannot be read: {error}.", "Save the dataset again.") from error
    if not isinstance(document, dict):
        raise _damaged(path)
    return document
