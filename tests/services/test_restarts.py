"""Restarts of the embedded Ray: limits grow with each failure, and the last failure gives the reason; without Ray."""

import http.server
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from services.embedded import cluster, restarts
from services.embedded.cluster import EmbeddedRay
from services.embedded.head import LOG_FILE, HeadOptions
from services.embedded.record import HeadRecord
from services.embedded.restarts import Restarts, load_note
from tests.services.conftest import wait_until


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_each_failure_makes_the_next_start_more_patient_up_to_a_bound():
    found = Restarts(Clock())
    starts, pauses, settles = [], [], []
    for _ in range(12):
        found.failed()
        starts.append(found.start_seconds)
        pauses.append(found.pause_seconds)
        settles.append(found.settle_seconds)
    assert starts[:4] == [240, 480, 960, 960]
    assert pauses[:4] == [1, 2, 4, 8]
    assert settles[:3] == [4, 8, 16]
    for row in (starts, pauses, settles):
        assert row == sorted(row)
    assert (pauses[-1], settles[-1]) == (restarts.MAX_PAUSE_SECONDS, restarts.MAX_SETTLE_SECONDS)


def test_a_head_that_dies_soon_after_it_was_ready_counts_and_one_that_was_stable_makes_up_for_it():
    clock = Clock()
    found = Restarts(clock)
    for _ in range(3):
        found.ready()
        clock.now += 20
        found.failed()
    assert found.failures == 3
    found.ready()
    clock.now += restarts.STABLE_SECONDS
    found.failed()
    assert (found.failures, found.seconds) == (1, 0)


def test_it_gives_up_after_many_failures_over_a_long_time_only():
    clock = Clock()
    found = Restarts(clock)
    for _ in range(20):
        found.failed()
        clock.now += 1
    assert not found.exhausted
    clock.now += restarts.GIVE_UP_SECONDS
    assert found.exhausted


def test_a_busy_machine_is_named_as_the_reason():
    assert load_note(load=31, cpus=2) == " The machine is busy: load 31 on 2 CPUs."
    assert load_note(load=1, cpus=2) == ""


@pytest.fixture
def head(monkeypatch, tmp_path):
    """Heads that are small processes of ours; gives what starts them, by a script of Python."""
    state, heads = tmp_path / "state", []
    state.mkdir()

    class Dashboard(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"ray_version": "9"}')

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    agent = socket.create_server(("127.0.0.1", 0))

    def starting(code):
        def start(options):
            marker = f"test-{os.getpid()}-{len(heads)}"
            log = options.state / LOG_FILE
            offset = log.stat().st_size if log.exists() else 0
            with log.open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-c", code], stdout=output, env=os.environ | {"STILLROOM_RAY": marker}
                )
            heads.append(process)
            record = HeadRecord(
                marker, process.pid, psutil.Process(process.pid).create_time(),
                f"http://127.0.0.1:{server.server_port}", "", agent.getsockname()[1], str(tmp_path / "none"), offset,
            )  # fmt: skip
            record.save(options.state)
            return record, process

        monkeypatch.setattr(cluster, "start_head", start)
        return HeadOptions(state), heads

    yield starting
    server.shutdown()
    server.server_close()
    agent.close()
    for process in heads:
        process.kill()
        process.wait()


STARTED = "print('Ray runtime started.', flush=True)"


def test_a_head_whose_dashboard_answers_is_not_ready_before_its_start_has_finished(head, tmp_path):
    go = tmp_path / "go"
    options, _ = head(f"""
import pathlib, time
while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.05)
{STARTED}
time.sleep(100)
""")
    (options.state / LOG_FILE).write_text("Ray runtime started.\n")  # of an earlier head
    ray = EmbeddedRay(options)
    ray.start()
    try:
        wait_until(lambda: ray._jobs is not None, 10, "the head")
        threading.Event().wait(1)
        assert ray.readiness().state == "starting" and ray.jobs() is None
        go.touch()
        wait_until(lambda: ray.readiness().ready, 20, "readiness")
        assert ray.jobs() is not None
    finally:
        ray.close()


def test_a_head_that_dies_before_it_has_answered_for_a_while_never_becomes_ready(head, monkeypatch):
    monkeypatch.setattr(restarts, "SETTLE_SECONDS", 1.0)
    monkeypatch.setattr(restarts, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(restarts, "GIVE_UP_FAILURES", 3)
    monkeypatch.setattr(restarts, "GIVE_UP_SECONDS", 0.0)
    options, heads = head(f"{STARTED}\nimport time; time.sleep(0.3); print('GCS: out of patience', flush=True)")
    ray, seen = EmbeddedRay(options), []
    say = ray._say
    monkeypatch.setattr(ray, "_say", lambda readiness: (seen.append(readiness), say(readiness)))
    ray.start()
    try:
        wait_until(lambda: ray.readiness().given_up, 60, "giving up")
    finally:
        ray.close()
    assert len(heads) == 3
    assert not any(one.ready for one in seen)
    note = seen[-2].note  # the last is that of closing
    assert "3 times" in note and "GCS: out of patience" in note
    assert str(options.state / LOG_FILE) in note and "restart stillroom" in note


def test_a_ready_head_that_is_killed_is_told_and_replaced(head, monkeypatch):
    monkeypatch.setattr(restarts, "SETTLE_SECONDS", 0.1)
    options, heads = head(f"{STARTED}\nimport time; time.sleep(100)")
    ray = EmbeddedRay(options)
    ray.start()
    try:
        wait_until(lambda: ray.readiness().ready, 20, "readiness")
        heads[0].kill()
        wait_until(lambda: not ray.readiness().ready, 10, "noticing")
        assert "process has ended" in ray.readiness().note
        wait_until(lambda: ray.readiness().ready, 20, "the second head")
        assert len(heads) == 2
    finally:
        ray.close()
    assert not Path(options.state / "ray.json").exists()
