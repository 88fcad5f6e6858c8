"""Evaluations on the page: the form, the progress, and the results beside the student."""

import pytest
from playwright.sync_api import expect

from services.jobs.records import AttemptEnd
from services.jobs.states import AttemptStatus, JobStatus
from tests.services.dashboard.runs import finished_with_students
from workloads.documents.job_folder import JobFolder, ProgressDocument, ResultDocument, StepDocument, now
from workloads.spec.evaluation import BaselineDocument, EvaluationResult, SeedScore


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "reviews.csv"
    file.write_text("text,label\ngood,1\nbad,0\n")
    return str(file)


def _result(scores):
    seeds = [
        SeedScore(
            seed=seed, score=score, epoch=1, learning_rate=5e-5, validation_score=score, scores={"accuracy": score},
            device="CPU", seconds=1, files=f"artifacts/evaluation-model/{seed}/builds/evl_x-1" if seed else None,
        )
        for seed, score in enumerate(scores)
    ]  # fmt: skip
    return EvaluationResult(
        task="reviews", metric="accuracy", mean=0.85, std=0.0707, seeds=seeds, scored_on="test", rows=2,
        baseline=BaselineDocument(answer=1, score=0.5, scores={"accuracy": 0.5}), train_rows=2, set_aside_rows=0,
        rows_in_training=0, params=1, fingerprint="f", seconds=2,
    )  # fmt: skip


def _fill(page, file):
    page.get_by_label("Name").fill("reviews")
    page.get_by_label("Files to train on").fill(file)
    page.get_by_label("Files to score on").fill(file)


def test_a_student_is_evaluated_from_its_card_and_followed_to_its_scores(
    client, service, make_request, file, open_page
):
    job = finished_with_students(service, make_request())
    page = open_page(f"{client.server}/#/compressions/{job.id}")
    page.get_by_role("link", name="Evaluate edge").click()
    _fill(page, "/nowhere.csv")
    page.get_by_label("Seeds").fill("0 1")
    page.get_by_role("button", name="Evaluate").click()
    train = page.get_by_label("Files to train on")
    expect(train).to_have_attribute("aria-invalid", "true")
    expect(train).to_be_focused()
    _fill(page, file)
    page.get_by_role("button", name="Evaluate").click()
    expect(page.locator(".head .badge")).to_have_text("queued")
    (evaluation,) = client.evaluations().evaluations
    assert page.url.endswith(f"#/evaluations/{evaluation.id}")
    asked = evaluation.request
    assert (asked["model"]["student"], asked["task"]["test"], asked["seeds"]) == ("stu_one", [file], [0, 1])
    service.work.begin_attempt(evaluation.id)
    steps = [StepDocument(name="seed-0", status="running", done=3, total=6, unit="steps")]
    JobFolder(service.storage, evaluation.id).write_progress(1, ProgressDocument(updated_at=now(), steps=steps))
    expect(page.locator("[data-step=seed-0] .numbers")).to_have_text("50 %, 3 of 6 steps")
    service.work.end_attempt(
        evaluation.id,
        1,
        AttemptEnd(
            AttemptStatus.SUCCEEDED,
            None,
            JobStatus.SUCCEEDED,
            result=ResultDocument(status="succeeded", evaluation=_result((0.8, 0.9))),
            steps=[],
        ),
    )
    expect(page.get_by_text("accuracy 0.85 ± 0.071")).to_be_visible()
    expect(page.get_by_role("row", name="1 0.9 accuracy 0.9")).to_be_visible()
    expect(page.locator("section", has_text="Fine-tuned models").locator("tbody tr")).to_have_count(1)
    expect(page.get_by_role("button", name="Download the model of seed 1")).to_be_visible()
    page.get_by_role("link", name="stu_one").click()
    student = page.locator("[data-student=stu_one]")
    expect(student).to_contain_text("reviews: accuracy 0.85 ± 0.071")
    page.goto(f"{client.server}/#/evaluations")
    expect(page.locator("tbody tr")).to_contain_text("accuracy 0.85 ± 0.071")
    page.get_by_role("link", name="reviews").click()
    expect(page.locator(".head .badge")).to_have_text("succeeded")


def test_another_model_is_evaluated_cancelled_resumed_and_forgotten(client, service, file, open_page):
    page = open_page(f"{client.server}/#/evaluations")
    page.get_by_role("link", name="Evaluate a model").click()
    page.get_by_label("Model", exact=False).first.fill("someone/some-hub-model")
    _fill(page, file)
    page.get_by_role("button", name="Evaluate").click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the evaluation").click()
    expect(page.locator(".head .badge")).to_have_text("cancelled")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".head .badge")).to_have_text("queued")
    (evaluation,) = client.evaluations().evaluations
    service.cancel(evaluation.id)
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete the evaluation").click()
    page.get_by_text("Nothing has been evaluated yet.").wait_for()
