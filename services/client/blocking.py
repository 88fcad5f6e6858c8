"""The synchronous client."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from services.client.calls import Calls
from services.client.connection import PATIENCE_SECONDS, Connection
from services.client.downloads import Downloads
from services.client.following import Following
from services.client.portal import Portal
from services.client.shared import BlockingSide


class StillroomClient(BlockingSide, Calls, Following, Downloads):
    """Talks to one server. It may be used by several threads.

    Args:
        server: Its URL, such as ``http://127.0.0.1:8000``.
        timeout: Seconds to wait for an answer.
        api_key: The caller's key; None: ``STILLROOM_API_KEY``, if that is set.
        patience: Seconds to go on asking a server that does not answer or is busy, where asking twice does no harm.
        max_download_bytes: Size of the longest file or archive of a student that is taken; None: 64 GiB.

    Example:
        >>> with StillroomClient("http://127.0.0.1:8000") as client:
        ...     job = client.submit({"teacher": {"model": "…"}, "corpus": {"paths": ["…"]}, "budgets": [...]})
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
        self._portal = Portal()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._portal.run_sync(self._connection.aclose)
        self._portal.close()
