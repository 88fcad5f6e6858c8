"""A teacher's folder, local or in an object store; the size of every read is bounded.

Three layouts are read: a plain folder, the old layout of sentence-transformers (``modules.json`` names the folder of
the transformer), and a model in the hub's cache (``models--owner--name`` with ``refs`` and ``snapshots``).
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs as pafs

from workloads.shapes.safetensors_header import (
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    HeaderError,
    StoredTensor,
    header_length,
    parse_header,
)
from workloads.shapes.teacher_config import FIELD
from workloads.spec.errors import InputError
from workloads.spec.json_text import JsonError, parse_json, shown
from workloads.storage.outages import cannot_use
from workloads.storage.places import EVERYWHERE, Places
from workloads.storage.storage import Storage

CONFIG = "config.json"
MODULES = "modules.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"

_MAX_JSON_BYTES = 8 << 20
_MAX_ENTRIES = 10_000
_MAX_WEIGHT_FILES = 200
_MAX_TENSORS = 50_000
_MOST_SEARCHED, _MOST_NAMED = 50, 3
"""Most folders that are searched for a model, and most that a message names."""
_COMMIT_OR_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_MODULE_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,99}){0,3}")


@dataclass(frozen=True)
class TeacherFolder:
    """The folder that holds ``config.json``.

    Attributes:
        storage: A storage whose root is the folder.
        names: Names of its regular files.
        outer: The folder around it whose ``modules.json`` names it; None if there is none.
    """

    storage: Storage
    names: frozenset[str]
    outer: TeacherFolder | None = None

    @classmethod
    def open(cls, model: str, places: Places = EVERYWHERE, revision: str | None = None) -> TeacherFolder:
        """Find the folder of a model.

        Args:
            model: A folder or URL: the model's own, or one around it in one of the known layouts.
            places: The places that requests may read.
            revision: Revision of a model in the hub's cache; ``main`` if left out.

        Raises:
            InputError: There is no such folder, it cannot be listed, or it has no ``config.json``; then the remedy
                names folders below it that have one.
        """
        storage = _open(model, places)
        folder = cls(storage, _file_names(storage, model))
        inner = folder._inner(revision)
        if inner is not None:
            below = _below(storage, inner)
            places.require(below.url, FIELD)
            outer = folder if MODULES in folder.names else None
            folder = cls(below, _file_names(below, below.url), outer)
        if CONFIG not in folder.names:
            raise folder._without_config(inner is not None)
        return folder

    @property
    def url(self) -> str:
        """Path or URL of the folder."""
        return self.storage.url

    @property
    def around(self) -> TeacherFolder:
        """The folder of ``modules.json``, if there is one: this folder, or the one around it."""
        return self.outer or self

    def json(self, name: str) -> dict[str, Any]:
        """Read a JSON object.

        Raises:
            InputError: The file cannot be read, is over 8 MiB, or is not a JSON object.
        """
        document = self._parsed(name)
        if not isinstance(document, dict):
            raise InputError.of(FIELD, f"{self.url}/{name} is not a JSON object.", "Copy it again.")
        return document

    def json_list(self, name: str) -> list[Any]:
        """Read a JSON array.

        Raises:
            InputError: The file cannot be read, is over 8 MiB, or is not a JSON array.
        """
        document = self._parsed(name)
        if not isinstance(document, list):
            raise InputError.of(FIELD, f"{self.url}/{name} is not a JSON array.", "Copy it again.")
        return document

    def may_hold(self, path: str) -> bool:
        """Whether a path is that of a folder below this one, which requests may read."""
        if not _MODULE_PATH.fullmatch(path):
            return False
        return not self.storage.local or self.storage.places.holds(self.storage.path(path))

    def _parsed(self, name: str) -> Any:
        try:
            return parse_json(self.read(name, _MAX_JSON_BYTES))
        except JsonError as error:
            raise InputError.of(FIELD, f"{self.url}/{name} is {error}.", "Copy it again.") from error

    def read(self, name: str, most: int) -> bytes:
        """Read a small file.

        Raises:
            InputError: The file cannot be read, or has more than ``most`` bytes.
        """
        try:
            with self.storage.open_input(name) as stream:
                data = bytes(stream.read(most + 1))
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(name, error) from error
        if len(data) > most:
            raise InputError.of(
                FIELD, f"{self.url}/{name} has more than {most >> 20} MiB.", "Give a folder written by save_pretrained."
            )
        return data

    def size(self, name: str) -> int:
        """Return the size of a file in bytes.

        Raises:
            InputError: The file is gone.
        """
        try:
            return self.storage.size(name)
        except (OSError, TypeError, pa.ArrowException) as error:
            raise self._unreadable(name, error) from error

    def weight_files(self) -> list[str]:
        """Return the names of the safetensors files, sorted; empty if there are none.

        Raises:
            InputError: The index names files that are not in the folder, or too many.
        """
        if WEIGHTS in self.names:
            return [WEIGHTS]
        if WEIGHTS_INDEX not in self.names:
            return []
        index = self.json(WEIGHTS_INDEX).get("weight_map")
        where = f"{self.url}/{WEIGHTS_INDEX}"
        if not isinstance(index, dict) or not index or not all(isinstance(file, str) for file in index.values()):
            raise InputError.of(FIELD, f"{where} has no weight_map of names to files.", "Copy it again.")
        files = sorted(set(index.values()))
        if len(files) > _MAX_WEIGHT_FILES:
            problem = f"{where} names {len(files):,} files; {_MAX_WEIGHT_FILES} are read at most."
            raise InputError.of(FIELD, problem, "Save the model in fewer, larger files.")
        for name in files:
            if "/" in name or "\\" in name or not name.endswith(".safetensors"):
                problem = f"{where} names {shown(name)}, which is not a safetensors file of that folder."
                raise InputError.of(FIELD, problem, "Give a folder written by save_pretrained.")
            if name not in self.names:
                raise InputError.of(FIELD, f"{self.url} lacks {name}.", "Copy the missing file beside it.")
        return files

    def tensors(self) -> dict[str, StoredTensor]:
        """Read the headers of the weight files and return all stored tensors by name.

        Raises:
            InputError: A header does not fit its file, the headers are too large, or a tensor is stored twice.
        """
        found: dict[str, StoredTensor] = {}
        left = MAX_HEADER_BYTES
        for file in self.weight_files():
            length, tensors = self._checked_header(file)
            left -= length
            if left < 0 or len(found) + len(tensors) > _MAX_TENSORS:
                problem = f"The headers of {self.url} name more than {_MAX_TENSORS:,} tensors."
                raise InputError.of(FIELD, problem, "Use a teacher of a stock family.")
            if doubled := found.keys() & tensors.keys():
                problem = f"{self.url}/{file} holds {shown(min(doubled))}, which another file of that folder holds too."
                raise InputError.of(FIELD, problem, "Keep each tensor in one file.")
            found |= tensors
        return found

    def tensors_of(self, file: str) -> dict[str, StoredTensor]:
        """Read the header of one safetensors file.

        Raises:
            InputError: The header does not fit the file.
        """
        return self._checked_header(file)[1]

    def _checked_header(self, file: str) -> tuple[int, dict[str, StoredTensor]]:
        try:
            return self._header(file)
        except HeaderError as error:
            raise InputError.of(FIELD, f"{self.url}/{file} {error}.", "Copy or download it again, whole.") from None

    def _header(self, name: str) -> tuple[int, dict[str, StoredTensor]]:
        try:
            size = self.size(name)
            with self.storage.open_input(name) as stream:
                length = header_length(bytes(stream.read(LENGTH_BYTES)), size)
                text = bytes(stream.read(length))
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(name, error) from error
        return length, parse_header(text, size - LENGTH_BYTES - length)

    def _inner(self, revision: str | None) -> str | None:
        """Find the model's folder below this one, if it has the layout of a known tool."""
        if MODULES in self.names and (CONFIG not in self.names or "model_type" not in self.json(CONFIG)):
            return self._transformer_module()
        if CONFIG in self.names:
            return None
        ref = revision or "main"
        if not _COMMIT_OR_REF.fullmatch(ref):
            return None
        snapshots = _folder_names(self.storage, "snapshots")
        if ref in snapshots:
            return f"snapshots/{ref}"
        if snapshots and ref in _file_names_below(self.storage, "refs"):
            commit = self.read(f"refs/{ref}", 200).decode(errors="replace").strip()
            if _COMMIT_OR_REF.fullmatch(commit) and commit in snapshots:
                return f"snapshots/{commit}"
        return f"snapshots/{snapshots[0]}" if len(snapshots) == 1 and revision is None else None

    def _transformer_module(self) -> str | None:
        try:
            modules = parse_json(self.read(MODULES, _MAX_JSON_BYTES))
        except JsonError as error:
            raise InputError.of(FIELD, f"{self.url}/{MODULES} is {error}.", "Copy it again.") from error
        for module in modules if isinstance(modules, list) else []:
            path = module.get("path") if isinstance(module, dict) else None
            kind = module.get("type") if isinstance(module, dict) else None
            if isinstance(kind, str) and kind.endswith(".Transformer") and isinstance(path, str):
                return path if _MODULE_PATH.fullmatch(path) else None
        return None

    def _without_config(self, inside: bool) -> InputError:
        remedy = "Give a folder that was written by save_pretrained."
        found = [] if inside else list(itertools.islice(self._models_near(), _MOST_NAMED))
        if found:
            remedy = f"Give the folder of a model: {' or '.join(found)}."
        return InputError.of(FIELD, f"{self.url} has no {CONFIG}.", remedy)

    def _models_near(self) -> Iterator[str]:
        """Find folders below this one that hold a model."""
        near = [f"snapshots/{name}" for name in _folder_names(self.storage, "snapshots")]
        for name in (near or _folder_names(self.storage, ""))[:_MOST_SEARCHED]:
            below = _below(self.storage, name)
            names = _file_names_below(self.storage, name)
            if CONFIG in names or _folder_names(below, "snapshots"):
                yield below.url

    def _unreadable(self, name: str, error: Exception) -> InputError:
        return cannot_use(
            FIELD, f"{self.url}/{name} cannot be read: {error}.", "Repair it, or grant the right to read it.", error
        )


def _open(model: str, places: Places) -> Storage:
    try:
        return Storage.open(model, places)
    except InputError as error:
        raise InputError.of(FIELD, error.errors[0].problem, error.errors[0].remedy) from error


def _below(storage: Storage, relative: str) -> Storage:
    place, mark, options = storage.url.partition("?") if "://" in storage.url else (storage.url, "", "")
    url = f"{place.rstrip('/')}/{relative}{mark}{options}"
    return Storage(url, storage.filesystem, f"{storage.root}/{relative}", storage.places)


def _file_names(storage: Storage, model: str) -> frozenset[str]:
    """Return the names of the regular files of a folder.

    Raises:
        InputError: There is no such folder, or it cannot be listed.
    """
    try:
        if storage.local:
            return _local_names(storage.root, files=True)
        kind = storage.filesystem.get_file_info(storage.root).type
        if kind != pafs.FileType.Directory:
            raise NotADirectoryError
        selector = pafs.FileSelector(storage.root)
        infos = storage.filesystem.get_file_info(selector)
        return frozenset(info.base_name for info in infos if info.type == pafs.FileType.File)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError.of(FIELD, f"There is no folder {model}.", "Name an existing folder, or a hub id.") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise cannot_use(
            FIELD, f"{model} cannot be listed: {error}.", "Check the address and the rights to read it.", error
        ) from error


def _local_names(folder: str, *, files: bool) -> frozenset[str]:
    """Return the names of a local folder's regular files or of its folders, links followed; only printable names."""
    found = set()
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            if count >= _MAX_ENTRIES:
                raise OSError(f"it holds more than {_MAX_ENTRIES:,} entries, which no teacher's folder does")
            if (entry.is_file() if files else entry.is_dir()) and entry.name.isprintable():
                found.add(entry.name)
    return frozenset(found)


def _folder_names(storage: Storage, relative: str) -> list[str]:
    """Return the names of the folders in a folder, sorted; empty if it is missing or cannot be listed."""
    at = storage.path(relative)
    try:
        if storage.local:
            return sorted(_local_names(at, files=False)) if storage.places.holds(at) else []
        infos = storage.filesystem.get_file_info(pafs.FileSelector(at, allow_not_found=True))
        return sorted(info.base_name for info in infos if info.type == pafs.FileType.Directory)
    except (OSError, ValueError, pa.ArrowException):
        return []


def _file_names_below(storage: Storage, relative: str) -> frozenset[str]:
    """Return the names of the regular files in a folder; empty if it is missing or cannot be listed."""
    below = _below(storage, relative)
    if storage.local and not (storage.places.holds(below.root) and Path(below.root).is_dir()):
        return frozenset()
    try:
        return _file_names(below, below.url)
    except InputError:
        return frozenset()
