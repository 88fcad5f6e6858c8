"""A second method needs only its registration to run through every part that AutoDistil runs through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from services.intake.compression import accept_compression
from workloads.documents.job_folder import JobFolder, OrderDocument, PlanDocument, PlanStepDocument
from workloads.methods import method as methods
from workloads.methods.fitting import fitting_spaces
from workloads.methods.method import method_of, register_method, training_tokens
from workloads.methods.steps import step_names
from workloads.runs import job, roads
from workloads.runs.attempt.attempt import Attempt
from workloads.runs.roads import Road, register_road
from workloads.shapes.architecture import Architecture, TeacherShape
from workloads.shapes.search_space import ListedSpace, Space
from workloads.shapes.teacher_files import named_shape
from workloads.spec import request as requests
from workloads.spec.autodistil import AutoDistilRequest
from workloads.spec.errors import FieldError, InputError
from workloads.spec.request import CompressionRequest, parse_request
from workloads.storage.storage import Storage

REQUEST: dict[str, Any] = {
    "teacher": {"model": "org/model"},
    "corpus": {"dataset": "org/texts"},
    "budgets": [{"name": "any", "max_params": 10**9}],
}


class OneShotRequest(CompressionRequest):
    method: Literal["one-shot"] = "one-shot"
    depth: int = Field(2, ge=1, le=100)


class OneShot:
    """Trains a single student of the asked depth."""

    request_type = OneShotRequest

    def fit(self, request: OneShotRequest, shape: TeacherShape) -> Sequence[Space]:
        if request.depth > shape.layers:
            raise InputError([FieldError("depth", f"The teacher has {shape.layers} layers.", "Use no more.")])
        one = Architecture.alike(
            layers=request.depth, hidden_size=64, heads=1, head_width=64, intermediate_size=64, teacher_layers=12
        )
        return [ListedSpace("only", (one,))]

    def steps(self, request: OneShotRequest) -> list[str]:
        return ["train-only"]

    def training_tokens(self, request: OneShotRequest) -> int:
        return 1000 * request.depth


@pytest.fixture
def one_shot(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(requests, "_TYPES", dict(requests._TYPES))
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))
    monkeypatch.setattr(roads, "_ROADS", dict(roads._ROADS))
    register_method(OneShot())
    return


def test_todays_json_is_autodistils() -> None:
    assert isinstance(parse_request(REQUEST), AutoDistilRequest)
    assert parse_request(REQUEST | {"method": "autodistil"}) == parse_request(REQUEST)


def test_a_request_becomes_that_of_the_method_it_names(one_shot: None) -> None:
    request = parse_request(REQUEST | {"method": "one-shot", "depth": 3})
    assert isinstance(request, OneShotRequest) and request.depth == 3
    assert parse_request(request.model_dump(mode="json")) == request
    assert isinstance(CompressionRequest.model_validate(REQUEST | {"method": "one-shot"}), OneShotRequest)
    assert isinstance(CompressionRequest.model_validate(REQUEST), AutoDistilRequest)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"method": "one-shot", "subspaces": {}}, "subspaces"),
        ({"method": "one-shot", "depth": 1000}, "depth"),
        ({"depth": 3}, "depth"),
        ({"method": "none-such"}, "method"),
        ({"method": 3}, "method"),
        ({"method": ["one-shot"]}, "method"),
    ],
)
def test_a_method_takes_its_own_part_of_a_request_and_no_others(
    one_shot: None, more: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputError) as refused:
        parse_request(REQUEST | more)
    assert [found.field for found in refused.value.errors] == [field]


def test_the_schema_of_a_request_is_a_union_of_the_methods(one_shot: None) -> None:
    schema = CompressionRequest.model_json_schema()
    members = schema["oneOf"]
    assert [one["properties"]["method"]["const"] for one in members] == ["autodistil", "one-shot"]
    assert "depth" in members[1]["properties"] and "subspaces" not in members[1]["properties"]


def test_an_unknown_method_is_answered_with_those_there_are(one_shot: None) -> None:
    with pytest.raises(InputError) as refused:
        parse_request(REQUEST | {"method": "none-such"})
    (found,) = refused.value.errors
    assert found.problem == "'none-such' is not a method." and found.remedy == "Use 'autodistil' or 'one-shot'."


def test_steps_fitting_and_tokens_are_the_methods(one_shot: None) -> None:
    request = parse_request(REQUEST | {"method": "one-shot", "depth": 3})
    assert isinstance(method_of(request), OneShot)
    assert step_names(request) == ["teacher", "corpus", "train-only", "students"]
    assert step_names(request, "plan") == ["teacher", "calibration"]
    (space,) = fitting_spaces(request, named_shape("bert-base"))
    assert len(space.largest.layers) == 3
    assert training_tokens(request) == accept_compression(request).tokens == 3000
    with pytest.raises(InputError) as refused:
        fitting_spaces(parse_request(REQUEST | {"method": "one-shot", "depth": 13}), named_shape("bert-base"))
    assert refused.value.errors[0].field == "depth"


@pytest.mark.parametrize("kind", ["plan", "compression"])
def test_a_job_walks_the_methods_own_road(
    one_shot: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Literal["plan", "compression"]
) -> None:
    walked: list[tuple[str, str]] = []

    def to_scores(attempt: Attempt) -> Any:
        walked.append(("to_scores", attempt.request.method))
        raise InputError.of("depth", "It was walked.", "Stop here.")

    def plan(attempt: Attempt) -> PlanDocument:
        walked.append(("plan", attempt.request.method))
        step = PlanStepDocument(name="train-only", seconds=1.0, reused=False, basis="a guess")
        return PlanDocument(
            candidates={"only": 1}, budgets=[], steps=[step], seconds=1.0, device_hours=0.1, device="CPU core",
            calibration_seconds=0.0,
        )  # fmt: skip

    register_road("one-shot", lambda: Road(to_scores, plan))
    storage = Storage.open(str(tmp_path))
    folder = JobFolder(storage, "cmp_1")
    folder.write_order(OrderDocument(kind=kind))
    folder.write_request(REQUEST | {"method": "one-shot"})
    monkeypatch.setattr(job, "connect", lambda: None)
    monkeypatch.setattr(job.signal, "signal", lambda *_: None)
    monkeypatch.setattr(job, "configure_driver_logs", lambda *_: None)
    code = job.main(["--storage", str(tmp_path), "--job", "cmp_1", "--attempt", "1"])
    result = folder.read_result(1)
    assert result is not None
    assert walked == [("plan" if kind == "plan" else "to_scores", "one-shot")]
    if kind == "plan":
        assert code == 0 and result.plan is not None and result.plan.steps[0].name == "train-only"
    else:
        assert result.error is not None and result.error.message == "It was walked."
