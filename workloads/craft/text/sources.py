"""Sources: the files of a corpus, given as files, folders and globs, local or in an object store.

A folder stands for its files at any depth, each once, links followed. Files and folders whose names begin with ``.``
or ``_`` are skipped. For a file with an unknown ending an error is raised that names it.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pyarrow import fs as pafs

from workloads.craft.text.lines import LineTooLongError
from workloads.craft.text.saved_dataset import list_saved_dataset
from workloads.spec.errors import InputError
from workloads.spec.request import ENDINGS, OTHER_ENDING, CorpusSpec
from workloads.storage.globs import is_wild, parse_glob
from workloads.storage.outages import cannot_use
from workloads.storage.places import OutsideError, Places, confined, local_path
from workloads.storage.walking import Bounds, FoundFile, files_of_folder, files_of_glob, kind_of

Kind = Literal["text", "jsonl", "parquet", "arrow"]
_KINDS: dict[str, Kind] = {".txt": "text", ".jsonl": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
assert set(_KINDS) == set(ENDINGS)
_FIELD = "corpus.paths"
_LONGEST = 300
"""Most characters of a library's error in a message."""


@dataclass(frozen=True, order=True)
class Source:
    """One file of a corpus; small, since it is sent to workers.

    Attributes:
        path: The path inside the filesystem of ``url``.
        url: Path or URL that messages name and that other nodes open.
        kind: Kind of its reader.
        size: Size in bytes.
        places: The places that requests may read.
    """

    path: str
    url: str
    kind: Kind
    size: int
    places: Places = field(default_factory=confined, compare=False)  # sent along, since a worker is another process

    @property
    def field(self) -> str:
        """Field of the request that errors about this file should name."""
        return "corpus.dataset" if self.kind == "arrow" else "corpus.paths"

    def open(self, offset: int = 0) -> pa.NativeFile:
        """Open the file for random access, at ``offset``.

        Raises:
            InputError: The file cannot be opened.
        """
        try:
            self.places.require(self.url, self.field)
            file = self.places.open_file(open_filesystem(self.url)[0], self.path)
            file.seek(offset)
        except (OSError, ValueError, pa.ArrowException) as error:
            if isinstance(error, InputError):
                raise
            raise self.unreadable(error) from error
        return file

    def unreadable(self, error: BaseException) -> InputError:
        """Make the error that this file cannot be read."""
        reason = " ".join(str(error).split())[:_LONGEST] or type(error).__name__
        return cannot_use(
            self.field, f"{self.url} cannot be read: {reason}.", "Repair or replace the file, or leave it out.", error
        )


@contextlib.contextmanager
def reading(source: Source) -> Iterator[None]:
    """Turn every error of a library that reads a file into an error about the file.

    Damaged files make libraries raise errors of any class. So nothing but the reading may be inside.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        yield
    except (InputError, LineTooLongError):
        raise
    except Exception as error:
        raise source.unreadable(error) from error


@functools.lru_cache(maxsize=256)
def _remote(base: str, query: str) -> pafs.FileSystem:
    return pafs.FileSystem.from_uri(base + query)[0]


def open_filesystem(url: str) -> tuple[pafs.FileSystem, str]:
    """Open the filesystem of a local path or URL, and return it with the path inside it.

    In URLs ``?`` is not a wildcard: it starts the options (``?endpoint_override=…&scheme=http``).

    Raises:
        InputError: The URL is invalid.
    """
    if "://" not in url:
        return pafs.LocalFileSystem(), str(local_path(url, "corpus.paths"))
    scheme, _, rest = url.partition("://")
    place, mark, options = rest.partition("?")
    if scheme == "file":
        return pafs.LocalFileSystem(), place
    if not place.strip("/"):
        raise InputError.of("corpus.paths", f"{url!r} names no bucket.", f"Use {scheme}://bucket/path.")
    try:
        return _remote(f"{scheme}://{place.partition('/')[0]}", mark + options), place.rstrip("/")
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError.of(
            "corpus.paths", f"{url!r} cannot be opened: {error}.", "Use a local path, s3://bucket/… or gs://bucket/…."
        ) from error


def list_sources(spec: CorpusSpec) -> list[Source]:
    """List the files of a corpus, sorted by path, each once.

    Args:
        spec: A corpus with ``paths``, or with a ``dataset`` that is a folder.

    Raises:
        InputError: A path does not exist, a file has an unknown ending, or there is no file at all.
    """
    if spec.dataset is not None:
        confined().require(spec.dataset, "corpus.dataset")
        filesystem, base = open_filesystem(spec.dataset)
        files = list_saved_dataset(filesystem, base, spec)
        return [Source(path, _url_of(spec.dataset, path), "arrow", size) for path, size in files]
    found = {source.url: source for url in spec.paths for source in _expand(url)}
    if not found:
        raise InputError.of(
            "corpus.paths",
            f"There is no file at {', '.join(spec.paths)}.",
            f"Give files, folders or globs that hold files with {', '.join(ENDINGS)}.",
        )
    return sorted(found.values())


def _expand(url: str) -> list[Source]:
    confined().require(url, _FIELD)
    filesystem, path = open_filesystem(url)
    try:
        if isinstance(filesystem, pafs.LocalFileSystem):
            found = _local(url, path)
        else:
            found = _remote_files(filesystem, url, path)
    except InputError:
        raise
    except OutsideError as error:
        raise InputError.of(
            _FIELD, f"{error}.", "Put the files themselves there, not links, or name others."
        ) from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise cannot_use(
            _FIELD, f"{url} cannot be listed: {error}.", "Correct the path, or grant the right to read it.", error
        ) from error
    return [_source(url, file) for file in found]


def _local(url: str, path: str) -> Sequence[FoundFile]:
    places, bounds = confined(), Bounds()
    if kind_of(path) == "folder":
        listing = files_of_folder(path.rstrip("/"), places, bounds)
    elif os.path.lexists(path):
        return [FoundFile(path, Path(path).stat().st_size if kind_of(path) == "file" else None)]
    elif is_wild(path):
        listing = files_of_glob(parse_glob(path, _FIELD), places, bounds)
    else:
        raise _not_there(url)
    if not listing.whole:
        problem = f"To list {url}, more than {bounds.entries:,} entries of folders would be read."
        raise InputError.of(
            _FIELD, problem, "Name folders that hold fewer files, or join small files into larger ones."
        )
    return listing.files


def _remote_files(filesystem: pafs.FileSystem, url: str, path: str) -> Sequence[FoundFile]:
    info = filesystem.get_file_info(path)
    if info.type == pafs.FileType.File:
        return [_found(info)]
    if info.type != pafs.FileType.Directory and not is_wild(path):
        raise _not_there(url)
    glob = None if info.type == pafs.FileType.Directory else parse_glob(path, _FIELD)
    base = path if glob is None else glob.base
    infos = filesystem.get_file_info(pafs.FileSelector(base, recursive=True, allow_not_found=True))
    files = [(info, info.path[len(base) :].strip("/").split("/")) for info in infos if info.type == pafs.FileType.File]
    return [_found(info) for info, names in files if (glob.fits(names) if glob is not None else not _hidden(names))]


def _found(info: pafs.FileInfo) -> FoundFile:
    return FoundFile(info.path, info.size)


def _hidden(names: Sequence[str]) -> bool:
    return any(name[:1] in {".", "_"} for name in names)


def _not_there(url: str) -> InputError:
    return InputError.of(_FIELD, f"There is no file or folder {url}.", "Correct the path.")


def _source(url: str, file: FoundFile) -> Source:
    shown = _url_of(url, file.path)
    kind = _KINDS.get(Path(file.path).suffix.lower())
    if kind is None:
        raise InputError.of(_FIELD, f"{shown} has none of the endings {', '.join(ENDINGS)}.", OTHER_ENDING)
    if file.size is None:
        raise InputError.of(
            _FIELD, f"{shown} cannot be read: it is not a file.", "Replace it by a file, or leave it out."
        )
    return Source(file.path, shown, kind, file.size)


def _url_of(url: str, path: str) -> str:
    if "://" not in url:
        return path
    scheme, _, rest = url.partition("://")
    _, mark, options = rest.partition("?")
    return f"{scheme}://{path}{mark}{options}"
