import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time

import psutil

from services.embedded import head
from services.embedded.head import HeadOptions, end_head, read_token
from services.embedded.processes import MARKER_VARIABLE, end_marked, marked_processes
from services.embedded.record import HeadRecord

RECORD = HeadRecord("mark", 1, 2.0, "http://127.0.0.1:1", "127.0.0.1:2", 3, "/tmp/x")


def _start(marker, code):
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {MARKER_VARIABLE: marker},
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"ready\n"
    return process


def test_everything_with_the_marker_is_ended_even_what_ignores_the_signal_or_left_the_session():
    marker = f"test-{os.getpid()}"
    stubborn = _start(
        marker,
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'], start_new_session=True)\n"
        "print('ready', flush=True); time.sleep(100)",
    )
    unmarked = _start("another", "import time; print('ready', flush=True); time.sleep(100)")
    try:
        assert len(marked_processes(marker)) == 2
        begun = time.monotonic()
        assert end_marked(marker, grace_seconds=0.5) == []
        assert time.monotonic() - begun < 5
        assert marked_processes(marker) == []
        assert unmarked.poll() is None
    finally:
        unmarked.kill()
        stubborn.wait()
        unmarked.wait()


def test_a_record_is_read_back_and_a_process_id_given_anew_does_not_pass_for_the_head(tmp_path):
    assert HeadRecord.load(tmp_path) is None
    RECORD.save(tmp_path)
    assert HeadRecord.load(tmp_path) == RECORD
    own = psutil.Process()
    assert HeadRecord("m", own.pid, own.create_time(), "", "", 0, "").process_lives
    assert not HeadRecord("m", own.pid, own.create_time() - 100, "", "", 0, "").process_lives
    HeadRecord.forget(tmp_path)
    assert HeadRecord.load(tmp_path) is None


def test_a_record_of_another_version_still_tells_what_to_end(tmp_path):
    (tmp_path / "ray.json").write_text(json.dumps({"marker": "old", "temp_dir": "/tmp/old", "colour": "red"}))
    record = HeadRecord.load(tmp_path)
    assert (record.marker, record.temp_dir, record.process_lives) == ("old", "/tmp/old", False)


def test_the_token_is_made_once_and_only_its_owner_can_read_it(tmp_path):
    options = HeadOptions(tmp_path)
    token = read_token(options)
    assert len(token) == 64
    assert read_token(options) == token
    assert options.token_file.stat().st_mode & 0o777 == 0o600


def test_rays_folder_is_short_and_each_states_own(tmp_path):
    folders = {HeadOptions(tmp_path / name).temp_dir for name in ("a" * 200, "b")}
    assert len(folders) == 2
    assert all(len(str(folder)) < 30 for folder in folders)


def test_what_runs_put_aside_lies_in_a_folder_that_goes_with_the_head(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    options = HeadOptions(tmp_path / "state")
    options.state.mkdir()
    work = options.work_dir
    assert work.parent == tmp_path / "scratch"
    (work / "stillroom-run-killed").mkdir(parents=True)
    end_head(options.state, dataclasses.replace(RECORD, marker=f"nobody-{os.getpid()}"))
    assert not work.exists()


def test_no_process_sends_workers_output_to_drivers_that_drop_it(tmp_path):
    assert "--include-log-monitor=false" in head._command(HeadOptions(tmp_path), {})
