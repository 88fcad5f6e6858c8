"""Pages of lists that are newest first: how much of one, and from where on.

A cursor carries the number of the last thing on its page and not its id, so that it leads on when that is deleted.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

from fastapi import Depends, HTTPException, Query

from services.jobs.store import MAX_PAGE


class _Numbered(Protocol):
    @property
    def number(self) -> int: ...


_Thing = TypeVar("_Thing", bound=_Numbered)


@dataclass(frozen=True)
class Paging:
    """Which page is asked for.

    Attributes:
        limit: How much is on it at most.
        before: What it has is older than the thing of this number; None for the newest.
    """

    limit: int
    before: int | None

    @property
    def wanted(self) -> int:
        """How much to look for: one more than the page has tells whether there is another page."""
        return self.limit + 1

    def cut(self, found: Sequence[_Thing]) -> tuple[Sequence[_Thing], str | None]:
        """The page, and the cursor of the next one; None at the end."""
        page = found[: self.limit]
        return page, _cursor(page[-1].number) if len(found) > self.limit else None


async def _paging(
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    after: Annotated[str | None, Query(description="The `next` of an earlier page.")] = None,
) -> Paging:
    return Paging(limit, None if after is None else _number(after))


PagingDep = Annotated[Paging, Depends(_paging)]


def _cursor(number: int) -> str:
    return base64.urlsafe_b64encode(str(number).encode()).decode().rstrip("=")


def _number(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        text = ""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text) or _cursor(int(text)) != cursor:
        raise HTTPException(422, "'after' is no place in this list. Give the 'next' of an earlier page.")
    return int(text)
