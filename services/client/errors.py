"""What can go wrong between a client and the service."""

from __future__ import annotations

from services.api.schemas import ErrorEntry, Problem


class ServerUnreachableError(RuntimeError):
    """The server does not answer; trying again may help."""


class ApiError(RuntimeError):
    """The server has refused, or has answered with something that cannot be understood.

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


def not_understood(server: str, method: str, path: str, reason: str) -> ApiError:
    """Make the error for an answer that no stillroom gives."""
    detail = f"{server} answers {method} {path} as no stillroom of this version does: {reason}."
    return ApiError(Problem(code="other", title="Unknown answer", status=200, detail=detail))
