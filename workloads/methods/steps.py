"""The steps of a job, by their names in progress and plans."""

from __future__ import annotations

from workloads.documents.job_folder import JobKind
from workloads.methods.method import method_of
from workloads.spec.request import CompressionRequest

TEACHER, CORPUS, CALIBRATION, SEARCH = "teacher", "corpus", "calibration", "search"
LATENCY, PROXY_TASK, POLISH, STUDENTS = "latency", "proxy-task", "polish", "students"


def step_names(request: CompressionRequest, kind: JobKind = "compression") -> list[str]:
    """Return the names of a job's steps, in their order."""
    if kind == "plan":
        return [TEACHER, CALIBRATION]
    answering = [
        *([LATENCY] if any(budget.latency_target for budget in request.budgets) else []),
        *([PROXY_TASK] if request.proxy_task is not None else []),
        *([POLISH] if request.polish is not None else []),
        STUDENTS,
    ]
    if kind == "selection":
        return answering
    return [TEACHER, CORPUS, *method_of(request).steps(request), *answering]


def train_step(superlm: str) -> str:
    """Return the name of the step that trains one SuperLM."""
    return f"train-{superlm}"
