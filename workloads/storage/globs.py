"""Globs: patterns of file names, with one meaning on file systems and in object stores.

``*``, ``?`` and ``[a-z]`` match within one name. ``**`` stands alone between slashes and matches any folders.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

from workloads.spec.errors import InputError

ANY_FOLDERS = "**"
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern, split at its first wildcard.

    Attributes:
        base: The folder before the wildcard, taken literally.
        names: Patterns of the names below the base, one per level.
    """

    base: str
    names: tuple[str, ...]

    def fits(self, below: Sequence[str]) -> bool:
        """Whether the pattern matches a file with these names below the base."""
        before, at = set[int](), self._onward({0})
        for name in below:
            before, fitting = (
                at,
                [index for index in at if index < len(self.names) and name_fits(name, self.names[index])],
            )
            at = self._onward({index if self.names[index] == ANY_FOLDERS else index + 1 for index in fitting})
        last = len(self.names) - 1
        # A trailing ** matches any file below: the file's name is one of those that ** stands for.
        return len(self.names) in at or (self.names[last] == ANY_FOLDERS and last in before)

    def _onward(self, at: set[int]) -> set[int]:
        """Return the positions reachable from these without consuming a name: ``**`` also matches no folder at all."""
        reached = set(at)
        for index in at:
            while index < len(self.names) - 1 and self.names[index] == ANY_FOLDERS:
                index += 1
                reached.add(index)
        return reached


def is_wild(path: str) -> bool:
    """Whether a path contains wildcards."""
    return _WILD.search(path) is not None


def name_fits(name: str, pattern: str) -> bool:
    """Whether the pattern of one level matches a name; ``**`` matches any."""
    return pattern == ANY_FOLDERS or fnmatch.fnmatchcase(name, pattern)


def parse_glob(path: str, field: str) -> Glob:
    """Split a pattern into its base and the patterns of the names below.

    Args:
        path: A path on a file system or in a bucket, with a wildcard.
        field: The field of the request that holds the path.

    Raises:
        InputError: ``..`` follows a wildcard, or ``**`` is only a part of a name.
    """
    wild = _WILD.search(path)
    assert wild is not None, path
    start = path.rfind("/", 0, wild.start()) + 1
    names: list[str] = []
    for name in path[start:].split("/"):
        if name in {".", ".."}:
            problem = f"{path!r} has {name!r} after a wildcard."
            raise InputError.of(field, problem, "Name the folder itself, and put wildcards after it.")
        if ANY_FOLDERS in name and name != ANY_FOLDERS:
            problem = f"{path!r} has '**' next to other characters of a name."
            raise InputError.of(field, problem, "Let '**' stand alone between slashes, as in folder/**/*.txt.")
        if name and not (name == ANY_FOLDERS and names[-1:] == [ANY_FOLDERS]):
            names.append(name)
    return Glob(path[: max(start - 1, 0)], tuple(names))
