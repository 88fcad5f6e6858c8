"""Fixtures with a real Chromium and a real server."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from services.jobs.records import NewJob
from tests.machine import missing
from tests.services.dashboard.runs import LiveRun

expect.set_options(timeout=15_000)

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
EXPECTED = re.compile(r"Failed to load resource")  # the browser's own message about a refusal or a missing answer


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser, one a module: while it lives, Playwright keeps an event loop in this thread."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        missing("Chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """`open_page(url, ...)` opens a page; at the end, no page may have had an error or broken the content policy."""
    contexts, said = [], []

    def open_(url: str, wait_for: str = "h1", **options: Any) -> Page:
        context = chromium.new_context(
            **{"viewport": {"width": 1200, "height": 800}, "accept_downloads": True} | options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.goto(url)
        page.wait_for_selector(wait_for)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert [text for text in said if not EXPECTED.search(text)] == []


@pytest.fixture
def live_run(service, make_request) -> LiveRun:
    """Compression that the service takes for a running one."""
    job = service.store.create(NewJob(make_request(team="search")))
    service.work.begin_attempt(job.id)
    return LiveRun(service.storage, job.id)
