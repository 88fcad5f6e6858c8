"""Artefacts behind a finished search, and loading them again to answer a new budget.

Light to import: the service answers budgets from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from workloads.answers.choosing import Scored
from workloads.shapes.architecture import Architecture, TeacherShape
from workloads.shapes.costs import Cost, student_cost
from workloads.shapes.search_space import Space, space_from_json
from workloads.spec.errors import InputError
from workloads.storage import artifacts
from workloads.storage.artifacts import Artifact
from workloads.storage.storage import Storage


@dataclass(frozen=True)
class TeacherStage:
    """The teacher in the storage.

    Attributes:
        artifact: Artefact with its files.
        fingerprint: Hash of its files; see :func:`workloads.shapes.teacher_files.fingerprint`.
        shape: Dimensions of the teacher.
    """

    artifact: Artifact
    fingerprint: str
    shape: TeacherShape

    def cost(self, architecture: Architecture, sequence_length: int) -> Cost:
        """Return the cost of one of its students at a length in tokens."""
        return student_cost(self.shape, architecture, sequence_length)


@dataclass(frozen=True)
class Trained:
    """All artefacts up to the scores table.

    Attributes:
        superlms: SuperLMs by name of their sub-space.
        reloaded: Whether they were loaded again, for budgets that the search did not know.
    """

    teacher: TeacherStage
    corpus: Artifact
    spaces: tuple[Space, ...]
    superlms: dict[str, Artifact]
    scores: Artifact
    reloaded: bool = False

    @property
    def covers_any_budget(self) -> bool:
        """Whether the search's survivors answer the present budgets; else dropped candidates are needed too."""
        return not (self.reloaded and self.scores.summary.get("aim") == "budgets")

    def weights(self, scored: Scored) -> Artifact:
        """Return the artefact that a candidate's weights are cut from."""
        if scored.weights is None:
            return self.superlms[scored.subspace]
        return next(one for one in self.superlms.values() if one.fingerprint == scored.weights)

    def space(self, name: str) -> Space:
        """Return the sub-space of a name."""
        return next(space for space in self.spaces if space.name == name)


def load_trained(storage: Storage, scores_fingerprint: str) -> Trained:
    """Load the artefacts that a scores table was made from.

    Raises:
        InputError: An artefact has been removed from the storage, or another version wrote it.
    """
    try:
        return _load(storage, artifacts.load(storage, "scores", scores_fingerprint))
    except FileNotFoundError as error:
        raise InputError.of(
            "compression",
            f"Some of its artefacts are not in the storage, or another version of stillroom wrote them ({error}).",
            "Submit the compression again; what is left of it is reused.",
        ) from error


def _load(storage: Storage, scores: Artifact) -> Trained:
    inputs = scores.inputs
    teacher = artifacts.load(storage, "teacher", artifacts.Key("teacher", {"files": inputs["teacher"]}).fingerprint)
    return Trained(
        TeacherStage(teacher, inputs["teacher"], TeacherShape.from_json(teacher.summary["shape"])),
        artifacts.load(storage, "corpus", inputs["corpus"]),
        tuple(space_from_json(given) for given in inputs["spaces"].values()),
        {name: artifacts.load(storage, "superlm", found) for name, found in inputs["superlms"].items()},
        scores,
        reloaded=True,
    )
