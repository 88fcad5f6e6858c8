"""What the service can be asked, a method a route: described once, for both clients.

A method's body says what is sent; HTTP's method, the path and the answer's model stand above it. A test compares all
of it with docs/openapi.json.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Concatenate, cast
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from services.api.schemas import (
    CandidatePage,
    EvaluationPage,
    EventPage,
    FrontierDocument,
    Health,
    JobPage,
    LatencyTargetList,
    Problem,
    SelectionPage,
    StudentDetail,
    StudentList,
)
from services.client.connection import Connection, Message
from services.client.errors import ApiError
from services.client.shared import A, P, Shared, Side
from services.jobs.documents import EvaluationDocument, JobDocument, PlanJobDocument, SelectionDocument
from services.jobs.states import JobStatus
from workloads.budgets import LatencyTarget


@dataclass(frozen=True)
class Given:
    """What one call sends.

    Attributes:
        path: Values for the names in the path.
        query: Parameters; one that is None is left out.
        body: JSON-like.
        key: The caller's own Idempotency-Key.
    """

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    key: str | None = None


class Call(Shared[P, A]):
    """A method of both clients that is one request.

    Attributes:
        method: Of HTTP.
        path: With the names of its parameters in braces.
        answer: What the answer is read as: a document's model, bytes, or nothing.
        keyed: Whether it carries an Idempotency-Key, so that it can be sent again.
    """

    def __init__(
        self,
        build: Callable[Concatenate[Any, P], Given],
        method: str,
        path: str,
        answer: type[A],
        *,
        keyed: bool,
        accepted: Sequence[int],
    ) -> None:
        self.method, self.path, self.answer, self.keyed = method, path, answer, keyed
        self._build, self._accepted = build, frozenset(accepted)

        async def work(client: Any, /, *args: P.args, **kwargs: P.kwargs) -> A:
            return await self.ask(client._connection, *args, **kwargs)

        super().__init__(work, build)

    async def ask(self, connection: Connection, *args: P.args, **kwargs: P.kwargs) -> A:
        """Make the call.

        Raises:
            ApiError: It is refused.
            ServerUnreachableError: There is no answer.
        """
        answer = await connection.ask(self.message(*args, **kwargs))
        found: Any = answer.content
        if issubclass(self.answer, BaseModel):
            try:
                found = self.answer.model_validate_json(answer.content)
            except ValidationError:
                detail = f"{connection.server} answers {self.method} {self.path} as no stillroom of this version does."
                problem = Problem(code="other", title="Unknown answer", status=answer.status_code, detail=detail)
                raise ApiError(problem) from None
        return cast(A, found if self.answer is not type(None) else None)

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Message:
        """What the call sends."""
        given = self._build(None, *args, **kwargs)
        key = uuid.uuid4().hex if given.key is None else given.key
        return Message(
            self.method,
            self.path.format_map({name: quote(value, safe="") for name, value in given.path.items()}),
            query=given.query,
            headers={"Idempotency-Key": key} if self.keyed else {},
            body=given.body,
            repeatable=self.keyed or self.method == "GET",
            accepted=self._accepted,
        )


def call(
    method: str, path: str, answer: type[A], *, keyed: bool = False, accepted: Sequence[int] = ()
) -> Callable[[Callable[Concatenate[Any, P], Given]], Call[P, A]]:
    """Make a call of a function that says what is sent; see :class:`Call`."""
    return lambda build: Call(build, method, path, answer, keyed=keyed, accepted=accepted)


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
        teacher: str | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Given:
        """List compressions, newest first: those in a state, of a teacher, with all of the labels."""
        label = [f"{name}:{value}" for name, value in (labels or {}).items()]
        return Given(query={"status": status, "teacher": teacher, "label": label, "limit": limit, "after": after})

    @call("GET", "/v1/compressions/{job_id}/events", EventPage)
    def events(self, job_id: str, after: str = "0-0") -> Given:
        """List events after one."""
        return Given({"job_id": job_id}, {"after": after})

    @call("POST", "/v1/compressions/{job_id}/cancel", JobDocument)
    def cancel(self, job_id: str) -> Given:
        """Ask for a compression's end."""
        return Given({"job_id": job_id})

    @call("POST", "/v1/compressions/{job_id}/resume", JobDocument)
    def resume(self, job_id: str) -> Given:
        """Queue a failed or cancelled compression again."""
        return Given({"job_id": job_id})

    @call("DELETE", "/v1/compressions/{job_id}", type(None))
    def delete(self, job_id: str) -> Given:
        """Forget an ended compression and its selections; artefacts stay."""
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

    @call("GET", "/v1/compressions/{job_id}/selections/{selection_id}", SelectionDocument)
    def selection(self, job_id: str, selection_id: str) -> Given:
        """Read a selection."""
        return Given({"job_id": job_id, "selection_id": selection_id})

    @call("GET", "/v1/compressions/{job_id}/candidates", CandidatePage)
    def candidates(self, job_id: str, *, limit: int = 200, after: str = "0", sequence_length: int = 128) -> Given:
        """List the scored candidates of a finished compression."""
        return Given({"job_id": job_id}, {"limit": limit, "after": after, "sequence_length": sequence_length})

    @call("GET", "/v1/compressions/{job_id}/frontier", FrontierDocument)
    def frontier(self, job_id: str, costs: Sequence[str] = ("flops",), sequence_length: int = 128) -> Given:
        """Read the Pareto front of a finished compression against one or two costs."""
        return Given({"job_id": job_id}, {"cost": list(costs), "sequence_length": sequence_length})

    @call("POST", "/v1/compressions/plan", PlanJobDocument, keyed=True)
    def plan(self, request: Any, *, key: str | None = None) -> Given:
        """Queue the estimate of what a compression would take."""
        return Given(body=request, key=key)

    @call("GET", "/v1/compressions/plans/{plan_id}", PlanJobDocument)
    def planned(self, plan_id: str) -> Given:
        """Read a plan."""
        return Given({"plan_id": plan_id})

    @call("GET", "/v1/compressions/{job_id}/students", StudentList)
    def students(self, job_id: str) -> Given:
        """List the students of a compression."""
        return Given({"job_id": job_id})

    @call("GET", "/v1/compressions/{job_id}/students/{student_id}", StudentDetail)
    def student(self, job_id: str, student_id: str) -> Given:
        """Read one student and its files."""
        return Given({"job_id": job_id, "student_id": student_id})

    @call("GET", "/v1/compressions/{job_id}/students/{student_id}/files/{path}", bytes)
    def file(self, job_id: str, student_id: str, path: str) -> Given:
        """Fetch one file of a student, such as ``config.json``."""
        return Given({"job_id": job_id, "student_id": student_id, "path": path})

    @call("GET", "/v1/compressions/{job_id}/students/{student_id}/archive", bytes)
    def archive(self, job_id: str, student_id: str) -> Given:
        """Fetch a student's folder as a tar, into memory; ``download`` has it on disk."""
        return Given({"job_id": job_id, "student_id": student_id})

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

    @call("POST", "/v1/evaluations/{evaluation_id}/cancel", EvaluationDocument)
    def cancel_evaluation(self, evaluation_id: str) -> Given:
        """Ask for an evaluation's end; seeds that have ended are kept."""
        return Given({"evaluation_id": evaluation_id})

    @call("POST", "/v1/evaluations/{evaluation_id}/resume", EvaluationDocument)
    def resume_evaluation(self, evaluation_id: str) -> Given:
        """Queue a failed or cancelled evaluation again."""
        return Given({"evaluation_id": evaluation_id})

    @call("DELETE", "/v1/evaluations/{evaluation_id}", type(None))
    def delete_evaluation(self, evaluation_id: str) -> Given:
        """Forget an ended evaluation."""
        return Given({"evaluation_id": evaluation_id})

    @call("GET", "/v1/latency-targets", LatencyTargetList)
    def _latency_targets(self) -> Given:
        return Given()

    @Shared
    async def latency_targets(self) -> list[LatencyTarget]:
        """List where latency may be measured."""
        return (await Calls._latency_targets.ask(self._connection)).latency_targets

    @call("GET", "/readyz", Health, accepted=[503])
    def ready(self) -> Given:
        """Ask whether runs can be started."""
        return Given()
