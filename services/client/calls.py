"""The API's routes as methods, described once for both clients.

A method's body gives the content to send; its decorator gives the HTTP method, the path and the answer's model. A test
compares all of it with docs/openapi.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.api.batch_schemas import BatchDocument, BatchPage, BatchResults
from services.api.schemas import (
    CandidatePage,
    ClusterDocument,
    EvaluationPage,
    EventPage,
    FrontierDocument,
    Health,
    JobPage,
    KeptModelList,
    LatencyTargetList,
    MeDocument,
    PlanPage,
    SelectionPage,
    StudentDetail,
    StudentList,
)
from services.client.call import Given, call
from services.client.shared import Shared, Side
from services.jobs.documents import EvaluationDocument, JobDocument, PlanJobDocument, SelectionDocument
from services.jobs.states import JobStatus
from workloads.spec.budgets import LatencyTarget


class Calls(Side):
    """The calls. Each raises :class:`ApiError` when it is refused, :class:`ServerUnreachableError` without an answer.

    A ``key`` is a text of your own (an Idempotency-Key): the same request sent again with it makes nothing new. Without
    one, each call has a key of its own, so that it can be sent again where the answer was lost.
    """

    @call("POST", "/v1/compressions", JobDocument, keyed=True)
    def submit(self, request: Any, *, key: str | None = None) -> Given:
        """Queue a compression; the request is JSON-like."""
        return Given(body=request, key=key)

    @call("GET", "/v1/compressions/{job_id}", JobDocument)
    def get(self, job_id: str) -> Given:
        """Read a compression."""
        return Given({"job_id": job_id})

    @call("GET", "/v1/compressions", JobPage)
    def page(
        self,
        *,
        status: JobStatus | None = None,
        batch: str | None = None,
        teacher: str | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Given:
        """List compressions, newest first: those in a state, of a batch, of a teacher, with all of the labels."""
        wanted = {"status": status, "batch": batch, "teacher": teacher, "label": _labels(labels)}
        return Given(query={**wanted, "limit": limit, "after": after})

    @call("GET", "/v1/compressions/{job_id}/events", EventPage)
    def events(self, job_id: str, after: str = "0-0", *, limit: int = 200) -> Given:
        """List events after one."""
        return Given({"job_id": job_id}, {"after": after, "limit": limit})

    @call("GET", "/v1/compressions/{job_id}/log", bytes)
    def log(self, job_id: str, *, attempt: int | None = None, lines: int = 200) -> Given:
        """Fetch the last lines that an attempt has written, the latest where none is given."""
        return Given({"job_id": job_id}, {"attempt": attempt, "lines": lines})

    @call("POST", "/v1/compressions/{job_id}/cancel", JobDocument)
    def cancel(self, job_id: str) -> Given:
        """Cancel a compression."""
        return Given({"job_id": job_id})

    @call("POST", "/v1/compressions/{job_id}/resume", JobDocument)
    def resume(self, job_id: str) -> Given:
        """Queue a failed or cancelled compression again."""
        return Given({"job_id": job_id})

    @call("DELETE", "/v1/compressions/{job_id}", type(None))
    def delete(self, job_id: str) -> Given:
        """Delete an ended compression, its selections and its evaluations; artefacts stay."""
        return Given({"job_id": job_id})

    @call("GET", "/v1/compressions/{job_id}/pictures/{name}", bytes)
    def picture(self, job_id: str, name: str) -> Given:
        """Fetch a picture of the result, such as ``frontier.png``."""
        return Given({"job_id": job_id, "name": name})

    @call("POST", "/v1/compressions/{job_id}/selections", SelectionDocument, keyed=True)
    def select(self, job_id: str, selection: Any, *, key: str | None = None) -> Given:
        """Answer new budgets on a finished compression."""
        return Given({"job_id": job_id}, body=selection, key=key)

    @call("GET", "/v1/compressions/{job_id}/selections", SelectionPage)
    def selections(self, job_id: str, *, limit: int = 50, after: str | None = None) -> Given:
        """List a compression's selections, newest first."""
        return Given({"job_id": job_id}, {"limit": limit, "after": after})

    @call("GET", "/v1/selections/{selection_id}", SelectionDocument)
    def selection(self, selection_id: str) -> Given:
        """Read a selection."""
        return Given({"selection_id": selection_id})

    @call("GET", "/v1/selections/{selection_id}/events", EventPage)
    def selection_events(self, selection_id: str, after: str = "0-0", *, limit: int = 200) -> Given:
        """List a selection's events after one."""
        return Given({"selection_id": selection_id}, {"after": after, "limit": limit})

    @call("GET", "/v1/selections/{selection_id}/log", bytes)
    def log_selection(self, selection_id: str, *, attempt: int | None = None, lines: int = 200) -> Given:
        """Fetch the last lines that an attempt at a selection's files has written."""
        return Given({"selection_id": selection_id}, {"attempt": attempt, "lines": lines})

    @call("POST", "/v1/selections/{selection_id}/cancel", SelectionDocument)
    def cancel_selection(self, selection_id: str) -> Given:
        """Cancel the run that makes a selection's files."""
        return Given({"selection_id": selection_id})

    @call("POST", "/v1/selections/{selection_id}/resume", SelectionDocument)
    def resume_selection(self, selection_id: str) -> Given:
        """Queue a failed or cancelled selection again."""
        return Given({"selection_id": selection_id})

    @call("DELETE", "/v1/selections/{selection_id}", type(None))
    def delete_selection(self, selection_id: str) -> Given:
        """Delete an ended selection; artefacts stay."""
        return Given({"selection_id": selection_id})

    @call("GET", "/v1/compressions/{job_id}/candidates", CandidatePage)
    def candidates(
        self, job_id: str, *, limit: int = 200, after: str = "0", sequence_length: int | None = None
    ) -> Given:
        """List the scored candidates of a finished compression."""
        return Given({"job_id": job_id}, {"limit": limit, "after": after, "sequence_length": sequence_length})

    @call("GET", "/v1/compressions/{job_id}/frontier", FrontierDocument)
    def frontier(
        self,
        job_id: str,
        costs: Sequence[str] = ("flops",),
        sequence_length: int | None = None,
        *,
        latency_target: str | None = None,
        latency_percentile: str = "p50",
    ) -> Given:
        """Read the Pareto front of a finished compression against one or two costs.

        For latency, the target and the percentile say which one.
        """
        query = {
            "cost": list(costs),
            "sequence_length": sequence_length,
            "latency_target": latency_target,
            "latency_percentile": latency_percentile,
        }
        return Given({"job_id": job_id}, query)

    @call("POST", "/v1/compressions/plan", PlanJobDocument, keyed=True)
    def plan(self, request: Any, *, key: str | None = None) -> Given:
        """Queue the estimate of what a compression would take."""
        return Given(body=request, key=key)

    @call("GET", "/v1/plans/{plan_id}", PlanJobDocument)
    def planned(self, plan_id: str) -> Given:
        """Read a plan."""
        return Given({"plan_id": plan_id})

    @call("GET", "/v1/plans", PlanPage)
    def plans(self, *, limit: int = 50, after: str | None = None) -> Given:
        """List plans, newest first."""
        return Given(query={"limit": limit, "after": after})

    @call("GET", "/v1/plans/{plan_id}/events", EventPage)
    def plan_events(self, plan_id: str, after: str = "0-0", *, limit: int = 200) -> Given:
        """List a plan's events after one."""
        return Given({"plan_id": plan_id}, {"after": after, "limit": limit})

    @call("GET", "/v1/plans/{plan_id}/log", bytes)
    def log_plan(self, plan_id: str, *, attempt: int | None = None, lines: int = 200) -> Given:
        """Fetch the last lines that an attempt of a plan has written."""
        return Given({"plan_id": plan_id}, {"attempt": attempt, "lines": lines})

    @call("POST", "/v1/plans/{plan_id}/cancel", PlanJobDocument)
    def cancel_plan(self, plan_id: str) -> Given:
        """Cancel a plan."""
        return Given({"plan_id": plan_id})

    @call("POST", "/v1/plans/{plan_id}/resume", PlanJobDocument)
    def resume_plan(self, plan_id: str) -> Given:
        """Queue a failed or cancelled plan again."""
        return Given({"plan_id": plan_id})

    @call("DELETE", "/v1/plans/{plan_id}", type(None))
    def delete_plan(self, plan_id: str) -> Given:
        """Delete an ended plan."""
        return Given({"plan_id": plan_id})

    @call("GET", "/v1/compressions/{job_id}/students", StudentList)
    def students(self, job_id: str) -> Given:
        """List the students of a compression."""
        return Given({"job_id": job_id})

    @call("GET", "/v1/compressions/{job_id}/students/{student_id}", StudentDetail)
    def student(self, job_id: str, student_id: str) -> Given:
        """Read one student and its files."""
        return Given({"job_id": job_id, "student_id": student_id})

    @call("GET", "/v1/compressions/{job_id}/students/{student_id}/files/{path}", bytes, download=True)
    def file(self, job_id: str, student_id: str, path: str) -> Given:
        """Fetch one file of a student, such as ``config.json``."""
        return Given({"job_id": job_id, "student_id": student_id, "path": path})

    @call("GET", "/v1/compressions/{job_id}/students/{student_id}/archive", bytes, download=True)
    def archive(self, job_id: str, student_id: str) -> Given:
        """Fetch a student's folder as a tar, into memory; ``download`` has it on disk."""
        return Given({"job_id": job_id, "student_id": student_id})

    @call("POST", "/v1/batches", BatchDocument, keyed=True)
    def submit_batch(self, batch: Any, *, key: str | None = None) -> Given:
        """Queue several compressions at once, all or none; the batch is JSON-like."""
        return Given(body=batch, key=key)

    @call("GET", "/v1/batches/{batch_id}", BatchDocument)
    def batch(self, batch_id: str) -> Given:
        """Read a batch and the state of each of its compressions."""
        return Given({"batch_id": batch_id})

    @call("GET", "/v1/batches", BatchPage)
    def batches(self, *, labels: Mapping[str, str] | None = None, limit: int = 50, after: str | None = None) -> Given:
        """List batches, newest first: those with all of the labels."""
        return Given(query={"label": _labels(labels), "limit": limit, "after": after})

    @call("GET", "/v1/batches/{batch_id}/results", BatchResults)
    def batch_results(self, batch_id: str) -> Given:
        """Read the table of a batch's results, over all its teachers."""
        return Given({"batch_id": batch_id})

    @Shared
    async def batch_results_csv(self, batch_id: str) -> bytes:
        """Read the table of a batch's results as CSV."""
        message = replace(Calls.batch_results.message(batch_id), headers={"Accept": "text/csv"})
        return (await self._connection.ask(message)).content

    @call("POST", "/v1/batches/{batch_id}/cancel", BatchDocument)
    def cancel_batch(self, batch_id: str) -> Given:
        """Cancel all compressions of a batch that have not ended."""
        return Given({"batch_id": batch_id})

    @call("POST", "/v1/batches/{batch_id}/retry", BatchDocument)
    def retry_batch(self, batch_id: str) -> Given:
        """Queue a batch's failed and cancelled compressions again."""
        return Given({"batch_id": batch_id})

    @call("DELETE", "/v1/batches/{batch_id}", type(None))
    def delete_batch(self, batch_id: str) -> Given:
        """Delete an ended batch and its compressions; artefacts stay."""
        return Given({"batch_id": batch_id})

    @call("POST", "/v1/evaluations", EvaluationDocument, keyed=True)
    def evaluate(self, request: Any, *, key: str | None = None) -> Given:
        """Queue an evaluation of a student or a teacher on a labelled task."""
        return Given(body=request, key=key)

    @call("GET", "/v1/evaluations/{evaluation_id}", EvaluationDocument)
    def evaluation(self, evaluation_id: str) -> Given:
        """Read an evaluation."""
        return Given({"evaluation_id": evaluation_id})

    @call("GET", "/v1/evaluations", EvaluationPage)
    def evaluations(
        self,
        *,
        compression: str | None = None,
        student: str | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Given:
        """List evaluations, newest first: those of a compression's students, or of one student."""
        return Given(query={"compression": compression, "student": student, "limit": limit, "after": after})

    @call("GET", "/v1/evaluations/{evaluation_id}/events", EventPage)
    def evaluation_events(self, evaluation_id: str, after: str = "0-0", *, limit: int = 200) -> Given:
        """List an evaluation's events after one."""
        return Given({"evaluation_id": evaluation_id}, {"after": after, "limit": limit})

    @call("GET", "/v1/evaluations/{evaluation_id}/log", bytes)
    def log_evaluation(self, evaluation_id: str, *, attempt: int | None = None, lines: int = 200) -> Given:
        """Fetch the last lines that an attempt of an evaluation has written."""
        return Given({"evaluation_id": evaluation_id}, {"attempt": attempt, "lines": lines})

    @call("GET", "/v1/evaluations/{evaluation_id}/models", KeptModelList)
    def models(self, evaluation_id: str) -> Given:
        """List the fine-tuned models that an evaluation has kept."""
        return Given({"evaluation_id": evaluation_id})

    @call("GET", "/v1/evaluations/{evaluation_id}/models/{model_id}/files/{path}", bytes, download=True)
    def model_file(self, evaluation_id: str, model_id: str, path: str) -> Given:
        """Fetch one file of a kept model."""
        return Given({"evaluation_id": evaluation_id, "model_id": model_id, "path": path})

    @call("GET", "/v1/evaluations/{evaluation_id}/models/{model_id}/archive", bytes, download=True)
    def model_archive(self, evaluation_id: str, model_id: str) -> Given:
        """Fetch a kept model's folder as a tar, into memory; ``download_model`` has it on disk."""
        return Given({"evaluation_id": evaluation_id, "model_id": model_id})

    @call("POST", "/v1/evaluations/{evaluation_id}/cancel", EvaluationDocument)
    def cancel_evaluation(self, evaluation_id: str) -> Given:
        """Cancel an evaluation; finished seeds are kept."""
        return Given({"evaluation_id": evaluation_id})

    @call("POST", "/v1/evaluations/{evaluation_id}/resume", EvaluationDocument)
    def resume_evaluation(self, evaluation_id: str) -> Given:
        """Queue a failed or cancelled evaluation again."""
        return Given({"evaluation_id": evaluation_id})

    @call("DELETE", "/v1/evaluations/{evaluation_id}", type(None))
    def delete_evaluation(self, evaluation_id: str) -> Given:
        """Delete an ended evaluation."""
        return Given({"evaluation_id": evaluation_id})

    @call("GET", "/v1/latency-targets", LatencyTargetList)
    def _latency_targets(self) -> Given:
        return Given()

    @Shared
    async def latency_targets(self) -> list[LatencyTarget]:
        """List the latency targets."""
        return (await Calls._latency_targets.ask(self._connection)).latency_targets

    @call("GET", "/v1/cluster", ClusterDocument)
    def cluster(self) -> Given:
        """Read the nodes of the Ray cluster, with their resources."""
        return Given()

    @call("GET", "/v1/me", MeDocument)
    def me(self) -> Given:
        """Read the caller's tenant, scopes, quotas and usage."""
        return Given()

    @call("GET", "/readyz", Health, accepted=[503])
    def ready(self) -> Given:
        """Read whether runs can be started."""
        return Given()


def _labels(labels: Mapping[str, str] | None) -> list[str]:
    return [f"{name}:{value}" for name, value in (labels or {}).items()]
