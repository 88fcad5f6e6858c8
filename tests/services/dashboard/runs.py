"""Imitations of runs: steps and events of a running one, and students in the storage."""

from __future__ import annotations

from typing import Any

from services.jobs.records import AttemptEnd, Job, NewJob
from services.jobs.states import AttemptStatus, JobStatus
from services.service import Service
from tests.services.ending import succeed
from tests.services.searched import SHAPE, SPACES, loss_of, make_search
from workloads.answers.fidelity import ClassFidelity, Fidelity
from workloads.answers.latency import BUILT_IN_TARGETS, LatencyMeasure
from workloads.documents.job_folder import (
    CostDocument,
    EventDocument,
    InfeasibleDocument,
    JobFolder,
    NearestDocument,
    ProgressDocument,
    ResultDocument,
    StepDocument,
    StudentDocument,
    TeacherDocument,
    now,
)
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import student_cost
from workloads.storage.storage import Storage

TOTAL = 1000
LATENCY = LatencyMeasure(
    target=BUILT_IN_TARGETS["cpu-1"], p50_ms=4.2, p95_ms=5.1, spread=0.1, repeats_p50_ms=[4.2, 4.2], agrees=True,
    teacher_p50_ms=21, teacher_repeats_p50_ms=[21, 21], speed_up=5, device="Some CPU", versions={}, measured_at=now(),
)  # fmt: skip
FIDELITY = Fidelity(
    rows=2000, agreement=0.9731, kl=0.0412, interval={"agreement": (0.966, 0.9802)},
    per_class={"good": ClassFidelity(count=1200, agreement=0.98), "never": ClassFidelity(count=0, agreement=None)},
)  # fmt: skip


class LiveRun:
    """Writes the steps and events of a job's attempt, as a run does."""

    def __init__(self, storage: Storage, job: str, attempt: int = 1) -> None:
        self.id = job
        self.attempt = attempt
        self._folder = JobFolder(storage, job)
        self._events: list[EventDocument] = []

    def tell(self, kind: str, message: str, **data: Any) -> None:
        number = len(self._events) + 1
        self._events.append(EventDocument(sequence=number, time=now(), type=kind, message=message, data=data))
        self._folder.write_events(self.attempt, self._events)

    def trained(self, done: int, *superlms: str, advanced_at: str | None = None) -> None:
        """Report this progress for all SuperLMs; each gets a point of its curve."""
        names = superlms or ("tiny", "small")
        for name in names:
            loss = {"loss_largest": 1 / (1 + done), "loss_smallest": 2 / (1 + done)}
            self.tell("metrics", f"train-{name}", step=f"train-{name}", done=done, total=TOTAL, **loss)
        steps = [
            StepDocument(name="corpus", status="succeeded", reused=True),
            *(
                StepDocument(
                    name=f"train-{name}", status="running", done=done, total=TOTAL, unit="tokens", rate=12.5,
                    seconds_left=(TOTAL - done) / 12.5, note="all in one group", advanced_at=advanced_at,
                )
                for name in names
            ),
            StepDocument(name="search"),
        ]  # fmt: skip
        self._folder.write_progress(self.attempt, ProgressDocument(updated_at=now(), steps=steps))


def student(service: Service, name: str, budget: str, architecture: Architecture) -> StudentDocument:
    """Make a student with files in the storage."""
    files = f"artifacts/student/{name}/builds/b"
    service.storage.write_bytes(f"{files}/config.json", b'{"model_type": "bert"}')
    return StudentDocument(
        id=f"stu_{name}", budget=budget, subspace=_space_of(architecture), architecture=architecture.to_json(),
        heldout_loss=loss_of(architecture), files=files, latency=LATENCY, fidelity=FIDELITY if name == "one" else None,
        **CostDocument.fields_of(student_cost(SHAPE, architecture)),
    )  # fmt: skip


def finished_with_students(service: Service, request: dict[str, Any]) -> Job:
    """Make a succeeded compression with scores, a teacher, students and a budget that no candidate meets."""
    return finish_with_students(service, service.store.create(NewJob(request)).id)


def finish_with_students(service: Service, job: str) -> Job:
    """Let a queued compression succeed in this way."""
    scores = make_search(service.storage)
    shapes = [one for space in SPACES for one in space]
    teacher = student_cost(SHAPE, SHAPE.architecture)
    nearest = NearestDocument(
        architecture=shapes[0].to_json(), subspace=SPACES[0].name, heldout_loss=1.0, misses={"max_params": 1.07},
        **CostDocument.fields_of(student_cost(SHAPE, shapes[0])),
    )  # fmt: skip
    pictures = {f"frontier.{kind}": f"jobs/{job}/frontier.{kind}" for kind in ("png", "svg")}
    for picture in pictures.values():
        service.storage.write_bytes(picture, b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"></svg>')
    result = ResultDocument(
        status="succeeded",
        pictures=pictures,
        students=[student(service, "one", "edge", shapes[3]), student(service, "two", "best", shapes[-1])],
        infeasible=[InfeasibleDocument(budget="impossible", nearest=[nearest])],
        artifacts={"scores": [scores.fingerprint]},
        teacher=TeacherDocument(fingerprint="t", shape={}, **CostDocument.fields_of(teacher)),
        seconds=90.0,
    )
    service.work.begin_attempt(job)
    LiveRun(service.storage, job).trained(500)
    steps = [StepDocument(name="train-tiny", status="succeeded", done=TOTAL, total=TOTAL, unit="tokens")]
    return service.work.end_attempt(
        job, 1, AttemptEnd(AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED, result=result, steps=steps)
    )


def make_files(service: Service, selection: str) -> StudentDocument:
    """Do what the run of a selection does: make the files of its pending student."""
    job = service.store.get(selection)
    assert job.answer is not None
    pending = StudentDocument.model_validate(job.answer["students"][0])
    files = f"artifacts/student/{selection}/builds/b"
    service.storage.write_bytes(f"{files}/model.safetensors", bytes(3 << 20))
    ready = pending.model_copy(update={"status": "ready", "files": files})
    service.work.begin_attempt(selection)
    succeed(service.work, selection, ResultDocument(status="succeeded", students=[ready]))
    return ready


def _space_of(architecture: Architecture) -> str:
    return next(space.name for space in SPACES if architecture in list(space))
