"""Look-up of students by id, among those of a compression and of its selections."""

from __future__ import annotations

import itertools

from services.jobs.records import Job
from services.jobs.store import JobStore
from workloads.documents.job_folder import StudentDocument


def find_student(store: JobStore, compression: Job, student_id: str) -> StudentDocument | None:
    """Find a student, with its folder relative to the storage; None if it is unknown or has no files yet."""
    for one in itertools.chain([compression], store.selections(compression.id)):
        for student in one.result.students if one.result else []:
            if student.id == student_id and student.files is not None:
                return student
    return None
