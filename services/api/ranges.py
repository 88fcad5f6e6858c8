"""Partial answers: ``Range`` and ``If-Range`` (RFC 9110, section 14), with one range per request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, HTTPException
from fastapi.responses import StreamingResponse

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")

RESPONSES: dict[int | str, dict[str, Any]] = {206: {"description": "The part named by `Range`."}}


@dataclass(frozen=True)
class Part:
    """The part of a file that a request's headers ask for."""

    range: str | None
    if_range: str | None

    def response(
        self,
        give: Callable[[int, int], Iterator[bytes]],
        *,
        size: int,
        tag: str,
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> StreamingResponse:
        """Answer with the part, or with the whole file.

        Args:
            give: Returns the bytes from one offset up to another.
            size: Size of the file.
            tag: Entity tag of its content.
            media_type: Its media type.
            headers: Further headers.

        Raises:
            HTTPException: The file has no such part.
        """
        begin, end = self._span(size, tag) or (0, size)
        partial = (begin, end) != (0, size)
        given = {
            **(headers or {}),
            "Accept-Ranges": "bytes",
            "Content-Length": str(end - begin),
            "ETag": tag,
            **({"Content-Range": f"bytes {begin}-{end - 1}/{size}"} if partial else {}),
        }
        return StreamingResponse(
            give(begin, end), status_code=206 if partial else 200, media_type=media_type, headers=given
        )

    def _span(self, size: int, tag: str) -> tuple[int, int] | None:
        """Return begin and end of the part; None for the whole file. Malformed or multiple ranges are ignored."""
        match = _RANGE.fullmatch(self.range or "")
        if match is None or match[0] == "bytes=-" or (self.if_range is not None and self.if_range != tag):
            return None
        first, last = match.groups()
        if first and last and int(first) > int(last):
            return None
        begin = int(first) if first else max(0, size - int(last))
        end = min(size, int(last) + 1) if first and last else size
        if begin >= end:
            refusal = f"The file has {size} bytes, so there is no part {self.range}."
            raise HTTPException(416, refusal, {"Content-Range": f"bytes */{size}"})
        return begin, end


async def _part(
    range_: Annotated[str | None, Header(alias="Range", description="One range, such as `bytes=1000-`.")] = None,
    if_range: Annotated[
        str | None, Header(description="An `ETag`; if the file has changed, all of it is sent.")
    ] = None,
) -> Part:
    return Part(range_, if_range)


PartDep = Annotated[Part, Depends(_part)]
