"""What every stage of an attempt works with: the storage, the request, the progress, and the models behind it."""

from __future__ import annotations

import functools
from pathlib import Path

from workloads.answers.trained import TeacherStage
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import load_superlm, wiring_of
from workloads.craft.teacher import Teacher, open_teacher
from workloads.runs.attempt.progress import Progress
from workloads.runs.attempt.run import Run
from workloads.runs.attempt.stage_cache import Building
from workloads.spec.lengths import with_lengths
from workloads.spec.request import CompressionRequest
from workloads.storage.artifacts import Artifact
from workloads.storage.storage import Storage


class Attempt:
    """One attempt of a compression, selection or plan; the caller has joined the Ray cluster.

    Args:
        storage: Where finished stages are kept.
        request: What is asked for.
        job: The job's id.
        attempt: Its number.
        progress: Told of every step; the steps are those of :func:`workloads.methods.steps.step_names`.
        work: A local folder for temporary files.
        used: Where fingerprints of the stages that the run comes by are put, by stage.
    """

    def __init__(
        self,
        storage: Storage,
        request: CompressionRequest,
        *,
        job: str,
        attempt: int,
        progress: Progress,
        work: Path,
        used: dict[str, list[str]],
    ) -> None:
        self.storage = storage
        self.request = request
        self.builder = f"{job}-{attempt}"
        self.progress = progress
        self.work = work
        self.run = Run(storage, self.builder, progress)
        self.building = Building(storage, job=job, builder=self.builder, progress=progress, work=work, used=used)

    def set_lengths(self, longest: int) -> None:
        """Set the lengths that the request left open, for a teacher that reads ``longest`` tokens."""
        self.request = with_lengths(self.request, longest)

    def teacher(self, stage: TeacherStage) -> Teacher:
        """Open the teacher, once."""
        return _open_once(self.building.local(stage.artifact))

    def superlm(self, teacher: TeacherStage, artifact: Artifact) -> SuperLM:
        """Open a trained SuperLM, for evaluation."""
        return load_superlm(self.building.local(artifact), wiring_of(self.teacher(teacher))).eval()


@functools.cache
def _open_once(folder: Path) -> Teacher:
    return open_teacher(folder)
