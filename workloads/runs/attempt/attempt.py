"""Context of all stages of an attempt: the storage, the request, the progress and the models."""

from __future__ import annotations

from pathlib import Path

from workloads.answers.trained import TeacherStage
from workloads.craft.superlm import SuperLM
from workloads.craft.superlm_files import load_superlm, wiring_of
from workloads.craft.teacher import Teacher, open_teacher
from workloads.methods.fitting import settled
from workloads.runs.attempt.run import JobAttempt
from workloads.runs.attempt.stage_cache import StageCache
from workloads.shapes.architecture import TeacherShape
from workloads.spec.request import CompressionRequest
from workloads.storage.artifacts import Artifact


class Attempt:
    """One attempt of a compression, selection or plan; the caller has joined the Ray cluster.

    Args:
        job: The job's attempt; its steps are those of :func:`workloads.methods.steps.step_names`.
        request: The request.
        work: A local folder for temporary files.
    """

    def __init__(self, job: JobAttempt, request: CompressionRequest, work: Path) -> None:
        self.request = request
        self.work = work
        self.run = job.run
        self.storage, self.builder, self.progress = self.run.storage, self.run.builder, self.run.progress
        self.cache = StageCache(self.run, job.log, work)
        self._teachers: dict[Path, Teacher] = {}

    def settle(self, shape: TeacherShape) -> None:
        """Set what the request left to the teacher, now that its shape is known.

        Raises:
            InputError: A term of the objective goes with another kind of teacher.
        """
        self.request = settled(self.request, shape)

    def teacher(self, stage: TeacherStage) -> Teacher:
        """Open the teacher, once."""
        folder = self.cache.local(stage.artifact)
        if folder not in self._teachers:
            self._teachers[folder] = open_teacher(folder)
        return self._teachers[folder]

    def superlm(self, teacher: TeacherStage, artifact: Artifact) -> SuperLM:
        """Open a trained SuperLM, for evaluation."""
        return load_superlm(self.cache.local(artifact), wiring_of(self.teacher(teacher))).eval()
