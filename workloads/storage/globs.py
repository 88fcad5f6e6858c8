"""Globs: which names of files a pattern means, the same on a file system and in an object store.

``*``, ``?`` and ``[a-z]`` stay within a name; ``**`` stands alone between slashes and means any folders.
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
    """A pattern, parted where its first wildcard is.

    Attributes:
        base: The folder before it, with all that comes from the user as it is.
        names: Patterns of the names from there on, one a level.
    """

    base: str
    names: tuple[str, ...]

    def fits(self, below: Sequence[str]) -> bool:
        """Whether a file with these names below the base is meant."""
        before, at = set[int](), self._onward({0})
        for name in below:
            before, fitting = (
                at,
                [index for index in at if index < len(self.names) and name_fits(name, self.names[index])],
            )
            at = self._onward({index if self.names[index] == ANY_FOLDERS else index + 1 for index in fitting})
        last = len(self.names) - 1
        # Behind a last ** any file counts: its name is then one that the ** stands for.
        return len(self.names) in at or (self.names[last] == ANY_FOLDERS and last in before)

    def _onward(self, at: set[int]) -> set[int]:
        """The positions that are reached from these without a name, for ``**`` may mean no folder."""
        reached = set(at)
        for index in at:
            while index < len(self.names) - 1 and self.names[index] == ANY_FOLDERS:
                index += 1
                reached.add(index)
        return reached


def is_wild(path: str) -> bool:
    """Whether a path holds signs of a pattern."""
    return _WILD.search(path) is not None


def name_fits(name: str, pattern: str) -> bool:
    """Whether a name is what the pattern of one level means; ``**`` is any."""
    return pattern == ANY_FOLDERS or fnmatch.fnmatchcase(name, pattern)


def parse_glob(path: str, field: str) -> Glob:
    """Part a pattern into its base and the patterns of the names below.

    Args:
        path: Of a file system or in a bucket, with a wildcard.
        field: Where the request names it.

    Raises:
        InputError: ``..`` stands behind a wildcard, or ``**`` beside other signs of a name.
    """
    wild = _WILD.search(path)
    assert wild is not None, path
    start = path.rfind("/", 0, wild.start()) + 1
    names: list[str] = []
    for name in path[start:].split("/"):
        if name in {".", ".."}:
            problem = f"{path!r} has {name!r} behind a wildcard."
            raise InputError.of(field, problem, "Name the folder itself, and put wildcards behind it.")
        if ANY_FOLDERS in name and name != ANY_FOLDERS:
            problem = f"{path!r} has '**' beside other signs of a name."
            raise InputError.of(field, problem, "Let '**' stand alone between slashes, as in folder/**/*.txt.")
        if name and not (name == ANY_FOLDERS and names[-1:] == [ANY_FOLDERS]):
            names.append(name)
    return Glob(path[: max(start - 1, 0)], tuple(names))
