"""Results of a run as documents and pictures."""

from __future__ import annotations

from workloads.answers.scores_table import read_scores
from workloads.answers.trained import TeacherStage
from workloads.documents.answers import infeasible_documents, student_document
from workloads.documents.job_folder import CostDocument, JobFolder, ResultDocument, StudentDocument, TeacherDocument
from workloads.methods.answering import Answer
from workloads.methods.stages import Student
from workloads.runs.drawing import draw_answer
from workloads.shapes.costs import student_cost
from workloads.spec.part import default_length
from workloads.spec.request import CompressionRequest
from workloads.storage.storage import Storage


def describe(
    storage: Storage, folder: JobFolder, attempt: int, request: CompressionRequest, found: Answer
) -> ResultDocument:
    """Describe the result of an attempt, and draw its pictures into the attempt's folder.

    Raises:
        OSError: A picture cannot be written.
    """
    cost_of = found.trained.teacher.cost
    picture = draw_answer(found, read_scores(storage, found.trained.scores))
    pictures = {}
    for name, image in (("frontier.png", picture.png), ("frontier.svg", picture.svg)):
        pictures[name] = folder.path(name, attempt)
        storage.write_bytes(pictures[name], image)
    return ResultDocument(
        status="succeeded",
        students=[_student(folder.job, request, found, student) for student in found.students],
        infeasible=infeasible_documents(found.choices, cost_of, found.latencies.measure),
        teacher=_teacher(found.trained.teacher),
        pictures=pictures,
    )


def _student(job: str, request: CompressionRequest, found: Answer, student: Student) -> StudentDocument:
    polished = request.polish.tokens if student.polished and request.polish is not None else 0
    return student_document(
        job,
        student.budget,
        student.scored,
        found.trained.teacher.cost,
        polished_tokens=polished,
        latency=student.latency,
        latency_prediction=found.latencies.prediction(student),
        exports=student.artifact.summary.get("exports", {}),
        fidelity=student.fidelity,
        files=student.artifact.files,
    )


def _teacher(teacher: TeacherStage) -> TeacherDocument:
    own = teacher.shape.of_teacher
    cost = student_cost(own, own.architecture, default_length(own.longest))
    return TeacherDocument(
        kind=own.kind, fingerprint=teacher.fingerprint, shape=teacher.shape.to_json(), **CostDocument.fields_of(cost)
    )
