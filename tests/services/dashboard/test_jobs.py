"""The list of compressions."""

from playwright.sync_api import expect

from services.jobs.records import AttemptEnd, NewJob
from services.jobs.states import AttemptStatus, JobStatus
from tests.services.dashboard.runs import finished_with_students


def test_an_empty_service_says_so_and_leads_to_the_form(client, open_page):
    page = open_page(client.server)
    page.get_by_text("Nothing has been compressed here yet.").wait_for()
    page.get_by_role("link", name="Compress a model").click()
    expect(page.get_by_role("heading", name="New compression")).to_be_visible()


def test_the_newest_come_first_and_new_ones_show_up_by_themselves(client, make_request, open_page):
    older = client.submit(make_request())
    newer = client.submit(make_request())
    page = open_page(client.server)
    links = page.locator("tbody th a")
    expect(links).to_have_text([newer.id, older.id])
    newest = client.submit(make_request())
    expect(links).to_have_text([newest.id, newer.id, older.id])


def test_the_list_tells_each_student_s_loss_size_and_speed(client, service, make_request, open_page):
    finished_with_students(service, make_request())
    page = open_page(f"{client.server}/#/compressions", wait_for="tbody tr")
    told = client.page().compressions[0].students
    losses = [f"{student.heldout_loss:#.4g}" for student in told]
    for column, texts in {"Students": ["edge", "best"], "Loss": losses, "Speed-up": ["5 times"] * 2}.items():
        assert page.locator(f"tbody td[data-label={column}] .line").all_inner_texts() == texts
    expect(page.locator("tbody td[data-label=Size] .line")).to_have_count(2)


def test_filters_hold_together_and_stay_in_the_address(client, service, make_request, open_page):
    wanted = client.submit(make_request(team="search", run=1))
    client.submit(make_request(team="search", run=2))
    other = client.submit(make_request(team="search", run=1))
    service.work.begin_attempt(other.id)
    page = open_page(client.server)
    page.get_by_label("Labels").fill("team:search run:1")
    page.get_by_label("Labels").press("Enter")
    expect(page.locator("tbody th a")).to_have_text([other.id, wanted.id])
    page.get_by_label("Status").select_option("queued")
    expect(page.locator("tbody th a")).to_have_text([wanted.id])
    page.reload()
    expect(page.locator("tbody th a")).to_have_text([wanted.id])
    expect(page.get_by_label("Labels")).to_have_value("team:search run:1")
    page.get_by_label("Teacher").fill("nobody/has-this")
    page.get_by_role("button", name="Filter").click()
    page.get_by_text("No compression fits these filters.").wait_for()


def test_a_filter_that_the_service_refuses_is_answered_in_its_words(client, open_page):
    page = open_page(f"{client.server}/#/compressions?label=nonsense")
    page.get_by_text("'label' must be name:value, such as team:search.").wait_for()


def test_older_ones_are_a_page_away(client, make_request, open_page):
    ids = [client.submit(make_request()).id for _ in range(27)]
    page = open_page(client.server)
    expect(page.locator("tbody tr")).to_have_count(25)
    page.get_by_role("link", name="Older").click()
    expect(page.locator("tbody th a")).to_have_text([ids[1], ids[0]])
    page.get_by_role("link", name="Newest").click()
    expect(page.locator("tbody tr")).to_have_count(25)


def test_what_the_api_says_stays_text_whatever_it_looks_like(client, service, text, open_page):
    attack = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"
    request = {
        "teacher": {"model": f"{attack}/model"},
        "corpus": {"paths": [str(text)]},
        "budgets": [{"name": "edge", "max_params": 1}],
        "labels": {"note": attack},
    }
    job = service.work.begin_attempt(service.store.create(NewJob(request)).id)
    service.work.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.FAILED, attack, JobStatus.FAILED))
    page = open_page(client.server)
    expect(page.locator(".label")).to_have_text(f"note: {attack}")
    expect(page.locator(".reason")).to_have_text(attack)
    page.locator("tbody th a").click()
    expect(page.locator(".head .reason")).to_contain_text(attack)
    expect(page.locator("main img, main script")).to_have_count(0)
    assert page.title() == f"{job.id} – stillroom"


def test_ticked_compressions_are_deleted_together_and_each_tells_its_outcome(client, service, make_request, open_page):
    queued = client.submit(make_request()).id
    cancelled = [client.cancel(client.submit(make_request()).id).id for _ in range(2)]
    kept = client.cancel(client.submit(make_request()).id).id
    page = open_page(client.server, wait_for="tbody tr")
    page.get_by_label(f"Tick {queued}").focus()
    page.keyboard.press("Space")
    for one in cancelled:
        page.get_by_label(f"Tick {one}").check()
    newest = client.submit(make_request()).id
    expect(page.locator("tbody tr")).to_have_count(5)
    expect(page.get_by_text("3 ticked")).to_be_visible()  # still, on the page that was drawn again
    delete = page.get_by_role("button", name="Delete the ticked compressions")
    delete.focus()
    for answer in ("Keep it", "Delete 3 compressions"):
        page.keyboard.press("Enter")
        page.get_by_role("button", name=answer).press("Enter")
    outcomes = page.get_by_role("region", name="Outcomes")
    expect(outcomes).to_be_focused()
    expect(outcomes).to_contain_text("Delete: 2 done, 1 not.")
    expect(outcomes.get_by_role("listitem")).to_have_text(
        [
            f"{queued}: refused. {queued} is queued and cannot become deleted.",
            *(f"{one}: deleted" for one in reversed(cancelled)),
        ]
    )
    expect(page.locator("tbody th a")).to_have_text([newest, kept, queued])
    expect(page.get_by_label(f"Tick {queued}")).to_be_checked()
    outcomes.get_by_role("button", name="Close").click()
    expect(outcomes).to_be_hidden()


def test_all_on_the_page_are_cancelled_and_resumed_and_those_that_have_gone_are_told(client, make_request, open_page):
    ids = [client.submit(make_request()).id for _ in range(3)]
    page = open_page(client.server, wait_for="tbody tr")
    page.get_by_label("All on this page").check()
    page.get_by_role("button", name="Cancel the ticked compressions").click()
    page.get_by_role("button", name="Cancel 3 compressions").click()
    outcomes = page.get_by_role("region", name="Outcomes").get_by_role("listitem")
    expect(outcomes).to_have_text([f"{one}: cancelled" for one in reversed(ids)])
    expect(page.get_by_label("All on this page")).not_to_be_checked()
    expect(page.locator(".badge")).to_have_text(["cancelled"] * 3)
    page.get_by_label("All on this page").check()
    page.route(f"**/{ids[1]}/resume", lambda route: (client.delete(ids[1]), route.continue_()))
    page.get_by_role("button", name="Resume the ticked compressions").click()
    expect(outcomes).to_have_text(
        [f"{ids[1]}: refused. There is no compression {ids[1]}.", f"{ids[2]}: queued", f"{ids[0]}: queued"]
    )


def test_jobs_after_a_lost_service_are_not_tried_and_a_key_s_rate_is_waited_for(client, make_request, open_page):
    ids = [client.submit(make_request()).id for _ in range(3)]
    page = open_page(client.server, wait_for="tbody tr")
    slow = {"code": "rate_limited", "detail": "The key may make 1 request a second."}
    answers = [lambda route: route.fulfill(status=429, json=slow, headers={"Retry-After": "1"})]
    page.route(f"**/{ids[2]}/cancel", lambda route: answers.pop()(route) if answers else route.continue_())
    page.route(f"**/{ids[1]}/cancel", lambda route: route.abort())
    page.get_by_label("All on this page").check()
    page.get_by_role("button", name="Cancel the ticked compressions").click()
    page.get_by_role("button", name="Cancel 3 compressions").click()
    expect(page.get_by_role("region", name="Outcomes").get_by_role("listitem")).to_have_text(
        [
            f"{ids[1]}: no answer; it may be done or not. The service does not answer.",
            f"{ids[0]}: not tried. The service does not answer.",
            f"{ids[2]}: cancelled",
        ]
    )
    assert client.get(ids[0]).status == JobStatus.QUEUED


def test_a_page_takes_as_many_as_are_asked_for(client, make_request, open_page):
    for _ in range(27):
        client.submit(make_request(team="search"))
    page = open_page(f"{client.server}/#/compressions?label=team:search", wait_for="tbody tr")
    page.get_by_label("On a page").select_option("100")
    expect(page.locator("tbody tr")).to_have_count(27)
    assert page.url.endswith("/#/compressions?label=team%3Asearch&limit=100")
    page.get_by_label("All on this page").check()
    expect(page.get_by_text("27 ticked")).to_be_visible()
