"""A stop of the service takes a bounded time, and nothing is accepted after it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from services.jobs.rows import Gate, StoppingError
from services.service import Service
from services.settings import load_settings
from tests.services.conftest import wait_until


def _settings(tmp_path):
    return load_settings(storage=str(tmp_path / "storage"), ray_address="http://127.0.0.1:9")


def test_a_request_that_is_still_looked_at_when_the_service_stops_is_refused(tmp_path, make_request, monkeypatch):
    service = Service(_settings(tmp_path))
    looking, go_on, refused = threading.Event(), threading.Event(), []
    accept = service._accept

    def slow(request):
        looking.set()
        assert go_on.wait(30)
        return accept(request)

    monkeypatch.setattr(service, "_accept", slow)

    def submit():
        try:
            service.plan(make_request())
        except StoppingError as error:
            refused.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    assert looking.wait(30)
    service.close()
    after = Service(_settings(tmp_path))  # the lock is free
    go_on.set()
    thread.join()
    assert len(refused) == 1
    assert after.store.counts()[0] == {}
    for change in (lambda: service.submit(make_request()), lambda: service.submit_batch({"compressions": [{}]})):
        with pytest.raises((StoppingError, ValueError)):
            change()
    assert after.store.counts()[0] == {}
    after.close()


def test_a_gate_waits_for_changes_under_way_for_so_long_and_lets_none_begin():
    gate, inside, leave = Gate(), threading.Event(), threading.Event()

    def change():
        with gate.passing():
            inside.set()
            assert leave.wait(30)

    thread = threading.Thread(target=change)
    thread.start()
    assert inside.wait(30)
    assert not gate.close(0.05)
    with pytest.raises(StoppingError), gate.passing():
        pass
    leave.set()
    assert gate.close(30)
    thread.join()


def test_a_stopping_service_answers_that_it_stops(service, http_client, make_request):
    service._gate.close(1)
    answer = http_client.post("/v1/compressions", json=make_request())
    assert (answer.status_code, answer.json()["code"]) == (503, "stopping")
    assert answer.headers["retry-after"]


@pytest.mark.alone
def test_a_request_that_hangs_does_not_hold_up_the_end(tmp_path, unused_port):
    (tmp_path / "slow.py").write_text(
        "import services.intake.evaluation as one, time\n"
        "one.task_findings = lambda *_: time.sleep(120)\n"
        "from services.cli.main import app\napp()\n"
    )
    command = [sys.executable, "slow.py", "serve", "--port", str(unused_port), "--storage", "storage"]
    environment = os.environ | {"STILLROOM_RAY_ADDRESS": "http://127.0.0.1:9", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{unused_port}"
        wait_until(lambda: _answers(unused_port), 60, "serving")
        task = {"kind": "single", "train": ["x.csv"], "test": ["x.csv"], "text_columns": ["x"]}
        body = {"model": {"teacher": {"model": "a/b"}}, "task": task}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/evaluations", json=body, timeout=2)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert time.monotonic() - begun < 30  # some 4 s on an idle machine
    finally:
        process.kill()


def _answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
