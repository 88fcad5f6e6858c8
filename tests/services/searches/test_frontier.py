"""The frontier of a finished compression over HTTP."""

from dataclasses import replace

import pytest

from services.client import ApiError
from tests.services.searched import SHAPE, SPACES, finished, loss_of, make_samples
from workloads.answers.latency import BUILT_IN_TARGETS, LatencyMeasure
from workloads.documents.job_folder import StudentDocument
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import student_cost


def test_the_frontier_is_what_no_other_candidate_beats(client, searched_job):
    front = client.frontier(searched_job.id, ["flops"]).points
    assert [point.heldout_loss for point in front] == sorted((p.heldout_loss for p in front), reverse=True)
    assert [point.flops for point in front] == sorted(point.flops for point in front)
    least = front[-1].heldout_loss
    assert [point.over_best for point in front] == pytest.approx([point.heldout_loss / least - 1 for point in front])
    both = client.frontier(searched_job.id, ["params", "flops"]).points
    assert len(both) >= len({point.flops for point in front})
    everything = [
        (loss_of(one), student_cost(SHAPE, one).params, student_cost(SHAPE, one).flops)
        for space in SPACES
        for one in space
    ]
    own = [(point.heldout_loss, point.params, point.flops) for point in both]
    beaten = [
        mine
        for mine in own
        if any(all(a <= b for a, b in zip(other, mine, strict=True)) and other != mine for other in everything)
    ]
    assert beaten == []


@pytest.fixture
def measured_job(service, make_request):
    """A compression with the latencies of some candidates, of which the first measures disagree."""
    shapes = [one for space in SPACES for one in space]
    times = {one: (student_cost(SHAPE, one).flops / 1e8, number > 2) for number, one in enumerate(shapes[::9])}
    job = finished(service, make_request(), made=[make_samples(service.storage, BUILT_IN_TARGETS["cpu-1"], times)])
    return job, {one: time for one, (time, agrees) in times.items() if agrees}


@pytest.mark.parametrize("target", ["cpu-1", None])
def test_a_frontier_may_be_drawn_over_latency_with_what_is_predicted_marked(client, measured_job, target):
    job, measured = measured_job
    found = client.frontier(job.id, ["latency", "params"], latency_target=target, latency_percentile="p95")
    assert found.latency.target.name == "cpu-1" and found.latency.percentile == "p95" and found.latency.error
    assert [one.latency_ms for one in found.points] == sorted(one.latency_ms for one in found.points)
    told = {Architecture.from_json(one.architecture): one for one in found.points}
    assert {one for one, point in told.items() if not point.latency_predicted} == told.keys() & measured.keys()
    assert 0 < len(told.keys() & measured.keys()) < len(told)
    assert all(told[one].latency_ms == pytest.approx(2 * measured[one]) for one in told.keys() & measured.keys())


def test_a_students_measure_goes_before_that_of_the_candidate(client, service, make_request):
    best = max((one for space in SPACES for one in space), key=lambda one: student_cost(SHAPE, one).flops)
    target = BUILT_IN_TARGETS["cpu-1"]
    samples = make_samples(service.storage, target, {best: (9.0, True)})
    measure = LatencyMeasure(
        target=target, p50_ms=7.0, p95_ms=8.0, spread=0.1, repeats_p50_ms=[7.0, 7.0], agrees=True, teacher_p50_ms=9.0,
        teacher_repeats_p50_ms=[9.0, 9.0], speed_up=9 / 7, device="a CPU", versions={}, measured_at="now",
    )  # fmt: skip
    student = StudentDocument(
        id="stu_1", budget="edge", subspace="base", architecture=best.to_json(), params=1, flops=1,
        sequence_length=128, heldout_loss=0.5, latency=measure, files=None,
    )  # fmt: skip
    job = finished(service, make_request(), made=[samples], students=[student])
    (point,) = [one for one in client.frontier(job.id, ["latency"]).points if one.architecture == best.to_json()]
    assert (point.latency_ms, point.latency_predicted) == (7.0, False)


@pytest.mark.parametrize(
    ("costs", "target", "problem"),
    [
        (["latency"], "moon", "measured on cpu-1"),
        (["flops"], "cpu-1", "none of the costs"),
    ],
)
def test_a_latency_that_nothing_tells_of_is_refused_with_the_remedy(client, measured_job, costs, target, problem):
    with pytest.raises(ApiError) as refused:
        client.frontier(measured_job[0].id, costs, latency_target=target)
    (error,) = refused.value.errors
    assert (error.field, error.pointer) == ("latency_target", None)
    assert problem in error.problem and error.remedy


def test_where_nothing_was_measured_the_frontier_over_latency_says_how_to_get_there(client, searched_job):
    with pytest.raises(ApiError) as refused:
        client.frontier(searched_job.id, ["latency"])
    assert "selection with a budget that limits latency" in refused.value.errors[0].remedy


@pytest.mark.parametrize("aim", ["frontier", "budgets"])
def test_a_frontier_of_losses_over_unlike_rows_says_so(client, service, make_request, aim):
    job = finished(service, make_request(), aim=aim)
    assert (client.frontier(job.id).note is not None) == (aim == "budgets")


def test_an_unknown_cost_of_a_frontier_is_refused(client, searched_job):
    with pytest.raises(ApiError) as refused:
        client.frontier(searched_job.id, ["beauty"])
    assert refused.value.problem.status == 422


def test_a_teacher_that_reads_few_tokens_has_its_frontier_and_candidates_by_default(client, service, make_request):
    short = replace(SHAPE, vocabulary=replace(SHAPE.vocabulary, positions=64))
    job = finished(service, make_request(), shape=short)
    front = client.frontier(job.id)
    assert front.sequence_length == 64 and {point.sequence_length for point in front.points} == {64}
    assert {one.sequence_length for one in client.candidates(job.id).candidates} == {64}
    budget = {"name": "x", "max_flops": 10**12}
    assert client.select(job.id, {"budgets": [budget]}).students[0].sequence_length == 64
    with pytest.raises(ApiError, match="at most 64"):
        client.frontier(job.id, sequence_length=128)
