"""Folders that ``datasets.Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote: Arrow streams and a state."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from pyarrow import fs as pafs

from workloads.spec.errors import InputError
from workloads.spec.request import CorpusSpec
from workloads.storage.places import confined


def list_saved_dataset(filesystem: pafs.FileSystem, base: str, spec: CorpusSpec) -> list[tuple[str, int]]:
    """List the Arrow files of a saved dataset as (path, bytes), in the dataset's order.

    Raises:
        InputError: The folder is not there, is no saved dataset, or has no such split.
    """
    splits = _read(filesystem, f"{base}/dataset_dict.json")
    if splits is not None:
        if spec.split not in splits["splits"]:
            raise InputError.of(
                "corpus.split",
                f"{spec.dataset} has no split {spec.split!r}.",
                f"Use one of {', '.join(splits['splits'])}.",
            )
        base = f"{base}/{spec.split}"
    state = _read(filesystem, f"{base}/state.json")
    if state is None:
        raise InputError.of(
            "corpus.dataset",
            f"{spec.dataset} is no folder that `datasets` saved (there is no state.json).",
            "Give a folder written by save_to_disk, or a hub id; name plain files under corpus.paths.",
        )
    paths = [f"{base}/{item['filename']}" for item in state["_data_files"]]
    infos = filesystem.get_file_info(paths)
    for info in infos:
        if info.type != pafs.FileType.File:
            raise InputError.of(
                "corpus.dataset", f"{info.path} is missing from the saved dataset.", "Save the dataset again."
            )
    return [(info.path, info.size) for info in infos]


def _read(filesystem: pafs.FileSystem, path: str) -> dict[str, Any] | None:
    try:
        with confined().open_file(filesystem, path) as stream:
            document: dict[str, Any] = json.loads(stream.read())
            return document
    except FileNotFoundError:
        return None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError.of("corpus.dataset", f"{path} cannot be read: {error}.", "Save the dataset again.") from error
