"""New budgets on a finished compression, and its frontier, over HTTP."""

import statistics
import time

import pytest

from services.access.quotas import QuotaExceededError
from services.client import ApiError
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.store import MAX_PAGE
from services.jobs.work import Limits
from services.service import Service
from services.settings import load_settings
from tests.services.searched import SHAPE, SPACES, finished, loss_of, make_samples, make_student, make_task_scores
from workloads.architecture import Architecture
from workloads.costs import student_cost
from workloads.job_folder import PlanDocument, ResultDocument, StudentDocument
from workloads.latency import BUILT_IN_TARGETS, LatencyMeasure

LONG = {"name": "long", "sequence_length": 513}


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
    assert client.selection(found.id) == found
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


@pytest.mark.parametrize(
    ("budget", "targets", "field"),
    [
        ({"max_latency_ms": 50, "latency_target": "long"}, [LONG], "budgets.0.latency_target"),
        ({"max_flops": 10**9, "sequence_length": 513}, [], "budgets.0.sequence_length"),
    ],
)
def test_more_tokens_than_the_teacher_reads_are_refused_at_once(client, job, budget, targets, field):
    with pytest.raises(ApiError) as refused:
        client.select(job.id, {"budgets": [{"name": "x"} | budget], "latency_targets": targets})
    (error,) = refused.value.errors
    assert (refused.value.problem.status, error.field) == (422, field)
    assert "at most 512" in error.remedy
    assert client.selections(job.id).selections == []


@pytest.mark.parametrize("ask", ["frontier", "candidates"])
def test_costs_at_more_tokens_than_the_teacher_reads_are_refused(client, job, ask):
    with pytest.raises(ApiError) as refused:
        getattr(client, ask)(job.id, sequence_length=513)
    (error,) = refused.value.errors
    assert (error.field, error.pointer) == ("sequence_length", None)


def test_each_budget_is_answered_by_itself_and_one_that_waits_for_measuring_is_named(client, service, job):
    budgets = [
        {"name": "a", "max_params": 6_000_000},
        {"name": "z", "max_params": 10},
        {"name": "b", "max_latency_ms": 5, "latency_target": "cpu-1-onnx"},
    ]
    found = client.select(job.id, {"budgets": budgets})
    assert [one.budget for one in found.students] == ["a"]
    assert [one.budget for one in found.infeasible] == ["z"]
    assert (found.unanswered, found.provisional, found.status) == (["b"], True, JobStatus.QUEUED)
    service.work.begin_attempt(found.id)
    service.work.end_attempt(
        found.id, 1, AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED,
        result=ResultDocument(status="succeeded"), steps=[],
    )  # fmt: skip
    assert client.selection(found.id).unanswered == []


def test_a_latency_budget_is_answered_from_what_the_compression_has_measured(client, service, make_request):
    shapes = [one for space in SPACES for one in space.architectures()]
    times = {one: (student_cost(SHAPE, one).flops / 1e8, True) for one in shapes[::9]}
    job = finished(service, make_request(), made=[make_samples(service.storage, BUILT_IN_TARGETS["cpu-1"], times)])
    found = client.select(job.id, {"budgets": [{"name": "x", "max_latency_ms": 1.0, "latency_target": "cpu-1"}]})
    (student,) = found.students
    assert student.flops <= 1.02e8 and found.provisional and found.unanswered == []


def test_a_selection_that_leaves_nothing_to_make_has_succeeded_at_once(client, service, job):
    found = client.select(job.id, {"budgets": [{"name": "none", "max_params": 10}]})
    assert (found.status, found.students, found.provisional) == (JobStatus.SUCCEEDED, [], False)
    assert [one.budget for one in found.infeasible] == ["none"] and found.finished_at is not None
    assert client.selection(found.id) == found
    assert service.work.start_next(Limits(1)) is None


def test_a_selection_whose_files_are_there_has_succeeded_at_once(client, service, job):
    best = _best_within(6_000_000)
    space = next(space.name for space in SPACES if best in set(space.architectures()))
    budgets = {"budgets": [{"name": "small", "max_params": 6_000_000}, {"name": "big", "max_params": 10**9}]}
    made = make_student(service.storage, job.result.artifacts["scores"][0], space, best)
    assert client.select(job.id, budgets).status is JobStatus.QUEUED  # the other student's are not
    found = client.select(job.id, {"budgets": budgets["budgets"][:1]})
    (student,) = found.students
    assert (found.status, student.status) == (JobStatus.SUCCEEDED, "ready")
    assert [file.path for file in client.student(job.id, student.id).contents] == ["config.json"]
    assert service.store.get(found.id).result.artifacts == {"student": [made.fingerprint]}


def test_what_needs_no_run_counts_for_no_quota(tmp_path, make_request):
    settings = load_settings(storage=str(tmp_path), ray_address="http://127.0.0.1:9", tenant_max_unfinished=1)
    service = Service(settings)
    try:
        job = finished(service, make_request())
        service.select(job, {"budgets": [{"name": "x", "max_params": 10**7}]})
        with pytest.raises(QuotaExceededError):
            service.select(job, {"budgets": [{"name": "y", "max_params": 10**7}]})
        assert service.select(job, {"budgets": [{"name": "y", "max_params": 10}]}).status is JobStatus.SUCCEEDED
    finally:
        service.close()


def _on_a_task(make_request, text, candidates):
    return make_request() | {
        "proxy_task": {
            "train": [str(text)], "validation": [str(text)], "text_columns": ["text"], "candidates": candidates
        }
    }  # fmt: skip


def test_the_compressions_task_scores_rank_the_candidates_that_have_one(client, service, make_request, text):
    every = [(space.name, one) for space in SPACES for one in space.architectures()]
    small = sorted(
        (one for one in every if student_cost(SHAPE, one[1]).params <= 6_000_000), key=lambda o: loss_of(o[1])
    )
    known = {small[0]: 0.5, small[1]: 0.9, small[2]: 0.4}
    job = finished(service, _on_a_task(make_request, text, 3), made=[make_task_scores(service.storage, known)])
    budget = {"name": "small", "max_params": 6_000_000}
    (student,) = (found := client.select(job.id, {"budgets": [budget]})).students
    assert (Architecture.from_json(student.architecture), student.task_score) == (small[1][1], 0.9)
    assert not found.provisional  # a run would find just these scores
    other = client.select(job.id, {"budgets": [budget, {"name": "any", "max_params": 10**9}]})
    assert [one.task_score for one in other.students] == [0.9, None]
    assert other.provisional  # the other budget's candidates are still to be fine-tuned


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
    (student,) = client.selection(found.id).students
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
    client.cancel_selection(selection.id)
    client.delete(job.id)
    assert client.page().compressions == []
    again = finished(service, make_request())
    assert client.candidates(again.id, limit=1).candidates


@pytest.fixture
def measured_job(service, make_request):
    """A compression with the latencies of some candidates, of which the first measures disagree."""
    shapes = [one for space in SPACES for one in space.architectures()]
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
    best = max(
        (one for space in SPACES for one in space.architectures()), key=lambda one: student_cost(SHAPE, one).flops
    )
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
        (["latency"], "moon", "measured are cpu-1"),
        (["flops"], "cpu-1", "none of the costs"),
    ],
)
def test_a_latency_that_nothing_tells_of_is_refused_with_the_remedy(client, measured_job, costs, target, problem):
    with pytest.raises(ApiError) as refused:
        client.frontier(measured_job[0].id, costs, latency_target=target)
    (error,) = refused.value.errors
    assert (error.field, error.pointer) == ("latency_target", None)
    assert problem in error.problem and error.remedy


def test_where_nothing_was_measured_the_frontier_over_latency_says_how_to_get_there(client, job):
    with pytest.raises(ApiError) as refused:
        client.frontier(job.id, ["latency"])
    assert "selection with a budget that limits latency" in refused.value.errors[0].remedy


@pytest.mark.parametrize("aim", ["frontier", "budgets"])
def test_a_frontier_of_losses_over_unlike_rows_says_so(client, service, make_request, aim):
    job = finished(service, make_request(), aim=aim)
    assert (client.frontier(job.id).note is not None) == (aim == "budgets")


def test_costs_are_counted_once_for_each_length(service, job):
    known = service.searches.known(job)
    shapes = [one.architecture for one in known.choosable]
    counted = [known.cost_of(one, 64) for one in shapes]
    assert counted == [student_cost(SHAPE, one, 64) for one in shapes]
    assert all(known.cost_of(one, 64) is cost for one, cost in zip(shapes, counted, strict=True))
    foreign = Architecture.from_json(shapes[0].to_json())
    assert known.cost_of(foreign, 64) == counted[0]


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
