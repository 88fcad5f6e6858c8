"""Folders with modules named like ours or like a library's: no process that we start imports them."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from services.embedded.processes import marked_processes
from services.embedded.record import HeadRecord
from services.jobs.ray_jobs import RayJobs
from tests.services.clients import Answer
from tests.services.test_cli import ENVIRONMENT
from tests.services.verbs import STILLROOM

NAMES = ("queue", "datasets", "cluster", "workloads", "services", "random", "typing", "ray", "torch")


@pytest.fixture
def hostile(tmp_path):
    """A folder whose modules end whatever imports them."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the project was imported')\n")
    return folder


def _run(folder, *arguments, **environment):
    return subprocess.run(
        [STILLROOM, *arguments], cwd=folder, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


def test_the_command_line_works_in_such_a_folder(hostile):
    shape = ("--layers", "3", "--hidden", "128", "--heads", "4", "--json")
    done = _run(hostile, "cost", "--teacher", "bert-base", *shape)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["params"] > 0


def test_drivers_are_started_in_a_folder_that_nobody_else_can_write_and_import_nothing_from_it(script, tmp_path):
    server = script(Answer(404, b"{}"), Answer(200, b"{}"))
    for folder, begin in ((Path("/"), "cd / && exec "), (tmp_path / "a b", f"cd '{tmp_path}/a b' && exec ")):
        server.answers = [Answer(404, b"{}"), Answer(200, b"{}")]
        with RayJobs(server.url, None, folder) as ray:
            ray.submit("x", [sys.executable, "-P", "-m", "module"])
        entrypoint = json.loads(server.requests[-1][3])["entrypoint"]
        assert entrypoint == f"{begin}{sys.executable} -P -m module"


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_works_in_such_a_folder_and_all_that_is_started_listens_on_loopback_alone(
    hostile, tmp_path, make_request
):
    request, storage = tmp_path / "request.json", tmp_path / "storage"
    request.write_text(json.dumps(make_request(seconds=5)))
    command = [STILLROOM, "compress", str(request), "--storage", str(storage), "--json"]
    environment = ENVIRONMENT | {"PYTHONSTARTUP": str(hostile / "random.py")}
    process = subprocess.Popen(
        command, cwd=hostile, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = ""
        while "train: running" not in line:
            line = process.stderr.readline()
            assert line, "it ended before the run began"
        record = HeadRecord.load(storage / "service")
        addresses, priorities = set(), set()
        for one in marked_processes(record.marker):
            with contextlib.suppress(psutil.NoSuchProcess):  # Ray's short-lived helpers
                addresses |= {found.laddr.ip for found in one.net_connections("inet") if found.status == "LISTEN"}
                priorities.add(one.nice())
        assert addresses and all(address.endswith("127.0.0.1") for address in addresses), addresses
        assert Path(record.temp_dir).stat().st_mode & 0o777 == 0o700
        # Ray puts its own servers before the rest where it may; nothing stands behind the service.
        assert max(priorities) == os.getpriority(os.PRIO_PROCESS, process.pid)
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, json.loads(output)["status"]) == (0, "succeeded"), errors
