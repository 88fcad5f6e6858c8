"""The list of compressions."""

from playwright.sync_api import expect

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
    row = page.locator("tbody tr")
    for student in client.page().compressions[0].students:
        expect(row).to_contain_text(f"{student.budget}: loss {student.heldout_loss:#.4g}, ")
    expect(row).to_contain_text("5 times as fast")


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
    job = service.work.begin_attempt(service.store.create(request).id)
    service.work.end_attempt(job.id, 1, AttemptStatus.FAILED, attack, JobStatus.FAILED)
    page = open_page(client.server)
    expect(page.locator(".label")).to_have_text(f"note: {attack}")
    expect(page.locator(".reason")).to_have_text(attack)
    page.locator("tbody th a").click()
    expect(page.locator(".head .reason")).to_contain_text(attack)
    expect(page.locator("main img, main script")).to_have_count(0)
    assert page.title() == f"{job.id} – stillroom"
