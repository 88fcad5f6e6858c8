"""Bodies of requests: JSON of a bounded size, read only for callers who may send it.

These checks come before FastAPI's, which are by the models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Header, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from services.api.dependencies import CallerDep, identify
from services.api.strict_json import parse
from services.jobs.records import RequestKey

MAX_BODY_BYTES = 1 << 20
MEDIA_TYPE = "application/json"
_YAML_TYPES = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})
_LARGE_BYTES = 1 << 14
"""Size above which a body is parsed in a thread, so that it does not block other requests."""


class JsonRoute(APIRoute):
    """A route whose body, where it has one, is JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, on a body that was checked."""
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def handle(request: Request) -> Response:
            await identify(request)  # before anything of the body is read
            _check_type(request)
            sent = _JsonRequest(request.scope, request.receive)
            request.state.body = None  # there is one, also where it cannot be read; problems point into it
            request.state.body = await sent.json()
            return await handler(sent)

        return handle


class LiteralRoute(JsonRoute):
    """A route of a path without parameters that the template of another route fits too, such as ``/{id}``.

    The path is this route's alone: any method but its own gets 405 here, and not the other route's answer.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the path is this one, whatever the method."""
        match, child = super().matches(scope)
        return (Match.NONE if match is Match.NONE else Match.FULL), child


class _JsonRequest(Request):
    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            body = bytearray()
            async for piece in self.stream():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise HTTPException(413, f"A request has at most {MAX_BODY_BYTES} bytes.")
            self._body = bytes(body)
        return self._body

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            body = await self.body()
            self._json = await run_in_threadpool(parse, body) if len(body) > _LARGE_BYTES else parse(body)
        return self._json


def _check_type(request: Request) -> None:
    """Refuse other content types; for this one, browsers ask us first (CORS) before another site's request."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _YAML_TYPES:
        raise HTTPException(
            415,
            f"YAML is not taken over HTTP. Send it as JSON with 'Content-Type: {MEDIA_TYPE}', "
            "or use the command line (such as `stillroom submit`), which converts YAML files.",
        )
    if kind != MEDIA_TYPE:
        raise HTTPException(415, f"Send the request as JSON with 'Content-Type: {MEDIA_TYPE}'.")


async def _request_key(
    request: Request,
    caller: CallerDep,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            description="Any text of your own; sent again with the same body it makes no second job.",
        ),
    ] = None,
) -> RequestKey | None:
    if key is None:
        return None
    digest = hashlib.sha256(f"{MEDIA_TYPE}\n".encode() + await request.body()).hexdigest()
    # Tenants do not know of each other's keys.
    return RequestKey(f"{caller.tenant} {request.url.path}", key, digest)


RequestKeyDep = Annotated[RequestKey | None, Depends(_request_key)]
