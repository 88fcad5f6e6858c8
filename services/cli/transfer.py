"""Progress of transfers: a bar on a terminal, else a line from time to time."""

from __future__ import annotations

import json as json_module
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import typer
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


def fetch_all(
    wanted: Mapping[str, Callable[..., Path]], view: TransferView, to: Path, *, extract: bool, again: bool
) -> list[tuple[str, Path, bool]]:
    """Fetch archives that are not there yet.

    Args:
        wanted: The function that fetches each, by the name of its folder; it takes ``extract`` and ``progress``.
        view: Shows the progress.
        to: Folder to put them in.
        extract: Whether each is unpacked.
        again: Whether those that are there are fetched again.

    Returns:
        The name of each, its path, and whether it was fetched now.
    """
    from services.client.student_archive import sound_student_id

    done = []
    for name, download in wanted.items():
        place = to / (sound_student_id(name) if extract else f"{sound_student_id(name)}.tar")
        there = (place.is_dir() if extract else place.is_file()) and not again
        if there:
            view.line(f"{place} is there already.")
        else:
            place = download(to, extract=extract, progress=view.of(name))
        done.append((name, place, not there))
    return done


def print_fetched(done: list[tuple[str, Path, bool]], what: str, *, json: bool) -> None:
    """Print the paths of fetched archives, or a JSON document with ``what`` as the member for their names."""
    if json:
        downloads: list[dict[str, Any]] = [
            {what: name, "path": str(place), "fetched": fetched} for name, place, fetched in done
        ]
        typer.echo(json_module.dumps({"downloads": downloads}, indent=1))
    else:
        typer.echo("".join(f"{place}\n" for _, place, _ in done), nl=False)
