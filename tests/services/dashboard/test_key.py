"""The page of a service that requires keys."""

import re
import tarfile

import pytest
from playwright.sync_api import expect

from services.access.caller import Scope
from services.jobs.records import NewJob
from services.service import Service
from services.settings import load_settings
from tests.services.conftest import serving
from tests.services.dashboard.runs import LiveRun, finished_with_students


@pytest.fixture
def keyed(tmp_path):
    settings = {"storage": str(tmp_path / "storage"), "ray_address": "http://127.0.0.1:9", "insecure_local": False}
    service = Service(load_settings(**settings))
    service.start()
    yield service
    service.close()


@pytest.fixture
def server(keyed):
    with serving(keyed) as client:
        yield client.server


@pytest.fixture
def key(keyed):
    """A key of the tenant that the tests' jobs belong to."""
    return keyed.keys.create("local", {Scope.READ, Scope.SUBMIT})[1]


def _give(page, key):
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")


def test_a_key_is_asked_for_once_and_kept_for_the_tab_alone(server, key, open_page):
    page = open_page(server)
    for _ in range(3):
        page.keyboard.press("Escape")
    _give(page, f"{key[:-3]}xyz")
    expect(page.locator("#key-problem")).not_to_be_empty()
    _give(page, key)
    page.get_by_text("Nothing has been compressed here yet.").wait_for()
    expect(page.locator("#caller")).to_contain_text("local")
    page.reload()
    page.get_by_text("Nothing has been compressed here yet.").wait_for()
    kept = page.evaluate(
        "[document.cookie, JSON.stringify(localStorage), location.href, Object.values(sessionStorage)]"
    )
    assert kept == ["", "{}", f"{server}/", [key]]
    page.get_by_role("button", name="Forget key").click()
    expect(page.get_by_label("API key")).to_be_focused()


def test_progress_comes_live_with_a_key_too(server, keyed, key, make_request, open_page):
    job = keyed.work.begin_attempt(keyed.store.create(NewJob(make_request())).id)
    run = LiveRun(keyed.storage, job.id)
    page = open_page(f"{server}/#/compressions/{job.id}")
    _give(page, key)
    run.trained(300)
    expect(page.get_by_role("img", name="Loss of tiny over 300 tokens")).to_be_visible()
    run.trained(600)
    expect(page.get_by_role("img", name="Loss of tiny over 600 tokens")).to_be_visible()


def _download(page, place):
    with page.expect_download() as begun:
        page.get_by_role("button", name="Download edge").click()
    begun.value.save_as(place)
    with tarfile.open(place) as archive:
        assert archive.getmember("stu_one/model.safetensors").size == 32 << 20
    assert begun.value.suggested_filename == "stu_one.tar"
    return begun.value.url


@pytest.fixture
def large(keyed, make_request):
    job = finished_with_students(keyed, make_request())
    keyed.storage.write_bytes("artifacts/student/one/builds/b/model.safetensors", bytes(32 << 20))
    return f"/#/compressions/{job.id}"


def test_a_download_with_a_key_goes_past_the_page_s_memory(server, large, key, open_page, tmp_path):
    page = open_page(server + large)
    _give(page, key)
    url = _download(page, tmp_path / "student.tar")
    assert "/static/download/" in url and key not in url


def test_a_download_works_where_the_browser_allows_no_worker(server, large, key, open_page, tmp_path):
    page = open_page(server)
    page.add_init_script("Object.defineProperty(navigator, 'serviceWorker', {value: undefined})")
    page.goto(server + large)
    page.reload()
    _give(page, key)
    assert _download(page, tmp_path / "student.tar").startswith("blob:")


def test_pictures_are_shown_with_a_key_too(server, large, key, open_page):
    page = open_page(server + large)
    _give(page, key)
    picture = page.locator("figure img")
    picture.scroll_into_view_if_needed()
    expect(picture).to_have_attribute("src", re.compile("^blob:"))
    page.wait_for_function("document.querySelector('figure img').naturalWidth === 40")
    page.get_by_text("The frontier as a picture").click()
    expect(page.get_by_role("link", name="Save")).to_have_text(["Save frontier.png", "Save frontier.svg"])


def test_a_download_that_is_refused_says_why_and_leaves_the_page(server, keyed, key, make_request, open_page):
    job = finished_with_students(keyed, make_request())
    page = open_page(f"{server}/#/compressions/{job.id}")
    _give(page, key)
    page.get_by_role("button", name="Download edge").wait_for()
    keyed.delete(job.id)
    page.get_by_role("button", name="Download edge").click()
    expect(page.locator("[data-student=stu_one] .action .problem")).to_contain_text(job.id)
    assert page.url.endswith(f"#/compressions/{job.id}")


def test_what_a_key_may_not_do_is_said_in_the_service_s_words(server, keyed, text, open_page):
    page = open_page(f"{server}/#/new", wait_for="#key")
    _give(page, keyed.keys.create("local", {Scope.READ})[1])
    page.get_by_label("Model").fill("someone/some-hub-model")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".summary")).to_contain_text("submit")
