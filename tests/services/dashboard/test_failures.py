"""The page while the service answers but cannot do what it is asked."""

import json

import pytest
from playwright.sync_api import expect

from tests.services.dashboard.runs import finished_with_students

DETAIL = "The storage does not answer: it is being moved."


def _fail(page, pattern):
    """Let a gateway answer in place of the service."""
    problem = {"code": "storage_unavailable", "title": "", "status": 503, "detail": DETAIL, "errors": []}
    page.route(
        pattern,
        lambda route: route.fulfill(status=503, content_type="application/problem+json", body=json.dumps(problem)),
    )


@pytest.mark.parametrize(
    ("pattern", "before", "after"),
    [
        ("**/v1/compressions?*", "/compressions", "tbody tr"),
        ("**/v1/compressions/cmp_*", "/compressions/{job}", ".head .badge"),
        ("**/v1/compressions/*/frontier?*", "/compressions/{job}", "#best:not(:empty)"),
        ("**/v1/latency-targets", "/new", "form.request"),
    ],
)
def test_what_fails_for_a_while_is_said_and_comes_by_itself_later(
    client, service, make_request, open_page, pattern, before, after
):
    job = finished_with_students(service, make_request())
    page = open_page(f"{client.server}/#/nowhere")
    _fail(page, pattern)
    page.goto(f"{client.server}/#{before.format(job=job.id)}")
    expect(page.get_by_role("alert").filter(has_text=DETAIL)).to_be_visible()
    page.unroute(pattern)
    page.wait_for_selector(after)
    expect(page.get_by_text(DETAIL)).to_have_count(0)


def test_a_failure_in_between_does_not_stay_when_nothing_has_changed(client, make_request, open_page):
    client.submit(make_request())
    page = open_page(client.server, wait_for="tbody tr")
    _fail(page, "**/v1/compressions?*")
    expect(page.get_by_text(DETAIL)).to_be_visible()
    page.unroute("**/v1/compressions?*")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.get_by_text(DETAIL)).to_have_count(0)


def test_an_address_that_leads_nowhere_says_so(client, open_page):
    page = open_page(f"{client.server}/#/nowhere/at/all")
    expect(page.locator("main")).to_contain_text("There is nothing at this address.")
