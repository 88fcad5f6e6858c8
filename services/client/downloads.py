"""Downloads of students and of kept models, atomic and resumable."""

from __future__ import annotations

import contextlib
import glob
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import anyio.to_thread
import httpx

from services.client.calls import Calls
from services.client.connection import Connection, Message
from services.client.errors import ApiError, not_understood
from services.client.shared import Shared, Side
from services.client.student_archive import BadArchiveError, check_archive, sound_student_id, unpack

TRIES = 4
"""Attempts in a row without progress after which a download fails."""
_NO_SUCH_PART = 416
_TAG = re.compile(r'"([0-9A-Za-z_-]{1,100})"')
"""Entity tags that are safe as part of a file's name, as the service's are."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes received and the bytes in total."""


class Downloads(Side):
    """Downloads of students and of kept models, for both clients."""

    @Shared
    async def download(
        self, job_id: str, student_id: str, folder: Path, *, extract: bool = True, progress: Progress | None = None
    ) -> Path:
        """Fetch a student into ``folder``, as a folder of its own or as a tar.

        The archive is streamed to disk and moved into place when it is complete; an earlier copy is replaced. A broken
        connection is opened again and goes on where it was. An unfinished part is kept as a hidden file, from which
        the next call goes on. An archive that is damaged, or holds anything but a student's folder, is refused.

        Args:
            job_id: The compression.
            student_id: The student.
            folder: Created where it is missing.
            extract: Whether to unpack the tar.
            progress: Called with the bytes received so far and in total.

        Returns:
            ``folder / student_id``, or ``folder / <student_id>.tar``.

        Raises:
            ApiError: There is no such student, or the server sends something else.
            InputError: ``student_id`` is malformed.
            ServerUnreachableError: There is no answer, or the connection broke again and again.
        """
        sound_student_id(student_id)
        message = Calls.archive.message(job_id, student_id)
        return await self._download(message, student_id, folder, extract=extract, progress=progress)

    @Shared
    async def download_model(
        self, evaluation_id: str, model_id: str, folder: Path, *, extract: bool = True, progress: Progress | None = None
    ) -> Path:
        """Fetch a model that an evaluation has kept; see ``download``."""
        sound_student_id(model_id)
        message = Calls.model_archive.message(evaluation_id, model_id)
        return await self._download(message, model_id, folder, extract=extract, progress=progress)

    async def _download(
        self, message: Message, student_id: str, folder: Path, *, extract: bool, progress: Progress | None
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / (student_id if extract else f"{student_id}.tar")
        with tempfile.TemporaryDirectory(prefix=".stillroom-", dir=folder) as name:
            workshop = Path(name)
            archive, unpacked = workshop / "archive.tar", workshop / "unpacked"
            partial_download = _PartialDownload.claim(folder, student_id, archive)
            try:
                await _fetch(self._connection, message, partial_download, progress)
            except BaseException:
                partial_download.keep(folder, student_id)
                raise
            try:
                await anyio.to_thread.run_sync(check_archive, archive, student_id)
                if extract:
                    await anyio.to_thread.run_sync(unpack, archive, unpacked)
            except BadArchiveError as error:
                raise not_understood(self.server, message.method, message.path, str(error)) from error
            if target.exists() or target.is_symlink():
                target.rename(workshop / "former")
            return (unpacked / student_id if extract else archive).rename(target)


@dataclass
class _PartialDownload:
    """The part of an archive that is on disk.

    Attributes:
        file: Its path; no other call writes there.
        tag: Entity tag of the whole archive, without its quotes; None where there is none to resume by.
    """

    file: Path
    tag: str | None = None

    @classmethod
    def claim(cls, folder: Path, student_id: str, file: Path) -> _PartialDownload:
        """Take over the part that an earlier call has left; moving it makes sure that no other call takes it."""
        for found in folder.glob(f".{glob.escape(student_id)}.*.part"):
            with contextlib.suppress(FileNotFoundError):  # another call has taken it
                found.replace(file)
                return cls(file, found.name.removeprefix(f".{student_id}.").removesuffix(".part"))
        return cls(file)

    def keep(self, folder: Path, student_id: str) -> None:
        """Keep the part for a later call."""
        if self.tag is not None and self.bytes:
            self.file.replace(folder / f".{student_id}.{self.tag}.part")

    @property
    def bytes(self) -> int:
        return self.file.stat().st_size if self.tag is not None and self.file.exists() else 0

    @property
    def headers(self) -> dict[str, str]:
        """Headers that ask for the rest, or for the whole if the archive has changed."""
        return {"Range": f"bytes={self.bytes}-", "If-Range": f'"{self.tag}"'} if self.bytes else {}


async def _fetch(connection: Connection, message: Message, part: _PartialDownload, progress: Progress | None) -> None:
    tries, furthest = 0, part.bytes
    while True:
        begin = part.bytes
        asked = replace(message, headers=part.headers, accepted=frozenset({_NO_SUCH_PART} if begin else ()))
        try:
            async with connection.open(asked) as answer:
                if answer.status_code == _NO_SUCH_PART or not _continues(answer, begin):
                    part.tag = None  # the archive has changed: this part is no longer of use
                    if not begin:
                        reason = "it gives a part where the whole was asked for"
                        raise not_understood(connection.server, message.method, message.path, reason)
                    continue
                done = begin if answer.status_code == httpx.codes.PARTIAL_CONTENT else 0
                length = answer.headers.get("Content-Length", "")
                total = done + int(length) if length.isdigit() else None
                tag = _TAG.fullmatch(answer.headers.get("ETag", ""))
                part.tag = tag[1] if tag is not None else None
                with part.file.open("ab" if done else "wb") as out:
                    async for piece in connection.read(answer, message, done):
                        done += out.write(piece)
                        if progress is not None:
                            progress(done, total)
            return
        except ApiError:
            part.tag = None  # too long: nobody would go on with it
            raise
        except httpx.TransportError as error:  # a missing part counts as an empty one
            broken = connection.unreachable(error)
            tries = 1 if part.bytes > furthest else tries + 1
            furthest = max(furthest, part.bytes)
            if tries == TRIES:
                raise broken from error
            connection.on_retry(str(broken))


def _continues(answer: httpx.Response, begin: int) -> bool:
    """Whether an answer is the whole archive, or begins where our part ends."""
    if answer.status_code != httpx.codes.PARTIAL_CONTENT:
        return True
    return begin > 0 and answer.headers.get("Content-Range", "").startswith(f"bytes {begin}-")
