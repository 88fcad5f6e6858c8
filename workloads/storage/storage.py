"""Storage: a local folder, ``s3://`` or ``gs://``, through pyarrow filesystems."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow import fs as pafs

from workloads.spec.errors import InputError
from workloads.storage.outages import cannot_use
from workloads.storage.places import EVERYWHERE, Places, local_path


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as a listing shows it; ``path`` is relative to the folder that was listed."""

    path: str
    bytes: int
    modified: datetime


@dataclass(frozen=True)
class Storage:
    """A folder in a filesystem. Its methods take paths relative to it, with ``/`` between names.

    Attributes:
        url: The URL or path; :meth:`open` opens the same storage by it on another node.
        filesystem: The pyarrow filesystem.
        root: The folder inside it.
        places: The places that files must lie in after links are followed.
    """

    url: str
    filesystem: pafs.FileSystem
    root: str
    places: Places = EVERYWHERE

    @classmethod
    def open(cls, url: str, places: Places = EVERYWHERE) -> Storage:
        """Open a local path or a URL (``s3://bucket/path?endpoint_override=…&scheme=http`` for other S3 servers).

        Args:
            url: The path or URL.
            places: The places that the storage must lie in.

        Raises:
            InputError: The URL is invalid, or leads out of the places.
        """
        places.require(url, "storage")
        if "://" not in url:
            try:
                path = str(local_path(url, "storage").resolve())
            except InputError:
                raise
            except (ValueError, RuntimeError, OSError) as error:  # a NUL, links in a circle
                problem = f"{url!r} cannot be a path: {error}."
                raise InputError.of(
                    "storage", problem, "Use a folder, s3://bucket/path or gs://bucket/path."
                ) from error
            return cls(path, pafs.LocalFileSystem(), path, places)
        try:
            filesystem, path = pafs.FileSystem.from_uri(url)
        except (pa.ArrowException, ValueError, OSError) as error:
            raise InputError.of(
                "storage", f"{url!r} cannot be opened: {error}.", "Use a folder, s3://bucket/path or gs://bucket/path."
            ) from error
        return cls(url, filesystem, path.rstrip("/"), places)

    @property
    def local(self) -> bool:
        """Whether it lies on this machine's file system."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def path(self, relative: str) -> str:
        """Return the path inside :attr:`filesystem`."""
        assert not relative.startswith("/") and ".." not in relative.split("/"), relative
        return f"{self.root}/{relative}" if relative else self.root

    def exists(self, relative: str) -> bool:
        """Whether a file or folder is there."""
        return bool(self.filesystem.get_file_info(self.path(relative)).type != pafs.FileType.NotFound)

    def read_bytes(self, relative: str) -> bytes:
        """Read a whole file.

        Raises:
            FileNotFoundError: There is no such file.
        """
        with self.open_input(relative) as stream:
            return bytes(stream.read())

    def write_bytes(self, relative: str, data: bytes) -> None:
        """Write a whole file; a reader sees the old content or the new, never a part.

        Raises:
            OSError: The file cannot be written (disk full, no permission); no part of it is left.
        """
        target = self.path(relative)
        self.make_folder(relative.rpartition("/")[0])
        if not self.local:  # object stores put a file whole or not at all
            with self.filesystem.open_output_stream(target) as stream:
                stream.write(data)
            return
        beside = Path(f"{target}.{uuid.uuid4().hex}.part")
        try:
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        except OSError as error:
            beside.unlink(missing_ok=True)
            error.filename = target  # the error of a failed write names no file
            raise

    def read_json(self, relative: str) -> Any:
        """Read a JSON file."""
        return json.loads(self.read_bytes(relative))

    def write_json(self, relative: str, document: Any) -> None:
        """Write a JSON file; see :meth:`write_bytes`."""
        self.write_bytes(relative, json.dumps(document, indent=1, sort_keys=True).encode())

    def make_folder(self, relative: str) -> None:
        """Create a folder and its parents."""
        self.filesystem.create_dir(self.path(relative), recursive=True)

    def list(self, relative: str, *, recursive: bool = False) -> list[str]:
        """List the names below a folder, relative to it and sorted; with ``recursive``, only files, at any depth."""
        base = self.path(relative)
        selector = pafs.FileSelector(base, recursive=recursive, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        kept = (info for info in infos if not recursive or info.type == pafs.FileType.File)
        return sorted(info.path[len(base) :].strip("/") for info in kept)

    def files(self, relative: str) -> tuple[StoredFile, ...]:
        """List all files below a folder, at any depth, sorted by path."""
        base = self.path(relative)
        selector = pafs.FileSelector(base, recursive=True, allow_not_found=True)
        infos = (info for info in self.filesystem.get_file_info(selector) if info.type == pafs.FileType.File)
        found = (StoredFile(info.path[len(base) :].strip("/"), info.size or 0, info.mtime) for info in infos)
        return tuple(sorted(found, key=lambda file: file.path))

    def modified(self, relative: str) -> datetime | None:
        """Return the time of a file's last write; None if there is no such file."""
        info = self.filesystem.get_file_info(self.path(relative))
        return info.mtime if info.type == pafs.FileType.File else None

    def size(self, relative: str) -> int:
        """Return the size of a file in bytes."""
        return int(self.filesystem.get_file_info(self.path(relative)).size)

    def bytes_below(self, relative: str) -> int:
        """Sum the bytes of all files below a folder."""
        selector = pafs.FileSelector(self.path(relative), recursive=True, allow_not_found=True)
        return sum(info.size or 0 for info in self.filesystem.get_file_info(selector))

    def stream(self, relative: str, chunk: int = 1 << 20, *, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Read a file piece by piece, from the byte ``begin`` on, to its end or up to the byte ``end``."""
        with self.open_input(relative) as stream:
            stream.seek(begin)
            while piece := stream.read(chunk if end is None else min(chunk, end - begin)):
                begin += len(piece)
                yield bytes(piece)

    def open_input(self, relative: str) -> pa.NativeFile:
        """Open a file for random access."""
        return self.places.open_file(self.filesystem, self.path(relative))

    def upload(self, local: Path, relative: str) -> None:
        """Copy a local file or folder into the storage.

        Raises:
            OSError: A file cannot be written. Its part is removed, since it would keep a full disk full.
        """
        if local.is_dir():
            for file in sorted(path for path in local.rglob("*") if path.is_file()):
                self.upload(file, f"{relative}/{file.relative_to(local).as_posix()}")
            return
        self.make_folder(relative.rpartition("/")[0])
        try:
            with local.open("rb") as source, self.filesystem.open_output_stream(self.path(relative)) as sink:
                _copy(source, sink)
        except OSError:
            with contextlib.suppress(OSError):
                self.remove(relative)
            raise

    def download(self, relative: str, local: Path) -> Path:
        """Copy a folder of the storage to a local one and return it."""
        for name in self.list(relative, recursive=True):
            target = local / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with self.open_input(f"{relative}/{name}") as source, target.open("wb") as sink:
                _copy(source, sink)
        return local

    def fetch(self, relative: str, into: Path) -> Path:
        """Return a folder as a local path: itself if the storage is local, else a copy below ``into``."""
        if self.local:
            return Path(self.path(relative))
        return self.download(relative, into / relative.replace("/", "-"))

    def remove(self, relative: str) -> None:
        """Remove a file or a folder, if it exists."""
        info = self.filesystem.get_file_info(self.path(relative))
        if info.type == pafs.FileType.Directory:
            self.filesystem.delete_dir(info.path)
        elif info.type == pafs.FileType.File:
            self.filesystem.delete_file(info.path)

    def check_writable(self) -> None:
        """Check that the storage can be written, by writing and removing a file.

        Raises:
            InputError: The storage cannot be written; the message names the cause.
        """
        probe = f"probe-{uuid.uuid4().hex}"
        try:
            self.write_bytes(probe, b"stillroom")
            self.remove(probe)
        except OSError as error:
            raise cannot_use(
                "storage",
                f"{self.url} cannot be written: {error}.",
                "Choose a folder or bucket that the service and the cluster may write, with room left.",
                error,
            ) from error


def _copy(source: IO[bytes] | pa.NativeFile, sink: IO[bytes] | pa.NativeFile) -> None:
    while piece := source.read(1 << 22):
        sink.write(piece)
