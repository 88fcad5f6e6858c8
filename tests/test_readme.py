"""Checks that the documents for newcomers are true."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from services.jobs.documents import JobDocument
from services.settings import Settings
from workloads.documents.job_folder import StepDocument, StudentDocument
from workloads.spec.request import CompressionRequest, parse_request

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def _blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def _run(command):
    """Run what a page shows, with this environment's programs."""
    program, *arguments = shlex.split(command)
    program = Path(sys.executable).parent / Path(program).name
    return subprocess.run(
        [program, *arguments], check=True, capture_output=True, text=True, timeout=60, cwd=ROOT
    ).stdout  # fmt: skip


def test_the_request_in_the_readme_is_what_its_command_writes():
    shown = json.loads(_blocks("json")[0])
    (command,) = re.findall(r"`(\S+ demo/run.py --request) > request.json`", README)
    written = json.loads(_run(command))
    for request in (shown, written):
        request["teacher"]["model"] = request["teacher"]["model"].rpartition("site-packages/")[2]
        request["corpus"]["paths"] = [path.rpartition("site-packages/")[2] for path in request["corpus"]["paths"]]
    assert shown == written
    assert parse_request(written).budgets


def test_the_cost_example_gives_what_the_readme_shows():
    command, _, shown = _blocks("console")[0].partition("\n")
    assert _run(command.removeprefix("$ ")) == shown


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "Makefile", ".ci/run"])
def test_every_make_target_that_is_named_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / page).read_text(), re.MULTILINE))
    assert named <= targets
    assert {"install", "demo", "test", "test-all", "lint", "bench"} <= targets


@pytest.mark.parametrize("page", ["README.md", "docs/service.md", "docs/request.md", "ARCHITECTURE.md"])
def test_every_file_that_is_named_exists(page):
    text = (ROOT / page).read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    paths = re.findall(r"`((?:services|workloads|docker|docs|demo)/[\w/.]*\w)/?`", text)
    missing = [path for path in links if not ((ROOT / page).parent / path).exists()]
    assert not missing + [path for path in paths if not (ROOT / path).exists() and path != "docker/inputs"]


def test_the_reference_of_the_request_names_every_field():
    page = (ROOT / "docs" / "request.md").read_text()
    definitions = CompressionRequest.model_json_schema()
    parts = [definitions, *definitions["$defs"].values()]
    fields = {field for part in parts for field in part.get("properties", {})}
    assert {field for field in fields if f"| `{field}` |" not in page} == set()


def test_the_page_on_the_service_names_every_setting():
    page = (ROOT / "docs" / "service.md").read_text()
    assert {name for name in Settings.model_fields if f"`STILLROOM_{name.upper()}`" not in page} == set()


def test_the_demos_request_is_one():
    given = yaml.safe_load((ROOT / "demo" / "request.yaml").read_text())
    request = parse_request(given | {"teacher": {"model": "m"}, "corpus": {"paths": ["t"]}})
    assert request.training.steps_for("tiny") >= 150


def test_the_answer_in_the_readme_has_the_job_documents_form():
    answer = json.loads(_blocks("json")[1])
    assert set(answer) <= set(JobDocument.model_fields)
    for kind, items in ((StepDocument, answer["steps"]), (StudentDocument, answer["students"])):
        assert [set(item) - set(kind.model_fields) for item in items] == [set()] * len(items)
        assert all(kind.model_validate(item) for item in items)
