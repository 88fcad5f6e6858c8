"""A new compression, from the form or as text."""

import json

import pytest
from playwright.sync_api import expect

from services.jobs.records import JobFilter
from tests.services.ending import succeed
from workloads.documents.job_folder import PlanBudgetDocument, PlanDocument, PlanStepDocument, ResultDocument


@pytest.fixture
def page(client, open_page):
    return open_page(f"{client.server}/#/new", wait_for="form.request")


def _fill(page, text):
    page.get_by_label("Model").fill("someone/some-hub-model")
    page.get_by_label("Files").fill(str(text))
    page.get_by_label("Most parameters").fill("8M")


def _type_into(page, label, text):
    """Go to a field by the Tab key, and type."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.labels?.[0]?.textContent ?? ''").startswith(label):
            assert page.evaluate("document.activeElement.matches(':focus-visible')")
            page.keyboard.type(text)
            return
    raise AssertionError(f"{label} is not reached")


def test_a_compression_is_submitted_by_keyboard_alone(client, page, text):
    _type_into(page, "Model", "someone/some-hub-model")
    _type_into(page, "Files", str(text))
    _type_into(page, "Most parameters", "8M")
    _type_into(page, "Sub-spaces", "2")
    _type_into(page, "Tokens for each", "200,000")
    page.keyboard.press("Enter")
    expect(page.locator(".head .badge")).to_have_text("queued")
    job = client.get(client.page().compressions[0].id)
    assert page.url.endswith(f"#/compressions/{job.id}")
    assert job.request["teacher"]["model"] == "someone/some-hub-model"
    assert job.request["budgets"][0] | {"name": "small", "max_params": 8_000_000} == job.request["budgets"][0]
    assert job.request["subspaces"]["count"] == 2
    assert job.request["training"]["tokens_per_superlm"] == 200_000


def test_an_error_is_shown_at_its_field_with_the_remedy_and_goes_when_mended(client, page, text):
    _fill(page, text)
    page.get_by_label("Files").fill("/nowhere/at/all.txt")
    page.get_by_role("button", name="Add a budget").click()
    page.get_by_label("Most FLOPs").nth(1).fill("plenty")
    page.get_by_role("button", name="Submit").click()
    flops = page.get_by_label("Most FLOPs").nth(1)
    expect(flops).to_have_attribute("aria-invalid", "true")
    expect(flops).to_be_focused()
    flops.fill("1G")
    page.get_by_role("button", name="Submit").click()
    files = page.get_by_label("Files")
    expect(files).to_have_attribute("aria-invalid", "true")
    expect(files).to_be_focused()
    described = files.evaluate("node => document.getElementById(`${node.id}-problem`).textContent")
    assert described == "There is no file or folder /nowhere/at/all.txt on the server. Give a path that exists there."
    assert "-problem" in files.get_attribute("aria-describedby")
    assert flops.get_attribute("aria-invalid") is None
    assert client.page().compressions == []
    files.fill(str(text))
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".head .badge")).to_have_text("queued")


def test_an_error_names_the_form_s_fields_by_their_labels(page, text):
    _fill(page, text)
    page.get_by_label("Most latency in ms").fill("5")
    page.get_by_role("button", name="Submit").click()
    problem = page.locator(".budget .problem").last
    expect(problem).to_contain_text("“Most latency in ms” means nothing without the place it is measured on.")
    expect(problem).to_contain_text("Set “… measured on”")


def test_of_fields_with_one_name_the_one_beside_the_error_is_named(page):
    said = page.evaluate(
        """async () => {
            const { inFormWords } = await import("/static/form/findings.js");
            const places = [
              { pointer: "/training/learning_rate", label: "Learning rate" },
              { pointer: "/polish/tokens", label: "Polish for" },
              { pointer: "/polish/learning_rate", label: "Learning rate of the polish" },
            ];
            return inFormWords("Leave out 'learning_rate'.", places, places[1]);
        }"""
    )
    assert said == "Leave out “Learning rate of the polish”."


def test_rarely_used_fields_are_sent_and_come_back_from_text(client, page, text):
    _fill(page, text)
    for group in ("Objective", "More of the training", "Proxy task", "Polish and export"):
        page.locator("summary", has_text=group).click()
    page.get_by_label("Relation loss").select_option("none")
    page.get_by_label("Output term", exact=True).select_option("pooled")
    page.get_by_label("Ranges of one’s own").fill(
        '[{"name": "tiny", "layers": [2], "hidden_sizes": [64], "mlp_ratios": [4]}]'
    )
    page.get_by_label("ONNX", exact=True).select_option("yes")
    page.get_by_label("Epochs").fill("2")
    page.get_by_label("Epochs").fill("")  # an emptied part is no part
    page.get_by_role("button", name="Write it as JSON").click()
    raw = page.get_by_label("The request as JSON")
    request = json.loads(raw.input_value())
    assert request["objective"] == {"relation": None, "output": {"kind": "pooled"}}
    assert request["export"] == {"onnx": True} and "proxy_task" not in request
    page.get_by_role("button", name="Back to the form").click()
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".head .badge")).to_have_text("queued")
    first = client.get(client.page().compressions[0].id).request
    assert first["objective"]["relation"] is None and first["subspaces"]["spaces"][0]["layers"] == [2]
    page.get_by_role("link", name="Submit one like it").click()
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".head .badge")).to_have_text("queued")
    page.wait_for_function("id => !location.hash.includes(id)", arg=client.page().compressions[1].id)
    assert client.get(client.page().compressions[0].id).request == first


def test_every_limit_of_a_budget_has_a_place_in_the_form(client, page, text):
    _fill(page, text)
    page.get_by_text("More limits").click()
    limits = {
        "Parameters without embeddings": "max_params_without_embeddings",
        "Bytes of weights": "max_weight_bytes",
        "Bytes of activations": "max_activation_bytes",
    }
    floors = {
        "Least share with the teacher’s label": "min_agreement",
        "Least cosine to the teacher’s vectors": "min_cosine",
        "Least share of the ten nearest": "min_neighbours",
        "Least Spearman correlation": "min_spearman",
    }
    for number, label in enumerate(limits, start=1):
        page.get_by_label(label).fill(f"{number}G")
    for number, label in enumerate(floors, start=1):
        page.get_by_label(label).fill(f".{number}")
    page.get_by_label("Minimise").select_option("params")
    page.get_by_role("button", name="Write it as JSON").click()
    (asked,) = json.loads(page.get_by_label("The request as JSON").input_value())["budgets"]
    assert [asked[name] for name in floors.values()] == [0.1, 0.2, 0.3, 0.4]
    assert asked["minimise"] == "params"
    page.get_by_role("button", name="Back to the form").click()
    for label in floors:  # the teacher is an encoder, which has no such figures
        page.get_by_label(label).fill("")
    page.get_by_label("Minimise").select_option("")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".head .badge")).to_have_text("queued")
    (budget,) = client.get(client.page().compressions[0].id).request["budgets"]
    assert [budget[name] for name in limits.values()] == [1e9, 2e9, 3e9]


def test_what_is_missing_or_about_a_whole_budget_finds_its_place_too(page, text):
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_label("Model")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Files")).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".budget .problem").last).to_contain_text("The budget limits nothing.")
    expect(page.get_by_label("Model")).to_be_focused()


def test_form_and_text_are_two_sides_of_one_request(client, page, text):
    _fill(page, text)
    page.get_by_role("button", name="Write it as JSON").click()
    raw = page.get_by_label("The request as JSON")
    request = json.loads(raw.input_value())
    assert request["budgets"] == [{"name": "small", "max_params": 8_000_000}]
    request["objective"] = {"relation": "raw-mse"}  # no field of the form
    request["training"] = {"tokens_per_superlm": {"tiny": 8192, "small": 8192, "base": 8192}}
    raw.fill(json.dumps(request))
    page.get_by_role("button", name="Back to the form").click()
    page.get_by_label("Most parameters").fill("9000000")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".head .badge")).to_have_text("queued")
    kept = client.get(client.page().compressions[0].id).request
    assert kept["objective"]["relation"] == "raw-mse"
    assert kept["training"]["tokens_per_superlm"]["tiny"] == 8192
    assert kept["budgets"][0]["max_params"] == 9_000_000


def test_json_is_sent_as_it_is_and_its_errors_are_listed(client, page, make_request):
    page.get_by_role("button", name="Write it as JSON").click()
    raw = page.get_by_label("The request as JSON")
    body = json.dumps(make_request() | {"budgets": [{"name": "x", "max_parms": 8}]})
    raw.fill(body)
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".summary")).to_contain_text("budgets.0.max_parms: This field is not known. Did you mean")
    raw.fill(body.replace("parms", "params"))
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".head .badge")).to_have_text("queued")


def test_sent_twice_it_is_one_compression(client, page, text):
    _fill(page, text)
    page.route("**/v1/compressions", lambda route: (route.fetch(), route.abort()))  # the answer is lost on its way
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".summary")).to_contain_text("The service does not answer.")
    page.unroute("**/v1/compressions")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".head .badge")).to_have_text("queued")
    assert len(client.page().compressions) == 1


def test_one_like_an_earlier_one_begins_with_its_request(client, page, make_request):
    earlier = client.submit(make_request(team="search"))
    page.goto(f"{client.server}/#/compressions/{earlier.id}")
    page.get_by_role("link", name="Submit one like it").click()
    expect(page.get_by_label("Model")).to_have_value("someone/some-hub-model")
    expect(page.get_by_label("Most parameters")).to_have_value("8000000")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".head .badge")).to_have_text("queued")
    again = client.get(client.page().compressions[0].id)
    assert again.id != earlier.id and again.request == earlier.request


def test_a_plan_says_which_sub_spaces_meet_which_budgets_and_how_long_it_takes(service, page, text):
    _fill(page, text)
    page.get_by_role("button", name="Plan first").click()
    expect(page.get_by_text("nothing is trained")).to_be_visible()
    (plan,) = service.store.page(JobFilter(kind="plan"))
    document = PlanDocument(
        candidates={"tiny": 12, "base": 30},
        budgets=[
            PlanBudgetDocument(budget="small", candidates={"tiny": 12, "base": 0}, feasible=True),
            PlanBudgetDocument(budget="none", candidates={"tiny": 0, "base": 0}, feasible=False, note="Too small."),
        ],
        steps=[PlanStepDocument(name="corpus", seconds=7200, reused=False, basis="100 documents")],
        seconds=9000, device_hours=5.0, device="2 CPU cores", calibration_seconds=12,
    )  # fmt: skip
    service.work.begin_attempt(plan.id)
    succeed(service.work, plan.id, ResultDocument(status="succeeded", plan=document))
    expect(page.get_by_text("2 h 30 min")).to_be_visible()
    expect(page.get_by_text("5 on 2 CPU cores")).to_be_visible()
    expect(page.get_by_role("row", name="small 12 of 12 0 of 30 yes")).to_be_visible()
    expect(page.get_by_role("row", name="none 0 of 12 0 of 30 no Too small.")).to_be_visible()
