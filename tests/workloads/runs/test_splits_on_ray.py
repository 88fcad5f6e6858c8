"""Waiting for Ray Data's tables: looks in between, errors, and an end at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator

import pytest

from cluster.room import NotStartedError
from workloads.runs import splits_on_ray
from workloads.runs.splits_on_ray import _watched


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits_on_ray, "POLL_SECONDS", 0.01)


class Tables:
    """Tables, each given once ``go`` is set.

    Attributes:
        closed: Whether the generator was closed.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.go, self.closed, self._error = threading.Event(), threading.Event(), error

    def __iter__(self) -> Generator[int, None, None]:
        try:
            for number in range(3):
                assert self.go.wait(10)
                self.go.clear()
                yield number
            if self._error is not None:
                raise self._error
        finally:
            self.closed.set()


def looks(tables: Tables, count: int) -> Callable[[], None]:
    """A look that lets the next table come after ``count`` looks at each."""
    seen: list[None] = []

    def look() -> None:
        seen.append(None)
        if len(seen) % count == 0:
            tables.go.set()

    return look


def test_each_table_is_waited_for_with_looks_in_between() -> None:
    tables = Tables()
    assert list(_watched(iter(tables), looks(tables, 3))) == [0, 1, 2]
    assert tables.closed.is_set()


def test_an_error_is_raised_after_the_tables_before_it() -> None:
    tables = Tables(OSError("full"))
    found = _watched(iter(tables), looks(tables, 1))
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="full"):
        next(found)


def test_one_who_wants_no_more_has_the_rest_cancelled_at_once() -> None:
    tables = Tables()
    found = _watched(iter(tables), looks(tables, 1))
    next(found)
    found.close()
    assert tables.closed.is_set()


def test_a_look_that_raises_ends_the_wait_at_once() -> None:
    tables = Tables()

    def look() -> None:
        raise NotStartedError("no start")

    with pytest.raises(NotStartedError):
        next(_watched(iter(tables), look))
    assert not tables.closed.is_set()
    tables.go.set()
    assert tables.closed.wait(10), "closed once it is no longer in the middle of a table"
