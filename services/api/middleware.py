"""Middleware around every request."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.metrics import NO_ROUTE, Metrics
from services.api.problems import ProblemCode, problem_response, unexpected_response
from services.network import is_loopback

log = structlog.get_logger(__name__)


class UnexpectedErrors:
    """Logs unexpected errors and answers them as a problem; an answer that has begun is cut short."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; answer an unexpected error with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            log.info("client_gone", path=scope["path"])
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            if begun:
                raise
            await unexpected_response()(scope, receive, send)


class Heads:
    """Answers HEAD as GET without its body, for every route: RFC 9110 asks for it.

    The body's producer is stopped at its first piece, so that no archive or stream is read in vain.

    Args:
        app: The application that answers GET.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, a HEAD as a GET."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def beginning(message: Message) -> None:
            if message["type"] != "http.response.start":
                raise _AnsweredError
            scope["method"] = "HEAD"
            await send(message)
            await send({"type": "http.response.body", "body": b""})

        scope["method"] = "GET"  # in place: the outer middleware reads the route from this scope
        try:
            await self._app(scope, receive, beginning)
        except _AnsweredError:
            pass
        finally:
            scope["method"] = "HEAD"


class _AnsweredError(Exception):
    """The response is sent already; stop here."""


class LocalOnly:
    """Refuses requests not from this machine's own programs and pages, for a service without keys.

    A page of another site may make the browser send us requests (then the ``Origin`` is that site), or may point its
    name to this machine once it is loaded (DNS rebinding; then the ``Host`` is that name).

    Args:
        app: The application that answers all other requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a local request on, and refuse a foreign one."""
        problem = _foreign(Headers(scope=scope)) if scope["type"] in {"http", "websocket"} else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await problem_response(403, ProblemCode.FORBIDDEN, problem)(scope, receive, send)


def _foreign(headers: Headers) -> str | None:
    """The reason why a request is foreign, with the remedy; None for a local one."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if not is_loopback(_hostname(host)):
        return (
            f"The service is for this machine alone, and was asked for as {host!r}. "
            "Ask for it as 127.0.0.1 or localhost, or serve with keys."
        )
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return (
            f"A page of {origin!r} may not ask this service, which asks for no key. "
            "Use the service's own page, or serve with keys."
        )
    return None


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or "" if "@" not in host else ""
    except ValueError:
        return ""


class Measured:
    """Records every answer in the metrics.

    Args:
        app: The application that answers.
        metrics: The metrics.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and record its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", NO_ROUTE)
                seconds = time.perf_counter() - begun
                self._metrics.answered(route, scope["method"], message["status"], seconds)
            await send(message)

        await self._app(scope, receive, watched)
