"""Random requests to the API: every answer agrees with its OpenAPI document, and none is an internal error.

Requests that are not random stand in test_schemathesis_coverage.py.
"""

import copy
import json

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.services.things import make_things

pytestmark = pytest.mark.slow

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
NOT_READY = ("get", "/readyz")  # its 503 says that Ray is not there, which is so here
HOW = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def known(service, make_request, tmp_path):
    return make_things(service, make_request, tmp_path)


def _keeps_to_the_document(operation, known, reached):
    @HOW
    @given(case=operation.as_strategy(), real=st.booleans())
    def check(case, real):
        if real:
            verb = operation.path.rpartition("/")[2]
            case.path_parameters = {
                name: known.get(f"{name} to {verb}", known[name]) for name in case.path_parameters or {}
            }
        answer = case.call(timeout=60)
        if answer.status_code < 400:
            reached.add(operation.label)
        if (operation.method.lower(), operation.path) != NOT_READY or answer.status_code != 503:
            case.validate_response(answer, checks=CHECKS)

    check()


def test_every_operation_keeps_to_the_document(client, known):
    schema = schemathesis.openapi.from_url(f"{client.server}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 30
    reached = set()
    # Deleted objects would be missing in later operations.
    for operation in sorted(operations, key=lambda one: one.method.lower() == "delete"):
        _keeps_to_the_document(operation, known, reached)
    # Most are really reached, not only turned away.
    assert len(reached) > len(operations) * 0.6, sorted(reached)


def _places(value, path=()):
    """Paths of all values inside a JSON-like one."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*path, key))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("route", ["compressions", "compressions/plan"])
def test_a_request_with_any_one_value_replaced_is_accepted_or_told_what_is_wrong(client, service, make_request, route):
    whole = service.submit(make_request()).request  # with all its defaults
    places = [path for path in _places(whole) if path]

    @settings(HOW, max_examples=300)
    @given(path=st.sampled_from(places), value=JSON)
    def check(path, value):
        request = copy.deepcopy(whole)
        inner = request
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        answer = httpx.post(
            f"{client.server}/v1/{route}",
            content=_json(request),
            headers={"Content-Type": "application/json"},
            timeout=60,
        )
        assert answer.status_code in {202, 422}, answer.text
        if answer.status_code == 422:
            errors = answer.json()["errors"]
            assert errors and all(error["problem"] and error["remedy"] for error in errors), answer.text

    check()


def _json(value):
    return json.dumps(value).encode()  # with NaN and Infinity, as Python writes them
