"""Students on disk: all of one or nothing, whatever becomes of the connection meanwhile."""

from __future__ import annotations

import contextlib
import glob
import re
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx

from services.client.calls import Calls
from services.client.connection import Connection, Message
from services.client.shared import Shared, Side
from workloads.spec.errors import InputError

TRIES = 4
"""How often a download is tried without getting any further before it is given up."""
_NO_SUCH_PART = 416
_TAG = re.compile(r'"([0-9A-Za-z_-]{1,100})"')
"""An entity tag that can be part of a file's name, as the service's are."""

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
        A connection that breaks is made again and goes on where it was; what cannot be finished is kept as a hidden
        file, which the next call goes on from. The archive's names cannot lead out of ``folder``.

        Args:
            job_id: The compression.
            student_id: The student.
            folder: Made where it is missing.
            extract: Whether to unpack the tar.
            progress: Told how far it is.

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
            left = _Left.claim(folder, student_id, archive)
            try:
                await _fetch(self._connection, Calls.archive.message(job_id, student_id), left, progress)
            except BaseException:
                left.keep(folder, student_id)
                raise
            if not extract:
                return archive.replace(target)
            await self._connection.wire.elsewhere(partial(_unpack, archive, workshop / "unpacked"))
            if target.exists():
                target.rename(workshop / "former")
            return (workshop / "unpacked" / student_id).rename(target)


@dataclass
class _Left:
    """What is there of an archive so far.

    Attributes:
        file: Where it is; nobody else writes there.
        tag: The entity tag of the whole, without its quotes; None where it has none to go on by.
    """

    file: Path
    tag: str | None = None

    @classmethod
    def claim(cls, folder: Path, student_id: str, file: Path) -> _Left:
        """Take over what an earlier call has left, by moving it, so that no other call does too."""
        for found in folder.glob(f".{glob.escape(student_id)}.*.part"):
            with contextlib.suppress(FileNotFoundError):  # another was faster
                found.replace(file)
                return cls(file, found.name.removeprefix(f".{student_id}.").removesuffix(".part"))
        return cls(file)

    def keep(self, folder: Path, student_id: str) -> None:
        """Leave it to a later call."""
        if self.tag is not None and self.bytes:
            self.file.replace(folder / f".{student_id}.{self.tag}.part")

    @property
    def bytes(self) -> int:
        return self.file.stat().st_size if self.tag is not None and self.file.exists() else 0

    @property
    def headers(self) -> dict[str, str]:
        """What asks for the rest, or for all if it has changed since."""
        return {"Range": f"bytes={self.bytes}-", "If-Range": f'"{self.tag}"'} if self.bytes else {}


async def _fetch(connection: Connection, message: Message, left: _Left, progress: Progress | None) -> None:
    tries, furthest = 0, left.bytes
    while True:
        asked = replace(message, headers=left.headers, accepted=frozenset({_NO_SUCH_PART}))
        try:
            async with connection.open(asked) as answer:
                if answer.status_code == _NO_SUCH_PART:  # it is no part of what there is now
                    left.tag = None
                    continue
                done = left.bytes if answer.status_code == httpx.codes.PARTIAL_CONTENT else 0
                length = answer.headers.get("Content-Length")
                total = None if length is None else done + int(length)
                tag = _TAG.fullmatch(answer.headers.get("ETag", ""))
                left.tag = tag[1] if tag is not None else None
                with left.file.open("ab" if done else "wb") as out:
                    async for piece in connection.wire.pieces(answer):
                        done += out.write(piece)
                        if progress is not None:
                            progress(done, total)
            return
        except httpx.TransportError as error:  # a part that is missing is one too
            broken = connection.unreachable(error)
            tries = 1 if left.bytes > furthest else tries + 1
            furthest = max(furthest, left.bytes)
            if tries == TRIES:
                raise broken from error
            connection.told(str(broken))


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
