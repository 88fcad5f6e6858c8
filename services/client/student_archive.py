"""Archives of students: checked on receipt, before they are unpacked."""

from __future__ import annotations

import re
from pathlib import Path

from workloads.spec.errors import InputError
from workloads.storage.tarfiles import tarfile

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_CONFIGURATION = "config.json"
_END = bytes(2 * tarfile.BLOCKSIZE)
# tarfile raises one of these on malformed headers, depending on the field.
_NONSENSE = (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError)


class BadArchiveError(ValueError):
    """The archive is not a complete student."""


def sound_student_id(student_id: str) -> str:
    """Return a student's id, checked to be safe as the name of a folder.

    Raises:
        InputError: The id is malformed.
    """
    if not _ID.fullmatch(student_id):
        raise InputError.of("student_id", f"{student_id!r} is not the id of a student.", "Give stu_….")
    return student_id


def check_archive(archive: Path, student_id: str) -> None:
    """Check that an archive is complete, and has a student's folder and nothing else.

    Raises:
        BadArchiveError: It does not.
    """
    size = archive.stat().st_size
    try:
        with tarfile.open(archive, "r:") as tar:
            end, names = _members(tar, student_id, size)
    except BadArchiveError:
        raise
    except _NONSENSE as error:
        raise BadArchiveError(f"it is not a readable archive ({str(error) or type(error).__name__})") from None
    with archive.open("rb") as file:
        file.seek(end)
        if file.read(len(_END)) != _END:
            raise BadArchiveError("it is cut off")
    if f"{student_id}/{_CONFIGURATION}" not in names:
        raise BadArchiveError(f"it holds no {student_id}/{_CONFIGURATION}, so it is not a student")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive that was checked.

    Raises:
        BadArchiveError: Names in it lead out of the folder, or collide.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            tar.extractall(folder, filter="data")
    except (*_NONSENSE, FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise BadArchiveError(f"it cannot be unpacked ({error})") from None


def _members(tar: tarfile.TarFile, student_id: str, size: int) -> tuple[int, set[str]]:
    """Check each member; return the offset where the last one ends, and the names of the files."""
    end, names = 0, set[str]()
    for member in tar:
        first, *rest = member.name.split("/")
        if first != student_id or (member.isfile() and not rest) or {"", ".", ".."} & set(rest) or "\0" in member.name:
            raise BadArchiveError(f"it holds {member.name[:200]!r}, which is not part of {student_id}")
        if not (member.isfile() or member.isdir()) or member.issparse():
            raise BadArchiveError(f"it holds {member.name[:200]!r}, which is neither a file nor a folder")
        blocks = -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE if member.isfile() else 0
        end = member.offset_data + blocks
        if end > size:
            raise BadArchiveError("it is cut off")
        if member.isfile():
            if member.name in names:
                raise BadArchiveError(f"it holds {member.name[:200]!r} twice")
            names.add(member.name)
    return end, names
