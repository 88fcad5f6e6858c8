"""Progress of transfers: a bar on a terminal, else a line from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

LINE_SECONDS = 10.0


class TransferView:
    """View of transfers on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def line(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False)

    def of(self, name: str) -> Callable[[int, int | None], None]:
        """Make the callback of one transfer, which takes the bytes received and in total."""
        task, told = self._bars.add_task(name, total=None), time.monotonic()

        def progress(done: int, total: int | None) -> None:
            nonlocal told
            self._bars.update(task, completed=done, total=total)
            if not self._console.is_terminal and time.monotonic() - told > LINE_SECONDS:
                of = f" of {total:,}" if total is not None else ""
                self.line(f"{name}: {done:,}{of} bytes")
                told = time.monotonic()

        return progress
