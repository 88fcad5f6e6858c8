"""The interface of a method: its part of the request, its fitting to a teacher, its steps. Light to import.

A method's work on the cluster is registered separately, in :mod:`workloads.runs.roads`. No other code depends on the
name of a method.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from workloads.shapes.architecture import TeacherShape
from workloads.shapes.search_space import Space
from workloads.spec.request import CompressionRequest, register_request


class Method(Protocol):
    """A way from a teacher to scored candidates."""

    @property
    def request_type(self) -> type[CompressionRequest]:
        """Class of its requests; the default of their field ``method`` is its name."""
        ...

    def fit(self, request: Any, shape: TeacherShape) -> Sequence[Space]:
        """Lay out the spaces that a request asks for.

        Raises:
            InputError: They do not fit the teacher; the error holds every finding.
        """
        ...

    def steps(self, request: Any) -> list[str]:
        """Return the names of its steps between the corpus and the answers, in their order."""
        ...

    def training_tokens(self, request: Any) -> int:
        """Return the tokens that a request trains on, without polishing."""
        ...


_METHODS: dict[str, Method] = {}


def register_method(method: Method) -> None:
    """Register a method and its request."""
    register_request(method.request_type)
    _METHODS[method.request_type.model_fields["method"].default] = method


def method_of(request: CompressionRequest) -> Method:
    """Return the method of a request."""
    return _METHODS[request.method]


def training_tokens(request: CompressionRequest) -> int:
    """Return the most tokens that a compression trains on, polishing included."""
    return method_of(request).training_tokens(request) + request.polish_tokens
