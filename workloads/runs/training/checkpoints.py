"""Checkpoints of a training run: each attempt writes into its own folder, and a marker file, written last, commits."""

from __future__ import annotations

import contextlib
import json
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workloads.storage.storage import Storage

_STATE, _MARK = "state.safetensors", "commit.json"
_KEPT = 2


def ray_folder(folder: str, builder: str) -> str:
    """Ray Train's folder, beside that of a group's checkpoints; one per attempt, so that it can be removed whole."""
    return f"{folder}-ray-{builder}"


def remove_older_ray_folders(storage: Storage, folder: str, builder: str) -> None:
    """Remove Ray Train's folders of the same job's earlier attempts at the same training.

    Args:
        storage: The storage.
        folder: Folder of the group's checkpoints.
        builder: This attempt: the job, a dash and a number.
    """
    above = folder.rpartition("/")[0]
    job, _, number = ray_folder(folder, builder).rpartition("-")
    for name in storage.list(above):
        of, _, other = f"{above}/{name}".rpartition("-")
        if of == job and other.isdecimal() and int(other) < int(number):
            storage.remove(f"{above}/{name}")


class Checkpoints:
    """Checkpoints of one group of SuperLMs, over all attempts.

    Args:
        storage: The storage.
        folder: The group's folder, relative to the storage.
        builder: This attempt; it writes only into its own folder.
    """

    def __init__(self, storage: Storage, folder: str, builder: str) -> None:
        self.storage, self.folder, self.builder = storage, folder, builder

    def save(self, step: int, state: dict[str, Tensor]) -> None:
        """Write and commit the state after ``step`` steps, and remove all but the last two of this attempt.

        Args:
            step: Number of steps done.
            state: The tensors; no two share memory.

        Raises:
            OSError: The storage cannot be written, for lack of room or rights; nothing is committed.
        """
        name = f"{self.folder}/{self.builder}/step-{step:09d}"
        try:
            with tempfile.TemporaryDirectory() as temporary:
                file = Path(temporary) / _STATE
                save_file({key: value.detach().cpu().contiguous() for key, value in state.items()}, file)
                self.storage.upload(file, f"{name}/{_STATE}")
            self.storage.write_bytes(f"{name}/{_MARK}", json.dumps({"step": step}).encode())
        except OSError as error:
            # Remove the partial checkpoint: on a full disk, not even the failure could be written otherwise.
            with contextlib.suppress(OSError):
                self.storage.remove(name)
            if error.filename is None:  # the error of a failed write does not name the file
                error.filename = self.storage.path(name)
            raise
        for older in sorted(self.storage.list(f"{self.folder}/{self.builder}"))[:-_KEPT]:
            self.storage.remove(f"{self.folder}/{self.builder}/{older}")

    def latest(self) -> tuple[int, str] | None:
        """Return the last committed step of all attempts, and its folder."""
        marks = [path for path in self.storage.list(self.folder, recursive=True) if path.endswith(f"/{_MARK}")]
        steps = [(int(path.split("/")[-2].removeprefix("step-")), path.rpartition("/")[0]) for path in marks]
        return max(steps, default=None)

    def load(self, name: str) -> dict[str, Tensor]:
        """Read the state from a folder that :meth:`latest` gave."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = self.storage.fetch(f"{self.folder}/{name}", Path(temporary))
            state: dict[str, Tensor] = load_file(folder / _STATE)
            return state

    def clear(self) -> None:
        """Remove all checkpoints; called when the SuperLMs are committed."""
        self.storage.remove(self.folder)


class CheckpointWriter:
    """Writer of checkpoints in the background, while the training continues.

    A save copies the state and returns; a thread writes and commits it. One save is written at a time: the next save
    and the end of the ``with`` block wait for it. After a kill during a write, the previous checkpoint is used.

    Args:
        checkpoints: The group's checkpoints.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self._copies: dict[str, Tensor] = {}
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self._finish()

    def save(self, step: int, state: dict[str, Tensor]) -> None:
        """Copy the state after ``step`` steps, and start to write it.

        Raises:
            OSError: The previous save failed.
        """
        self._finish()
        for key, value in state.items():
            if key not in self._copies:
                # Pinned memory saves a second copy on the way from the device.
                self._copies[key] = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
            self._copies[key].copy_(value.detach(), non_blocking=True)
        if any(value.is_cuda for value in state.values()):
            torch.cuda.synchronize()
        self._pending = self._thread.submit(self.checkpoints.save, step, self._copies)

    def check(self) -> None:
        """Check whether the last save failed, without waiting for it.

        Raises:
            OSError: It failed.
        """
        if self._pending is not None and self._pending.done():
            self._finish()

    def _finish(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()
