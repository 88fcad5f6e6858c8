"""Portal of the blocking client: coroutines run on an event loop in a thread of their own, and the caller waits."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final, TypeVar, cast

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

T = TypeVar("T")
_END: Final = object()


class Portal:
    """An event loop in a thread, started with the first call."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._lock = threading.Lock()

    def run_sync(self, work: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run a coroutine function to its end; an interrupt of the caller ends it too."""
        future = self._started().start_task_soon(work, *args)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate_sync(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """Yield the items of an asynchronous generator, and close it at the end or when the caller stops."""
        turn = anyio.Lock()  # an interrupted step must have left the generator before it can be closed

        async def step() -> T | object:
            async with turn:
                return await anext(items, _END)

        async def end() -> None:
            async with turn:
                await items.aclose()

        try:
            while (item := self.run_sync(step)) is not _END:
                yield cast(T, item)
        finally:
            self.run_sync(end)

    def close(self) -> None:
        """End the loop and its thread."""
        with self._lock:
            self._portal = None
            self._stack.close()

    def _started(self) -> BlockingPortal:
        with self._lock:
            if self._portal is None:
                self._portal = self._stack.enter_context(start_blocking_portal())
            return self._portal
