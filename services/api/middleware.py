"""What stands around every request."""

from __future__ import annotations

import time

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.metrics import NO_ROUTE, Metrics
from services.api.problems import unexpected_response

log = structlog.get_logger(__name__)


class UnexpectedErrors:
    """Answers errors that nobody foresaw as a problem, and logs them; an answer that has begun is cut short."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
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


class Measured:
    """Tells the metrics of every answer.

    Args:
        app: What answers.
        metrics: Who is told.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
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
