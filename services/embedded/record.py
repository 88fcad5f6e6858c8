"""Record of the embedded Ray on disk; a later service adopts or ends that Ray by it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

FILE = "ray.json"


@dataclass(frozen=True, slots=True)
class HeadRecord:
    """A record of an embedded Ray head.

    Attributes:
        marker: Value of the environment variable ``STILLROOM_RAY`` of all its processes.
        pid: Id of its process; None before it is started.
        create_time: Start of that process, in seconds since 1970; the id alone may have been reused.
        dashboard_url: Address of the Jobs API.
        gcs_address: ``host:port`` that drivers connect to.
        agent_port: Port of the head's agent, which starts jobs.
        temp_dir: The private folder that contains Ray's own.
        log_offset: Size of Ray's log before the start; the head's output follows it.
    """

    marker: str
    pid: int | None
    create_time: float | None
    dashboard_url: str
    gcs_address: str
    agent_port: int
    temp_dir: str
    log_offset: int = 0

    def save(self, state: Path) -> None:
        """Write the record into the state folder, atomically."""
        beside = state / f"{FILE}.part"
        beside.write_text(json.dumps(asdict(self), indent=1))
        beside.replace(state / FILE)

    @classmethod
    def load(cls, state: Path) -> HeadRecord | None:
        """Read the record; None if there is none.

        Of another version's record, only the marker and the folder are used, to end its Ray.
        """
        try:
            document = json.loads((state / FILE).read_text())
        except FileNotFoundError:
            return None
        try:
            return cls(**document)
        except TypeError:
            temp_dir = str(document.get("temp_dir", ""))
            return cls(str(document["marker"]), None, None, "", "", 0, temp_dir)

    @staticmethod
    def forget(state: Path) -> None:
        """Remove the record."""
        (state / FILE).unlink(missing_ok=True)

    @property
    def process_lives(self) -> bool:
        """Whether the recorded process still lives."""
        if self.pid is None or self.create_time is None:
            return False
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.create_time) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False
