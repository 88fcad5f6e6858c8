"""Starting, finding and ending the embedded Ray head: ``ray start --head --block`` in a session of its own."""

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
from itertools import chain
from pathlib import Path

import psutil
import structlog

from services.embedded.processes import MARKER_VARIABLE, end_marked
from services.embedded.record import HeadRecord

LOG_FILE = "ray.log"
TOKEN_FILE = "ray.token"  # the file's name, not a secret
MAX_OBJECT_STORE_BYTES = 2 << 30
# Ray hands these ports to its workers; a server of its own among them would collide sooner or later.
_WORKER_PORTS = range(10002, 20000)
# Left over from another Ray around us, these would send the head, or its drivers, there.
_FOREIGN_VARIABLES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_JOB_CONFIG_JSON_ENV_VAR")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class HeadOptions:
    """How to start a head.

    Attributes:
        state: The service's state folder, for the record, the log and the token.
        cpus: CPUs that Ray may hand out; None for the machine's.
        object_store_bytes: Size of the object store; None for a fifth of the memory, 2 GB at most.
    """

    state: Path
    cpus: int | None = None
    object_store_bytes: int | None = None

    @property
    def temp_dir(self) -> Path:
        """Ray's folder; short, because the paths of Unix sockets below it may have 107 characters at most."""
        digest = hashlib.sha256(str(self.state).encode()).hexdigest()[:8]
        return Path("/tmp") / f"stillroom-{digest}"

    @property
    def work_dir(self) -> Path:
        """Where runs put local copies; it goes with the head, so that nothing of a killed run stays."""
        return Path(tempfile.gettempdir()) / f"{self.temp_dir.name}-work"

    @property
    def token_file(self) -> Path:
        """File of the token that Ray asks of everyone."""
        return self.state / TOKEN_FILE


def read_token(options: HeadOptions) -> str:
    """Give the token of this state folder's Ray, made at the first call; only the owner can read it."""
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

    The record is written before the process exists, so that even a service killed right here is cleared up after.
    """
    read_token(options)
    _make_private(options.temp_dir)
    _make_private(options.work_dir)
    with _free_ports(4) as (gcs, dashboard, client, agent):
        record = HeadRecord(
            marker=uuid.uuid4().hex,
            pid=None,
            create_time=None,
            dashboard_url=f"http://127.0.0.1:{dashboard}",
            gcs_address=f"127.0.0.1:{gcs}",
            agent_port=agent,
            temp_dir=str(options.temp_dir),
        )
    command = _command(options, gcs=gcs, dashboard=dashboard, client=client, agent=agent)
    record.save(options.state)
    with (options.state / LOG_FILE).open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that a terminal's Ctrl-C reaches the service only, which ends Ray in order
            env=_environment(options, record.marker),
        )
    record = replace(record, pid=process.pid, create_time=psutil.Process(process.pid).create_time())
    record.save(options.state)
    log.info("ray_started", pid=process.pid, dashboard=record.dashboard_url, temp_dir=record.temp_dir)
    return record, process


def agent_listens(record: HeadRecord) -> bool:
    """Whether the agent that starts jobs is up. When its port was taken, Ray goes on without it, and takes no job."""
    own = [each.address for each in chain(*psutil.net_if_addrs().values()) if each.family == socket.AF_INET]
    return any(_accepts(address, record.agent_port) for address in own)


def end_head(state: Path, record: HeadRecord) -> None:
    """End everything of a head, living or dead, and remove what it leaves."""
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


def _command(options: HeadOptions, *, gcs: int, dashboard: int, client: int, agent: int) -> list[str]:
    memory = options.object_store_bytes or min(MAX_OBJECT_STORE_BYTES, psutil.virtual_memory().total // 5)
    command = [
        str(Path(sys.executable).parent / "ray"),
        *("start", "--head", "--block", "--disable-usage-stats", "--log-color=false"),
        "--node-ip-address=127.0.0.1",
        f"--port={gcs}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={client}",
        f"--dashboard-agent-listen-port={agent}",  # its default is one fixed port, for one Ray a machine
        f"--temp-dir={options.temp_dir}",
        f"--object-store-memory={memory}",
    ]
    return command if options.cpus is None else [*command, f"--num-cpus={options.cpus}"]


def _environment(options: HeadOptions, marker: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN_VARIABLES}
    return kept | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(options.token_file),
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # at the default 2 s, a checkpoint just before a kill is lost
        "TMPDIR": str(options.work_dir),
        MARKER_VARIABLE: marker,
    }


def _accepts(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def _make_private(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    # Fails where it is still there, as when another user has made it: his folder is not to be trusted.
    folder.mkdir(mode=0o700)


@contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    """Give free ports, all held until the end so that they differ."""
    ports: list[int] = []
    with ExitStack() as stack:
        while len(ports) < count:
            held = stack.enter_context(socket.socket())
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
            if port not in _WORKER_PORTS:
                ports.append(port)
        yield ports
