"""A method as the service and a run see it: its part of the request, its fitting, its steps. Light to import.

What a method does on the cluster is registered apart, in :mod:`workloads.runs.roads`. Nothing else asks for a method by
its name.
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
        """Its requests; the default of their field ``method`` names it."""
        ...

    def fit(self, request: Any, shape: TeacherShape) -> Sequence[Space]:
        """Lay out the spaces that a request asks for.

        Raises:
            InputError: The teacher cannot give them; every finding.
        """
        ...

    def steps(self, request: Any) -> list[str]:
        """The names of its steps, from the corpus's to the scores, in their order."""
        ...

    def training_tokens(self, request: Any) -> int:
        """Tokens that a request trains on, those of polishing left out."""
        ...


_METHODS: dict[str, Method] = {}


def register_method(method: Method) -> None:
    """Make a method known, its request included."""
    register_request(method.request_type)
    _METHODS[method.request_type.model_fields["method"].default] = method


def method_of(request: CompressionRequest) -> Method:
    """Give the method of a request."""
    return _METHODS[request.method]


def training_tokens(request: CompressionRequest) -> int:
    """Tokens that a compression trains on, and at most polishes its students on."""
    return method_of(request).training_tokens(request) + request.polish_tokens
