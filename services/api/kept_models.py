"""Routes of the models that evaluations keep, and their files."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import StreamingResponse

from services.api import ranges
from services.api.archive import FolderArchive
from services.api.dependencies import ServiceDep, job_of
from services.api.folders import archive_response, file_response
from services.api.jobs import PATHS
from services.api.problems import RESPONSES
from services.api.ranges import PartDep
from services.api.schemas import KeptModel, KeptModelList, StudentFile
from services.jobs.documents import placed
from services.jobs.records import Job
from workloads.spec.evaluation import SeedScore

router = APIRouter(prefix=f"{PATHS['evaluation']}/{{evaluation_id}}/models", tags=["models"], responses=RESPONSES)

EvaluationDep = Annotated[Job, Depends(job_of("evaluation"))]


@router.get("")
def listing(job: EvaluationDep, service: ServiceDep) -> KeptModelList:
    """List the models that an evaluation has kept, with their files."""
    models = []
    for one in _seeds(job):
        if one.files is not None:
            files = FolderArchive.of(service.storage, one.files, _name(job, one.seed)).files
            models.append(
                KeptModel(
                    id=_name(job, one.seed),
                    seed=one.seed,
                    score=one.score,
                    files=placed(one.files, service.storage),
                    contents=[StudentFile(path=file.path, bytes=file.bytes) for file in files],
                    archive=f"{PATHS['evaluation']}/{job.id}/models/{_name(job, one.seed)}/archive",
                )
            )
    return KeptModelList(models=models)


@router.get("/{model_id}/archive", response_class=StreamingResponse, responses=ranges.RESPONSES)
def archive(model_id: str, job: EvaluationDep, service: ServiceDep, part: PartDep) -> StreamingResponse:
    """Fetch a kept model's folder as a tar, or a part of it."""
    return archive_response(service.storage, _folder(job, model_id), model_id, part)


@router.get("/{model_id}/files/{path:path}", response_class=StreamingResponse, responses=ranges.RESPONSES)
def file(model_id: str, path: str, job: EvaluationDep, service: ServiceDep, part: PartDep) -> StreamingResponse:
    """Fetch one file of a kept model, or a part of it."""
    return file_response(service.storage, _folder(job, model_id), model_id, path, part)


def _seeds(job: Job) -> list[SeedScore]:
    return job.result.evaluation.seeds if job.result and job.result.evaluation else []


def _folder(job: Job, model_id: str) -> str:
    found = next((one.files for one in _seeds(job) if _name(job, one.seed) == model_id), None)
    if found is None:
        raise HTTPException(404, f"{job.id} is {job.status} and has kept no model {model_id}.")
    return found


def _name(job: Job, seed: int) -> str:
    return f"{job.id}-seed-{seed}"
