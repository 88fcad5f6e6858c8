"""A call: a method of both clients that is one request."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Concatenate, cast
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from services.client.connection import MAX_DOCUMENT_BYTES, Connection, Message
from services.client.errors import not_understood
from services.client.shared import A, P, Shared


@dataclass(frozen=True)
class Given:
    """The content of one call.

    Attributes:
        path: Values for the names in the path.
        query: Parameters; one that is None is left out.
        body: JSON-like.
        key: The caller's own Idempotency-Key.
    """

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    key: str | None = None


class Call(Shared[P, A]):
    """A method of both clients that is one request.

    Attributes:
        method: HTTP method.
        path: Path with the names of its parameters in braces.
        answer: Type of the answer: a document's model, bytes, or nothing.
        keyed: Whether it carries an Idempotency-Key, so that it can be sent again.
        download: Whether the answer is a student's file or archive, so that it may be longer than a document.
    """

    def __init__(
        self,
        build: Callable[Concatenate[Any, P], Given],
        method: str,
        path: str,
        answer: type[A],
        *,
        keyed: bool,
        accepted: Sequence[int],
        download: bool,
    ) -> None:
        self.method, self.path, self.answer, self.keyed = method, path, answer, keyed
        self._build, self._accepted, self._download = build, frozenset(accepted), download

        async def work(client: Any, /, *args: P.args, **kwargs: P.kwargs) -> A:
            return await self.ask(client._connection, *args, **kwargs)

        super().__init__(work, build)

    async def ask(self, connection: Connection, *args: P.args, **kwargs: P.kwargs) -> A:
        """Make the call.

        Raises:
            ApiError: It is refused.
            ServerUnreachableError: There is no answer.
        """
        answer = await connection.ask(self.message(*args, **kwargs))
        found: Any = answer.content
        if issubclass(self.answer, BaseModel):
            try:
                found = self.answer.model_validate_json(answer.content)
            except ValidationError as error:
                reason = error.errors(include_url=False, include_input=False)[0]["msg"]
                raise not_understood(connection.server, self.method, self.path, reason) from None
        return cast(A, found if self.answer is not type(None) else None)

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Message:
        """Build the message of a call."""
        given = self._build(None, *args, **kwargs)
        key = uuid.uuid4().hex if given.key is None else given.key
        return Message(
            self.method,
            self.path.format_map({name: quote(value, safe="") for name, value in given.path.items()}),
            query=given.query,
            headers={"Idempotency-Key": key} if self.keyed else {},
            body=given.body,
            repeatable=self.keyed or self.method == "GET",
            accepted=self._accepted,
            most_bytes=None if self._download else MAX_DOCUMENT_BYTES,
        )


def call(
    method: str,
    path: str,
    answer: type[A],
    *,
    keyed: bool = False,
    accepted: Sequence[int] = (),
    download: bool = False,
) -> Callable[[Callable[Concatenate[Any, P], Given]], Call[P, A]]:
    """Make a call from a function that returns its content; see :class:`Call`."""
    return lambda build: Call(build, method, path, answer, keyed=keyed, accepted=accepted, download=download)
