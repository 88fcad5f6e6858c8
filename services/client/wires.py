"""How requests are sent and waits are waited: in place, or on an event loop.

What the clients do is written once, as coroutines over a :class:`Wire`. The synchronous client's wire blocks where it
stands, so that such a coroutine runs through in one go (:func:`at_once`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

import httpx

T = TypeVar("T")


class Wire(Protocol):
    """Sends requests and waits."""

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the answer is there as soon as it begins."""

    async def read(self, answer: httpx.Response) -> bytes:
        """Read all of an answer."""

    def pieces(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """Read an answer piece by piece."""

    def lines(self, answer: httpx.Response) -> AsyncIterator[str]:
        """Read an answer line by line."""

    async def done(self, answer: httpx.Response) -> None:
        """Let go of an answer, read or not."""

    async def pause(self, seconds: float) -> None:
        """Wait."""

    async def elsewhere(self, work: Callable[[], T]) -> T:
        """Do work that takes a while, without holding up others."""

    async def close(self) -> None:
        """Close all connections."""


class BlockingWire:
    """A :class:`Wire` whose coroutines never wait for anybody.

    Args:
        http: What sends.
    """

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the answer is there as soon as it begins."""
        return self._http.send(request, stream=True)

    async def read(self, answer: httpx.Response) -> bytes:
        """Read all of an answer."""
        return answer.read()

    async def pieces(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """Read an answer piece by piece."""
        for piece in answer.iter_bytes():
            yield piece

    async def lines(self, answer: httpx.Response) -> AsyncIterator[str]:
        """Read an answer line by line."""
        for line in answer.iter_lines():
            yield line

    async def done(self, answer: httpx.Response) -> None:
        """Let go of an answer, read or not."""
        answer.close()

    async def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    async def elsewhere(self, work: Callable[[], T]) -> T:
        """Do the work."""
        return work()

    async def close(self) -> None:
        """Close all connections."""
        self._http.close()


class AwaitingWire:
    """A :class:`Wire` on the running event loop.

    Args:
        http: What sends.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the answer is there as soon as it begins."""
        return await self._http.send(request, stream=True)

    async def read(self, answer: httpx.Response) -> bytes:
        """Read all of an answer."""
        return await answer.aread()

    def pieces(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """Read an answer piece by piece."""
        return answer.aiter_bytes()

    def lines(self, answer: httpx.Response) -> AsyncIterator[str]:
        """Read an answer line by line."""
        return answer.aiter_lines()

    async def done(self, answer: httpx.Response) -> None:
        """Let go of an answer, read or not."""
        await answer.aclose()

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def elsewhere(self, work: Callable[[], T]) -> T:
        """Do the work in a thread."""
        return await asyncio.to_thread(work)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine over a :class:`BlockingWire`, from start to end."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        work.close()
    raise AssertionError("a coroutine over a blocking wire has waited")


def one_by_one(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """Give the items of an asynchronous generator over a :class:`BlockingWire`."""

    async def following() -> T:
        return await anext(items)

    try:
        while True:
            try:
                item = at_once(following())
            except StopAsyncIteration:
                return
            yield item
    finally:
        at_once(_closed(items))


async def _closed(items: AsyncGenerator[Any, None]) -> None:
    await items.aclose()
