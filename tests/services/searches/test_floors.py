"""Selections with floors of fidelity, over HTTP: answered from the scores table, refused, or checked as exported."""

from dataclasses import replace

import pytest

from services.client import ApiError
from services.jobs.states import JobStatus
from tests.services.searched import SHAPE, SPACES, finished, make_student
from workloads.shapes.architecture import Architecture
from workloads.shapes.costs import student_cost
from workloads.shapes.heads import LogitsHead

CLASSIFIER = replace(SHAPE, vocabulary=replace(SHAPE.vocabulary, head=LogitsHead("classification", 2)))
SAFE = {"name": "safe", "min_agreement": 0.97, "minimise": "params"}


def agreement(architecture):
    """Grows with the parameters, up to 1."""
    return 1 - 3e5 / student_cost(CLASSIFIER, architecture).params


def cheapest(least):
    shapes = [(space.name, one) for space in SPACES for one in space if agreement(one) >= least]
    return min(shapes, key=lambda item: student_cost(CLASSIFIER, item[1]).params)


@pytest.fixture
def job(service, make_request):
    return finished(service, make_request(), shape=CLASSIFIER, agreement=agreement)


def test_the_smallest_candidate_above_a_floor_is_chosen_until_a_run_has_checked_it(client, job):
    found = client.select(job.id, {"budgets": [SAFE, {"name": "any", "max_params": 10**9}]})
    smallest, any_size = found.students
    assert (smallest.subspace, Architecture.from_json(smallest.architecture)) == cheapest(0.97)
    assert smallest.params < any_size.params
    assert (smallest.fidelity, found.status, found.provisional) == (None, JobStatus.QUEUED, True)
    plain = client.select(job.id, {"budgets": [{"name": "any", "max_params": 10**9}]})
    assert not plain.provisional


def test_a_made_student_answers_a_floor_at_once_if_it_reaches_it_as_exported(client, service, job):
    space, shape = cheapest(0.97)
    scores = job.result.artifacts["scores"][0]
    fidelity = {"rows": 2000, "agreement": 0.975, "interval": {"agreement": [0.96, 0.98]}}
    made = make_student(service.storage, scores, space, shape, fidelity)
    found = client.select(job.id, {"budgets": [SAFE]})
    assert (found.status, found.provisional) == (JobStatus.SUCCEEDED, False)
    assert found.students[0].fidelity.agreement == 0.975
    assert found.students[0].files.endswith(made.files)


def test_a_made_student_that_fails_as_exported_needs_a_run(client, service, job):
    space, shape = cheapest(0.97)
    fidelity = {"rows": 2000, "agreement": 0.96}
    make_student(service.storage, job.result.artifacts["scores"][0], space, shape, fidelity)
    found = client.select(job.id, {"budgets": [SAFE]})
    assert (found.status, found.provisional) == (JobStatus.QUEUED, True)


def test_a_floor_that_nothing_reaches_tells_the_nearest_and_what_it_lacks(client, job):
    found = client.select(job.id, {"budgets": [SAFE | {"min_agreement": 1.0}]})
    best = max(agreement(one) for space in SPACES for one in space)
    nearest = found.infeasible[0].nearest[0]
    assert nearest.misses == {"min_agreement": pytest.approx(2 - best)}
    assert nearest.fidelity == {"agreement": pytest.approx(best), "kl": 0.1}


def test_candidates_and_frontier_show_the_fidelity_in_the_superlm(client, job):
    for entry in (client.candidates(job.id).candidates[0], client.frontier(job.id).points[0]):
        assert entry.fidelity["agreement"] == pytest.approx(agreement(Architecture.from_json(entry.architecture)))


@pytest.mark.parametrize("floor", ["min_cosine", "min_neighbours", "min_spearman"])
def test_a_floor_of_another_kind_is_refused_with_those_that_there_are(client, job, floor):
    with pytest.raises(ApiError) as caught:
        client.select(job.id, {"budgets": [{"name": "a", "max_params": 1}, {"name": "x", floor: 0.5}]})
    (finding,) = caught.value.problem.errors
    assert (finding.pointer, "min_agreement" in finding.remedy) == (f"/budgets/1/{floor}", True)


def test_a_floor_on_an_encoder_is_refused(client, searched_job):
    with pytest.raises(ApiError) as caught:
        client.select(searched_job.id, {"budgets": [SAFE]})
    assert caught.value.problem.errors[0].pointer == "/budgets/0/min_agreement"
    assert client.candidates(searched_job.id).candidates[0].fidelity is None
