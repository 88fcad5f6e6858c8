"""Folders of the storage as tar streams, made piece by piece, so that memory use does not depend on files' sizes.

The layout of an archive follows from the names and sizes of its files, so any part can be made alone.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from workloads.storage.storage import Storage, StoredFile

_END = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class FolderArchive:
    """A tar of all files below a folder.

    Attributes:
        storage: The storage with the folder.
        folder: The folder, relative to the storage.
        name: Name of the folder inside the archive.
        files: The folder's files, listed when the archive was made.
    """

    storage: Storage
    folder: str
    name: str
    files: tuple[StoredFile, ...]

    @classmethod
    def of(cls, storage: Storage, folder: str, name: str) -> FolderArchive:
        """Make the archive of a folder; its files are listed now."""
        return cls(storage, folder, name, storage.files(folder))

    @property
    def size(self) -> int:
        """Size of the whole stream in bytes."""
        return sum(size for size, _ in self._members())

    @property
    def tag(self) -> str:
        """Entity tag of the listed files."""
        return entity_tag(self.folder, self.name, *self.files)

    def stream(self, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the archive, or its bytes from ``begin`` up to ``end``.

        Raises:
            OSError: A file is shorter than it was when listed; the stream ends early.
        """
        place = 0
        for size, give in self._members():
            first, last = max(begin - place, 0), size if end is None else min(end - place, size)
            if first < last:
                yield from give(first, last)
            place += size

    def _members(self) -> Iterator[tuple[int, Callable[[int, int], Iterator[bytes]]]]:
        """Yield the pieces of the archive in order, each as its length and a function that reads a part of it."""
        for file in self.files:
            header, padding = self._header(file), bytes(-file.bytes % tarfile.BLOCKSIZE)
            yield len(header), partial(_cut, header)
            yield file.bytes, partial(self._content, file)
            yield len(padding), partial(_cut, padding)
        yield len(_END), partial(_cut, _END)

    def _content(self, file: StoredFile, begin: int, end: int) -> Iterator[bytes]:
        sent = begin
        for piece in self.storage.stream(f"{self.folder}/{file.path}", begin=begin, end=end):
            sent += len(piece)
            yield piece
        if sent != end:
            raise OSError(f"{self.folder}/{file.path} has {sent} bytes, not the {file.bytes} that were listed")

    def _header(self, file: StoredFile) -> bytes:
        info = tarfile.TarInfo(f"{self.name}/{file.path}")
        info.size = file.bytes
        return info.tobuf(tarfile.PAX_FORMAT)


def entity_tag(*of: object) -> str:
    """Make an entity tag; equal arguments give equal tags."""
    return f'"{hashlib.sha256(repr(of).encode()).hexdigest()[:32]}"'


def _cut(data: bytes, begin: int, end: int) -> Iterator[bytes]:
    yield data[begin:end]
