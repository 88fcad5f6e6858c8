"""A folder of the storage as a tar stream, made piece by piece: memory stays flat however large the files are."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from workloads.storage import Storage

_END = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class FolderArchive:
    """A tar of all files below a folder.

    Attributes:
        storage: Where the folder is.
        folder: Relative to the storage.
        name: The folder's name inside the archive.
        files: Name and size in bytes of each file, as listed when the archive was begun.
    """

    storage: Storage
    folder: str
    name: str
    files: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, storage: Storage, folder: str, name: str) -> FolderArchive:
        """List the folder."""
        names = storage.list(folder, recursive=True)
        return cls(storage, folder, name, tuple((file, storage.size(f"{folder}/{file}")) for file in names))

    @property
    def size(self) -> int:
        """Bytes of the whole stream."""
        parts = (len(self._header(file, size)) + size + len(_padding(size)) for file, size in self.files)
        return sum(parts) + len(_END)

    def stream(self) -> Iterator[bytes]:
        """Give the archive.

        Raises:
            OSError: A file has changed since it was listed; the stream is then cut short.
        """
        for file, size in self.files:
            yield self._header(file, size)
            sent = 0
            for piece in self.storage.stream(f"{self.folder}/{file}"):
                sent += len(piece)
                yield piece
            if sent != size:
                raise OSError(f"{self.folder}/{file} has {sent} bytes, not the {size} that were listed")
            yield _padding(size)
        yield _END

    def _header(self, file: str, size: int) -> bytes:
        info = tarfile.TarInfo(f"{self.name}/{file}")
        info.size = size
        return info.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
