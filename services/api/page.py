"""Routes of the web page, whose files are in ``services/dashboard``. They need no key; the page's calls of the API do.

By the headers, a browser runs only these files and revalidates them each time.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

_FILES = StaticFiles(packages=[("services", "dashboard")])
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        # blob: since the page fetches pictures with the key and shows them as blobs.
        "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types stillroom-worker"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


async def _file(path: str, request: Request) -> Response:
    response = await _FILES.get_response(path, request.scope)
    response.headers.update(_HEADERS)
    return response


@router.get("/")
async def page(request: Request) -> Response:
    """Serve the page."""
    return await _file("index.html", request)


@router.get("/docs")
async def docs() -> Response:
    """Redirect to the page's description of the API."""
    return RedirectResponse("/#/api")


@router.get("/static/{path:path}")
async def asset(path: str, request: Request) -> Response:
    """Serve a file of the page."""
    return await _file(path, request)
