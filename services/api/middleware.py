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
    """Middleware that logs unexpected errors, and answers with a problem unless the answer has begun."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the request; answer an unexpected error with a problem."""
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
    """Middleware that answers HEAD like GET without the body, for every route, as RFC 9110 requires.

    The producer of the body is stopped at its first piece, so that no archive or stream is read needlessly.

    Args:
        app: The application that answers GET.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the request; a HEAD is handled as a GET."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def beginning(message: Message) -> None:
            if message["type"] != "http.response.start":
                raise _AnsweredError
            scope["method"] = "HEAD"
            await send(message)
            await send({"type": "http.response.body", "body": b""})

        scope["method"] = "GET"  # changed in place, since the outer middleware reads the route from this scope
        try:
            await self._app(scope, receive, beginning)
        except _AnsweredError:
            pass
        finally:
            scope["method"] = "HEAD"


class _AnsweredError(Exception):
    """The response is sent already; stop here."""


class LocalOnly:
    """Middleware of a service without keys, which refuses requests of other sites' pages.

    A page of another site can make a local browser send requests to us; then the ``Origin`` is that site. It can also
    point its own name to this machine after it was loaded (DNS rebinding); then the ``Host`` is that name.

    Args:
        app: The application that answers all other requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a local request, and refuse a foreign one."""
        problem = _foreign(Headers(scope=scope)) if scope["type"] in {"http", "websocket"} else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await problem_response(403, ProblemCode.FORBIDDEN, problem)(scope, receive, send)


def _foreign(headers: Headers) -> str | None:
    """Return the reason why a request is foreign, with the remedy; None for a local one."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if not is_loopback(_hostname(host)):
        return (
            f"Without keys the service is for this machine only, but the request's host is {host!r}. "
            "Use 127.0.0.1 or localhost, or serve with keys."
        )
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return (
            f"Without keys the service refuses requests of other sites' pages, such as {origin!r}. "
            "Use the service's own page, or serve with keys."
        )
    return None


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or "" if "@" not in host else ""
    except ValueError:
        return ""


class Measured:
    """Middleware that records every answer in the metrics.

    Args:
        app: The application that answers.
        metrics: The metrics.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the request, and record its answer."""
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
