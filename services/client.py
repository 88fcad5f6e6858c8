"""A client of the service's HTTP API; what the command line uses, and what programs may."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import httpx
from pydantic import ValidationError

from services.api.schemas import (
    CandidatePage,
    ErrorEntry,
    EventPage,
    FrontierDocument,
    Health,
    JobPage,
    LatencyTargetList,
    Problem,
    StudentDetail,
    StudentList,
)
from services.jobs.documents import EventEntry, JobDocument, PlanJobDocument, SelectionDocument
from services.jobs.states import JobStatus
from workloads.budgets import LatencyTarget


class ServerUnreachableError(RuntimeError):
    """The server does not answer; trying again may help."""


class ApiError(RuntimeError):
    """The server has refused.

    Attributes:
        problem: Its answer.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.detail)

    @property
    def errors(self) -> list[ErrorEntry]:
        """What is wrong with which field, and the remedy."""
        return self.problem.errors


class StillroomClient:
    """Talks to one server.

    Args:
        server: Its URL, such as ``http://127.0.0.1:8000``.
        timeout: Seconds to wait for an answer.

    Example:
        >>> with StillroomClient("http://127.0.0.1:8000") as client:
        ...     job = client.submit({"teacher": {"model": "…"}, "corpus": {"paths": ["…"]}, "budgets": [...]})
    """

    def __init__(self, server: str, timeout: float = 30.0) -> None:
        self.server = server.rstrip("/")
        self._http = httpx.Client(base_url=self.server, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def submit(self, request: Any, *, key: str | None = None) -> JobDocument:
        """Queue a compression.

        Args:
            request: JSON-like.
            key: A text of your own; the same request sent again with it gives the same job.

        Raises:
            ApiError: The request is refused.
            ServerUnreachableError: There is no answer.
        """
        return JobDocument.model_validate_json(self._post("/v1/compressions", request, key).content)

    def get(self, job_id: str) -> JobDocument:
        """Read a compression."""
        return JobDocument.model_validate_json(self._send("GET", f"/v1/compressions/{job_id}").content)

    def page(
        self,
        *,
        status: JobStatus | None = None,
        teacher: str | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> JobPage:
        """List compressions, newest first: those in a state, of a teacher, with all of the labels."""
        wanted = [f"{name}:{value}" for name, value in (labels or {}).items()]
        given = {"status": status, "teacher": teacher, "label": wanted, "limit": limit, "after": after}
        params = {name: value for name, value in given.items() if value is not None}
        return JobPage.model_validate_json(self._send("GET", "/v1/compressions", params=params).content)

    def events(self, job_id: str, after: str = "0-0") -> EventPage:
        """List events after one."""
        answer = self._send("GET", f"/v1/compressions/{job_id}/events", params={"after": after})
        return EventPage.model_validate_json(answer.content)

    def stream_events(self, job_id: str, after: str = "0-0") -> Iterator[EventEntry]:
        """Give events as they come, until the compression has ended; a connection that breaks is made again.

        Raises:
            ApiError: There is no such compression.
            ServerUnreachableError: There is no answer.
        """
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": after}
            try:
                with self._http.stream("GET", f"/v1/compressions/{job_id}/events", headers=headers) as answer:
                    if answer.is_error:
                        answer.read()
                    if _checked(answer).status_code == httpx.codes.NO_CONTENT:
                        return
                    for line in answer.iter_lines():
                        if line == "event: end":
                            return
                        if line.startswith('data: {"attempt"'):
                            event = EventEntry.model_validate_json(line.removeprefix("data: "))
                            after = f"{event.attempt}-{event.sequence}"
                            yield event
            except (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError):
                continue  # it was there a moment ago; whether it still is, the next connection tells
            except httpx.HTTPError as error:
                raise ServerUnreachableError(f"{self.server} does not answer: {error}.") from error

    def cancel(self, job_id: str) -> JobDocument:
        """Ask for a compression's end."""
        return JobDocument.model_validate_json(self._send("POST", f"/v1/compressions/{job_id}/cancel").content)

    def resume(self, job_id: str) -> JobDocument:
        """Queue a failed or cancelled compression again."""
        return JobDocument.model_validate_json(self._send("POST", f"/v1/compressions/{job_id}/resume").content)

    def delete(self, job_id: str) -> None:
        """Forget an ended compression and its selections; artefacts stay."""
        self._send("DELETE", f"/v1/compressions/{job_id}")

    def latency_targets(self) -> list[LatencyTarget]:
        """List where latency may be measured."""
        return LatencyTargetList.model_validate_json(self._send("GET", "/v1/latency-targets").content).latency_targets

    def candidates(
        self, job_id: str, *, limit: int = 200, after: str = "0", sequence_length: int = 128
    ) -> CandidatePage:
        """List the scored candidates of a finished compression."""
        params = {"limit": limit, "after": after, "sequence_length": sequence_length}
        answer = self._send("GET", f"/v1/compressions/{job_id}/candidates", params=params)
        return CandidatePage.model_validate_json(answer.content)

    def select(self, job_id: str, selection: Any, *, key: str | None = None) -> SelectionDocument:
        """Answer new budgets on a finished compression; for the key see :meth:`submit`.

        Raises:
            ApiError: The budgets are refused, or the compression has not succeeded.
        """
        answer = self._post(f"/v1/compressions/{job_id}/selections", selection, key)
        return SelectionDocument.model_validate_json(answer.content)

    def selection(self, job_id: str, selection_id: str) -> SelectionDocument:
        """Read a selection."""
        answer = self._send("GET", f"/v1/compressions/{job_id}/selections/{selection_id}")
        return SelectionDocument.model_validate_json(answer.content)

    def frontier(self, job_id: str, costs: Sequence[str] = ("flops",), sequence_length: int = 128) -> FrontierDocument:
        """Read the Pareto front of a finished compression against one or two costs."""
        params = {"cost": list(costs), "sequence_length": sequence_length}
        answer = self._send("GET", f"/v1/compressions/{job_id}/frontier", params=params)
        return FrontierDocument.model_validate_json(answer.content)

    def plan(self, request: Any, *, key: str | None = None) -> PlanJobDocument:
        """Queue the estimate of what a compression would take; for the key see :meth:`submit`."""
        return PlanJobDocument.model_validate_json(self._post("/v1/compressions/plan", request, key).content)

    def planned(self, plan_id: str) -> PlanJobDocument:
        """Read a plan."""
        return PlanJobDocument.model_validate_json(self._send("GET", f"/v1/compressions/plans/{plan_id}").content)

    def students(self, job_id: str) -> StudentList:
        """List the students of a compression."""
        return StudentList.model_validate_json(self._send("GET", f"/v1/compressions/{job_id}/students").content)

    def student(self, job_id: str, student_id: str) -> StudentDetail:
        """Read one student and its files."""
        answer = self._send("GET", f"/v1/compressions/{job_id}/students/{student_id}")
        return StudentDetail.model_validate_json(answer.content)

    def ready(self) -> Health:
        """Ask whether runs can be started."""
        return Health.model_validate_json(self._send("GET", "/readyz", accept={503}).content)

    def download(self, job_id: str, student_id: str, folder: Path) -> Path:
        """Fetch a student into ``folder / student_id`` and return that.

        A file is unpacked as it arrives, and the archive's names cannot lead out of ``folder``.
        """
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with self._http.stream("GET", f"/v1/compressions/{job_id}/students/{student_id}/archive") as answer:
                if answer.is_error:
                    answer.read()
                _checked(answer)
                with tarfile.open(fileobj=cast(IO[bytes], _Pieces(answer.iter_bytes())), mode="r|") as archive:
                    archive.extractall(folder, filter="data")
        except httpx.HTTPError as error:
            raise ServerUnreachableError(f"{self.server} does not answer: {error}.") from error
        return folder / student_id

    def _post(self, path: str, body: Any, key: str | None) -> httpx.Response:
        return self._send("POST", path, json=body, headers={} if key is None else {"Idempotency-Key": key})

    def _send(self, method: str, path: str, accept: set[int] | None = None, **options: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            detail = str(error) or type(error).__name__
            raise ServerUnreachableError(f"{self.server} does not answer: {detail}.") from error
        return answer if answer.status_code in (accept or set()) else _checked(answer)


def _checked(answer: httpx.Response) -> httpx.Response:
    if not answer.is_error:
        return answer
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:  # something else than a stillroom answers there, or stands in between
        detail = answer.text[:500]
        problem = Problem(code="other", title=answer.reason_phrase, status=answer.status_code, detail=detail)
    raise ApiError(problem)


class _Pieces:
    """Reads from an iterator of bytes as from a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Give up to ``size`` bytes; fewer only at the end."""
        parts, missing = [self._rest[:size]], size - len(self._rest[:size])
        self._rest = self._rest[size:]
        while missing > 0 and (piece := next(self._pieces, None)) is not None:
            parts.append(piece[:missing])
            self._rest = piece[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)
