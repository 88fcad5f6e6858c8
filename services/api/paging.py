"""Pages of lists that are newest first: how much of one, and from where on.

A cursor is the number of the last thing on its page and not its id, so that it leads on when that is deleted.
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
        return page, str(page[-1].number) if len(found) > self.limit else None


async def _paging(
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    after: Annotated[str | None, Query(description="The `next` of an earlier page.", pattern=_CURSOR)] = None,
) -> Paging:
    return Paging(limit, None if after is None else int(after))


PagingDep = Annotated[Paging, Depends(_paging)]
