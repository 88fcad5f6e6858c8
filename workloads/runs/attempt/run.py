"""Context of all stage programs."""

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
    """An attempt from a stage program's view.

    Attributes:
        storage: The storage of artefacts; the cluster's nodes must reach it.
        builder: Names the job and the attempt, and so the folders of builds.
        progress: Progress of the steps.
    """

    storage: Storage
    builder: str
    progress: Progress


@dataclass(frozen=True)
class JobAttempt:
    """One attempt of a job of any kind.

    Attributes:
        folder: The job's folder.
        number: Number of the attempt.
        progress: Progress of the steps.
        log: The finished stages that the attempt uses.
    """

    folder: JobFolder
    number: int
    progress: Progress
    log: StageLog

    @property
    def run(self) -> Run:
        """The attempt from a stage program's view."""
        return Run(self.folder.storage, f"{self.folder.job}-{self.number}", self.progress)


@dataclass(frozen=True)
class News:
    """Listeners of a stage.

    Attributes:
        advance: Called with units done and units in all, None if unknown.
        wait: Called with the reason and start of a wait, and with None at its end.
    """

    advance: Callable[[int, int | None], None]
    wait: Callable[[str | None], None]

    @classmethod
    def unheard(cls) -> News:
        """Make listeners that do nothing."""
        return cls(lambda done, total: None, lambda why: None)

    @classmethod
    def of_step(cls, progress: Progress, step: str) -> News:
        """Make the listeners that update a step of an attempt."""
        return cls(functools.partial(progress.advance, step), functools.partial(progress.wait, step))
