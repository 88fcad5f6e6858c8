"""Which files a corpus is made of: files, folders and globs, local or in an object store.

In a folder every file counts, at any depth, but those whose name (or whose folder's name below it) starts with
``.`` or ``_``, as tools leave them. A file of an unknown ending is refused by name, never passed over.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pyarrow import fs as pafs

from workloads.craft.text.saved_dataset import list_saved_dataset
from workloads.spec.errors import InputError
from workloads.spec.request import ENDINGS, OTHER_ENDING, CorpusSpec
from workloads.storage.outages import cannot_use
from workloads.storage.places import OutsideError, Places, confined

Kind = Literal["text", "jsonl", "parquet", "arrow"]
_KINDS: dict[str, Kind] = {".txt": "text", ".jsonl": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
assert set(_KINDS) == set(ENDINGS)
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, order=True)
class Source:
    """One file of a corpus; small and plain, so that it travels to workers.

    Attributes:
        path: The path inside the filesystem that ``url`` names.
        url: As it is shown to people and opened again on another node.
        kind: How it is read.
        size: Bytes.
    """

    path: str
    url: str
    kind: Kind
    size: int
    places: Places = field(default_factory=confined, compare=False)  # a worker is another process

    @property
    def field(self) -> str:
        """The field of the request that an error about this file is about."""
        return "corpus.dataset" if self.kind == "arrow" else "corpus.paths"

    def open(self, offset: int = 0) -> pa.NativeFile:
        """Open it for random access, at ``offset``.

        Raises:
            InputError: It cannot be opened.
        """
        try:
            self.places.require(self.url, self.field)
            file = self.places.open_file(open_filesystem(self.url)[0], self.path)
            file.seek(offset)
        except (OSError, pa.ArrowException) as error:
            raise self.unreadable(error) from error
        return file

    def unreadable(self, error: BaseException) -> InputError:
        """The error that says that this file cannot be read."""
        return cannot_use(
            self.field, f"{self.url} cannot be read: {error}.", "Mend or replace the file, or leave it out.", error
        )


@functools.lru_cache(maxsize=256)
def _remote(base: str, query: str) -> pafs.FileSystem:
    return pafs.FileSystem.from_uri(base + query)[0]


def open_filesystem(url: str) -> tuple[pafs.FileSystem, str]:
    """Give the filesystem of a local path or URL, and the path inside it.

    In URLs ``?`` starts the options (``?endpoint_override=…&scheme=http``), so it is no wildcard there.

    Raises:
        InputError: The URL cannot be understood.
    """
    if "://" not in url:
        return pafs.LocalFileSystem(), str(Path(url).expanduser().absolute())
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
        spec: With ``paths``, or with a ``dataset`` that is a folder.

    Raises:
        InputError: A path is not there, a file has an unknown ending, or there is no file at all.
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
            "Give files, folders or globs that hold .txt, .jsonl or .parquet files.",
        )
    return sorted(found.values())


def _expand(url: str) -> list[Source]:
    confined().require(url, "corpus.paths")
    filesystem, path = open_filesystem(url)
    try:
        info = filesystem.get_file_info(path)
        if info.type == pafs.FileType.File:
            return [_source(url, info)]
        if info.type == pafs.FileType.Directory:
            files = [file for file in _files_below(filesystem, path) if not _hidden(file.path[len(path) :])]
        elif wild := _WILD.search(path):
            base = path[: path.rfind("/", 0, wild.start())]
            pattern = re.compile(_translate(path))
            files = [file for file in _files_below(filesystem, base) if pattern.fullmatch(file.path)]
        else:
            raise InputError.of("corpus.paths", f"{url} is not there.", "Correct the path.")
    except (OSError, pa.ArrowException) as error:
        raise cannot_use(
            "corpus.paths",
            f"{url} cannot be listed: {error}.",
            "Correct the path, or give the right to read it.",
            error,
        ) from error
    return [_source(url, file) for file in files]


def _files_below(filesystem: pafs.FileSystem, base: str) -> list[pafs.FileInfo]:
    if isinstance(filesystem, pafs.LocalFileSystem):  # pyarrow's own listing leaves dangling links out

        def refuse(error: OSError) -> None:
            raise error

        paths = []
        for folder, _, names in os.walk(base or "/", onerror=refuse, followlinks=True):
            if not confined().holds(folder):
                raise OutsideError(f"{folder} leads out of where requests may read")
            paths += [f"{folder}/{name}" for name in names]
        infos = filesystem.get_file_info(paths)
    else:
        infos = filesystem.get_file_info(pafs.FileSelector(base, recursive=True, allow_not_found=True))
    return [info for info in infos if info.type != pafs.FileType.Directory]


def _hidden(relative: str) -> bool:
    return any(part[:1] in (".", "_") for part in relative.split("/"))


def _source(url: str, info: pafs.FileInfo) -> Source:
    kind = _KINDS.get(Path(info.path).suffix.lower())
    if kind is None:
        raise InputError.of(
            "corpus.paths", f"{_url_of(url, info.path)} has none of the endings {', '.join(ENDINGS)}.", OTHER_ENDING
        )
    if info.type != pafs.FileType.File:  # a dangling link, a pipe
        raise InputError.of(
            "corpus.paths", f"{_url_of(url, info.path)} cannot be read: it is no file.", "Mend it, or leave it out."
        )
    return Source(info.path, _url_of(url, info.path), kind, info.size)


def _url_of(url: str, path: str) -> str:
    if "://" not in url:
        return path
    scheme, _, rest = url.partition("://")
    _, mark, options = rest.partition("?")
    return f"{scheme}://{path}{mark}{options}"


def _translate(pattern: str) -> str:
    """A glob as a regular expression: ``**/`` is any folders, ``*`` and ``?`` stay within a name."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]/]+\])", pattern)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        known.get(part) or (f"[{part[1:-1].replace('!', '^', 1)}]" if _is_class(part) else re.escape(part))
        for part in parts
    )


def _is_class(part: str) -> bool:
    return len(part) > 2 and part[0] == "[" and part[-1] == "]"
