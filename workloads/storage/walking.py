"""Files of a local folder or glob: links followed, every file once, no folder twice, within places and bounds."""

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
"""Entries of folders that a run looks at for one path."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file, or what stands where one is expected.

    Attributes:
        path: The shortest way to it without links, where there is one.
        size: Bytes; None where it is no plain file: a dangling link, a pipe, a file that is gone again.
    """

    path: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is looked at.

    Attributes:
        entries: Of folders, at most.
        seconds: At most; None for any time.
    """

    entries: int = MOST_ENTRIES
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What was found.

    Attributes:
        files: By path.
        whole: Whether all was looked at that the bounds let.
    """

    files: tuple[FoundFile, ...]
    whole: bool


def files_of_folder(folder: str, places: Places, bounds: Bounds) -> Listing:
    """Find the files below a folder; names that begin with ``.`` or ``_`` are skipped, folders' names too.

    Raises:
        OutsideError: A link leads out of the places; what is there is not looked at.
        OSError: A folder cannot be listed.
    """
    return _Walk(places, bounds, skip_hidden=True).find(Glob(folder, (ANY_FOLDERS,)))


def files_of_glob(glob: Glob, places: Places, bounds: Bounds) -> Listing:
    """Find the files that a glob means; only folders that it leads through are looked at.

    Raises:
        OutsideError: It leads out of the places, by a link; what is there is not looked at.
        OSError: A folder cannot be listed.
    """
    return _Walk(places, bounds, skip_hidden=False).find(glob)


def kind_of(path: str) -> Literal["file", "folder", "other"] | None:
    """What stands at a local path, links followed; None where nothing does, or where no path can be so."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # pathlib's own tests let a name that is too long through
        return None
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to look at: its path, the same without links, and the level of the pattern that its names are at."""

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
    """Folders behind links wait, so that a folder of the tree is reached by its own path."""
    seen: set[tuple[str, int]] = field(default_factory=set)
    found: dict[str, tuple[bool, FoundFile]] = field(default_factory=dict)
    """By the path without links; with whether a link led to it."""

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
        if pattern == ANY_FOLDERS and not last:  # which may mean no folder at all
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
        """Follow one name: a folder is entered if the pattern goes on, a file counts if the pattern ends here."""
        path, real = f"{folder.path}/{name}", f"{folder.real.rstrip('/')}/{name}"
        at = Path(path)
        try:
            linked = stat.S_ISLNK(at.lstat().st_mode)
        except (FileNotFoundError, NotADirectoryError):  # it has gone, or was never there
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
            status = None  # a link to nothing, or in a circle
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
