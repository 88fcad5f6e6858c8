"""Errors of the clients."""

from __future__ import annotations

from services.api.schemas import ErrorEntry, Problem


class ServerUnreachableError(RuntimeError):
    """The server does not answer; a later try may succeed."""


class ApiError(RuntimeError):
    """The server has refused the request, or its answer cannot be read.

    Attributes:
        problem: The problem document of the answer.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.detail)

    @property
    def errors(self) -> list[ErrorEntry]:
        """Findings: the field, the problem and the remedy."""
        return self.problem.errors


def not_understood(server: str, method: str, path: str, reason: str) -> ApiError:
    """Make the error for an answer that stillroom does not give."""
    detail = f"{server} answers {method} {path} as no stillroom of this version does: {reason}."
    return ApiError(Problem(code="other", title="Unknown answer", status=200, detail=detail))
