"""Methods that are written once and that both clients have: the one waits in them, the other's are awaited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from functools import update_wrapper
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from services.client.connection import Connection
from services.client.wires import at_once, one_by_one

P = ParamSpec("P")
A = TypeVar("A")


class Side:
    """A client, of either kind."""

    _connection: Connection

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server!r})"  # who asks is nobody's business

    @property
    def server(self) -> str:
        """The server's URL."""
        return self._connection.server

    def wait_for_server(self, seconds: float, told: Callable[[str], None] | None = None) -> None:
        """Have more patience from now on.

        Args:
            seconds: To go on asking a server that does not answer or is busy.
            told: Is told why, each time that it is asked again.
        """
        self._connection.patience = seconds
        if told is not None:
            self._connection.told = told


class BlockingSide(Side):
    """The kind whose methods return when they are done."""


class AwaitingSide(Side):
    """The kind whose methods are awaited."""


class Shared(Generic[P, A]):
    """A method of both clients, from a coroutine.

    Args:
        work: The coroutine.
        described: Whose signature and words the method has; None: the coroutine's.

    Attributes:
        described: That.
    """

    def __init__(
        self,
        work: Callable[Concatenate[Any, P], Coroutine[Any, Any, A]],
        described: Callable[..., Any] | None = None,
    ) -> None:
        def method(client: Side, *args: P.args, **kwargs: P.kwargs) -> Any:
            doing = work(client, *args, **kwargs)
            return at_once(doing) if isinstance(client, BlockingSide) else doing

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
        """Give the method of a client."""
        return self if client is None else MethodType(self._method, client)


class SharedStream(Generic[P, A]):
    """A method of both clients that gives one thing after the other, from an asynchronous generator.

    Args:
        work: The generator.
    """

    def __init__(self, work: Callable[Concatenate[Any, P], AsyncGenerator[A, None]]) -> None:
        def method(client: Side, *args: P.args, **kwargs: P.kwargs) -> Any:
            items = work(client, *args, **kwargs)
            return one_by_one(items) if isinstance(client, BlockingSide) else items

        self._method = update_wrapper(method, work)
        self.__doc__ = work.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: BlockingSide, owner: type) -> Callable[P, Iterator[A]]: ...
    @overload
    def __get__(self, client: AwaitingSide, owner: type) -> Callable[P, AsyncIterator[A]]: ...
    def __get__(self, client: Side | None, owner: type) -> Any:
        """Give the method of a client."""
        return self if client is None else MethodType(self._method, client)
