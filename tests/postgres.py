"""A real PostgreSQL for the tests, from the machine's programs, in its own folder and without a port."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "postgres"


def binaries() -> Path | None:
    """Find the folder of the server's programs; None where there is none."""
    on_path = shutil.which("initdb")
    found = [Path(on_path)] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[0].resolve().parent if found else None


@contextmanager
def serve(programs: Path) -> Iterator[str]:
    """Run a server; yields the URL of its databases, to which a database's name is added.

    PostgreSQL refuses to run as root, so root runs it as the user that its package creates.
    """
    folder = Path(tempfile.mkdtemp(prefix="sr-pg-", dir="/tmp"))  # a socket's path may have some 100 characters
    owner = USER if os.geteuid() == 0 else None
    if owner is not None:
        shutil.chown(folder, owner)
    control = [programs / "pg_ctl", "--pgdata", folder / "data"]

    def run(*command: str | Path) -> None:
        subprocess.run(command, check=True, capture_output=True, user=owner, cwd=folder, timeout=60)

    try:
        initial = ["--username", USER, "--auth", "trust", "--no-sync", "--encoding", "UTF8", "--locale", "C"]
        run(programs / "initdb", "--pgdata", folder / "data", *initial)
        options = f"-k {folder} -c listen_addresses='' -c timezone=UTC -c fsync=off -c max_connections=50"
        run(*control, "start", "--wait", "--log", folder / "log", "--options", options)
        try:
            yield f"postgresql://{USER}@/{{}}?host={folder}"
        finally:
            run(*control, "stop", "--mode", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
