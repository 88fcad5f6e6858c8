"""The asynchronous client."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from services.client.calls import Calls
from services.client.connection import PATIENCE_SECONDS, Connection
from services.client.downloads import Downloads
from services.client.following import Following
from services.client.shared import AwaitingSide


class AsyncStillroomClient(AwaitingSide, Calls, Following, Downloads):
    """Talks to one server from an event loop: the methods of :class:`StillroomClient`, to be awaited.

    Args:
        server: Its URL, such as ``http://127.0.0.1:8000``.
        timeout: Seconds to wait for an answer.
        api_key: The caller's key; None: ``STILLROOM_API_KEY``, if that is set.
        patience: Seconds to go on asking a server that does not answer or is busy, where asking twice does no harm.
        max_download_bytes: Size of the longest file or archive of a student that is taken; None: 64 GiB.

    Example:
        >>> async with AsyncStillroomClient("http://127.0.0.1:8000") as client:
        ...     async for event in client.stream_events("cmp_…"):
        ...         ...
    """

    def __init__(
        self,
        server: str,
        timeout: float = 30.0,
        *,
        api_key: str | None = None,
        patience: float = PATIENCE_SECONDS,
        max_download_bytes: int | None = None,
    ) -> None:
        self._connection = Connection(server, api_key, timeout, patience, max_download_bytes)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.aclose()
