"""Routes of students: what was chosen, and the files."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException
from fastapi.responses import StreamingResponse

from services.api.archive import FolderArchive
from services.api.compressions import PREFIX
from services.api.dependencies import JobDep, ServiceDep, StudentDep
from services.api.problems import RESPONSES
from services.api.schemas import StudentDetail, StudentEvaluation, StudentFile, StudentList
from services.jobs.documents import with_place
from services.jobs.records import Job
from workloads.job_folder import StudentDocument

router = APIRouter(prefix=f"{PREFIX}/{{job_id}}/students", tags=["students"], responses=RESPONSES)


@router.get("")
def listing(job: JobDep, service: ServiceDep) -> StudentList:
    """List the students, and the budgets that nothing meets."""
    document = service.document(job)
    return StudentList(students=document.students, infeasible=document.infeasible)


@router.get("/{student_id}")
def read(job: JobDep, student: StudentDep, service: ServiceDep) -> StudentDetail:
    """Show one student, its files, and its evaluations."""
    archive = FolderArchive.of(service.storage, _folder(student), student.id)
    return StudentDetail(
        **with_place(student, service.storage).model_dump(),
        contents=[StudentFile(path=path, bytes=size) for path, size in archive.files],
        evaluations=[
            _in_short(one)
            for one in service.evaluations.page(tenant=job.tenant, compression=job.id, student=student.id)
        ],
        archive=f"{PREFIX}/{job.id}/students/{student.id}/archive",
    )


@router.get("/{student_id}/archive", response_class=StreamingResponse)
def archive(student: StudentDep, service: ServiceDep) -> StreamingResponse:
    """Fetch a student's folder as a tar."""
    folder = FolderArchive.of(service.storage, _folder(student), student.id)
    headers = {
        "Content-Length": str(folder.size),
        "Content-Disposition": f'attachment; filename="{student.id}.tar"',
    }
    return StreamingResponse(folder.stream(), media_type="application/x-tar", headers=headers)


@router.get("/{student_id}/files/{path:path}", response_class=StreamingResponse)
def file(path: str, student: StudentDep, service: ServiceDep) -> StreamingResponse:
    """Fetch one file of a student."""
    # Only what the listing of its own folder shows can be had, so no path leads out of it.
    if path not in service.storage.list(_folder(student), recursive=True):
        raise HTTPException(404, f"{student.id} has no file {path!r}.")
    place = f"{_folder(student)}/{path}"
    headers = {"Content-Length": str(service.storage.size(place))}
    return StreamingResponse(service.storage.stream(place), media_type="application/octet-stream", headers=headers)


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
