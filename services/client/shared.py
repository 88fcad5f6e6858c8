"""Methods of both clients, written once as coroutines: the blocking client runs them, the other one awaits them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from functools import partial, update_wrapper
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from services.client.connection import Connection
from services.client.portal import Portal

P = ParamSpec("P")
A = TypeVar("A")


class Side:
    """A client, of either kind."""

    _connection: Connection

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server!r})"  # without the caller's key

    @property
    def server(self) -> str:
        """The server's URL."""
        return self._connection.server

    def set_patience(self, seconds: float, on_retry: Callable[[str], None] | None = None) -> None:
        """Set how long requests to an unreachable or busy server are retried.

        Args:
            seconds: For each request from now on.
            on_retry: Called with the reason before each retry; the blocking client calls it in its own thread.
        """
        self._connection.patience = seconds
        if on_retry is not None:
            self._connection.on_retry = on_retry


class BlockingSide(Side):
    """Client whose methods block until they are done."""

    _portal: Portal


class AwaitingSide(Side):
    """Client whose methods are awaited."""


class Shared(Generic[P, A]):
    """A method of both clients, from a coroutine.

    Args:
        work: The coroutine.
        described: The function whose signature and docstring the method has; None: the coroutine.
    """

    def __init__(
        self,
        work: Callable[Concatenate[Any, P], Coroutine[Any, Any, A]],
        described: Callable[..., Any] | None = None,
    ) -> None:
        def method(client: Side, *args: P.args, **kwargs: P.kwargs) -> Any:
            if isinstance(client, BlockingSide):
                return client._portal.run_sync(partial(work, client, *args, **kwargs))
            return work(client, *args, **kwargs)

        self.described = described or work
        self._method = update_wrapper(method, self.described)
        self.__doc__ = self.described.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: BlockingSide, owner: type) -> Callable[P, A]: ...
    @overload
    def __get__(self, client: AwaitingSide, owner: type) -> Callable[P, Coroutine[Any, Any, A]]: ...
    def __get__(self, client: Side | None, owner: type) -> Any:
        """Return the method of a client."""
        return self if client is None else MethodType(self._method, client)


class SharedStream(Generic[P, A]):
    """A generator method of both clients, from an asynchronous generator.

    Args:
        work: The generator.
    """

    def __init__(self, work: Callable[Concatenate[Any, P], AsyncGenerator[A, None]]) -> None:
        def method(client: Side, *args: P.args, **kwargs: P.kwargs) -> Any:
            items = work(client, *args, **kwargs)
            return client._portal.iterate_sync(items) if isinstance(client, BlockingSide) else items

        self._method = update_wrapper(method, work)
        self.__doc__ = work.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: BlockingSide, owner: type) -> Callable[P, Iterator[A]]: ...
    @overload
    def __get__(self, client: AwaitingSide, owner: type) -> Callable[P, AsyncIterator[A]]: ...
    def __get__(self, client: Side | None, owner: type) -> Any:
        """Return the method of a client."""
        return self if client is None else MethodType(self._method, client)
