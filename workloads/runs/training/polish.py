"""Polishing on Ray: chosen students are distilled on alone, all in one group with one teacher forward a batch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workloads.craft.blocks import Blocks
from workloads.craft.objectives.objective import objective_for
from workloads.craft.polishing import first_batch, polish_training, single_student_space
from workloads.craft.scoring import Heldout, heldout_batches, score
from workloads.craft.superlm_files import load_superlm, wiring_of
from workloads.craft.teacher import open_teacher
from workloads.runs.training.train import NOT_IN_FINGERPRINT, PendingSuperLM, Report, train_groups
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import Space
from workloads.spec.request import CompressionRequest
from workloads.storage.artifacts import Artifact, Key, build_folder, commit, find
from workloads.storage.storage import Storage

StudentId = tuple[str, Architecture]
"""The name of a sub-space and an architecture in it."""


@dataclass(frozen=True)
class PolishJob:
    """A student to polish.

    Attributes:
        subspace: Where it was chosen from.
        architecture: Its shape.
        superlm: The trained SuperLM of the sub-space.
    """

    subspace: Space
    architecture: Architecture
    superlm: Artifact

    @property
    def id(self) -> StudentId:
        """What tells it from the others."""
        return self.subspace.name, self.architecture

    @property
    def alone(self) -> Space:
        """The sub-space of nothing else; its name is what reports call the student."""
        return single_student_space(self.subspace, self.architecture)


def polished_key(request: CompressionRequest, job: PolishJob, teacher_fingerprint: str, corpus_fingerprint: str) -> Key:
    """What decides a polished student; with whom it was polished does not."""
    training = polish_training(request)
    return Key(
        "polished",
        {
            "teacher": teacher_fingerprint,
            "corpus": corpus_fingerprint,
            "superlm": job.superlm.fingerprint,
            "architecture": job.architecture.to_json(),
            "objective": request.objective.model_dump(mode="json"),
            "training": training.model_dump(mode="json", exclude=NOT_IN_FINGERPRINT | {"random_subnets"}),
            "steps": training.steps_for(job.alone.name),
            "first_batch": first_batch(request.training),
            "seed": request.seed,
        },
    )


def polish_students(
    storage: Storage,
    request: CompressionRequest,
    *,
    teacher_files: str,
    teacher_fingerprint: str,
    corpus: Artifact,
    chosen: Sequence[PolishJob],
    builder: str,
    report: Report,
    note: Callable[[str], None],
) -> dict[StudentId, Artifact]:
    """Polish the students that are not polished yet.

    Each is kept as a SuperLM with a single architecture, in the files and the summary of any other; its ``tokens``
    are those of the SuperLM it comes from and its own.

    Args:
        storage: Where the artefacts are.
        request: Objective, training, polish and seed.
        teacher_files: Folder of the teacher's files, relative to the storage.
        teacher_fingerprint: Of these files.
        corpus: The committed token blocks that the SuperLMs were trained on.
        chosen: The students, each once.
        builder: Job and attempt; names the folders that are written.
        report: Told how far each is, by the name of its sub-space :attr:`PolishJob.alone`.
        note: Told what is trained together.

    Returns:
        The committed one-architecture SuperLMs.

    Raises:
        InputError: ``polish.tokens`` is less than a step, or the training diverged.
        OSError: A checkpoint could not be written.
    """
    assert len({job.id for job in chosen}) == len(chosen), "a student is given twice"
    keys = {job.id: polished_key(request, job, teacher_fingerprint, corpus.fingerprint) for job in chosen}
    done = {job.id: artifact for job in chosen if (artifact := find(storage, keys[job.id]))}
    missing = {job.alone.name: job for job in chosen if job.id not in done}
    if not missing:
        return done
    note(f"polishing together, one teacher forward for all: {'; '.join(missing)}")
    made = train_groups(
        storage,
        request.model_copy(update={"training": polish_training(request)}),
        [[PendingSuperLM(job.alone, keys[job.id], job.superlm) for job in missing.values()]],
        teacher_files=teacher_files,
        corpus=corpus,
        builder=builder,
        report=report,
        first_batch=first_batch(request.training),
    )
    return done | {missing[name].id: artifact for name, artifact in made.items()}


def score_polished(
    storage: Storage,
    request: CompressionRequest,
    *,
    teacher_files: str,
    corpus: Artifact,
    polished: Mapping[StudentId, Artifact],
    builder: str,
) -> dict[StudentId, float]:
    """Give the held-out loss of polished students, on the rows that the search ends with.

    There are few of them, so they are scored right here, one after the other, and the losses kept.

    Args:
        storage: Where artefacts are kept.
        request: For its objective, ``search.heldout_blocks`` and ``training.batch_size``.
        teacher_files: Folder of the teacher's files, relative to the storage.
        corpus: Its held-out side is scored on.
        polished: What :func:`polish_students` gave.
        builder: Names the job and attempt.
    """
    key = Key(
        "polished-scores",
        {
            "corpus": corpus.fingerprint,
            "polished": sorted(artifact.fingerprint for artifact in polished.values()),
            "objective": request.objective.model_dump(mode="json"),
            "heldout_blocks": request.search.heldout_blocks,
        },
    )
    if (found := find(storage, key)) is None:
        losses = _score(storage, request, teacher_files, corpus, polished)
        storage.write_json(f"{build_folder(key, builder)}/losses.json", losses)
        found = commit(storage, key, builder, {"losses": losses})
    return {student: found.summary["losses"][artifact.fingerprint] for student, artifact in polished.items()}


def _score(
    storage: Storage,
    request: CompressionRequest,
    teacher_files: str,
    corpus: Artifact,
    polished: Mapping[StudentId, Artifact],
) -> dict[str, float]:
    """Give the losses by the artefacts' fingerprints."""
    losses = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        teacher = open_teacher(storage.fetch(teacher_files, folder))
        objective = objective_for(request.objective, teacher.shape)
        blocks = Blocks.open(storage, corpus, "heldout")
        rows = blocks.read(range(min(request.search.heldout_blocks, blocks.rows)))
        heldout = Heldout.read(teacher, objective, heldout_batches(rows, request.training.batch_size))
        for (_, architecture), artifact in polished.items():
            superlm = load_superlm(storage.fetch(artifact.files, folder), wiring_of(teacher))
            ordered = heldout.ordered(artifact.summary["head_order"])
            losses[artifact.fingerprint] = score(superlm, architecture, objective, ordered)
    return losses
