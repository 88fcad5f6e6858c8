"""Routes of students and their files."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from services.api import ranges
from services.api.archive import FolderArchive
from services.api.dependencies import JobDep, ServiceDep, StudentDep
from services.api.folders import archive_response, file_response
from services.api.jobs import PATHS
from services.api.problems import RESPONSES
from services.api.ranges import PartDep
from services.api.schemas import StudentDetail, StudentEvaluation, StudentFile, StudentList
from services.jobs.documents import with_place
from services.jobs.records import Job, JobFilter
from services.jobs.store import MAX_PAGE
from workloads.documents.job_folder import StudentDocument

router = APIRouter(prefix=f"{PATHS['compression']}/{{job_id}}/students", tags=["students"], responses=RESPONSES)


@router.get("")
def listing(job: JobDep, service: ServiceDep) -> StudentList:
    """List the students, and the infeasible budgets."""
    document = service.document(job)
    return StudentList(students=document.students, infeasible=document.infeasible)


@router.get("/{student_id}")
def read(job: JobDep, student: StudentDep, service: ServiceDep) -> StudentDetail:
    """Show one student, its files, and its evaluations."""
    archive = FolderArchive.of(service.storage, _folder(student), student.id)
    evaluations = JobFilter("evaluation", job.tenant, parent=job.id, student=student.id)
    return StudentDetail(
        **with_place(student, service.storage).model_dump(),
        contents=[StudentFile(path=file.path, bytes=file.bytes) for file in archive.files],
        evaluations=[_in_short(one) for one in service.store.page(evaluations, limit=MAX_PAGE)],
        archive=f"{PATHS['compression']}/{job.id}/students/{student.id}/archive",
    )


@router.get("/{student_id}/archive", response_class=StreamingResponse, responses=ranges.RESPONSES)
def archive(student: StudentDep, service: ServiceDep, part: PartDep) -> StreamingResponse:
    """Fetch a student's folder as a tar, or a part of it."""
    return archive_response(service.storage, _folder(student), student.id, part)


@router.get("/{student_id}/files/{path:path}", response_class=StreamingResponse, responses=ranges.RESPONSES)
def file(path: str, student: StudentDep, service: ServiceDep, part: PartDep) -> StreamingResponse:
    """Fetch one file of a student, or a part of it."""
    return file_response(service.storage, _folder(student), student.id, path, part)


def _in_short(one: Job) -> StudentEvaluation:
    task, result = one.request["task"], one.result.evaluation if one.result else None
    return StudentEvaluation(
        id=one.id,
        name=task["name"],
        status=one.status,
        metric=task["metric"],
        mean=result.mean if result else None,
        std=result.std if result else None,
        baseline=result.baseline.score if result else None,
    )


def _folder(student: StudentDocument) -> str:
    assert student.files is not None, student  # pending students are not found
    return student.files
