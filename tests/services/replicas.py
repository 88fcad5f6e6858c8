"""Several real services on one PostgreSQL, one storage and one Ray."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from services.embedded.cluster import EmbeddedRay
from services.embedded.head import HeadOptions, read_token
from tests.services.conftest import HERE, RUN_MODULE, wait_until
from workloads.documents.job_folder import JobFolder
from workloads.storage.storage import Storage

ROOT = HERE.parents[1]


@dataclass
class Replica:
    """One ``stillroom serve``, with a state folder and a port of its own."""

    folder: Path
    settings: dict[str, str]
    port: int = 0
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> Replica:
        path = os.pathsep.join([str(HERE), str(ROOT)])
        environment = os.environ | {"PYTHONPATH": path, "STILLROOM_STATE_FOLDER": str(self.folder)}
        environment |= {f"STILLROOM_{name.upper()}": value for name, value in self.settings.items()}
        environment |= {"STILLROOM_INSECURE_LOCAL": "true", "STILLROOM_RUN_MODULE": RUN_MODULE}
        with (self.folder / "log").open("ab") as log:
            program = "from services.cli.main import app; app()"
            command = [sys.executable, "-c", program, "serve", "--port", str(self.port)]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder)
        return self

    def wait_ready(self, seconds: float = 60) -> Replica:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if httpx.get(f"{self.url}/healthz", timeout=5).status_code == httpx.codes.OK:
                    return self
            except httpx.HTTPError:
                assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(60)


@contextmanager
def ray_beside(state: Path) -> Iterator[tuple[str, str]]:
    """Run a Ray that outlives the services; yields its dashboard's URL and its token."""
    state.mkdir(parents=True, exist_ok=True)
    options = HeadOptions(state, cpus=2, object_store_bytes=100 << 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(ROOT)]))
        cluster = EmbeddedRay(options)
        cluster.start()
        try:
            wait_until(cluster.jobs, 120, "starting Ray")
            jobs = cluster.jobs()
            assert jobs is not None
            yield jobs.url, read_token(options)
        finally:
            cluster.close()


def runs_of(storage: Storage, job_id: str) -> dict[int, int]:
    """Number of processes of each attempt of a job."""
    folder = JobFolder(storage, job_id)
    return {
        int(number): sum(name.startswith("pid-") for name in storage.list(folder.path("", int(number))))
        for number in storage.list(f"jobs/{job_id}/attempts")
    }
