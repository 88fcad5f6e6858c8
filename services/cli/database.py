"""How verbs open the service's database beside a service that may be running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine


@contextmanager
def service_database(storage: str | None) -> Iterator[Engine]:
    """Open the database that `stillroom serve` with the same settings has.

    Raises:
        InputError: It does not answer, or cannot be written.
    """
    from services.logs import configure_logs
    from services.service import make_state_folder, ready_database
    from services.settings import load_settings
    from workloads.storage.storage import Storage

    configure_logs(verbose=False)
    settings = load_settings(storage=storage)
    state = settings.state_path(Storage.open(settings.storage))
    make_state_folder(state)
    engine = ready_database(settings, state)
    try:
        yield engine
    finally:
        engine.dispose()
