"""What a method composes: stages whose results are kept, and so are never worked out twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from workloads.architecture import Architecture, TeacherShape
from workloads.artifacts import Artifact
from workloads.choosing import Choice, Scored
from workloads.costs import Cost, student_cost
from workloads.job_folder import StudentDocument
from workloads.spaces import SubSpace


@dataclass(frozen=True)
class TeacherStage:
    """The teacher, brought to the storage.

    Attributes:
        artifact: Its files.
        fingerprint: Of what decides its outputs; see :func:`workloads.teacher_files.fingerprint`.
        shape: Its dimensions.
    """

    artifact: Artifact
    fingerprint: str
    shape: TeacherShape

    def cost(self, architecture: Architecture, sequence_length: int) -> Cost:
        """The cost of one of its students."""
        return student_cost(self.shape, architecture, sequence_length)


class Stages(Protocol):
    """The stages of a run; each gives a result that may have been worked out by an earlier run."""

    def teacher(self) -> TeacherStage:
        """Bring the teacher to the storage."""
        ...

    def spaces(self, teacher: TeacherStage) -> list[SubSpace]:
        """Lay out the sub-spaces."""
        ...

    def corpus(self, teacher: TeacherStage) -> Artifact:
        """Make token blocks of the text, some of them held out."""
        ...

    def train(self, teacher: TeacherStage, corpus: Artifact, spaces: Sequence[SubSpace]) -> dict[str, Artifact]:
        """Train one SuperLM a sub-space; by the sub-space's name."""
        ...

    def search(
        self, teacher: TeacherStage, corpus: Artifact, spaces: Sequence[SubSpace], superlms: dict[str, Artifact]
    ) -> list[Scored]:
        """Score every candidate on held-out text."""
        ...

    def students(
        self, teacher: TeacherStage, corpus: Artifact, superlms: dict[str, Artifact], choices: Sequence[Choice]
    ) -> list[StudentDocument]:
        """Cut the chosen students out of their SuperLMs and save them."""
        ...
