"""CPU time of `stillroom watch` and `stillroom compress` while they wait for a long compression.

    python -m benchmarks.waiting_cost [--seconds 60] [--scripted]

Each command runs as a process of its own, with a terminal, which costs more than a pipe. Counted is its own CPU time,
without that of Ray's processes, from second 10 on. `watch` is measured twice: on a scripted server, which gives a new
document at each look and streams an event each second, and on a real service that trains; `compress` trains.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from benchmarks.record import record
from benchmarks.service_scene import ROOT, demo_request, serving
from services.jobs.documents import EventEntry, JobDocument
from workloads.documents.job_folder import StepDocument, now

START_SECONDS = 10.0
BAR = 0.01
_FOREVER = 100_000_000
_PROGRAM = "from services.cli.main import app; app()"


class _Scripted(BaseHTTPRequestHandler):
    """A server with one compression that trains for ever."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the document, or stream the events."""
        if self.path.partition("?")[0].endswith("/events"):
            self._stream()
            return
        body = _document().model_dump_json().encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.close_connection = True
        number = 0
        while True:
            number += 1
            data = {"done": number, "total": _FOREVER, "unit": "tokens", "loss": 0.5}
            event = EventEntry(attempt=1, sequence=number, time=now(), type="metrics", message="train-tiny", data=data)
            try:
                self.wfile.write(f"id: 1-{number}\ndata: {event.model_dump_json()}\n\n".encode())
            except OSError:  # the client is gone
                return
            time.sleep(1)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _document() -> JobDocument:
    done = int(1000 * time.time()) % _FOREVER
    steps = [
        StepDocument(
            name=f"train-{size}",
            status="running",
            done=done,
            total=_FOREVER,
            unit="tokens",
            rate=done / 7,
            seconds_left=9,
        )
        for size in ("tiny", "small", "base")
    ]
    return JobDocument.model_validate(
        {
            "id": "cmp_0", "status": "running", "attempt": 1, "steps": [one.model_dump() for one in steps],
            "students": [],
            "infeasible": [],
            "attempts": [],
            "request": demo_request(_FOREVER), "created_at": now(), "ray": {"state": "ready", "note": "Ray is ready."},
        }
    )  # fmt: skip


@contextmanager
def _scripted_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Scripted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _share(arguments: list[str], seconds: float, environment: dict[str, str] | None = None) -> float:
    """Share of a core that a command uses from second 10 on."""
    ours, theirs = pty.openpty()
    threading.Thread(target=_drain, args=(ours,), daemon=True).start()
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments],
        stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {}),
    )  # fmt: skip
    try:
        watched = psutil.Process(process.pid)
        time.sleep(START_SECONDS)
        began, before = time.monotonic(), watched.cpu_times()
        time.sleep(seconds)
        after = watched.cpu_times()
        if process.poll() is not None:
            raise RuntimeError(f"stillroom {' '.join(arguments)} has ended with {process.returncode}")
        return (after.user - before.user + after.system - before.system) / (time.monotonic() - began)
    finally:
        process.terminate()
        process.wait(120)
        os.close(theirs)


def _drain(terminal: int) -> None:
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:  # the other end is closed
        os.close(terminal)


def measure(seconds: float, *, scripted: bool) -> dict[str, float]:
    """Measure each command; ``scripted`` leaves out what needs Ray."""
    with _scripted_server() as url:
        found = {"watch, scripted server": _share(["watch", "cmp_0", "--server", url], seconds)}
    if scripted:
        return found
    with serving(ray_cpus="1", max_running="1", ray_object_store_bytes=str(200 << 20)) as served:
        job = served.client.submit(demo_request(_FOREVER)).id
        while not any(step.name.startswith("train") and step.done for step in served.client.get(job).steps):
            time.sleep(1)
        found["watch, training"] = _share(["watch", job, "--server", f"http://127.0.0.1:{served.port}"], seconds)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        request = Path(folder) / "request.json"
        request.write_text(json.dumps(demo_request(_FOREVER)))
        environment = {"STILLROOM_RAY_CPUS": "1", "STILLROOM_RAY_OBJECT_STORE_BYTES": str(200 << 20)}
        command = ["compress", str(request), "--storage", str(Path(folder) / "storage")]
        found["compress, training"] = _share(command, seconds, environment)
    return found


def main() -> None:
    """Measure, and record the dearest command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--scripted", action="store_true", help="Only what needs no Ray; nothing is recorded.")
    options = parser.parse_args()
    found = measure(options.seconds, scripted=options.scripted)
    if options.scripted:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    record(
        "waiting_cost",
        max(found.values()),
        "share of a core while a command waits, from second 10 on; the dearest command",
        f"at most {BAR}",
        list(found.values()),
        "python -m benchmarks.waiting_cost",
        seconds=options.seconds,
        commands=found,
    )


if __name__ == "__main__":
    main()
