"""The candidates of a finished compression on the page: the best for any budget at once, made a student."""

import tarfile

import pytest
from playwright.sync_api import expect

from tests.services.dashboard.runs import finished_with_students, make_files
from tests.services.searched import SHAPE, SPACES, loss_of
from workloads.shapes.costs import student_cost

SHAPES = [one for space in SPACES for one in space]


@pytest.fixture
def job(service, make_request):
    return finished_with_students(service, make_request())


@pytest.fixture
def page(client, job, open_page):
    return open_page(f"{client.server}/#/compressions/{job.id}", wait_for="#best:not(:empty)")


def _told(loss):
    """A loss in four significant digits, trailing zeros kept."""
    return f"{loss:#.4g}"


def _best(cost, limit):
    """Give the page's text on the best candidate within a limit, from the formula of the losses."""
    within = [one for one in SHAPES if getattr(student_cost(SHAPE, one), cost) <= limit]
    return f"loss {_told(min(map(loss_of, within)))}"


def test_the_cloud_shows_all_candidates_the_frontier_the_chosen_and_the_teacher(page):
    cloud = page.locator(".cloud")
    drawing = cloud.get_by_role("img")
    assert f"{len(SHAPES)} candidates" in drawing.get_attribute("aria-label")
    assert "2 chosen" in drawing.get_attribute("aria-label")
    dots = drawing.locator("path.dots").evaluate_all("paths => paths.map(path => path.getAttribute('d')).join('')")
    assert dots.count("M") == len(SHAPES)
    expect(drawing.locator(".chosen text")).to_have_text(["edge", "best"])
    expect(drawing.locator(".teacher text")).to_have_text("teacher")
    page.get_by_label("Cost", exact=True).select_option("flops")
    expect(page.get_by_role("img", name="held-out loss against FLOPs at 128 tokens")).to_be_visible()


def test_a_budget_moved_by_keyboard_has_its_best_candidate_at_once(page):
    slider = page.get_by_label("Budget", exact=True)
    slider.focus()
    seen = set()
    for _ in range(40):
        page.keyboard.press("PageDown")
        limit = int(page.get_by_label("At most").input_value())
        said = page.locator("#best").inner_text()
        if said.startswith("Nothing"):
            break
        assert _best("params", limit) in said, (limit, said)
        seen.add(said)
    assert len(seen) > 2
    page.get_by_label("At most").fill("100")
    page.get_by_label("At most").press("Enter")
    expect(page.locator("#best")).to_contain_text("Nothing has at most 100 parameters")


def test_what_is_no_budget_leaves_the_one_in_force_and_says_so(page):
    number = page.get_by_label("At most")
    number.fill("6000000")
    number.press("Enter")
    best = page.locator("#best").inner_text()
    said = page.get_by_text("it stays at 6,000,000")
    for typed in ("0", "-5", "1e30", ""):
        number.fill(typed)
        number.press("Enter")
        expect(said).to_be_visible()
        expect(number).to_have_value("6000000")
        expect(page.locator("#best")).to_have_text(best)
    number.fill("7000000")
    number.press("Enter")
    expect(said).to_have_count(0)


def test_every_step_of_the_slider_moves_it_on(page):
    page.get_by_label("Budget", exact=True).focus()
    values = []
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
        values.append(int(page.get_by_label("At most").input_value()))
    assert values == sorted(set(values), reverse=True)


def test_a_budget_becomes_a_selection_and_its_student_a_download(page, client, service, job, tmp_path):
    page.get_by_label("At most").fill("6000000")
    page.get_by_label("At most").press("Enter")
    best = _best("params", 6_000_000)
    expect(page.locator("#best")).to_contain_text(best)
    page.get_by_role("button", name="Make this student").click()
    selection = page.locator(".selection")
    expect(selection.locator(".badge").first).to_have_text("queued")
    expect(selection.get_by_text("its files are being made")).to_be_visible()
    expect(selection.get_by_text("Download")).to_have_count(0)
    ready = make_files(service, selection.get_attribute("data-selection"))
    expect(selection.locator(".badge").first).to_have_text("succeeded")
    expect(page.locator(".cloud .chosen text")).to_contain_text(["params-6000000"])
    with page.expect_download() as begun:
        selection.get_by_role("button", name="Download").click()
    begun.value.save_as(tmp_path / "student.tar")
    assert begun.value.suggested_filename == f"{ready.id}.tar"
    with tarfile.open(tmp_path / "student.tar") as archive:
        assert archive.getnames() == [f"{ready.id}/model.safetensors"]
    page.reload()
    expect(page.locator(".selection")).to_have_count(1)


def test_students_show_costs_beside_the_teacher_s_how_to_load_them_and_what_was_out_of_reach(page):
    edge = page.locator("[data-student=stu_one]")
    expect(edge).to_contain_text("same label 0.9731 (0.966 to 0.9802)")
    edge.get_by_text("By label of the teacher").click()
    expect(edge.get_by_role("row", name="good 1,200 0.98")).to_be_visible()
    expect(edge).to_contain_text("teacher: ")
    small, large = loss_of(SHAPES[3]), loss_of(SHAPES[-1])
    expect(edge).to_contain_text(f"{_told(small)} (+{float(f'{100 * (small / large - 1):.2g}'):,.0f} % over the best)")
    expect(page.locator("[data-student=stu_two]")).to_contain_text(f"{_told(large)} (the best)")
    expect(edge).to_contain_text("4.2 ms, 95 % within 5.1 ms; 5 times as fast as the teacher")
    expect(edge).to_contain_text("on cpu-1: Some CPU, 1 thread, batch 1, 128 tokens, float32, eager")
    edge.get_by_text("How to load it").click()
    lines = edge.get_by_label("lines that load edge", exact=True).inner_text()
    assert 'AutoModel.from_pretrained("stu_one")' in lines and "trust_remote_code" not in lines
    expect(page.get_by_text("parameters 1.07 times")).to_be_visible()
    with page.expect_download() as begun:
        page.get_by_role("button", name="Download edge").click()
    assert begun.value.suggested_filename == "stu_one.tar" and begun.value.failure() is None
