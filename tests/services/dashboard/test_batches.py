"""Batches and evaluations on the page."""

import csv

import httpx
import pytest
from playwright.sync_api import expect

from services.jobs.states import AttemptStatus, JobStatus
from tests.services.dashboard.runs import LiveRun, finish_with_students, finished_with_students
from workloads.evaluation_spec import BaselineDocument, EvaluationResult, SeedScore
from workloads.job_folder import ResultDocument


@pytest.fixture
def batch(client, make_request):
    common = make_request()
    teachers = [{"teacher": {"model": f"someone/teacher-{number}"}} for number in range(3)]
    body = {"name": "three teachers", "common": common, "compressions": teachers, "labels": {"team": "search"}}
    answer = httpx.post(f"{client.server}/v1/batches", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()


def test_a_batch_shows_each_compression_s_state_and_the_results_across_teachers(
    client, service, batch, open_page, tmp_path
):
    first, second, _ = (one["id"] for one in batch["compressions"])
    page = open_page(f"{client.server}/#/batches")
    expect(page.locator("tbody tr")).to_contain_text("3 queued")
    page.get_by_role("link", name="three teachers").click()
    expect(page.locator("tbody .badge")).to_have_text(["queued"] * 3)
    service.work.begin_attempt(second)
    LiveRun(service.storage, second).trained(250)
    finish_with_students(service, first)
    expect(page.locator("section", has_text="Compressions").locator("tbody .badge")).to_have_text(
        ["succeeded", "running", "queued"]
    )
    expect(page.get_by_role("row", name=second)).to_contain_text("25 % · train-tiny")
    results = page.locator("section", has=page.get_by_role("heading", name="Results"))
    expect(results.locator("tbody tr")).to_have_count(3)
    expect(results.locator("tbody tr").first).to_contain_text("someone/teacher-0")
    expect(results.locator("tbody tr").last).to_contain_text("none meets it")
    with page.expect_download() as begun:
        results.get_by_role("button", name="Save as CSV").click()
    begun.value.save_as(tmp_path / "results.csv")
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["budget"] for row in rows] == ["edge", "best", "impossible"]


def test_a_batch_is_cancelled_retried_and_deleted_from_its_page(client, batch, open_page):
    page = open_page(f"{client.server}/#/batches/{batch['id']}")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the batch").click()
    expect(page.locator(".head .badge")).to_have_text("cancelled")
    page.get_by_role("button", name="Retry what failed").click()
    expect(page.locator(".head .badge")).to_have_text("queued")
    httpx.post(f"{client.server}/v1/batches/{batch['id']}/cancel")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete the batch").click()
    page.get_by_text("No batch has been submitted yet.").wait_for()


def test_compressions_of_a_batch_are_found_by_it(client, batch, make_request, open_page):
    client.submit(make_request())
    page = open_page(f"{client.server}/#/batches/{batch['id']}")
    page.get_by_role("link", name="Its compressions").click()
    expect(page.get_by_label("Batch")).to_have_value(batch["id"])
    expect(page.locator("tbody tr")).to_have_count(3)


def test_evaluations_stand_in_their_list_and_at_their_student(client, service, make_request, tmp_path, open_page):
    job = finished_with_students(service, make_request())
    file = tmp_path / "reviews.csv"
    file.write_text("text,label\ngood,1\nbad,0\n")
    task = {
        "name": "reviews", "kind": "single", "train": [str(file)], "validation": [str(file)], "text_columns": ["text"],
    }  # fmt: skip
    body = {"model": {"compression": job.id, "student": "stu_one"}, "task": task, "seeds": [0, 1]}
    answer = httpx.post(f"{client.server}/v1/evaluations", json=body)
    assert answer.status_code == 202, answer.text
    evaluation = answer.json()["id"]
    page = open_page(f"{client.server}/#/evaluations")
    expect(page.locator("tbody tr")).to_contain_text("reviews")
    expect(page.locator("tbody .badge")).to_have_text("queued")
    scores = [
        SeedScore(
            seed=seed, score=score, epoch=1, learning_rate=5e-5, validation_score=score, scores={"accuracy": score},
            device="CPU", seconds=1,
        )
        for seed, score in enumerate((0.8, 0.9))
    ]  # fmt: skip
    result = EvaluationResult(
        task="reviews", metric="accuracy", mean=0.85, std=0.0707, seeds=scores, scored_on="validation", rows=2,
        baseline=BaselineDocument(answer=1, score=0.5, scores={"accuracy": 0.5}), train_rows=2, set_aside_rows=0,
        rows_in_training=0, params=1, fingerprint="f", seconds=2,
    )  # fmt: skip
    service.work.begin_attempt(evaluation)
    service.work.end_attempt(
        evaluation, 1, AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED,
        result=ResultDocument(status="succeeded", evaluation=result), steps=[],
    )  # fmt: skip
    expect(page.locator("tbody tr")).to_contain_text("accuracy 0.85 ± 0.071")
    page.get_by_role("link", name="stu_one").click()
    expect(page.locator("[data-student=stu_one]")).to_contain_text("reviews: accuracy 0.85 ± 0.071")
