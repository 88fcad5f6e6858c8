"""What every stage program works with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from workloads.documents.job_folder import JobFolder
from workloads.runs.attempt.progress import Progress
from workloads.runs.attempt.stage_log import StageLog
from workloads.storage.storage import Storage


@dataclass(frozen=True)
class Run:
    """An attempt, as a stage program sees it.

    Attributes:
        storage: Where artefacts are kept; the cluster's nodes must reach it.
        builder: Names the job and the attempt, and so the folders that are written.
        progress: Told how far the steps are.
    """

    storage: Storage
    builder: str
    progress: Progress


@dataclass(frozen=True)
class JobAttempt:
    """One attempt of a job of any kind.

    Attributes:
        folder: The job's.
        number: The attempt's.
        progress: Told how far the steps are.
        log: The finished stages that the attempt stands on.
    """

    folder: JobFolder
    number: int
    progress: Progress
    log: StageLog

    @property
    def run(self) -> Run:
        """What stage programs see of it."""
        return Run(self.folder.storage, f"{self.folder.job}-{self.number}", self.progress)


@dataclass(frozen=True)
class News:
    """Who hears of a stage.

    Attributes:
        advance: Called with units done and units in all.
        wait: Called with what the stage waits for and since when, and with None when it goes on.
    """

    advance: Callable[[int, int], None]
    wait: Callable[[str | None], None]

    @classmethod
    def of_step(cls, progress: Progress, step: str) -> News:
        """A step of an attempt."""
        return cls(functools.partial(progress.advance, step), functools.partial(progress.wait, step))
