"""The HTTP contract, against a real uvicorn and without Ray, so that answers cannot depend on it."""

import json
import time

import pytest
import structlog
from sqlalchemy.exc import OperationalError

from services.service import Service
from services.settings import load_settings
from tests.services.conftest import serving
from workloads.spec.budgets import LatencyTarget


def test_a_request_is_accepted_with_its_location_and_its_document(http_client, make_request):
    answer = http_client.post("/v1/compressions", json=make_request())
    assert answer.status_code == 202
    document = answer.json()
    assert answer.headers["location"] == f"/v1/compressions/{document['id']}"
    assert document["id"].startswith("cmp_")
    assert answer.headers["retry-after"] == "1"
    expected = {"status": "queued", "attempt": 0, "steps": [], "students": [], "infeasible": [], "error": None}
    assert {name: document[name] for name in expected} == expected
    assert document["request"]["budgets"][0]["name"] == "edge"
    assert document["request"]["seed"] == 0  # defaults are written out
    assert document["finished_at"] is None
    assert http_client.get(answer.headers["location"]).json()["id"] == document["id"]


def _change(**changes):
    def change(request):
        for path, value in changes.items():
            *parents, last = path.split("__")
            part = request
            for parent in parents:
                part = part.setdefault(parent, {})
            part[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "field", "remedy"),
    [
        (_change(teachr={}), "teachr", "Did you mean 'teacher'?"),
        (_change(budgets=[]), "budgets", "Give at least 1 entry."),
        (_change(budgets=[{"name": "a", "max_params": 0}]), "budgets.0.max_params", "more than 0"),
        (_change(objective__relation="cosine"), "objective.relation", "'softmax-mse'"),
        (_change(training__batch_size="many"), "training.batch_size", "Use a whole number"),
        (_change(teacher__model="/nowhere/teacher"), "teacher.model", "existing folder"),
        (_change(corpus__paths=["/nowhere/text.txt"]), "corpus.paths.0", "that exists"),
        (_change(corpus__paths=["/nowhere/*.txt"]), "corpus.paths.0", "glob that matches"),
        (_change(corpus={"dataset": "/nowhere/dataset"}), "corpus.dataset", "that exists"),
    ],
)
def test_a_bad_request_is_answered_by_the_field_and_the_remedy(http_client, make_request, change, field, remedy):
    request = make_request()
    change(request)
    answer = http_client.post("/v1/compressions", json=request)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 422
    finding = next(error for error in problem["errors"] if error["field"] == field)
    assert remedy in finding["remedy"]
    assert (problem["code"], finding["pointer"]) == ("invalid_request", "/" + field.replace(".", "/"))
    assert http_client.get("/v1/compressions").json()["compressions"] == []


def test_a_teacher_with_pickled_weights_only_is_refused(http_client, make_request, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    request = make_request() | {"teacher": {"model": str(tmp_path)}}
    answer = http_client.post("/v1/compressions", json=request)
    assert answer.status_code == 422
    assert "pickled" in answer.json()["errors"][0]["problem"]


def test_wrong_teacher_and_wrong_corpus_are_told_together(http_client, make_request):
    request = make_request() | {"teacher": {"model": "/nowhere/a"}, "corpus": {"paths": ["/nowhere/b"]}}
    errors = http_client.post("/v1/compressions", json=request).json()["errors"]
    assert [error["field"] for error in errors] == ["teacher.model", "corpus.paths.0"]


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{", "application/json", 422, "invalid_request"),
        (b"[]", "application/json", 422, "invalid_request"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"{}", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"teacher: {model: a/b}", "application/yaml", 415, "unsupported_media_type"),
        (b" " * (1 << 20) + b"{}", "application/json", 413, "body_too_large"),
        (b"[" * 100_000, "application/json", 422, "invalid_request"),
        (b"\xff\xfe\xfd", "application/json", 422, "invalid_request"),
        (b"", "application/json", 422, "invalid_request"),
        (b"null", "application/json", 422, "invalid_request"),
        (b"", "", 415, "unsupported_media_type"),
    ],
)
def test_a_body_that_is_no_request_is_refused(http_client, content, kind, status, code):
    answer = http_client.post("/v1/compressions", content=content, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.json()["errors"]] == ([""] if status == 422 else [])


@pytest.mark.parametrize("path", ["compressions", "compressions/plan", "batches", "evaluations"])
def test_yaml_is_refused_with_the_way_to_send_it(http_client, path):
    answer = http_client.post(f"/v1/{path}", content=b"teacher: {}", headers={"content-type": "text/yaml"})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"] and "stillroom submit" in answer.json()["detail"]


DEEP = 200


@pytest.mark.parametrize(
    ("part", "pointer"),
    [
        ('"labels": {"a": NaN}', ""),
        ('"seed": Infinity', ""),
        ('"seed": 1e999', "/seed"),
        ('"seed": 1' + "0" * 5000, ""),
        ('"labels": {"a": "1", "a": "2"}', ""),
        ('"labels": {"a": "\\ud800"}', "/labels/a"),
        ('"labels": {"\\udfff": "a"}', "/labels"),
        ('"teacher": {"model": "a\\ud83db"}', "/teacher/model"),
        ('"labels": ' + '{"a":' * DEEP + "1" + "}" * DEEP, "/labels" + "/a" * 63),
        ('"corpus": ' + "[" * DEEP + "]" * DEEP, "/corpus" + "/0" * 63),
        ('"budgets": [' + ",".join(["{}"] * 150_000) + "]", ""),
        ('"labels": {' + ",".join(f'"{n}": 1' for n in range(60_000)) + "}", "/labels"),
        (",".join(f'"{n}": 1' for n in range(60_000)), ""),
    ],
    ids=[
        *("nan", "infinity", "overflow", "digits", "twice", "surrogate", "name", "inside"),
        *("deep", "lists", "many", "keys", "fields"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["compressions", "evaluations"])
def test_what_json_can_say_and_no_request_means_is_refused_fast(http_client, path, part, pointer):
    begun = time.process_time()
    answer = http_client.post(
        f"/v1/{path}", content=f"{{{part}}}".encode(), headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text[:300]
    assert time.process_time() - begun < 3  # CPU seconds, of the server too; some 0.6 for the longest
    if pointer is not None and path == "compressions":
        assert pointer in {error["pointer"] for error in answer.json()["errors"]}
    assert len(answer.content) < 100_000


@pytest.mark.parametrize("label", ["a:%00", "a:%ED%A0%80", "%ED%A0%80:a"])
def test_what_no_database_takes_in_paths_queries_and_headers_is_answered_and_not_an_error(http_client, label):
    answers = [
        http_client.get(f"/v1/compressions?label={label}"),
        http_client.get("/v1/compressions?teacher=%00%ED%A0%80"),
        http_client.get("/v1/compressions?batch=%00"),
        http_client.get("/v1/compressions/cmp_%00"),
        http_client.get("/v1/compressions/%ED%A0%80"),
        http_client.get("/v1/evaluations?compression=%00&student=%ED%A0%80"),
        http_client.get("/v1/batches/%00%ff"),
        http_client.post("/v1/selections/%00/cancel"),
        http_client.get("/v1/compressions", headers={b"Last-Event-ID": b"\xff"}),
    ]
    assert all(answer.status_code < 500 for answer in answers), [answer.status_code for answer in answers]


def test_what_is_not_there_is_answered_as_a_problem(http_client, finished_job):
    here = f"/v1/compressions/{finished_job.id}"
    paths = ("/v1/compressions/cmp_no", "/v1/nothing", f"{here}/students/stu_9", f"{here}/students/stu_1/files/no")
    for path in paths:
        answer = http_client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path
        assert answer.json()["code"] == "not_found", path
    assert http_client.post("/v1/compressions/cmp_no/cancel").status_code == 404
    assert http_client.delete("/v1/compressions").json()["code"] == "method_not_allowed"
    assert http_client.get("/v1/compressions", params={"limit": 0}).status_code == 422
    refused = http_client.get("/v1/compressions", params={"status": "fine"}).json()
    assert (refused["code"], refused["errors"][0]["field"], refused["errors"][0]["pointer"]) == (
        "invalid_parameter", "status", None,
    )  # fmt: skip
    assert http_client.get(f"{here}/events", params={"after": "x"}).status_code == 422


def test_an_error_of_the_services_own_is_answered_without_its_particulars_and_logged(http_client, service, monkeypatch):
    def broken(*_given, **_named):
        raise ZeroDivisionError("particulars")

    monkeypatch.setattr(service.store, "summaries", broken)
    with structlog.testing.capture_logs() as logs:
        answer = http_client.get("/v1/compressions")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["code"] == "internal"
    assert "particulars" not in answer.text and "Traceback" not in answer.text
    assert [(entry["event"], entry["path"], entry["exc_info"]) for entry in logs] == [
        ("request_failed", "/v1/compressions", True)
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError("bucket gone"), "storage_unavailable"),
        (OperationalError("SELECT 1", {}, Exception("database is locked")), "database_unavailable"),
    ],
)
def test_what_is_away_for_a_while_is_to_be_asked_again(http_client, service, monkeypatch, error, code):
    def away(*_given, **_named):
        raise error

    monkeypatch.setattr(service.store, "summaries", away)
    answer = http_client.get("/v1/compressions")
    assert (answer.status_code, answer.json()["code"]) == (503, code)
    assert int(answer.headers["retry-after"]) > 0
    assert "SELECT" not in answer.text


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"budgets": [{"name": "a", "max_params": 0}]}, {"budgets.0.max_params": "/budgets/0/max_params"}),
        ({"budgets": None}, {"budgets": "/budgets"}),
        ({"labels": {"a.b": 3}}, {"labels.a.b": "/labels/a.b"}),
        ({"a/b~c": 1}, {"a/b~c": "/a~1b~0c"}),
        ({"request": 1}, {"request": "/request"}),
        ({"seed": 2**31, "bogus": 1}, {"seed": "/seed", "bogus": "/bogus"}),
    ],
)
def test_a_pointer_leads_into_the_body_that_was_sent(http_client, make_request, body, found):
    errors = http_client.post("/v1/compressions", json=make_request() | body).json()["errors"]
    assert {error["field"]: error["pointer"] for error in errors} == found


def test_a_missing_field_is_pointed_to_and_one_that_is_not_of_the_body_is_not(http_client, finished_job):
    errors = http_client.post("/v1/compressions", json={}).json()["errors"]
    assert {error["field"]: error["pointer"] for error in errors} == {
        name: f"/{name}" for name in ("teacher", "corpus", "budgets")
    }
    asked = {"budgets": [{"name": "a", "max_params": 1}]}
    (error,) = http_client.post(f"/v1/compressions/{finished_job.id}/selections", json=asked).json()["errors"]
    assert (error["field"], error["pointer"]) == ("compression", None)


def test_the_targets_of_the_settings_are_listed_beside_the_built_in_ones(tmp_path):
    own = LatencyTarget(name="edge-box", threads=2)
    settings = load_settings(storage=str(tmp_path), ray_address="http://127.0.0.1:9", latency_targets=[own])
    service = Service(settings)
    try:
        with serving(service) as client:
            targets = {target.name: target for target in client.latency_targets()}
    finally:
        service.close()
    assert targets["edge-box"] == own
    assert {"cpu-1", "cpu-4", "cpu-1-onnx"} < set(targets)


def test_without_ray_the_service_answers_at_once_and_says_that_it_is_not_ready(http_client, make_request):
    assert http_client.get("/healthz").json()["status"] == "ok"
    answer = http_client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["ray"]["state"] in {"starting", "unavailable"}
    job = http_client.post("/v1/compressions", json=make_request()).json()
    begun = time.monotonic()
    for _ in range(20):
        assert http_client.get(f"/v1/compressions/{job['id']}").json()["ray"]["state"] != "ready"
    assert time.monotonic() - begun < 10  # 20 answers of some ms each; waiting for Ray would take a second or more each
