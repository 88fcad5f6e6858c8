"""The committed OpenAPI document: it equals the service's, and is consistent."""

import json
from pathlib import Path

import httpx
import jsonschema
import pytest

from services.api.__main__ import write
from services.api.app import bare_app

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def document():
    return json.loads(COMMITTED.read_text())


def _nodes(part):
    yield part
    for child in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _nodes(child)


def test_the_committed_document_is_that_of_the_code():
    wanted = json.loads(json.dumps(bare_app().openapi()))
    hint = "Write it again: python -m services.api docs/openapi.json"
    assert json.loads(COMMITTED.read_text()) == wanted, hint


def test_the_service_serves_the_same_document(client, document):
    assert httpx.get(f"{client.server}/openapi.json").json() == document


def test_the_document_is_written_as_it_is_committed(tmp_path):
    write(tmp_path / "openapi.json")
    assert (tmp_path / "openapi.json").read_bytes() == COMMITTED.read_bytes()


def test_every_reference_of_the_document_leads_somewhere(document):
    references = {node["$ref"] for node in _nodes(document) if isinstance(node, dict) and "$ref" in node}
    assert "#/components/schemas/CompressionRequest" in references
    for reference in references:
        part = document
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]


def test_operations_have_ids_of_their_own(document):
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids)) > 15


def test_refusals_are_described_as_problems(document):
    refusal = document["paths"]["/v1/compressions"]["post"]["responses"]["4XX"]
    assert refusal["content"] == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


@pytest.mark.parametrize(("change", "fits"), [({}, True), ({"budgets": []}, False), ({"seeds": 1}, False)])
def test_the_described_request_is_the_one_that_is_taken(document, make_request, change, fits):
    body = document["paths"]["/v1/compressions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema = {**body, "components": document["components"]}
    assert jsonschema.Draft202012Validator(schema).is_valid(make_request() | change) is fits
