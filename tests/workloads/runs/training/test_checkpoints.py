"""Checkpoints: committed last, each attempt in a folder of its own."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small_disk import run_on_small_disk
from workloads.runs.training.checkpoints import Checkpoints, CheckpointWriter, ray_folder, remove_older_ray_folders
from workloads.storage.storage import Storage

_ON_A_FULL_DISK = """
import sys, torch
from workloads.runs.training.checkpoints import Checkpoints
from workloads.storage.storage import Storage

storage = Storage.open(sys.argv[1])
checkpoints = Checkpoints(storage, "run", "cmp_a-1")
checkpoints.save(10, {"weight": torch.ones(100_000)})  # 0.4 of 1 MiB
try:
    checkpoints.save(20, {"weight": torch.zeros(200_000)})
    raise SystemExit("the second was written")
except OSError as error:
    assert error.errno == 28 and f"{storage.root}/run/cmp_a-1/step-000000020" in str(error), error
assert storage.list("run/cmp_a-1") == ["step-000000010"]  # what was half-written takes no room
step, name = checkpoints.latest()
assert step == 10, step
assert checkpoints.load(name)["weight"].sum() == 100_000
sys.stdout.write("all held\\n")
"""


def test_a_checkpoint_on_a_full_disk_fails_and_the_one_before_still_counts(tmp_path: Path) -> None:
    done = run_on_small_disk(_ON_A_FULL_DISK, tmp_path)
    assert done.stdout == "all held\n", done.stderr


def test_a_state_without_its_mark_does_not_count(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    checkpoints = Checkpoints(storage, "run", "cmp_a-1")
    assert checkpoints.latest() is None
    checkpoints.save(5, {"weight": torch.ones(3)})
    checkpoints.save(9, {"weight": torch.ones(3) * 9})
    storage.remove("run/cmp_a-1/step-000000009/commit.json")
    assert checkpoints.latest() == (5, "cmp_a-1/step-000000005")


def test_a_later_attempt_starts_from_the_furthest_and_leaves_the_older_attempts_files_alone(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    first, second = (Checkpoints(storage, "run", f"cmp_a-{attempt}") for attempt in (1, 2))
    for step in (2, 4, 6):
        first.save(step, {"weight": torch.full((2,), float(step))})
    assert storage.list("run/cmp_a-1") == ["step-000000004", "step-000000006"]
    second.save(3, {"weight": torch.full((2,), 3.0)})
    latest = second.latest()
    assert latest == (6, "cmp_a-1/step-000000006")
    assert second.load(latest[1])["weight"].tolist() == [6.0, 6.0]
    assert storage.list("run/cmp_a-1") == ["step-000000004", "step-000000006"]


def test_what_ray_train_left_of_the_same_jobs_earlier_attempts_goes(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    folder = "artifacts/training/abc"
    others = [ray_folder(folder, "cmp_b-1"), ray_folder("artifacts/training/def", "cmp_a-1"), folder]
    later = [ray_folder(folder, f"cmp_a-{number}") for number in (10, 11)]
    earlier = [ray_folder(folder, f"cmp_a-{number}") for number in (1, 9)]
    for one in (*others, *later, *earlier):
        storage.write_bytes(f"{one}/train/state", b"x")
    remove_older_ray_folders(storage, folder, "cmp_a-10")
    assert {f"artifacts/training/{name}" for name in storage.list("artifacts/training")} == {*others, *later}


class SlowStorage:
    """A storage whose uploads wait until they may go on."""

    def __init__(self, storage: Storage, fails: bool = False) -> None:
        self._storage, self._fails = storage, fails
        self.may_go_on = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def upload(self, source: Path, target: str) -> None:
        assert self.may_go_on.wait(30)
        if self._fails:
            raise OSError(errno.ENOSPC, "no room")
        self._storage.upload(source, target)


def test_the_training_goes_on_while_a_checkpoint_is_written_and_what_is_written_is_as_it_was(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    slow = SlowStorage(storage)
    checkpoints = Checkpoints(slow, "run", "cmp_a-1")  # type: ignore[arg-type]
    weight = torch.ones(3)
    with CheckpointWriter(checkpoints) as writer:
        writer.save(5, {"weight": weight})
        weight.mul_(7)
        writer.check()
        assert checkpoints.latest() is None
        slow.may_go_on.set()
        writer.save(9, {"weight": weight})  # waits for the one before
        assert checkpoints.latest() is not None
    assert checkpoints.latest() == (9, "cmp_a-1/step-000000009")
    assert checkpoints.load("cmp_a-1/step-000000005")["weight"].tolist() == [1.0] * 3
    assert checkpoints.load("cmp_a-1/step-000000009")["weight"].tolist() == [7.0] * 3


def test_a_checkpoint_that_fails_beside_the_training_fails_the_training(tmp_path: Path) -> None:
    for tell in ("at the end", "at the next", "when looked at"):
        slow = SlowStorage(Storage.open(str(tmp_path)), fails=True)
        slow.may_go_on.set()
        with (
            pytest.raises(OSError, match="no room"),
            CheckpointWriter(Checkpoints(slow, "run", "cmp_a-1")) as writer,  # type: ignore[arg-type]
        ):
            writer.save(5, {"weight": torch.ones(3)})
            if tell == "at the next":
                writer.save(9, {"weight": torch.ones(3)})
            while tell == "when looked at":
                writer.check()


def test_what_ends_the_training_is_told_rather_than_a_checkpoint_that_failed(tmp_path: Path) -> None:
    slow = SlowStorage(Storage.open(str(tmp_path)), fails=True)
    slow.may_go_on.set()
    with (
        pytest.raises(ZeroDivisionError),
        CheckpointWriter(Checkpoints(slow, "run", "cmp_a-1")) as writer,  # type: ignore[arg-type]
    ):
        writer.save(5, {"weight": torch.ones(3)})
        raise ZeroDivisionError
