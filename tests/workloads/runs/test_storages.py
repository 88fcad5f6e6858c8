"""Whole jobs on other storages than a good local folder: S3, a full disk, a folder that cannot be written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModel, AutoTokenizer

from tests.s3 import S3Server
from tests.small_disk import run_on_small_disk
from tests.teachers import SENTENCES
from tests.workloads.runs.scenes import House, start_driver
from workloads.storage.storage import Storage

_NO_RAY = "127.0.0.1:9"

_FILLING_UP = """
import os, shutil, sys, tempfile
from pathlib import Path

import tests.conftest  # a Ray token of its own
import ray
from tests.teachers import make_teacher
from tests.workloads.runs.scenes import House, last_checkpoint
from workloads.documents.job_folder import JobFolder

mount, filler, folder = Path(sys.argv[1]), Path(sys.argv[1]) / "filler", Path(tempfile.mkdtemp(prefix="sr-"))
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.getcwd()}
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=str(folder / "ray"))
house = House.furnish(folder, str(mount / "storage"), make_teacher, ray.get_runtime_context().gcs_address)
request = house.longer_request(12, checkpoint_every_steps=6, max_failures=1)
driver = house.start("cmp_full", 1, request)
corpus = lambda: [name for name in house.storage.list("artifacts/corpus", recursive=True) if "manifest" in name]
house.wait(driver, corpus, "the corpus")
room = os.statvfs(mount)
filler.write_bytes(bytes(room.f_bavail * room.f_frsize - (200 << 10)))  # what is told fits, a checkpoint does not

code, result = house.end(driver, "cmp_full", 1)
assert (code, result.status, result.error.code) == (1, "failed", "storage"), result
assert house.storage.url in result.error.message and "No space left on device" in result.error.message, result.error
assert result.error.remedy.startswith("Make room in the storage"), result.error
assert not last_checkpoint(house.storage)
left = house.storage.list("artifacts/training", recursive=True)
assert not left, left  # half a checkpoint would take the room that telling of the failure needs
committed = [path for path in house.storage.list("artifacts", recursive=True) if path.endswith("manifest.json")]
assert sorted(path.split("/")[0] for path in committed) == ["corpus", "teacher"], committed

filler.unlink()
code, result = house.run("cmp_full", 2, request)
assert (code, result.status) == (0, "succeeded"), result
reused = {step.name for step in house.progress("cmp_full", 2).steps if step.reused}
assert reused == {"teacher", "corpus"}, reused
ray.shutdown()
shutil.rmtree(folder, ignore_errors=True)
sys.stdout.write("all held")
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_disk_that_fills_up_while_a_checkpoint_is_written_fails_the_job_and_with_room_it_succeeds(
    tmp_path: Path,
) -> None:
    done = run_on_small_disk(_FILLING_UP, tmp_path, "size=32m")
    assert done.stdout.endswith("all held"), done.stdout + done.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_a_whole_job_on_s3_gives_students_that_can_be_downloaded_and_loaded(
    tmp_path: Path, make_teacher: Callable[..., Path], ray_cluster: str, s3_server: S3Server
) -> None:
    house = House.furnish(tmp_path, s3_server.url("house"), make_teacher, ray_cluster)
    code, result = house.run("cmp_s3", 1, house.request())
    assert (code, result.status) == (0, "succeeded")
    assert {step.status for step in house.progress("cmp_s3").steps} == {"succeeded"}
    (student,) = result.students
    folder = Storage.open(s3_server.url("house")).download(student.files, tmp_path / "student")
    model = AutoModel.from_pretrained(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) == student.params
    batch = AutoTokenizer.from_pretrained(folder)(SENTENCES[:2], padding=True, return_tensors="pt")
    assert model(**batch).last_hidden_state.isfinite().all()

    code, again = house.run("cmp_s3_again", 1, house.request())
    assert code == 0 and again.students[0].files == student.files
    assert all(step.reused for step in house.progress("cmp_s3_again").steps)


def test_a_driver_whose_storage_is_a_file_says_so_in_its_last_line(tmp_path: Path) -> None:
    file = tmp_path / "storage"
    file.write_text("in the way")
    driver = start_driver(str(file), "cmp_x", 1, _NO_RAY)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 1
    assert f"cannot be written to {file}" in output.splitlines()[-1]
    assert "File exists" in output.splitlines()[-1] or "Not a directory" in output.splitlines()[-1]


_READ_ONLY = f"""
import sys
from tests.workloads.runs.scenes import start_driver

driver = start_driver(sys.argv[1], "cmp_x", 1, {_NO_RAY!r})
output, _ = driver.communicate(timeout=60)
assert driver.returncode == 1, output
last = output.splitlines()[-1]
assert f"cannot be written to {{sys.argv[1]}}" in last and "Read-only file system" in last, output
sys.stdout.write("all held")
"""


def test_a_driver_whose_storage_is_mounted_read_only_says_so_in_its_last_line(tmp_path: Path) -> None:
    done = run_on_small_disk(_READ_ONLY, tmp_path, "size=1m,ro")
    assert done.stdout == "all held", done.stdout + done.stderr
