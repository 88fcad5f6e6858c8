"""The service's database, for verbs that open it directly; the service may be running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from services.settings import Settings
    from workloads.storage.storage import Storage


@contextmanager
def service_database(storage: str | None, *, make: bool = False) -> Iterator[Engine]:
    """Open the database that `stillroom serve` uses with the same settings.

    Args:
        storage: The storage of the command line.
        make: Whether to create a missing database; only for verbs that add something.

    Raises:
        InputError: The database is missing, does not answer, or cannot be written.
    """
    from services.logs import configure_logs
    from services.service import make_state_folder, ready_database
    from services.settings import load_settings
    from workloads.storage.storage import Storage

    configure_logs(verbose=False)
    settings = load_settings(storage=storage)
    place = Storage.open(settings.storage)
    state = settings.state_path(place)
    if make:
        make_state_folder(state)
    else:
        _require(settings, place, state)
    engine = ready_database(settings, state)
    try:
        yield engine
    finally:
        engine.dispose()


def _require(settings: Settings, place: Storage, state: Path) -> None:
    """Refuse a storage that no service has used; its name is probably mistyped."""
    from services.service import DATABASE_FILE
    from workloads.spec.errors import InputError

    remedy = "Correct --storage or STILLROOM_STORAGE; `stillroom serve` and `stillroom keys create` make a new one."
    if place.local and not Path(place.root).is_dir():
        raise InputError.of("--storage", f"There is no storage at {place.url}.", remedy)
    if settings.database is None and not (state / DATABASE_FILE).is_file():
        raise InputError.of("--storage", f"There is no database of a service for {place.url} in {state}.", remedy)
