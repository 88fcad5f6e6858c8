"""Pages of lists, newest first.

A cursor is the number of the last item of its page, not an id, so it stays valid if that item is deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

from fastapi import Depends, Query

from services.jobs.store import MAX_PAGE


class _Numbered(Protocol):
    @property
    def number(self) -> int: ...


_CURSOR = r"^[1-9][0-9]{0,8}$"
_Thing = TypeVar("_Thing", bound=_Numbered)


@dataclass(frozen=True)
class Paging:
    """The requested page.

    Attributes:
        limit: Most items of the page.
        before: Number; the page's items are older than the item of this number. None for the newest.
    """

    limit: int
    before: int | None

    @property
    def wanted(self) -> int:
        """Number of items to read: one more than the page has, to know whether another page follows."""
        return self.limit + 1

    def cut(self, found: Sequence[_Thing]) -> tuple[Sequence[_Thing], str | None]:
        """Return the page's items, and the cursor of the next page; None at the end."""
        page = found[: self.limit]
        return page, str(page[-1].number) if len(found) > self.limit else None


async def _paging(
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    after: Annotated[str | None, Query(description="The `next` of an earlier page.", pattern=_CURSOR)] = None,
) -> Paging:
    return Paging(limit, None if after is None else int(after))


PagingDep = Annotated[Paging, Depends(_paging)]
