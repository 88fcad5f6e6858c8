"""Answers with folders of the storage: as a tar, or file by file."""

from __future__ import annotations

from fastapi import HTTPException
from fastapi.responses import StreamingResponse

from services.api.archive import FolderArchive, entity_tag
from services.api.ranges import PartDep
from workloads.storage.storage import Storage


def archive_response(storage: Storage, folder: str, name: str, part: PartDep) -> StreamingResponse:
    """Send a folder as a tar, or a part of it.

    Args:
        storage: The storage.
        folder: The folder, relative to the storage.
        name: Name of the folder inside the archive, and of the archive.
        part: The part that is wanted.
    """
    found = FolderArchive.of(storage, folder, name)
    headers = {"Content-Disposition": f'attachment; filename="{name}.tar"'}
    return part.response(found.stream, size=found.size, tag=found.tag, media_type="application/x-tar", headers=headers)


def file_response(storage: Storage, folder: str, name: str, path: str, part: PartDep) -> StreamingResponse:
    """Send one file of a folder, or a part of it.

    Args:
        storage: The storage.
        folder: The folder, relative to the storage.
        name: Name of the folder, for messages.
        path: The file, relative to the folder.
        part: The part that is wanted.
    """
    # Serve only files that the listing of the folder has, so that no path leads out of it.
    found = next((one for one in storage.files(folder) if one.path == path), None)
    if found is None:
        raise HTTPException(404, f"{name} has no file {path!r}.")
    place = f"{folder}/{path}"
    return part.response(
        lambda begin, end: storage.stream(place, begin=begin, end=end),
        size=found.bytes,
        tag=entity_tag(place, found),
        media_type="application/octet-stream",
    )
