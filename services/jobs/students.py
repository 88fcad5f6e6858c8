"""Students found by their id, among those of a compression and of the selections from it."""

from __future__ import annotations

import itertools

from services.jobs.records import Job
from services.jobs.store import JobStore
from workloads.documents.job_folder import StudentDocument


def find_student(store: JobStore, compression: Job, student_id: str) -> StudentDocument | None:
    """The student as the run wrote it, with its folder relative to the storage; None while it has no files."""
    for one in itertools.chain([compression], store.selections(compression.id)):
        for student in one.result.students if one.result else []:
            if student.id == student_id and student.files is not None:
                return student
    return None
