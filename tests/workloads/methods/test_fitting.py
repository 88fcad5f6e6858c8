"""Fitting: relations that the last layer of a teacher or a student cannot give are refused before a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from workloads.methods.autodistil import AutoDistil
from workloads.methods.fitting import fitting_spaces
from workloads.shapes.architecture import Architecture, Layer, TeacherShape, Vocabulary
from workloads.shapes.search_space import ListedSpace, Space
from workloads.spec.errors import FieldError, InputError
from workloads.spec.request import parse_request

OUTPUT = {"relation": None, "output": {"kind": "token"}}


def layers(*heads: int) -> Architecture:
    return Architecture(64, tuple(Layer(count, 16, 128, source) for source, count in enumerate(heads)))


def teacher(*heads: int) -> TeacherShape:
    return TeacherShape(layers(*heads), Vocabulary("stillroom", 100, 130, 2))


SPACES: dict[str, Space] = {
    "headless before": ListedSpace("a", (layers(4, 4), layers(0, 4))),
    "narrow": ListedSpace("b", (layers(0, 4), layers(4, 1))),  # the smallest is not the one with the narrowest last
    "headless": ListedSpace("c", (layers(4, 4), layers(4, 0))),
}


def findings(
    monkeypatch: pytest.MonkeyPatch, shape: TeacherShape, spaces: Sequence[Space], **objective: Any
) -> list[FieldError]:
    monkeypatch.setattr(AutoDistil, "fit", lambda self, request, shape: spaces)
    request = parse_request(
        {
            "teacher": {"model": "t"},
            "corpus": {"paths": ["a.txt"]},
            "budgets": [{"name": "any", "max_params": 1}],
            "objective": objective,
        }
    )
    try:
        assert fitting_spaces(request, shape) == list(spaces)
    except InputError as error:
        return list(error.errors)
    return []


def test_students_without_heads_in_an_earlier_layer_are_ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not findings(monkeypatch, teacher(4, 4), [SPACES["headless before"]])


@pytest.mark.parametrize("name", ["narrow", "headless"])
def test_a_student_whose_last_layer_cannot_give_the_relations_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spaces = [SPACES["headless before"], SPACES[name]]
    (found,) = findings(monkeypatch, teacher(4, 4), spaces, relation_heads=20)
    if name == "narrow":
        assert (found.field, found.remedy) == ("objective.relation_heads", "Use at most 16.")
        assert "'b'" in found.problem
    else:
        assert (found.field, found.remedy) == ("objective.relation", "Set it to null and give an 'output'.")
        assert "'c'" in found.problem
    assert not findings(monkeypatch, teacher(4, 4), spaces, **OUTPUT)


def test_a_teacher_whose_last_layer_has_no_heads_gives_no_relations(monkeypatch: pytest.MonkeyPatch) -> None:
    spaces = [SPACES["headless before"]]
    (found,) = findings(monkeypatch, teacher(4, 0), spaces)
    assert (found.field, "teacher's last layer" in found.problem) == ("objective.relation", True)
    assert not findings(monkeypatch, teacher(4, 0), spaces, **OUTPUT)
