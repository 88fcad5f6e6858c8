"""Students on disk: all of one or nothing, whatever becomes of the connection meanwhile."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx

from services.client.calls import Calls
from services.client.connection import Connection, Message
from services.client.shared import Shared, Side
from workloads.errors import InputError

TRIES = 4
"""How often a download is begun before a connection that keeps breaking is given up."""

Progress = Callable[[int, int | None], None]
"""Told the bytes that are there, and how many there will be."""


class Downloads(Side):
    """Fetching students."""

    @Shared
    async def download(
        self, job_id: str, student_id: str, folder: Path, *, extract: bool = True, progress: Progress | None = None
    ) -> Path:
        """Fetch a student into ``folder``, as a folder of its own or as a tar.

        It goes straight to disk, and is put in its place when it is complete; one that was there before is replaced.
        The archive's names cannot lead out of ``folder``.

        Args:
            job_id: The compression.
            student_id: The student.
            folder: Made where it is missing.
            extract: Whether to unpack the tar.
            progress: Told how far it is; after a broken connection it begins anew.

        Returns:
            ``folder / student_id``, or ``folder / <student_id>.tar``.

        Raises:
            ApiError: There is no such student.
            InputError: ``student_id`` cannot be one.
            ServerUnreachableError: There is no answer, or the connection broke again and again.
        """
        if Path(student_id).name != student_id:
            raise InputError.of("student_id", f"{student_id!r} is no student's id.", "Give stu_….")
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / (student_id if extract else f"{student_id}.tar")
        with tempfile.TemporaryDirectory(prefix=".stillroom-", dir=folder) as name:
            workshop = Path(name)
            archive = workshop / "archive.tar"
            await _fetch(self._connection, Calls.archive.message(job_id, student_id), archive, progress)
            if not extract:
                return archive.replace(target)
            await self._connection.wire.elsewhere(partial(_unpack, archive, workshop / "unpacked"))
            if target.exists():
                target.rename(workshop / "former")
            return (workshop / "unpacked" / student_id).rename(target)


async def _fetch(connection: Connection, message: Message, file: Path, progress: Progress | None) -> None:
    for tried in range(1, TRIES + 1):
        try:
            async with connection.open(message) as answer:
                length = answer.headers.get("Content-Length")
                total, done = None if length is None else int(length), 0
                with file.open("wb") as out:
                    async for piece in connection.wire.pieces(answer):
                        done += out.write(piece)
                        if progress is not None:
                            progress(done, total)
            return
        except httpx.TransportError as error:  # a part that is missing is one too
            broken = connection.unreachable(error)
            if tried == TRIES:
                raise broken from error
            connection.told(str(broken))


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
