"""Client of Ray's Jobs REST API over HTTP, so that the service need not import Ray."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import ValidationError

from services.jobs.ray_nodes import RayNode, parse_nodes
from services.network import route_to

# The first submission waits for the head's job agent: some seconds on an idle machine, longer on a busy one.
_SUBMIT_SECONDS = 60.0
_CALL_SECONDS = 10.0
_NODES_SECONDS = 5.0
_LOG_BYTES = 1 << 20
"""Least bytes of a log's end that are kept; Ray sends the log whole."""


class RayUnreachableError(RuntimeError):
    """Ray does not answer, or its answer cannot be read; a later try may succeed."""


class RayJobStatus(StrEnum):
    """Ray's state of a job."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def is_terminal(self) -> bool:
        """Whether its driver has ended."""
        return self not in {RayJobStatus.PENDING, RayJobStatus.RUNNING}


@dataclass(frozen=True, slots=True)
class RayJob:
    """State of a Ray job, with Ray's message."""

    status: RayJobStatus
    message: str


class RayJobs:
    """Client of the Ray Jobs of one cluster; several threads may use it.

    Args:
        url: URL of the dashboard, such as ``http://127.0.0.1:8265``.
        token: Bearer token, if the cluster requires one.
        current_dir: Folder that drivers start in; other users must not be able to put modules there.
    """

    def __init__(self, url: str, token: str | None, current_dir: Path = Path("/")) -> None:
        self.url = url
        self._current_dir = current_dir
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._route = route_to(url)
        self._http = httpx.Client(base_url=url, headers=headers, timeout=_CALL_SECONDS, **self._route.options())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def version(self, timeout: float = _CALL_SECONDS) -> str:
        """Read Ray's version.

        Raises:
            RayUnreachableError: Ray does not answer, or refuses the token.
        """
        return str(self._document(self._send("GET", "/api/version", timeout=timeout), "ray_version")["ray_version"])

    def submit(self, submission_id: str, command: Sequence[str], metadata: dict[str, str] | None = None) -> None:
        """Start a job, unless Ray has a job of that id.

        Raises:
            RayUnreachableError: It is unknown whether the job was started; submit it again.
        """
        if self.get(submission_id) is not None:
            return
        # exec: the command replaces the shell that Ray starts, so that Ray stops the command itself. Ray stops a shell
        # with its present children, and would miss a command that the shell is just starting.
        # cd: workers import from the driver's current folder, which otherwise is the folder that Ray was started in.
        entrypoint = f"cd {shlex.quote(str(self._current_dir))} && exec {shlex.join(command)}"
        body = {"entrypoint": entrypoint, "submission_id": submission_id, "metadata": metadata or {}}
        response = self._send("POST", "/api/jobs/", json=body, timeout=_SUBMIT_SECONDS)
        # Ray answers 500 both for an id used twice and for its own errors; the query distinguishes them.
        if response.is_error and self.get(submission_id) is None:
            raise RayUnreachableError(f"Ray did not accept the job: {_short(response)}")

    def get(self, submission_id: str) -> RayJob | None:
        """Read a job's state; None if Ray does not know the job.

        Raises:
            RayUnreachableError: Ray does not answer.
        """
        response = self._send("GET", f"/api/jobs/{submission_id}")
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        document = self._document(response, "status")
        if document["status"] not in set(RayJobStatus):
            raise RayUnreachableError(f"Ray at {self.url} reports an unknown state of the job.")
        return RayJob(RayJobStatus(document["status"]), str(document.get("message") or ""))

    def stop(self, submission_id: str) -> None:
        """Stop a job; an ended or unknown job is not an error.

        Raises:
            RayUnreachableError: Ray does not answer.
        """
        response = self._send("POST", f"/api/jobs/{submission_id}/stop")
        if response.status_code != httpx.codes.NOT_FOUND:
            self._checked(response)

    def log_tail(self, submission_id: str) -> str | None:
        """Read the end of the driver's log; None if Ray does not know the job.

        Raises:
            RayUnreachableError: Ray does not answer, or takes too long.
        """
        path, deadline = f"/api/jobs/{submission_id}/logs", time.monotonic() + _CALL_SECONDS
        content, whole = b"", True
        try:
            with self._http.stream("GET", path) as response:
                if response.status_code == httpx.codes.NOT_FOUND:
                    return None
                for part in response.iter_bytes():
                    content += part
                    if len(content) > 2 * _LOG_BYTES:
                        content, whole = content[-_LOG_BYTES:], False
                    if time.monotonic() > deadline:
                        raise RayUnreachableError(f"Ray at {self.url} takes too long to send the log.")
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        answer = httpx.Response(response.status_code, content=content, request=response.request)
        text = str(self._document(answer, "logs")["logs"] or "") if whole else _end_of_log(self._checked(answer))
        if text is None:
            raise RayUnreachableError(f"{self.url} answers, but not as Ray does.{self._route.note}")
        return text.encode(errors="replace").decode()  # a lone surrogate could not be sent or stored

    def nodes(self) -> list[RayNode]:
        """List the live nodes with their resources.

        Raises:
            RayUnreachableError: Ray does not answer.
        """
        document = self._document(self._send("GET", "/nodes?view=summary", timeout=_NODES_SECONDS), "data")
        try:
            return parse_nodes(document["data"])
        except ValidationError as error:
            raise RayUnreachableError(f"{self.url} lists its nodes, but not as Ray does.{self._route.note}") from error

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.HTTPError) -> RayUnreachableError:
        reason = str(error) or type(error).__name__
        return RayUnreachableError(f"Ray at {self.url} does not answer: {reason}.{self._route.note}")

    def _document(self, response: httpx.Response, member: str) -> dict[str, Any]:
        """Read an answer that is an object with a member of this name."""
        try:
            document = self._checked(response).json()
        except ValueError:  # not JSON, or not UTF-8
            document = None
        if not isinstance(document, dict) or member not in document:
            raise RayUnreachableError(f"{self.url} answers, but not as Ray does.{self._route.note}")
        return document

    def _checked(self, response: httpx.Response) -> httpx.Response:
        if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise RayUnreachableError(f"Ray at {self.url} refuses the token. Set STILLROOM_RAY_TOKEN to its token.")
        if response.is_error:
            reason = f"{response.status_code}: {_short(response)}"
            raise RayUnreachableError(f"Ray at {self.url} answers {reason}{self._route.note}")
        return response


def _short(response: httpx.Response) -> str:
    lines = [line for line in response.text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"HTTP {response.status_code}"


def _end_of_log(answer: httpx.Response) -> str | None:
    """Read the end of ``{"logs": "…"}``; it may have been cut within an escape, of at most 12 bytes."""
    for cut in range(13):
        try:
            document = json.loads(b'{"logs": "' + answer.content[cut:])
        except ValueError:
            continue
        return str(document["logs"])
    return None
