"""The database, SQLite or PostgreSQL: opening and migration."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text

BUSY_SECONDS = 30
_MIGRATIONS = Path(__file__).parent / "migrations"


# Key of an advisory lock; any number that nothing else in the database uses.
_MIGRATION_LOCK = 7455187120


def open_database(place: Path | str) -> Engine:
    """Open a database; in both kinds a writer does not block readers.

    Rows that a writer has read must not change before it writes. On PostgreSQL a writer locks these rows. SQLite has
    no row locks, so a writer locks the whole database from its beginning.

    Args:
        place: An SQLite file, created if missing, or a URL such as ``postgresql://user:password@host/database``.
    """
    return _open_sqlite(place) if isinstance(place, Path) else _open_postgres(place)


def _open_postgres(url: str) -> Engine:
    place = make_url(url).set(drivername="postgresql+psycopg")
    return create_engine(place, pool_pre_ping=True, pool_size=16, json_deserializer=read_json)


def _open_sqlite(file: Path) -> Engine:
    """Open the file in write-ahead mode.

    A connection with the execution option ``write`` takes the write lock at the start of its transaction (``BEGIN
    IMMEDIATE``).
    """
    connecting = {"timeout": BUSY_SECONDS, "check_same_thread": False}
    engine = create_engine(f"sqlite:///{file}", connect_args=connecting, json_deserializer=read_json)

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions of its own
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={BUSY_SECONDS}000"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def read_json(text: str | bytes) -> Any:
    """Read a JSON column, and replace halves of surrogate pairs by a mark, since no answer could contain them.

    Older versions accepted requests with such text.
    """
    if isinstance(text, bytes):
        text = text.decode()
    found = json.loads(text)
    if "\\ud" in text or "\\uD" in text:  # pairs are kept
        found = json.loads(json.dumps(found, ensure_ascii=False).encode(errors="replace").decode())
    return found


def migrate(engine: Engine, revision: str = "head") -> None:
    """Migrate the database to a later revision, by default the newest; nothing happens if it has that revision."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.execution_options(write=True).begin() as connection:
        if engine.dialect.name == "postgresql":  # two services that start at once must not migrate at once
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
