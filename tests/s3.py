"""A real S3 server (SeaweedFS, from PyPI) for tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs as pafs

_KEY, _SECRET = "stillroom", "stillroom-secret"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": _KEY,
    "AWS_SECRET_ACCESS_KEY": _SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Environment of every process that talks to the server; set for the whole test session."""


@dataclass(frozen=True)
class S3Server:
    """A running S3 server with one bucket."""

    endpoint: str
    bucket: str = "tests"

    def url(self, path: str) -> str:
        return f"s3://{self.bucket}/{path}?scheme=http&endpoint_override={self.endpoint}"


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[S3Server]:
    """Run a server on free local ports, with its files under ``folder``."""
    config = folder / "s3.json"
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config.write_text(json.dumps({"identities": [identity]}))
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    ports = dict(zip([*names, *(f"{name}.grpc" for name in names)], _free_ports(8), strict=True))
    command = [str(Path(sys.executable).with_name("weed")), "server", "-s3", f"-dir={folder}", "-ip=127.0.0.1"]
    command += ["-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=64", "-volume.max=64", f"-s3.config={config}"]
    command += ["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            server = S3Server(f"127.0.0.1:{ports['s3.port']}")
            _make_bucket(server, process, folder / "log")
            yield server
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _make_bucket(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    filesystem = pafs.S3FileSystem(
        endpoint_override=server.endpoint,
        scheme="http",
        allow_bucket_creation=True,
        connect_timeout=1,
        request_timeout=5,
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            filesystem.create_dir(server.bucket)
            with filesystem.open_output_stream(f"{server.bucket}/probe") as stream:
                stream.write(b"up")
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()
