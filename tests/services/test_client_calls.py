"""The clients' calls compared with the OpenAPI document: each operation has exactly one."""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from services.client import AsyncStillroomClient, StillroomClient
from services.client.call import Call
from services.client.calls import Calls
from services.jobs.states import JobStatus

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
FOR_OTHERS = {("GET", "/healthz"), ("GET", "/metrics")}
"""Routes for probes and Prometheus, which no client calls."""
OPERATIONS = {
    (method.upper(), path): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
CALLS = {(found.method, found.path): found for found in vars(Calls).values() if isinstance(found, Call)}
SAMPLES = {
    str: "x", int: 3, Any: {"a": 1}, JobStatus: JobStatus.QUEUED, Sequence[str]: ["x"], Mapping[str, str]: {"a": "b"},
}  # fmt: skip


def _message(call):
    """The message of the call with every argument given."""
    function = call.described
    hints = get_type_hints(function)
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    given = {
        name: next(value for kind, value in SAMPLES.items() if hints[name] in (kind, kind | None)) for name in names
    }
    return call.message(**given)


def _parameters(operation, place):
    return {one["name"] for one in operation.get("parameters", []) if one["in"] == place}


def test_every_operation_has_a_call_and_every_call_an_operation():
    assert set(CALLS) == set(OPERATIONS) - FOR_OTHERS
    assert set(OPERATIONS) > FOR_OTHERS
    assert len(CALLS) == sum(isinstance(found, Call) for found in vars(Calls).values())


@pytest.mark.parametrize("route", CALLS, ids=" ".join)
def test_a_call_sends_what_its_operation_takes(route):
    operation, message = OPERATIONS[route], _message(CALLS[route])
    assert set(message.query) == _parameters(operation, "query")
    assert ("Idempotency-Key" in message.headers) == ("Idempotency-Key" in _parameters(operation, "header"))
    assert (message.body is not None) == ("requestBody" in operation)
    assert re.fullmatch(re.sub(r"\{\w+\}", "x", message.path), re.sub(r"\{\w+\}", "x", route[1]))


@pytest.mark.parametrize("route", CALLS, ids=" ".join)
def test_a_call_reads_its_answer_as_the_operations_model(route):
    responses = OPERATIONS[route]["responses"]
    [answer] = [response for status, response in responses.items() if status in {"200", "201", "202"}] or [None]
    if answer is None:
        assert "204" in responses
        assert CALLS[route].answer is type(None)
        return
    schema = answer.get("content", {}).get("application/json", {}).get("schema")
    assert CALLS[route].answer.__name__ == (schema["$ref"].rpartition("/")[2] if schema else "bytes")


def test_both_clients_have_every_call_with_its_words():
    for name in (name for name, found in vars(Calls).items() if isinstance(found, Call)):
        for client in (StillroomClient("http://x"), AsyncStillroomClient("http://x")):
            method = getattr(client, name)
            assert method.__doc__ or name.startswith("_")
            assert "self" not in inspect.signature(method).parameters
