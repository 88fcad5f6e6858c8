"""A compression while it runs, seen from the page."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from services.jobs.records import AttemptEnd, NewJob
from services.jobs.states import AttemptStatus, JobStatus
from services.service import Service
from services.settings import load_settings
from tests.services.conftest import wait_until
from tests.services.dashboard.runs import LiveRun, finished_with_students
from workloads.storage.storage import Storage


def _url(client, job):
    return f"{client.server}/#/compressions/{job}"


def test_progress_moves_by_itself_and_each_superlm_has_its_own_curve(client, live_run, open_page):
    live_run.tell("started", "Attempt 1 of a compression.")
    live_run.trained(100)
    page = open_page(_url(client, live_run.id))
    tiny = page.locator("[data-step=train-tiny]")
    expect(tiny.locator(".numbers")).to_have_text("10 %, 100 of 1 k tokens · 12.5 tokens a second · 1 min 12 s left")
    expect(page.locator(".superlms .step")).to_have_count(2)
    live_run.trained(400)
    live_run.trained(800)
    expect(tiny.locator(".numbers")).to_contain_text("80 %")
    for name in ("tiny", "small"):
        drawn = page.get_by_role("img", name=f"Loss of {name}")
        expect(drawn).to_have_accessible_name(f"Loss of {name} over 800 tokens: largest 0.00125, smallest 0.0025")
    expect(page.locator(".badge").first).to_have_text("running")
    so_far = page.locator(".facts div", has_text="So far")
    before = so_far.inner_text()
    expect(so_far).not_to_have_text(before, use_inner_text=True)


def test_a_step_that_stands_still_says_for_how_long_and_claims_no_rate(client, live_run, open_page):
    live_run.trained(100, advanced_at=(datetime.now(UTC) - timedelta(minutes=20)).isoformat())
    numbers = open_page(_url(client, live_run.id)).locator("[data-step=train-tiny] .numbers")
    expect(numbers).to_contain_text("no news for 20 min")
    expect(numbers).not_to_contain_text("12.5 tokens a second")


def test_a_later_attempt_draws_on_from_its_checkpoint(client, service, live_run, open_page):
    for done in (100, 400, 800):
        live_run.trained(done)
    page = open_page(_url(client, live_run.id))
    service.work.end_attempt(live_run.id, 1, AttemptEnd(AttemptStatus.LOST, "The node went away.", JobStatus.QUEUED))
    service.work.begin_attempt(live_run.id)
    LiveRun(service.storage, live_run.id, attempt=2).trained(500)
    expect(page.get_by_role("img", name="Loss of tiny")).to_have_accessible_name(
        "Loss of tiny over 500 tokens: largest 0.002, smallest 0.00399"
    )
    expect(page.locator(".head")).to_contain_text("attempt 2")


def test_the_log_is_loaded_when_opened_and_on_request(client, service, finished_job, open_page):
    page = open_page(_url(client, finished_job.id))
    part = page.locator("details.log")
    part.locator("summary").click()
    expect(part.locator("p.problem")).to_contain_text("attempt 2")
    service.storage.write_bytes(f"jobs/{finished_job.id}/attempts/2/driver.log", b"<b>hello</b>\n")
    part.get_by_role("button", name="Refresh").click()
    expect(part.locator("pre")).to_have_text("<b>hello</b>")


def test_plans_and_selections_have_their_log_too(client, service, make_request, open_page):
    parent = finished_with_students(service, make_request())
    plan = service.plan(make_request(other=1)).id
    selection = service.store.create(NewJob(parent.request, "selection", parent=parent.id)).id
    for job in (plan, selection):
        service.work.begin_attempt(job)
        service.storage.write_bytes(f"jobs/{job}/attempts/1/driver.log", f"{job} says hello\n".encode())
        service.work.end_attempt(job, 1, AttemptEnd(AttemptStatus.FAILED, "It failed.", JobStatus.FAILED))
    page = open_page(f"{client.server}/#/plans/{plan}")
    page.locator("details.log summary").click()
    expect(page.locator("details.log pre")).to_have_text(f"{plan} says hello")
    page.goto(_url(client, parent.id))
    part = page.locator(f"[data-selection={selection}] details.log")
    part.locator("summary").click()
    expect(part.locator("pre")).to_have_text(f"{selection} says hello")


def test_the_list_says_how_ray_is(client, open_page):
    line = open_page(client.server).locator("#cluster span")
    expect(line).to_have_text("Ray is unavailable")
    assert "does not answer" in line.get_attribute("title")


def test_the_reason_stands_apart_from_the_status_and_names_field_and_remedy(client, service, live_run, open_page):
    page = open_page(_url(client, live_run.id))
    service.work.end_attempt(
        live_run.id, 1, AttemptEnd(AttemptStatus.FAILED, "The corpus holds no text.", JobStatus.FAILED)
    )
    expect(page.locator(".head .badge")).to_have_text("failed")
    expect(page.locator(".head .reason")).to_have_text("Why: The corpus holds no text.")
    expect(page.locator("#live")).to_have_text(f"{live_run.id} is failed.")


def test_cancel_resume_and_delete_ask_where_something_is_lost(client, service, make_request, open_page):
    job = client.submit(make_request())
    page = open_page(_url(client, job.id))
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Keep it").click()
    assert client.get(job.id).status == JobStatus.QUEUED
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the compression").click()
    expect(page.locator(".head .badge")).to_have_text("cancelled")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".head .badge")).to_have_text("queued")
    client.cancel(job.id)
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete the compression").click()
    page.get_by_text("Nothing has been compressed here yet.").wait_for()


def test_a_compression_that_is_not_there_is_said_to_be_so(client, open_page):
    page = open_page(_url(client, "cmp_nothing"))
    page.get_by_text("There is no compression cmp_nothing").wait_for()


@contextmanager
def _served(storage: Path, port: int):
    """Run the real command, and kill it at the end, like a machine that loses power."""
    program = Path(sys.executable).with_name("stillroom")
    environment = os.environ | {"STILLROOM_INSECURE_LOCAL": "true"}
    command = [program, "serve", "--storage", storage, "--port", str(port), "--ray-address", "http://127.0.0.1:9"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is None and _answers(port), 60, "starting the service")
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _answers(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def storage_with_a_run(tmp_path, make_request):
    folder = tmp_path / "storage"
    service = Service(load_settings(storage=str(folder), ray_address="http://127.0.0.1:9"))
    job = service.store.create(NewJob(make_request()))
    service.work.begin_attempt(job.id)
    service.close()
    return folder, LiveRun(Storage.open(str(folder)), job.id)


def test_a_page_outlives_the_service_and_loses_no_event(storage_with_a_run, unused_port, open_page):
    folder, run = storage_with_a_run
    with _served(folder, unused_port):
        run.tell("note", "first")
        run.trained(100)
        page = open_page(f"http://127.0.0.1:{unused_port}/#/compressions/{run.id}")
        events = page.locator(".events li")
        expect(events).to_have_count(1)
        expect(page.get_by_role("img", name="Loss of tiny over 100 tokens")).to_be_visible()
    expect(page.get_by_role("alert").filter(has_text="The service does not answer")).to_be_visible()
    run.tell("note", "while it was gone")
    run.trained(500)
    with _served(folder, unused_port):
        expect(page.locator("#connection")).to_be_hidden()
        run.tell("note", "after")
        expect(events).to_have_count(3)
        assert [text.split()[-1] for text in events.all_text_contents()] == ["first", "gone", "after"]
        expect(page.get_by_role("img", name="Loss of tiny over 500 tokens")).to_be_visible()
        run.trained(900)
        expect(page.locator("[data-step=train-tiny] .numbers")).to_contain_text("90 %")
