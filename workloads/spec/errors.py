"""Errors that a user can correct: each names a field, the problem and the remedy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of a request, or of a file or model that it names.

    Attributes:
        field: Dotted path into the request, such as ``budgets.0.max_params``.
        problem: What is wrong, in one sentence.
        remedy: What the user can do about it, in one sentence.
        path: The names and indices that ``field`` joins by dots, needed if a name itself holds a dot; None: ``field``
            is split at its dots.
    """

    field: str
    problem: str
    remedy: str
    path: tuple[str, ...] | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names and indices that lead to the field; none for the whole request."""
        return tuple(self.field.split(".")) if self.path is None else self.path

    def below(self, *parts: str) -> FieldError:
        """Return the same finding for a document that holds the request at ``parts``."""
        path = (*parts, *self.parts)
        return FieldError(".".join(path), self.problem, self.remedy, path)

    def __post_init__(self) -> None:
        # File names may be any bytes, and JSON may hold half of a surrogate pair; neither can be sent as UTF-8.
        for name in ("field", "problem", "remedy"):
            text: str = getattr(self, name)
            object.__setattr__(self, name, text.encode("utf-8", "backslashreplace").decode())

    def __str__(self) -> str:
        return f"{self.field}: {self.problem} {self.remedy}"


class InputError(ValueError):
    """Input that cannot be used; a retry without change helps only in an outage (see ``storage.outages``).

    Args:
        errors: At least one finding, the most important first.
    """

    def __init__(self, errors: Sequence[FieldError]) -> None:
        assert errors
        self.errors = tuple(errors)
        super().__init__("; ".join(str(error) for error in self.errors))

    def __reduce__(self) -> tuple[type[InputError], tuple[tuple[FieldError, ...]]]:
        # The default would rebuild from the joined message; Ray pickles errors across processes.
        return (type(self), (self.errors,))

    @classmethod
    def of(cls, field: str, problem: str, remedy: str) -> InputError:
        """Build an error with a single finding."""
        return cls([FieldError(field, problem, remedy)])
