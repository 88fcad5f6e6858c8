"""Batches on the page."""

import csv

import httpx
import pytest
from playwright.sync_api import expect

from tests.services.dashboard.runs import LiveRun, finish_with_students


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


def test_a_batch_is_submitted_from_its_form_with_errors_at_their_fields(client, service, text, open_page):
    page = open_page(f"{client.server}/#/batches")
    page.get_by_role("link", name="Submit a batch").click()
    page.get_by_label("Name", exact=True).first.fill("three")
    page.get_by_label("Teachers").fill("/nowhere/at/all\nsomeone/teacher-1")
    page.get_by_label("Files").fill("/nowhere/at/all.txt")
    page.get_by_label("Most parameters").fill("8M")
    page.get_by_role("button", name="Submit the batch").click()
    for field, problem in {"Teachers": "/nowhere/at/all", "Files": "/nowhere/at/all.txt"}.items():
        expect(page.get_by_label(field)).to_have_attribute("aria-invalid", "true")
        expect(page.locator(".field", has=page.get_by_label(field)).locator(".problem")).to_contain_text(problem)
    expect(page.get_by_label("Teachers")).to_be_focused()
    page.get_by_label("Teachers").fill("someone/teacher-0\nsomeone/teacher-1")
    page.get_by_label("Files").fill(str(text))
    page.get_by_label("At the same time").fill("1")
    page.keyboard.press("Enter")
    expect(page.locator("tbody .badge")).to_have_text(["queued"] * 2)
    (batch,) = service.batches.page()
    assert (batch.name, batch.max_running) == ("three", 1)
    assert [one.teacher for one in service.batches.members(batch.id)] == [
        "someone/teacher-0",
        "someone/teacher-1",
    ]
