"""The page that describes the API."""

from urllib.parse import urlsplit

import httpx
from playwright.sync_api import expect


def test_docs_tell_every_route_and_document_by_the_service_alone(client, open_page):
    page = open_page(f"{client.server}/#/nowhere")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{client.server}/docs")
    expect(page.get_by_role("heading", name="API")).to_be_visible()
    document = httpx.get(f"{client.server}/openapi.json").json()
    routes = {f"{verb.upper()} {path}" for path, verbs in document["paths"].items() for verb in verbs}
    page.get_by_text("POST /v1/compressions", exact=True).click()
    expect(page.locator("details[open]")).to_contain_text("application/json CompressionRequest")
    assert routes | set(document["components"]["schemas"]) == set(page.locator("summary").all_text_contents())
    page.locator("summary").get_by_text("EvaluationTask", exact=True).click()
    row = page.get_by_role("row").filter(has_text="label_column")
    expect(row).to_contain_text(
        'Column of the label: whole numbers for classes, numbers for similarity. Default: "label".'
    )
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(client.server).netloc}
