"""The chosen students of a run, as an archive in parts that each fit a limit of what comes back.

``cat students.tar.* | tar x`` unpacks it.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from pathlib import Path

from benchmarks.quality import shapes
from benchmarks.quality.distil import Distillation
from benchmarks.quality.pieces import Piece
from benchmarks.quality.profiles import Profile
from benchmarks.quality.rows import Rows
from benchmarks.quality.scene import Scene
from workloads.answers.choosing import Scored
from workloads.answers.heldout_record import HeldoutRecord, RelationLayers, TeacherRecord, TextRecord
from workloads.craft.export import build_student
from workloads.shapes import teacher_files
from workloads.spec.request import CorpusSpec, ObjectiveSpec

PART_BYTES = 15 << 20
MOST_PARTS = 5
"""Beside figures, rows and a log, so that at most eight files come back."""
NAME = "students.tar"


def write_students(out: Path, profile: Profile, scene: Scene, search: Piece, rows: Rows) -> list[Path]:
    """Write the chosen student of each budget, in half precision, and return the parts of the archive.

    Args:
        out: Folder of the parts.
        profile: The settings.
        scene: Teacher and text.
        search: The search, whose row exists.
        rows: The rows.

    Raises:
        ValueError: The students are too large to come back.
    """
    (superlms,) = search.needs
    models = Distillation(scene, superlms, lambda done, total, unit: None).models()
    survivors = shapes.survivors_of(rows[search.fingerprint].result)
    with tempfile.TemporaryDirectory() as folder:
        for fraction in profile.fractions:
            one = shapes.chosen(scene.teacher.shape, survivors, fraction)
            model = models[one.subspace]
            target = Path(folder) / f"chosen-{fraction:.3g}"
            student = build_student(scene.teacher, one.architecture, model.superlm.cpu().extract(one.architecture))
            student.half().save_pretrained(target)
            for name in teacher_files.TOKENIZER_FILES:
                if (scene.teacher.folder / name).is_file():
                    shutil.copyfile(scene.teacher.folder / name, target / name)
            _record(profile, scene, one, model.head_order).write(target)
        return _split(Path(folder), out)


def _record(profile: Profile, scene: Scene, one: Scored, head_order: list[int] | None) -> HeldoutRecord:
    """Record how the search measured the loss, before the weights were rounded to half precision."""
    spec, teacher, summary = ObjectiveSpec(**profile.objective), scene.teacher, scene.corpus.summary
    heads = None if spec.relation is None else spec.relation_heads or teacher.shape.last_heads
    layers = RelationLayers(teacher=teacher.shape.layers, student=len(one.architecture.layers))
    text = CorpusSpec(paths=[profile.corpus])
    return HeldoutRecord(
        heldout_loss=one.heldout_loss,
        spread=None,
        polished=False,
        objective=spec.model_copy(update={"relation_heads": heads}),
        relation_layers=None if spec.relation is None else layers,
        teacher=TeacherRecord(model=profile.teacher, fingerprint=teacher.fingerprint),
        text=TextRecord(
            corpus=scene.corpus.fingerprint,
            rows=scene.heldout_count,
            counted_rows=scene.heldout_count,
            sequence_length=summary["sequence_length"],
            layout=summary["layout"],
            documents=text.documents,
            text_column=text.text_column,
        ),
        head_order=None if head_order is None else tuple(head_order),
    )


def _split(folder: Path, out: Path) -> list[Path]:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for student in sorted(folder.iterdir()):
            archive.add(student, student.name)
    data = whole.getvalue()
    starts = range(0, len(data), PART_BYTES)
    if len(starts) > MOST_PARTS:
        raise ValueError(f"The students have {len(data)} bytes, more than {MOST_PARTS} parts of {PART_BYTES}.")
    parts = []
    for number, start in enumerate(starts):
        parts.append(out / f"{NAME}.{number}")
        parts[-1].write_bytes(data[start : start + PART_BYTES])
    return parts
