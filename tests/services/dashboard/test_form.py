"""The form of a request against the request's schema; no browser is needed for that."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FORM = ROOT / "services" / "dashboard" / "form"


@pytest.fixture(scope="module")
def schema():
    """The leaf fields of a request by pointer; those of a list's objects below ``0``."""
    document = json.loads((ROOT / "docs" / "openapi.json").read_text())
    schemas = document["components"]["schemas"]
    found = {}

    def walk(part, pointer):
        while "$ref" in part:
            part = {**schemas[part["$ref"].rpartition("/")[2]], **{name: part[name] for name in part if name != "$ref"}}
        kinds = [one for name in ("anyOf", "oneOf", "allOf") for one in part.get(name, ()) if one.get("type") != "null"]
        for one in kinds:
            walk({**one, **({"default": part["default"]} if "default" in part else {})}, pointer)
        for name, one in part.get("properties", {}).items():
            walk(one, f"{pointer}/{name}")
        items = part.get("items", {})
        if "$ref" in items:
            walk(items, f"{pointer}/0")
        elif not kinds and "properties" not in part:
            found[pointer] = {**found.get(pointer, {}), **part}

    body = document["paths"]["/v1/compressions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    walk(body, "")
    return found


@pytest.fixture(scope="module")
def form():
    """The form's fields by pointer, as they are written down."""
    lines = (FORM / "request-fields.js").read_text().splitlines()
    found = {match[1]: line for line in lines if (match := re.search(r'pointer: "([^"]+)"', line))}
    for line in (FORM / "budgets.js").read_text().splitlines():
        if match := re.search(r'pointer: at\("(\w+)"\)', line):
            found[f"/budgets/0/{match[1]}"] = line
    return found


def test_every_field_of_a_request_has_a_place_in_the_form(schema, form):
    assert len(schema) > 80
    whole = [pointer for pointer, line in form.items() if 'kind: "json"' in line]
    without = {one for one in schema if one not in form and not any(one.startswith(f"{part}/") for part in whole)}
    assert without == set()


def test_the_form_has_no_field_that_a_request_has_not(schema, form):
    lists = {one.rpartition("/0/")[0] for one in schema if "/0/" in one}
    assert form.keys() - schema.keys() <= lists


def test_the_form_offers_every_choice_of_a_field(schema, form):
    offered = {pointer: set(re.findall(r'\["([^"]*)", "', line)) for pointer, line in form.items() if "choices" in line}
    limited = {pointer: part for pointer, part in schema.items() if "enum" in part and pointer in form}
    assert len(limited) > 10
    for pointer, part in limited.items():
        assert (offered[pointer] | {part.get("default")}) - {"", "null", None} == set(part["enum"]), pointer


def test_labels_of_the_form_say_one_thing_each(form):
    labels = [re.search(r'label: "([^"]+)"', line)[1] for pointer, line in form.items() if "/budgets/" not in pointer]
    assert len(labels) == len(set(labels))
