"""A connection to one server: authentication, retries, errors. Answers of the server are not trusted."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import anyio
import httpx
from pydantic import ValidationError

from services.api.schemas import Problem
from services.client.errors import ApiError, ServerUnreachableError, not_understood
from services.network import route_to
from workloads.spec.errors import InputError

KEY_VARIABLE = "STILLROOM_API_KEY"
AWAY = frozenset({429, 502, 503})
"""Statuses of a busy server, or of a proxy whose server is away."""
PATIENCE_SECONDS = 3.0
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.25, 5.0
MAX_DOCUMENT_BYTES = 64 << 20
"""Longest document that a stillroom sends; only files of students may be longer."""
MAX_DOWNLOAD_BYTES = 64 << 30
"""Longest file of a student, or archive of its files, unless the caller sets another bound."""
SLOW_SECONDS, SLOW_BYTES = 60.0, 1024
"""An answer of which fewer bytes come in such a time counts as broken off."""


@dataclass(frozen=True)
class Message:
    """One request to send.

    Attributes:
        method: Of HTTP.
        path: Path below the server's URL.
        query: Parameters; a list is given several times.
        headers: Headers beside those of every request.
        body: JSON-like, or None.
        repeatable: Whether the request is idempotent, so that it may be sent again.
        accepted: Error statuses that count as answers.
        most_bytes: Size of the longest answer that is read; None for the connection's bound on downloads.
    """

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    repeatable: bool = False
    accepted: frozenset[int] = frozenset()
    most_bytes: int | None = MAX_DOCUMENT_BYTES


@dataclass(frozen=True)
class Answer:
    """A whole answer.

    Attributes:
        status: Of HTTP.
        content: The body.
    """

    status: int
    content: bytes


class Connection:
    """Sends messages to one server.

    Args:
        server: Its URL.
        api_key: The caller's key; None: ``STILLROOM_API_KEY``.
        timeout: Seconds to wait for an answer.
        patience: Seconds to go on asking a server that does not answer or is busy.
        max_download_bytes: Size of the longest download; None: :data:`MAX_DOWNLOAD_BYTES`.

    Attributes:
        on_retry: Called with the reason before a message is sent again.

    Raises:
        InputError: The key is malformed, or the environment's proxy or certificates cannot be used.
    """

    def __init__(
        self, server: str, api_key: str | None, timeout: float, patience: float, max_download_bytes: int | None
    ) -> None:
        self.server = server.rstrip("/")
        self._max_download_bytes = MAX_DOWNLOAD_BYTES if max_download_bytes is None else max_download_bytes
        self.patience = patience
        self.on_retry: Callable[[str], None] = lambda _: None
        self._timeout = timeout
        self._key = _sound_key(api_key if api_key is not None else os.environ.get(KEY_VARIABLE, ""))
        try:
            self._route = route_to(self.server)
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError.of("server", f"{self.server} is not a URL: {error}.", "Use http://host:port.") from None
        headers = {"Accept-Encoding": "identity", "User-Agent": "stillroom"}
        self._http = httpx.AsyncClient(headers=headers, **self._route.options())

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def ask(self, message: Message) -> Answer:
        """Send a message and return the whole answer.

        Raises:
            ApiError: It is refused, or the answer cannot be read.
            ServerUnreachableError: There is no answer.
        """
        answer = await self._send(message, self._timeout, whole=True)
        assert isinstance(answer, Answer)
        return answer

    @asynccontextmanager
    async def open(self, message: Message, silence: float | None = None) -> AsyncIterator[httpx.Response]:
        """Send a message and yield the answer once its headers are there; ``silence`` is the read timeout of its body.

        Raises:
            ApiError: It is refused, or the answer cannot be read.
            ServerUnreachableError: There is no answer.
        """
        answer = await self._send(message, silence or self._timeout, whole=False)
        assert isinstance(answer, httpx.Response)
        try:
            yield answer
        except httpx.DecodingError as error:
            raise not_understood(self.server, message.method, message.path, str(error)) from error
        finally:
            await answer.aclose()

    def unreachable(self, error: httpx.TransportError) -> ServerUnreachableError:
        """Word a broken connection for people."""
        reason = str(error) or type(error).__name__
        if isinstance(error, httpx.TimeoutException) and not str(error):
            reason = f"it was silent for {self._timeout:g} s, which is the client's timeout"
        return ServerUnreachableError(f"{self.server} does not answer: {reason}.{self._route.note}")

    async def read(self, answer: httpx.Response, message: Message, begin: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the pieces of an answer's body, within bounds of its length and of its slowness.

        Args:
            answer: An open answer.
            message: The request that it answers.
            begin: Bytes that an earlier answer has given.

        Raises:
            ApiError: It is too long.
            httpx.TransportError: It breaks off, or is too slow.
        """
        most = self._max_download_bytes if message.most_bytes is None else message.most_bytes
        done, marked, since = begin, begin, time.monotonic()
        async for piece in answer.aiter_bytes():
            done += len(piece)
            if done > most:
                raise not_understood(self.server, message.method, message.path, self._too_long(message))
            now = time.monotonic()
            if now - since > SLOW_SECONDS:
                if done - marked < SLOW_BYTES:
                    raise httpx.ReadTimeout(f"it sent {done - marked} bytes in {now - since:.0f} s")
                marked, since = done, now
            yield piece

    def _too_long(self, message: Message) -> str:
        if message.most_bytes is not None:
            return f"it is longer than {message.most_bytes >> 20} MiB"
        return (
            f"it is longer than {self._max_download_bytes:,} bytes. "
            "If a student may be so large, set max_download_bytes of the client, or --max-bytes of the command"
        )

    async def _send(self, message: Message, silence: float, *, whole: bool) -> Answer | httpx.Response:
        request, began, tries = self._request(message, silence), time.monotonic(), 0
        while True:
            asked: float | None = None
            try:
                found = await self._http.send(request, stream=True)
                passed = found.is_success or found.status_code in message.accepted
                if passed and not whole:
                    return found
                answer = await self._whole(found, message)
                if passed:
                    return answer
                error: ApiError | ServerUnreachableError = self._refusal(found, answer.content)
                again, asked = found.status_code in AWAY, _asked_pause(found)
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
            self.on_retry(str(error))
            await anyio.sleep(pause)

    async def _whole(self, found: httpx.Response, message: Message) -> Answer:
        content = bytearray()
        try:
            async for piece in self.read(found, message):
                content += piece
        except httpx.DecodingError as error:
            raise not_understood(self.server, message.method, message.path, str(error)) from error
        finally:
            await found.aclose()
        return Answer(found.status_code, bytes(content))

    def _request(self, message: Message, silence: float) -> httpx.Request:
        headers = dict(message.headers)
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        query = {name: value for name, value in message.query.items() if value is not None}
        timeout = httpx.Timeout(self._timeout, read=silence)
        body = {} if message.body is None else {"json": message.body}
        url = f"{self.server}{message.path}"
        try:
            return self._http.build_request(message.method, url, params=query, headers=headers, timeout=timeout, **body)
        except httpx.InvalidURL as error:
            raise InputError.of("server", f"{self.server} is not a URL: {error}.", "Use http://host:port.") from None

    def _refusal(self, found: httpx.Response, content: bytes) -> ApiError:
        try:
            return ApiError(Problem.model_validate_json(content))
        except ValidationError:  # another server answers there, or a proxy in between
            text = content[:500].decode(errors="replace").strip()
            detail = text or f"{self.server} answers {found.status_code} {found.reason_phrase}"
            if found.has_redirect_location:
                detail = f"The server is elsewhere: {found.headers['Location'][:500]}"
            detail += self._route.note
            return ApiError(Problem(code="other", title=found.reason_phrase, status=found.status_code, detail=detail))


def _sound_key(key: str) -> str:
    key = key.strip()
    # An error about a character not allowed in headers would quote the key.
    if not all("!" <= character <= "~" for character in key):
        raise InputError.of("api_key", "The API key has characters that no key has.", f"Set {KEY_VARIABLE} anew.")
    return key


def _pause(tries: int) -> float:
    """Exponential back-off with jitter, so that many clients do not come back at once."""
    longest: float = min(MAX_PAUSE_SECONDS, PAUSE_SECONDS * 2.0 ** min(tries - 1, 16))
    return longest * random.uniform(0.5, 1.0)


def _asked_pause(answer: httpx.Response) -> float | None:
    """Read ``Retry-After``, in seconds or as a date; None where it is missing or malformed."""
    given = answer.headers.get("Retry-After")
    if given is None:
        return None
    try:
        seconds = float(given)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(given)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
