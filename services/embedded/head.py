"""Start, search and end of the embedded Ray head: ``ray start --head --block`` in a session of its own."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import structlog

from services.embedded.environment import head_environment
from services.embedded.processes import MARKER_VARIABLE, end_marked
from services.embedded.record import HeadRecord

LOG_FILE = "ray.log"
TOKEN_FILE = "ray.token"  # the file's name, not a secret
MAX_OBJECT_STORE_BYTES = 2 << 30
# Ports that Ray gives to its workers; Ray's servers must use others.
_WORKER_PORTS = range(10002, 20000)
_STARTED = b"Ray runtime started."
"""Line that ``ray start`` prints when all of its processes are up."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class HeadOptions:
    """Options of a head's start.

    Attributes:
        state: The service's state folder, for the record, the log and the token.
        cpus: CPUs that Ray may allocate; None for the machine's.
        object_store_bytes: Size of the object store; None for a fifth of the memory, 2 GB at most.
        niceness: Added to the priority of Ray's workers; 0 leaves them the service's own.
    """

    state: Path
    cpus: int | None = None
    object_store_bytes: int | None = None
    niceness: int = 0

    @property
    def temp_dir(self) -> Path:
        """Private folder around Ray's: Ray makes its own folder readable by everyone on the machine.

        Its path is short, because paths of Unix sockets below it have at most 107 characters.
        """
        digest = hashlib.sha256(str(self.state).encode()).hexdigest()[:8]
        return Path("/tmp") / f"stillroom-{digest}"

    @property
    def ray_dir(self) -> Path:
        """Ray's own folder, with sockets and logs."""
        return self.temp_dir / "r"

    @property
    def current_dir(self) -> Path:
        """Current folder of Ray and of runs; empty, because Ray has its workers import from it."""
        return self.temp_dir / "empty"

    @property
    def work_dir(self) -> Path:
        """Folder for runs' local copies; it is removed with the head, so that killed runs leave nothing behind."""
        return Path(tempfile.gettempdir()) / f"{self.temp_dir.name}-work"

    @property
    def token_file(self) -> Path:
        """File of the token that Ray asks all clients for."""
        return self.state / TOKEN_FILE


def read_token(options: HeadOptions) -> str:
    """Return the token of this state folder's Ray, created at the first call; only the owner can read its file."""
    if not options.token_file.exists():
        beside = options.token_file.with_suffix(".part")
        beside.unlink(missing_ok=True)
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex())
        beside.replace(options.token_file)
    return options.token_file.read_text().strip()


def start_head(options: HeadOptions) -> tuple[HeadRecord, subprocess.Popen[bytes]]:
    """Start a head and return at once; it answers some seconds later.

    The record is written before the process starts. So if this service is killed in between, a later one can clean up.
    """
    read_token(options)
    _make_private(options.temp_dir)
    _make_private(options.work_dir)
    options.current_dir.mkdir(mode=0o700)
    with _free_ports(len(_PORTS)) as free:
        ports = dict(zip(_PORTS, free, strict=True))
    log_file = options.state / LOG_FILE
    record = HeadRecord(
        marker=uuid.uuid4().hex,
        pid=None,
        create_time=None,
        dashboard_url=f"http://127.0.0.1:{ports['--dashboard-port']}",
        gcs_address=f"127.0.0.1:{ports['--port']}",
        agent_port=ports["--dashboard-agent-listen-port"],
        temp_dir=str(options.temp_dir),
        log_offset=log_file.stat().st_size if log_file.exists() else 0,
    )
    record.save(options.state)
    with log_file.open("ab") as output:
        process = subprocess.Popen(
            _command(options, ports),
            cwd=options.current_dir,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a terminal's Ctrl-C then reaches only the service, which ends Ray
            env=head_environment(
                os.environ,
                token_file=options.token_file,
                scratch=options.work_dir,
                niceness=options.niceness,
                marker={MARKER_VARIABLE: record.marker},
            ),
        )
    record = replace(record, pid=process.pid, create_time=psutil.Process(process.pid).create_time())
    record.save(options.state)
    log.info("ray_started", pid=process.pid, dashboard=record.dashboard_url, temp_dir=record.temp_dir)
    return record, process


def start_has_finished(state: Path, record: HeadRecord) -> bool:
    """Whether ``ray start`` has started all of the head's processes; the dashboard answers earlier."""
    try:
        with (state / LOG_FILE).open("rb") as file:
            file.seek(record.log_offset)
            return _STARTED in file.read()
    except FileNotFoundError:
        return False


def agent_listens(record: HeadRecord) -> bool:
    """Whether the job agent is up; if its port was taken, Ray runs without it and accepts no jobs."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", record.agent_port)) == 0


def end_head(state: Path, record: HeadRecord) -> None:
    """End all processes of a head, living or dead, and remove its files."""
    left = end_marked(record.marker)
    if left:
        log.error("ray_processes_left", pids=left)
    for folder in (HeadOptions(state).temp_dir, HeadOptions(state).work_dir):
        shutil.rmtree(folder, ignore_errors=True)
    HeadRecord.forget(state)


def log_tail(state: Path, lines: int = 15) -> str:
    """The last lines of Ray's own output."""
    try:
        with (state / LOG_FILE).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


# Chosen here, since Ray's defaults are fixed ports, with which only one Ray fits on a machine, or random ports, which
# Ray may also give to workers.
_PORTS = (
    "--port",
    "--dashboard-port",
    "--ray-client-server-port",
    "--dashboard-agent-listen-port",
    "--metrics-export-port",
)


def _command(options: HeadOptions, ports: dict[str, int]) -> list[str]:
    memory = options.object_store_bytes or min(MAX_OBJECT_STORE_BYTES, psutil.virtual_memory().total // 5)
    command = [
        str(Path(sys.executable).parent / "ray"),
        *("start", "--head", "--block", "--disable-usage-stats", "--log-color=false"),
        "--include-log-monitor=false",  # it sends workers' output to drivers, which do not want it
        "--node-ip-address=127.0.0.1",
        "--dashboard-host=127.0.0.1",
        *(f"{option}={port}" for option, port in ports.items()),
        f"--temp-dir={options.ray_dir}",
        f"--object-store-memory={memory}",
    ]
    return command if options.cpus is None else [*command, f"--num-cpus={options.cpus}"]


def _make_private(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    # mkdir fails if the folder still exists; another user may have made it.
    folder.mkdir(mode=0o700)


@contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    """Find free ports; all are held until the end so that they differ."""
    ports: list[int] = []
    with ExitStack() as stack:
        while len(ports) < count:
            held = stack.enter_context(socket.socket())
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
            if port not in _WORKER_PORTS:
                ports.append(port)
        yield ports
