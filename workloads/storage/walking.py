"""Walk of a local folder or glob: follows links, lists each file once, stays within places and bounds."""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from workloads.storage.globs import ANY_FOLDERS, Glob, is_wild, name_fits
from workloads.storage.places import OutsideError, Places

MOST_ENTRIES = 5_000_000
"""Directory entries that a run reads for one path, at most."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file, or another entry in place of a file.

    Attributes:
        path: The shortest path to it; a path without links wins.
        size: Bytes; None if it is not a regular file: a dangling link, a pipe, a file removed meanwhile.
    """

    path: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of a walk.

    Attributes:
        entries: Most directory entries to read.
        seconds: Longest time; None for no limit.
    """

    entries: int = MOST_ENTRIES
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """Result of a walk.

    Attributes:
        files: Sorted by path.
        whole: Whether the walk was completed within the bounds.
    """

    files: tuple[FoundFile, ...]
    whole: bool


def files_of_folder(folder: str, places: Places, bounds: Bounds) -> Listing:
    """Find the files below a folder; files and folders whose names begin with ``.`` or ``_`` are skipped.

    Raises:
        OutsideError: A link leads out of the places. Its target is not read.
        OSError: A folder cannot be listed.
    """
    return _Walk(places, bounds, skip_hidden=True).find(Glob(folder, (ANY_FOLDERS,)))


def files_of_glob(glob: Glob, places: Places, bounds: Bounds) -> Listing:
    """Find the files that a glob matches; only folders that can hold matches are read.

    Raises:
        OutsideError: A link leads out of the places. Its target is not read.
        OSError: A folder cannot be listed.
    """
    return _Walk(places, bounds, skip_hidden=False).find(glob)


def kind_of(path: str) -> Literal["file", "folder", "other"] | None:
    """Kind of the entry at a local path, links followed; None if there is none, or if the path is invalid."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # pathlib's own tests raise for a name that is too long
        return None
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to read: its path, its real path without links, and the pattern's level for its names."""

    path: str
    real: str
    level: int


@dataclass
class _Walk:
    places: Places
    bounds: Bounds
    skip_hidden: bool
    looked_at: int = 0
    plain: deque[_Folder] = field(default_factory=deque)
    linked: deque[_Folder] = field(default_factory=deque)
    """Folders behind links; they come last, so that a folder of the tree is reached by its own path first."""
    seen: set[tuple[str, int]] = field(default_factory=set)
    found: dict[str, tuple[bool, FoundFile]] = field(default_factory=dict)
    """Found files by real path, each with whether it was reached by a link."""

    def find(self, glob: Glob) -> Listing:
        started = time.monotonic()
        if kind_of(glob.base or "/") == "folder":
            self._enter(glob.base, os.path.realpath(glob.base or "/"), 0, linked=False)
        while self.plain or self.linked:
            late = self.bounds.seconds is not None and time.monotonic() - started > self.bounds.seconds
            if late or self.looked_at > self.bounds.entries:
                break
            folder = (self.plain or self.linked).popleft()
            if (folder.real, folder.level) not in self.seen:
                self.seen.add((folder.real, folder.level))
                self._look(folder, glob)
        files = sorted((file for _, file in self.found.values()), key=lambda file: file.path)
        return Listing(tuple(files), not (self.plain or self.linked) and self.looked_at <= self.bounds.entries)

    def _look(self, folder: _Folder, glob: Glob) -> None:
        pattern, last = glob.names[folder.level], folder.level == len(glob.names) - 1
        if pattern == ANY_FOLDERS and not last:  # ** also matches no folder
            self._enter(folder.path, folder.real, folder.level + 1, linked=False)
        if not is_wild(pattern):
            self.looked_at += 1
            self._take(folder, pattern, folder.level + 1, last)
            return
        onward = folder.level if pattern == ANY_FOLDERS else folder.level + 1
        for name in self._names(folder.path or "/"):
            if name_fits(name, pattern) and not (self.skip_hidden and name[:1] in {".", "_"}):
                self._take(folder, name, onward, last)

    def _names(self, folder: str) -> Iterator[str]:
        with os.scandir(folder) as entries:
            for entry in entries:
                self.looked_at += 1
                if self.looked_at > self.bounds.entries:
                    return
                yield entry.name

    def _take(self, folder: _Folder, name: str, onward: int, last: bool) -> None:
        """Process one name: enter a folder if the pattern goes on, keep a file if the pattern ends here."""
        path, real = f"{folder.path}/{name}", f"{folder.real.rstrip('/')}/{name}"
        at = Path(path)
        try:
            linked = stat.S_ISLNK(at.lstat().st_mode)
        except (FileNotFoundError, NotADirectoryError):  # removed meanwhile, or never there
            return
        if linked:
            real = os.path.realpath(path)
            if not self.places.holds(real):
                raise OutsideError(f"{path} leads out of where requests may read")
        try:
            status = at.stat()
        except OSError:
            if not linked:
                raise
            status = None  # a dangling or circular link
        if status is not None and stat.S_ISDIR(status.st_mode):
            if not last or onward == folder.level:
                self._enter(path, real, onward, linked=linked)
        elif last:
            plain = status is not None and stat.S_ISREG(status.st_mode)
            self._keep(real, linked, FoundFile(path, status.st_size if plain and status is not None else None))

    def _enter(self, path: str, real: str, level: int, *, linked: bool) -> None:
        if (real, level) not in self.seen:
            (self.linked if linked else self.plain).append(_Folder(path, real, level))

    def _keep(self, real: str, linked: bool, file: FoundFile) -> None:
        known = self.found.get(real)
        if known is None or (linked, file.path) < (known[0], known[1].path):
            self.found[real] = (linked, file)
