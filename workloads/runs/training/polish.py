"""Polishing on Ray: chosen students are trained further, each alone, in one group with one teacher forward a batch."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workloads.craft.blocks import Blocks
from workloads.craft.objectives.objective import objective_for
from workloads.craft.polishing import first_batch, polish_training, single_student_space
from workloads.craft.scoring import Heldout, heldout_batches, rows_at_once, score
from workloads.craft.superlm_files import load_superlm, wiring_of
from workloads.craft.teacher import open_teacher
from workloads.methods.steps import POLISH
from workloads.runs.attempt.progress import Progress
from workloads.runs.attempt.run import Run
from workloads.runs.training.train import NOT_IN_FINGERPRINT, PendingSuperLM, TrainingInputs, train_groups
from workloads.shapes.architecture import Architecture
from workloads.shapes.search_space import Space
from workloads.spec.request import CompressionRequest
from workloads.storage.artifacts import Artifact, Key, build_folder, commit, find
from workloads.storage.storage import Storage

_OF_SPACES = frozenset({"random_subnets", "smallest_every"})
"""Training settings without effect on a space of one student."""
StudentId = tuple[str, Architecture]
"""The name of a sub-space and an architecture in it."""


@dataclass(frozen=True)
class PolishJob:
    """A student to polish.

    Attributes:
        subspace: The student's sub-space.
        architecture: The student's architecture.
        superlm: The trained SuperLM of the sub-space.
    """

    subspace: Space
    architecture: Architecture
    superlm: Artifact

    @property
    def id(self) -> StudentId:
        """Sub-space's name and architecture, unique among the students."""
        return self.subspace.name, self.architecture

    @property
    def single_space(self) -> Space:
        """Sub-space of this one student; reports call the student by its name."""
        return single_student_space(self.subspace, self.architecture)


def polished_key(request: CompressionRequest, job: PolishJob, teacher_fingerprint: str, corpus_fingerprint: str) -> Key:
    """Return the key of a polished student; it does not depend on the other students of the run."""
    training = polish_training(request)
    return Key(
        "polished",
        {
            "teacher": teacher_fingerprint,
            "corpus": corpus_fingerprint,
            "superlm": job.superlm.fingerprint,
            "architecture": job.architecture.to_json(),
            "objective": request.objective.key,
            "training": training.model_dump(mode="json", exclude=NOT_IN_FINGERPRINT | _OF_SPACES),
            "steps": training.steps_for(job.single_space.name),
            "first_batch": first_batch(request.training),
            "seed": request.seed,
        },
    )


def polish_students(run: Run, inputs: TrainingInputs, chosen: Sequence[PolishJob]) -> dict[StudentId, Artifact]:
    """Polish the students that are not polished yet.

    A polished student is saved as a SuperLM with a single architecture. The ``tokens`` of its summary include those of
    the SuperLM that it comes from.

    Args:
        run: The run; its progress has the step :data:`POLISH`.
        inputs: Settings and data of the SuperLMs' training; the request has a ``polish``.
        chosen: The students, each once.

    Returns:
        The committed one-architecture SuperLMs.

    Raises:
        InputError: ``polish.tokens`` is less than one step takes, or the training diverged.
        OSError: A checkpoint could not be written.
    """
    assert len({job.id for job in chosen}) == len(chosen), "a student is given twice"
    request = inputs.request
    keys = {job.id: polished_key(request, job, inputs.teacher.fingerprint, inputs.corpus.fingerprint) for job in chosen}
    done = {job.id: artifact for job in chosen if (artifact := find(run.storage, keys[job.id]))}
    missing = {job.single_space.name: job for job in chosen if job.id not in done}
    if not missing:
        return done
    made = train_groups(
        run,
        dataclasses.replace(
            inputs,
            request=request.model_copy(update={"training": polish_training(request)}),
            first_batch=first_batch(request.training),
        ),
        [[PendingSuperLM(job.single_space, keys[job.id], job.superlm) for job in missing.values()]],
        _PolishNews(run.progress, f"polishing together, one teacher forward for all: {'; '.join(missing)}"),
    )
    return done | {missing[name].id: artifact for name, artifact in made.items()}


class _PolishNews:
    """Reporter of the polishing step: the students' tokens together, and a curve for each student."""

    def __init__(self, progress: Progress, note: str) -> None:
        self._progress, self._note = progress, note
        self._done: dict[str, int] = {}
        progress.note(POLISH, note)

    def report(self, name: str, done: int, total: int, metrics: dict[str, float]) -> None:
        """Report the tokens, and add a point to the student's curve."""
        self._done[name] = done
        self._progress.advance(POLISH, sum(self._done.values()))
        self._progress.point(POLISH, done, total, {f"{name} {metric}": value for metric, value in metrics.items()})

    def waiting(self, names: Sequence[str], why: str | None) -> None:
        """Set the step's note to the reason of the wait; restore the usual note at its end."""
        self._progress.wait(POLISH, why)
        if why is None:
            self._progress.note(POLISH, self._note)


def score_polished(run: Run, inputs: TrainingInputs, polished: Mapping[StudentId, Artifact]) -> dict[StudentId, float]:
    """Return the held-out losses of polished students, on the rows of the search's last rung.

    The students are few, so this process scores them one after the other. The losses are saved.

    Args:
        run: The storage of artefacts, and the builder.
        inputs: Settings and data of the training; the corpus has the held-out rows.
        polished: The result of :func:`polish_students`.
    """
    request, corpus = inputs.request, inputs.corpus
    key = Key(
        "polished-scores",
        {
            "corpus": corpus.fingerprint,
            "polished": sorted(artifact.fingerprint for artifact in polished.values()),
            "objective": request.objective.key,
            "heldout_blocks": request.heldout_rows,
        },
    )
    if (found := find(run.storage, key)) is None:
        losses = _score(run.storage, inputs, polished)
        run.storage.write_json(f"{build_folder(key, run.builder)}/losses.json", losses)
        found = commit(run.storage, key, run.builder, {"losses": losses})
    return {student: found.summary["losses"][artifact.fingerprint] for student, artifact in polished.items()}


def _score(storage: Storage, inputs: TrainingInputs, polished: Mapping[StudentId, Artifact]) -> dict[str, float]:
    """Return the losses, by fingerprint of the artefact."""
    losses, request = {}, inputs.request
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        teacher = open_teacher(storage.fetch(inputs.teacher.artifact.files, folder))
        objective = objective_for(request.objective, teacher.shape)
        blocks = Blocks.open(storage, inputs.corpus, "heldout")
        rows = blocks.read(range(min(request.heldout_rows, blocks.rows)))
        at_once = rows_at_once(objective, blocks.sequence_length, request.training.batch_size)
        heldout = Heldout.read(teacher, objective, heldout_batches(rows, at_once))
        for (_, architecture), artifact in polished.items():
            superlm = load_superlm(storage.fetch(artifact.files, folder), wiring_of(teacher))
            ordered = heldout.ordered(artifact.summary["head_order"])
            losses[artifact.fingerprint] = score(superlm, architecture, objective, ordered)
    return losses
