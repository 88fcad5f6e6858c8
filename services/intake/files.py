"""Local files that requests name: their absolute paths, and those that are not there or may not be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workloads.spec.errors import FieldError
from workloads.spec.part import Part
from workloads.storage.places import Places
from workloads.storage.walking import kind_of


def absolute(path: str) -> str:
    """A local path as another process finds it, and any other as it is."""
    if "://" in path:
        return path
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError:  # there is no such user; then it is a name like any other
        return str(Path(path).absolute())


def outside_files(task: Part, field: str, sides: Sequence[str], places: Places) -> list[FieldError]:
    """Files of a labelled dataset that the request may not read; for the arguments see :func:`missing_files`."""
    found = (
        places.finding(path, f"{field}.{side}.{index}")
        for side in sides
        for index, path in enumerate(getattr(task, side))
    )
    return [finding for finding in found if finding is not None]


def missing_files(task: Part, field: str, sides: Sequence[str]) -> list[FieldError]:
    """Local files of a labelled dataset that are not there.

    Args:
        task: Has lists of paths.
        field: What the request calls it.
        sides: The names of these lists.
    """
    return [
        FieldError(
            f"{field}.{side}.{index}", f"There is no file {path} on the server.", "Give a path that exists there."
        )
        for side in sides
        for index, path in enumerate(getattr(task, side))
        if "://" not in path and kind_of(path) is None
    ]
