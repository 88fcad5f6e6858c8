"""The page on small screens, in dark mode, and with the keyboard only."""

import pytest
from playwright.sync_api import expect

from services.jobs.records import AttemptEnd, NewJob
from services.jobs.states import AttemptStatus, JobStatus
from tests.services.dashboard.runs import finish_with_students, finished_with_students

PHONE = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark", "has_touch": True, "is_mobile": True}

CONTRASTS = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, index) => sum + one * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const ink = parse(node instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(ink), light(ground(node))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), node.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""


@pytest.fixture
def job(client, service, make_request):
    words = {f"label-{number}": "a-long-value-" * 4 for number in range(3)}
    long = make_request(**words)
    long["teacher"]["model"] = f"{'/folder' * 30}/model-{'x' * 200}"
    failed = service.work.begin_attempt(service.store.create(NewJob(long)).id)
    service.work.end_attempt(
        failed.id, 1, AttemptEnd(AttemptStatus.FAILED, f"ValueError: {'unbreakable' * 30}", JobStatus.FAILED)
    )
    return finished_with_students(service, make_request(**words))


def _visit(page, client, job):
    """Visit every view, with all collapsible parts open."""
    places = {
        "/compressions": "Compressions",
        f"/compressions/{job.id}": job.id,
        "/new": "New compression",
        "/batches/new": "New batch",
        "/evaluations": "Evaluations",
        "/evaluations/new": "New evaluation",
        "/api": "API",
    }
    for place, title in places.items():
        page.goto(f"{client.server}/#{place}")
        expect(page.locator("h1")).to_have_text(title)
        expect(page.get_by_text("Loading")).to_have_count(0)
        if place == f"/compressions/{job.id}":
            page.wait_for_selector("#best:not(:empty)")
            page.wait_for_selector(".curve svg")
        elif place == "/compressions":
            page.wait_for_selector("tbody tr")
        page.wait_for_load_state("networkidle")
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        yield place


def test_nothing_is_wider_than_a_phone(client, job, open_page):
    page = open_page(client.server, **PHONE)
    for place in _visit(page, client, job):
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, place


def test_a_long_list_is_short_on_a_phone(client, service, make_request, open_page):
    for number in range(25):
        job = client.submit(make_request(number=number, team="search") if number % 3 else make_request())
        if number % 5 in (0, 1):
            finish_with_students(service, job.id)
        elif number % 5 in (2, 3):
            client.cancel(job.id)
    phone = PHONE | {"viewport": {"width": 390, "height": 844}}
    page = open_page(f"{client.server}/#/compressions", wait_for="tbody tr", **phone)
    expect(page.locator("tbody tr")).to_have_count(25)
    assert page.evaluate("document.documentElement.scrollHeight") <= 2500


def test_labels_of_neighbours_in_the_chart_do_not_cover_each_other(client, open_page):
    page = open_page(client.server)
    boxes = page.evaluate(
        """async () => {
            const { placeLabels } = await import("/static/chart.js");
            const names = ["quick-and-small", "edge", "params-6000000", "best"];
            const labels = names.map((text, index) => ({ at: [200 + 3 * index, 100], text }));
            return placeLabels(labels, 640, 320).map(({ x, y, anchor }, index) => {
                const width = 6.8 * names[index].length;
                return [anchor === "end" ? x - width : x, y, width];
            });
        }"""
    )
    for n, (x, y, width) in enumerate(boxes):
        for other_x, other_y, other_width in boxes[:n]:
            assert abs(y - other_y) >= 15 or x + width <= other_x or other_x + other_width <= x


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(client, job, open_page, scheme):
    page = open_page(client.server, color_scheme=scheme)
    grounds = set()
    for place in _visit(page, client, job):
        faint = [one for one in page.evaluate(CONTRASTS) if one[0] < 4.5]
        assert faint == [], place
        if place == f"/compressions/{job.id}":
            drawn = page.evaluate("getComputedStyle(document.querySelector('figure img')).filter")
            assert (drawn == "none") == (scheme == "light")
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds == {"rgb(22, 20, 18)" if scheme == "dark" else "rgb(250, 248, 245)"}


def test_all_that_can_be_used_is_reached_by_the_tab_key_has_a_name_and_shows_the_focus(client, job, open_page):
    page = open_page(client.server)
    for place in _visit(page, client, job):
        page.evaluate("document.activeElement.blur(); document.body.focus()")
        wanted = page.evaluate(
            """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary")]
                .filter((one) => one.checkVisibility() && !one.disabled)
                .map((one, index) => one.dataset.wanted = String(index))"""
        )
        reached = set()
        for _ in range(len(wanted) + 40):
            page.keyboard.press("Tab")
            found = page.evaluate(
                "[document.activeElement.dataset.wanted, getComputedStyle(document.activeElement).outlineStyle]"
            )
            if found[0] is not None:
                assert found[1] != "none", (place, found)
                reached.add(found[0])
        assert reached == set(wanted), place
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, textarea")].filter((one) =>
                one.checkVisibility() && !(one.labels?.length || one.textContent.trim() || one.ariaLabel)).length"""
        )
        assert nameless == 0, place


def test_the_focus_comes_back_from_a_question_and_stays_where_the_answer_is_shown(client, make_request, open_page):
    page = open_page(f"{client.server}/#/compressions/{client.submit(make_request()).id}")
    cancel = page.get_by_role("button", name="Cancel", exact=True)
    cancel.focus()
    for leave in ("Escape", "Enter"):
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Keep it")).to_be_focused()
        page.keyboard.press(leave)
        expect(cancel).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".head .badge")).to_have_text("cancelled")
    expect(cancel).to_have_count(0)
    assert page.evaluate(
        "document.activeElement.querySelector('.head') !== null && document.activeElement !== document.body"
    )


def test_a_view_that_opens_is_said_and_takes_the_focus(client, job, open_page):
    page = open_page(client.server)
    page.locator("tbody th a").first.click()
    expect(page.locator("main")).to_be_focused()
    expect(page.locator("#live")).to_have_text(job.id)
    assert page.evaluate("document.title") == f"{job.id} – stillroom"
