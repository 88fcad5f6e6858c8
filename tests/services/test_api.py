"""The HTTP contract, against a real uvicorn; Ray is not there, so that answers cannot depend on it."""

import http.client
import io
import json
import tarfile
import time

import httpx
import pytest
import structlog
from sqlalchemy.exc import OperationalError

from services.api.pointers import pointer_to
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.store import MAX_PAGE
from services.service import Service
from services.settings import load_settings
from tests.services.conftest import serving
from workloads.budgets import LatencyTarget
from workloads.job_folder import (
    EventDocument,
    InfeasibleDocument,
    JobFolder,
    ProgressDocument,
    ResultDocument,
    StepDocument,
    StudentDocument,
)

ARCHITECTURE = {
    "layers": 1, "hidden_size": 8, "intermediate_size": 16, "heads": 2, "head_width": 4, "source_layers": [0],
}  # fmt: skip
DATA = bytes(range(256)) * 9000


@pytest.fixture
def http_client(client):
    with httpx.Client(base_url=client.server) as http_client:
        yield http_client


@pytest.fixture
def finished(service, make_request):
    """A job that has succeeded with one student at its second attempt."""
    job = service.store.create(make_request())
    folder = JobFolder(service.storage, job.id)
    service.work.begin_attempt(job.id)
    folder.write_events(1, [EventDocument(sequence=n, time="t", type="note", message=f"1-{n}") for n in (1, 2)])
    service.work.end_attempt(job.id, 1, AttemptStatus.LOST, "It died.", JobStatus.QUEUED)
    service.work.begin_attempt(job.id)
    folder.write_events(2, [EventDocument(sequence=1, time="t", type="note", message="2-1")])
    files = f"artifacts/student/abc/builds/{job.id}-2"
    service.storage.write_bytes(f"{files}/config.json", b"{}")
    service.storage.write_bytes(f"{files}/sub/model.safetensors", DATA)
    service.storage.write_bytes(f"{files}-beside/secret.txt", b"another's")
    student = StudentDocument(
        id="stu_1", budget="edge", subspace="tiny", architecture=ARCHITECTURE, params=10, flops=20,
        sequence_length=128, heldout_loss=0.5, files=files,
    )  # fmt: skip
    result = ResultDocument(
        status="succeeded", students=[student], infeasible=[InfeasibleDocument(budget="none", nearest=[])]
    )
    steps = [StepDocument(name="train", status="succeeded", done=5, total=5, unit="steps")]
    return service.work.end_attempt(
        job.id, 2, AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED, result=result, steps=steps
    )


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


def test_a_request_may_be_yaml(http_client, text):
    body = f"teacher: {{model: a/b}}\ncorpus: {{paths: [{text}]}}\nbudgets: [{{name: edge, max_params: 9}}]\n"
    answer = http_client.post("/v1/compressions", content=body, headers={"content-type": "application/yaml"})
    assert answer.status_code == 202


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
        (_change(budgets=[]), "budgets", "Correct the value"),
        (_change(budgets=[{"name": "a", "max_params": 0}]), "budgets.0.max_params", "more than 0"),
        (_change(objective__relation="cosine"), "objective.relation", "'softmax-mse'"),
        (_change(training__batch_size="many"), "training.batch_size", "Correct the value"),
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
        (b"a: &x [1]\nb: *x", "application/yaml", 422, "invalid_request"),
        (b" " * (1 << 20) + b"{}", "application/json", 413, "body_too_large"),
        (b"[" * 100_000, "application/json", 422, "invalid_request"),
        (b"\xff\xfe\xfd", "application/yaml", 422, "invalid_request"),
    ],
)
def test_a_body_that_is_no_request_is_refused(http_client, content, kind, status, code):
    answer = http_client.post("/v1/compressions", content=content, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.json()["errors"]] == ([""] if status == 422 else [])


def test_what_is_not_there_is_answered_as_a_problem(http_client, finished):
    here = f"/v1/compressions/{finished.id}"
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

    monkeypatch.setattr(service.store, "page", broken)
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

    monkeypatch.setattr(service.store, "page", away)
    answer = http_client.get("/v1/compressions")
    assert (answer.status_code, answer.json()["code"]) == (503, code)
    assert int(answer.headers["retry-after"]) > 0
    assert "SELECT" not in answer.text


@pytest.mark.parametrize(
    ("field", "body", "pointer"),
    [
        ("budgets.0.max_params", {"budgets": [{"max_params": 0}]}, "/budgets/0/max_params"),
        ("teacher", {}, "/teacher"),
        ("labels.a.b", {"labels": {"a.b": 3}}, "/labels/a.b"),
        ("a/b~c", {"a/b~c": 1}, "/a~1b~0c"),
        ("request", [], ""),
        ("request", {"request": 1}, "/request"),
        ("compression", {"budgets": []}, None),
    ],
)
def test_a_pointer_leads_into_the_body_that_was_sent(field, body, pointer):
    assert pointer_to(field, body) == pointer


def test_a_queued_job_is_cancelled_at_once_and_a_finished_one_not_at_all(http_client, make_request, finished):
    job = http_client.post("/v1/compressions", json=make_request()).json()
    for _ in range(2):
        answer = http_client.post(f"/v1/compressions/{job['id']}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert http_client.post(f"/v1/compressions/{finished.id}/cancel").status_code == 409


def test_a_cancelled_job_is_resumed_and_a_finished_one_is_not(client, http_client, make_request, finished):
    job = client.submit(make_request())
    client.cancel(job.id)
    answer = http_client.post(f"/v1/compressions/{job.id}/resume")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.headers["location"] == f"/v1/compressions/{job.id}"
    for path in (job.id, finished.id):
        refused = http_client.post(f"/v1/compressions/{path}/resume")
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert http_client.post("/v1/compressions/cmp_no/resume").status_code == 404


def test_an_ended_job_is_deleted_with_its_folder_and_its_artefacts_stay(client, http_client, service, finished):
    files = finished.result.students[0].files
    assert service.storage.exists(f"jobs/{finished.id}")
    answer = http_client.delete(f"/v1/compressions/{finished.id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert http_client.get(f"/v1/compressions/{finished.id}").status_code == 404
    assert http_client.delete(f"/v1/compressions/{finished.id}").status_code == 404
    assert not service.storage.exists(f"jobs/{finished.id}")
    assert service.storage.read_bytes(f"{files}/config.json") == b"{}"


def test_a_job_that_has_not_ended_is_not_deleted(client, http_client, make_request):
    job = client.submit(make_request())
    answer = http_client.delete(f"/v1/compressions/{job.id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert client.get(job.id).status == "queued"


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


def test_the_largest_page_too_says_what_follows_it(client, service):
    ids = [service.store.create({"teacher": {"model": "a/b"}, "labels": {}}).id for _ in range(MAX_PAGE + 1)]
    first = client.page(limit=MAX_PAGE)
    assert [job.id for job in first.compressions] == ids[:0:-1]
    assert [job.id for job in client.page(limit=MAX_PAGE, after=first.next).compressions] == ids[:1]


def test_jobs_are_listed_page_by_page(client, make_request):
    ids = [client.submit(make_request()).id for _ in range(3)]
    client.cancel(ids[0])
    first = client.page(limit=2)
    assert [job.id for job in first.compressions] == [ids[2], ids[1]]
    second = client.page(limit=2, after=first.next)
    assert ([job.id for job in second.compressions], second.next) == ([ids[0]], None)
    assert [job.id for job in client.page(status=JobStatus.CANCELLED).compressions] == [ids[0]]


def test_jobs_are_found_by_state_teacher_and_labels_which_all_hold(client, make_request):
    teacher = {"model": 'someone/it\'s "another"'}
    jobs = {
        "plain": make_request(),
        "blue": make_request(team="blue", stage="dev"),
        "odd": make_request(**{"team": "a:b ü", "we.ird-": "x"}),
        "other": make_request(team="blue") | {"teacher": teacher},
    }
    ids = {name: client.submit(request).id for name, request in jobs.items()}
    client.cancel(ids["blue"])

    def names(**filters):
        found = {job.id for job in client.page(**filters).compressions}
        return {name for name, job_id in ids.items() if job_id in found}

    assert names(labels={"team": "blue"}) == {"blue", "other"}
    assert names(labels={"team": "blue", "stage": "dev"}) == {"blue"}
    assert names(labels={"team": "a:b ü", "we.ird-": "x"}) == {"odd"}
    assert names(labels={"team": "bl"}) == names(labels={"nothing": ""}) == set()
    assert names(teacher=teacher["model"]) == {"other"}
    assert names(teacher="someone/some-hub-model", status=JobStatus.QUEUED) == {"plain", "odd"}
    first = client.page(labels={"team": "blue"}, limit=1)
    assert [job.id for job in first.compressions] == [ids["other"]]
    rest = client.page(labels={"team": "blue"}, limit=1, after=first.next)
    assert ([job.id for job in rest.compressions], rest.next) == ([ids["blue"]], None)


@pytest.mark.parametrize("labels", [["team"], [":x"], ['te"am:x'], ["team:a", "team:b"]])
def test_a_label_that_can_be_nobodys_is_refused(http_client, labels):
    answer = http_client.get("/v1/compressions", params={"label": labels})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")


def test_a_job_that_has_not_changed_is_not_sent_again(http_client, service, make_request):
    job = http_client.post("/v1/compressions", json=make_request()).json()
    path = f"/v1/compressions/{job['id']}"
    service.cluster.close()  # or the note on Ray may change in between
    first = http_client.get(path)
    tag = first.headers["etag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = http_client.get(path, headers={"If-None-Match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), given
    http_client.post(f"{path}/cancel")
    changed = http_client.get(path, headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["status"]) == (200, "cancelled")
    assert changed.headers["etag"] != tag


def test_a_finished_job_shows_its_students_steps_and_attempts(client, service, finished):
    job = client.get(finished.id)
    assert (job.status, job.attempt, job.error) == ("succeeded", 2, None)
    assert [(a.number, a.status, a.reason) for a in job.attempts] == [(1, "lost", "It died."), (2, "succeeded", None)]
    assert [(step.name, step.done) for step in job.steps] == [("train", 5)]
    assert [item.budget for item in job.infeasible] == ["none"]
    assert job.students[0].files == service.storage.path(finished.result.students[0].files)


def test_a_running_job_shows_the_progress_of_its_attempt(client, service, make_request):
    job = service.work.begin_attempt(service.store.create(make_request()).id)
    assert client.get(job.id).steps == []
    step = StepDocument(name="train", status="running", done=3, total=9, unit="steps", rate=1.5, seconds_left=4.0)
    JobFolder(service.storage, job.id).write_progress(1, ProgressDocument(updated_at="t", steps=[step]))
    assert client.get(job.id).steps == [step]


def test_events_of_all_attempts_come_in_order_and_only_once(client, finished):
    page = client.events(finished.id)
    assert [event.message for event in page.events] == ["1-1", "1-2", "2-1"]
    assert [event.attempt for event in page.events] == [1, 1, 2]
    assert [event.message for event in client.events(finished.id, "1-1").events] == ["1-2", "2-1"]
    rest = client.events(finished.id, page.next)
    assert (rest.events, rest.next) == ([], page.next)


def test_a_student_comes_whole_as_an_archive_and_file_by_file(client, http_client, finished, tmp_path):
    detail = client.student(finished.id, "stu_1")
    assert {file.path: file.bytes for file in detail.contents} == {
        "config.json": 2,
        "sub/model.safetensors": len(DATA),
    }
    answer = http_client.get(detail.archive)
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        assert sorted(archive.getnames()) == ["stu_1/config.json", "stu_1/sub/model.safetensors"]
    assert int(answer.headers["content-length"]) == len(answer.content)
    folder = client.download(finished.id, "stu_1", tmp_path / "students")
    assert (folder / "sub/model.safetensors").read_bytes() == DATA
    one = http_client.get(f"/v1/compressions/{finished.id}/students/stu_1/files/sub/model.safetensors")
    assert one.content == DATA


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "..%2f..%2f..%2fservice/jobs.sqlite",
        "%2e%2e/%2e%2e/service.lock",
        "sub/../../x",
        "%2fetc/passwd",
        "/etc/passwd",
        "config.json%00",
        "sub",
        "",
        ".",
    ],
)
def test_no_path_leads_out_of_a_students_folder(client, finished, path):
    # http.client sends the path as it is; httpx would tidy it first.
    host, port = client.server.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port))
    connection.request("GET", f"/v1/compressions/{finished.id}/students/stu_1/files/{path}")
    assert connection.getresponse().status == 404
    connection.close()


def test_without_ray_the_service_answers_at_once_and_says_that_it_is_not_ready(http_client, make_request):
    assert http_client.get("/healthz").json()["status"] == "ok"
    answer = http_client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["ray"]["state"] in {"starting", "unavailable"}
    job = http_client.post("/v1/compressions", json=make_request()).json()
    begun = time.monotonic()
    for _ in range(20):
        assert http_client.get(f"/v1/compressions/{job['id']}").json()["ray"]["state"] != "ready"
    assert time.monotonic() - begun < 2  # 20 answers; some ms each, on a busy machine too
