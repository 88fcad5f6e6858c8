"""A connection to one server: who asks, how often it is asked again, and what a refusal becomes."""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic import ValidationError

from services.api.schemas import Problem
from services.client.errors import ApiError, ServerUnreachableError
from services.client.wires import Wire
from workloads.spec.errors import InputError

KEY_VARIABLE = "STILLROOM_API_KEY"
AWAY = frozenset({429, 502, 503})
"""Statuses of a server that is busy, or of what stands before one that is away."""
PATIENCE_SECONDS = 3.0
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.25, 5.0


@dataclass(frozen=True)
class Message:
    """One request, as a call has it sent.

    Attributes:
        method: Of HTTP.
        path: Below the server's URL.
        query: Parameters; a list is given several times.
        headers: Beside those of every request.
        body: JSON-like, or None.
        repeatable: Whether it may be sent twice to the effect of once.
        accepted: Statuses of errors that are answers nevertheless.
    """

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    repeatable: bool = False
    accepted: frozenset[int] = frozenset()


class Connection:
    """Sends messages to one server.

    Args:
        server: Its URL.
        wire: What sends.
        api_key: What it knows us by; None: ``STILLROOM_API_KEY``.
        timeout: Seconds to wait for an answer.
        patience: Seconds to go on asking a server that does not answer or is busy.

    Attributes:
        told: Is told why a message is sent again, each time.

    Raises:
        InputError: The key cannot be one.
    """

    def __init__(self, server: str, wire: Wire, api_key: str | None, timeout: float, patience: float) -> None:
        self.server = server
        self.wire = wire
        self.patience = patience
        self.told: Callable[[str], None] = lambda _: None
        self._timeout = timeout
        self._key = _sound_key(api_key if api_key is not None else os.environ.get(KEY_VARIABLE, ""))

    async def ask(self, message: Message) -> httpx.Response:
        """Send a message and give the whole answer.

        Raises:
            ApiError: It is refused.
            ServerUnreachableError: There is no answer.
        """
        return await self._send(message, self._timeout, whole=True)

    @asynccontextmanager
    async def open(self, message: Message, silence: float | None = None) -> AsyncIterator[httpx.Response]:
        """Send a message and give the answer as it begins; ``silence`` is how long it may then say nothing.

        Raises:
            ApiError: It is refused.
            ServerUnreachableError: There is no answer.
        """
        answer = await self._send(message, silence or self._timeout, whole=False)
        try:
            yield answer
        finally:
            await self.wire.done(answer)

    def unreachable(self, error: httpx.TransportError) -> ServerUnreachableError:
        """What a broken connection is called for people."""
        return ServerUnreachableError(f"{self.server} does not answer: {str(error) or type(error).__name__}.")

    async def _send(self, message: Message, silence: float, *, whole: bool) -> httpx.Response:
        request, began, tries = self._request(message, silence), time.monotonic(), 0
        while True:
            asked: float | None = None
            try:
                answer = await self._try(request, message.accepted, whole=whole)
                if answer.is_success or answer.status_code in message.accepted:
                    return answer
                error: ApiError | ServerUnreachableError = _refusal(answer)
                again, asked = answer.status_code in AWAY, _asked_pause(answer)
            except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as failure:
                raise InputError.of(
                    "server", f"{self.server} cannot be asked: {failure}", "Use http://host:port."
                ) from None
            except httpx.TransportError as failure:
                error, again = self.unreachable(failure), True
            tries += 1
            pause = asked if asked is not None else _pause(tries)
            if not again or not message.repeatable or time.monotonic() - began + pause > self.patience:
                raise error
            self.told(str(error))
            await self.wire.pause(pause)

    async def _try(self, request: httpx.Request, accepted: frozenset[int], *, whole: bool) -> httpx.Response:
        answer = await self.wire.send(request)
        if not whole and (answer.is_success or answer.status_code in accepted):
            return answer
        try:
            await self.wire.read(answer)
        finally:
            await self.wire.done(answer)
        return answer

    def _request(self, message: Message, silence: float) -> httpx.Request:
        headers = dict(message.headers)
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        query = {name: value for name, value in message.query.items() if value is not None}
        timeout = httpx.Timeout(self._timeout, read=silence).as_dict()
        body = {} if message.body is None else {"json": message.body}
        url = f"{self.server}{message.path}"
        try:
            return httpx.Request(
                message.method, url, params=query, headers=headers, extensions={"timeout": timeout}, **body
            )
        except httpx.InvalidURL as error:
            raise InputError.of("server", f"{self.server} is no URL: {error}.", "Use http://host:port.") from None


def _sound_key(key: str) -> str:
    key = key.strip()
    # What cannot stand in a header would otherwise be quoted in an error, and the key with it.
    if not all("!" <= character <= "~" for character in key):
        raise InputError.of("api_key", "The API key has characters that no key has.", f"Set {KEY_VARIABLE} anew.")
    return key


def _refusal(answer: httpx.Response) -> ApiError:
    try:
        return ApiError(Problem.model_validate_json(answer.content))
    except ValidationError:  # something else than a stillroom answers there, or stands in between
        detail = answer.text[:500] or f"{answer.status_code} {answer.reason_phrase}"
        if answer.has_redirect_location:
            detail = f"The server is elsewhere: {answer.headers['Location']}"
        return ApiError(Problem(code="other", title=answer.reason_phrase, status=answer.status_code, detail=detail))


def _pause(tries: int) -> float:
    """Twice as long each time; scattered, so that many clients do not come back at once."""
    longest: float = min(MAX_PAUSE_SECONDS, PAUSE_SECONDS * 2.0 ** (tries - 1))
    return longest * random.uniform(0.5, 1.0)


def _asked_pause(answer: httpx.Response) -> float | None:
    """What ``Retry-After`` says, as seconds or as a date."""
    given = answer.headers.get("Retry-After")
    if given is None:
        return None
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(given)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
