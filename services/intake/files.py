"""Local files that requests name: absolute paths, and findings of missing or forbidden files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workloads.spec.errors import FieldError
from workloads.spec.part import Part
from workloads.storage.places import Places
from workloads.storage.walking import kind_of


def absolute(path: str) -> str:
    """Make a local path absolute, for processes with another working folder; URLs stay."""
    if "://" in path:
        return path
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError:  # no such user, so the ~ is part of a plain name
        return str(Path(path).absolute())


def outside_files(task: Part, field: str, sides: Sequence[str], places: Places) -> list[FieldError]:
    """Findings of a labelled dataset's files that requests may not read; arguments as :func:`missing_files`."""
    found = (
        places.finding(path, f"{field}.{side}.{index}")
        for side in sides
        for index, path in enumerate(getattr(task, side))
    )
    return [finding for finding in found if finding is not None]


def missing_files(task: Part, field: str, sides: Sequence[str]) -> list[FieldError]:
    """Findings of missing local files of a labelled dataset.

    Args:
        task: The dataset, with lists of paths.
        field: Name of the dataset's field in the request.
        sides: Names of the dataset's lists of paths.
    """
    return [
        FieldError(
            f"{field}.{side}.{index}", f"There is no file {path} on the server.", "Give a path that exists there."
        )
        for side in sides
        for index, path in enumerate(getattr(task, side))
        if "://" not in path and kind_of(path) is None
    ]
