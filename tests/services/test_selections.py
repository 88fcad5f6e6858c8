"""New budgets on a finished compression, and its frontier, over HTTP."""

import statistics
import time

import pytest

from services.client import ApiError
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.store import MAX_PAGE
from tests.services.searched import SHAPE, SPACES, finished, loss_of
from workloads.architecture import Architecture
from workloads.costs import student_cost
from workloads.job_folder import PlanDocument, ResultDocument, StudentDocument


@pytest.fixture
def job(service, make_request):
    return finished(service, make_request())


def test_a_new_budget_is_answered_at_once_with_the_best_that_meets_it(client, job):
    found = client.select(job.id, {"budgets": [{"name": "small", "max_params": 6_000_000}]})
    (student,) = found.students
    within = [one for space in SPACES for one in space.architectures() if student_cost(SHAPE, one).params <= 6_000_000]
    best = min(within, key=loss_of)
    assert Architecture.from_json(student.architecture) == best
    assert (student.status, student.files, found.status) == ("pending", None, JobStatus.QUEUED)
    assert student.weight_bytes["float16"] == 2 * student.params
    assert client.selection(job.id, found.id) == found
    assert found.compression == job.id and not found.provisional


def _best_within(limit):
    shapes = [one for space in SPACES for one in space.architectures()]
    return min((one for one in shapes if student_cost(SHAPE, one).params <= limit), key=loss_of)


@pytest.mark.parametrize("aim", ["frontier", "budgets"])
def test_what_a_search_left_for_its_own_budgets_alone_may_be_chosen_for_others_and_the_answer_says_so(
    client, service, make_request, aim
):
    best = _best_within(6_000_000)
    job = finished(service, make_request(), aim=aim, dropped=[best])
    found = client.select(job.id, {"budgets": [{"name": "small", "max_params": 6_000_000}]})
    chosen = Architecture.from_json(found.students[0].architecture)
    assert (chosen == best) == (aim == "budgets")
    assert (found.note is not None) == (aim == "budgets")


def test_the_students_of_many_selections_are_all_found(client, service, job):
    body = {"budgets": [{"name": "x", "max_params": 10**7}]}
    found = client.select(job.id, body)
    service.storage.write_bytes("artifacts/student/s/builds/b/config.json", b"{}")
    ready = found.students[0].model_copy(update={"status": "ready", "files": "artifacts/student/s/builds/b"})
    service.work.begin_attempt(found.id)
    service.work.end_attempt(
        found.id, 1, AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED,
        result=ResultDocument(status="succeeded", students=[ready]), steps=[],
    )  # fmt: skip
    for _ in range(MAX_PAGE + 1):
        service.store.create({}, "selection", parent=job.id)
    assert client.student(job.id, ready.id).id == ready.id


def test_what_nothing_meets_is_answered_with_the_nearest_and_by_how_much(client, job):
    found = client.select(job.id, {"budgets": [{"name": "none", "max_params": 1_000_000, "max_flops": 10**12}]})
    assert found.students == []
    (missed,) = found.infeasible
    assert missed.nearest[0].misses == {"max_params": pytest.approx(missed.nearest[0].params / 1_000_000)}


def test_the_answer_comes_within_50_ms_without_a_latency_term(client, job):
    budgets = {"budgets": [{"name": "a", "max_params": 9_000_000}, {"name": "b", "max_flops": 200_000_000}]}
    client.select(job.id, budgets)  # reads the scores table
    seconds = []
    for _ in range(20):
        begun = time.perf_counter()
        client.select(job.id, budgets)
        seconds.append(time.perf_counter() - begun)
    assert statistics.median(seconds) < 0.05, seconds


@pytest.mark.parametrize(
    ("selection", "field"),
    [
        ([], "selection"),
        ({}, "budgets"),
        ({"budgets": []}, "budgets"),
        ({"budgets": [{"name": "x"}]}, "budgets.0"),
        ({"budgets": [{"name": "x", "max_params": 0}]}, "budgets.0.max_params"),
        ({"budgets": [{"name": "x", "max_params": -5}]}, "budgets.0.max_params"),
        ({"budgets": [{"name": "x", "max_params": 5, "teacher": 1}]}, "budgets.0.teacher"),
        ({"budgets": [{"name": "x", "max_params": 5}], "seed": 2}, "seed"),
        (
            {"budgets": [{"name": "x", "max_latency_ms": 5, "latency_target": "moon"}]},
            "budgets.0.latency_target",
        ),
    ],
)
def test_a_wrong_selection_is_refused_with_its_field(client, job, selection, field):
    with pytest.raises(ApiError) as refused:
        client.select(job.id, selection)
    assert refused.value.problem.status == 422
    assert [error.field for error in refused.value.errors] == [field]
    assert all(error.remedy for error in refused.value.errors)


def test_an_absurdly_large_budget_is_met_by_the_best_of_all(client, job):
    found = client.select(job.id, {"budgets": [{"name": "x", "max_params": 10**30}]})
    best = min((one for space in SPACES for one in space.architectures()), key=loss_of)
    assert Architecture.from_json(found.students[0].architecture) == best


def test_a_compression_that_has_not_succeeded_has_nothing_to_select_from(client, service, make_request):
    queued = client.submit(make_request())
    with pytest.raises(ApiError) as refused:
        client.select(queued.id, {"budgets": [{"name": "x", "max_params": 10**7}]})
    assert refused.value.errors[0].field == "compression"


def test_a_latency_budget_waits_for_the_measuring(client, job):
    found = client.select(job.id, {"budgets": [{"name": "x", "max_latency_ms": 5, "latency_target": "cpu-1"}]})
    assert found.students == [] and found.infeasible == [] and found.provisional


def test_the_runs_answer_takes_the_place_of_the_first_and_its_files_are_had_under_the_compression(client, service, job):
    found = client.select(job.id, {"budgets": [{"name": "x", "max_params": 10**7}]})
    service.storage.write_bytes("artifacts/student/s/builds/b/config.json", b"{}")
    ready = StudentDocument.model_validate(
        found.students[0].model_dump() | {"status": "ready", "files": "artifacts/student/s/builds/b"}
    )
    service.work.begin_attempt(found.id)
    service.work.end_attempt(
        found.id, 1, AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED,
        result=ResultDocument(status="succeeded", students=[ready]), steps=[],
    )  # fmt: skip
    (student,) = client.selection(job.id, found.id).students
    assert student.status == "ready"
    assert [file.path for file in client.student(job.id, student.id).contents] == ["config.json"]


def test_selections_are_no_compressions(client, job):
    found = client.select(job.id, {"budgets": [{"name": "x", "max_params": 10**7}]})
    assert [one.id for one in client.page().compressions] == [job.id]
    with pytest.raises(ApiError) as refused:
        client.get(found.id)
    assert refused.value.problem.status == 404


def test_the_frontier_is_what_no_other_candidate_beats(client, job):
    front = client.frontier(job.id, ["flops"]).points
    assert [point.heldout_loss for point in front] == sorted((p.heldout_loss for p in front), reverse=True)
    assert [point.flops for point in front] == sorted(point.flops for point in front)
    both = client.frontier(job.id, ["params", "flops"]).points
    assert len(both) >= len({point.flops for point in front})
    everything = [
        (loss_of(one), student_cost(SHAPE, one).params, student_cost(SHAPE, one).flops)
        for space in SPACES
        for one in space.architectures()
    ]
    own = [(point.heldout_loss, point.params, point.flops) for point in both]
    beaten = [
        mine
        for mine in own
        if any(all(a <= b for a, b in zip(other, mine, strict=True)) and other != mine for other in everything)
    ]
    assert beaten == []


def test_all_scored_candidates_are_listed_page_by_page_with_their_costs(client, job):
    expected = [(space.name, one) for space in SPACES for one in space.architectures()]
    found, after = [], "0"
    while after is not None:
        page = client.candidates(job.id, limit=len(expected) // 2 - 1, after=after, sequence_length=64)
        found += page.candidates
        after = page.next
    assert [(one.subspace, Architecture.from_json(one.architecture)) for one in found] == expected
    for one in found:
        architecture = Architecture.from_json(one.architecture)
        assert one.flops == student_cost(SHAPE, architecture, 64).flops
        assert (one.heldout_loss, one.spread) == (loss_of(architecture), 0.0)
        assert (one.rows, one.rung, one.dropped_by) == (64, 0, None)


def test_candidates_of_a_compression_without_scores_are_refused(client, make_request):
    queued = client.submit(make_request())
    with pytest.raises(ApiError, match="no scores yet"):
        client.candidates(queued.id)


def test_a_compression_goes_with_its_selections_and_the_scores_stay(client, service, job, make_request):
    selection = client.select(job.id, {"budgets": [{"name": "x", "max_params": 10**7}]})
    with pytest.raises(ApiError) as refused:
        client.delete(job.id)
    assert refused.value.problem.status == 409 and selection.id in str(refused.value)
    client.cancel(selection.id)
    client.delete(job.id)
    assert client.page().compressions == []
    again = finished(service, make_request())
    assert client.candidates(again.id, limit=1).candidates


def test_an_unknown_cost_of_a_frontier_is_refused(client, job):
    with pytest.raises(ApiError) as refused:
        client.frontier(job.id, ["beauty"])
    assert refused.value.problem.status == 422


def test_a_compression_says_what_its_plan_had_said(client, service, make_request):
    request = make_request()
    queued = client.plan(request)
    assert queued.id.startswith("pln_") and queued.plan is None
    plan = PlanDocument(
        candidates={"tiny": 4}, budgets=[], steps=[], seconds=60.0, device_hours=0.1, device="CPU core",
        calibration_seconds=3.0,
    )  # fmt: skip
    service.work.begin_attempt(queued.id)
    service.work.end_attempt(
        queued.id, 1, AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED,
        result=ResultDocument(status="succeeded", plan=plan), steps=[],
    )  # fmt: skip
    assert client.planned(queued.id).plan == plan
    job = finished(service, request)
    planned = client.get(job.id).planned
    assert planned is not None and (planned.plan, planned.seconds) == (queued.id, 60.0)
    assert planned.took_seconds == 90.0 and planned.error == pytest.approx(0.5)
