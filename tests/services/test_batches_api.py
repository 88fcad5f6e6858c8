"""Batches over HTTP, with a service without Ray: jobs are stored, and none is started."""

import csv
import io

import httpx
import pytest

from services.intake.batch import MAX_COMPRESSIONS
from services.jobs.batches import Order
from services.jobs.records import AttemptEnd
from services.jobs.states import AttemptStatus, JobStatus
from tests.services.scripted_run import ARCHITECTURE
from workloads.answers.latency import LatencyMeasure
from workloads.documents.job_folder import (
    InfeasibleDocument,
    JobFolder,
    NearestDocument,
    ProgressDocument,
    ResultDocument,
    StepDocument,
    StudentDocument,
    TeacherDocument,
    now,
)
from workloads.spec.budgets import LatencyTarget

TEACHERS = ["someone/one", "someone/two", "someone/three"]


@pytest.fixture
def http(client):
    with httpx.Client(base_url=client.server) as http:
        yield http


@pytest.fixture
def body(make_request):
    """A batch of three teachers."""
    common = make_request(team="search")
    del common["teacher"]
    return {"name": "spring", "common": common, "compressions": [{"teacher": {"model": name}} for name in TEACHERS]}


@pytest.fixture
def finish(service):
    """`finish(id)` has a queued compression end, as a run would, with a student and an infeasible budget."""

    def end(job_id, status=JobStatus.SUCCEEDED, **changes):
        folder = f"artifacts/student/abc/builds/{job_id}-1"
        service.storage.write_bytes(f"{folder}/config.json", b"{}")
        costs = {"params": 900, "flops": 800, "sequence_length": 128}
        latency = LatencyMeasure(
            target=LatencyTarget(name="cpu-1"), p50_ms=4.5, p95_ms=5, spread=0.1, repeats_p50_ms=[4.5, 4.5],
            agrees=True, teacher_p50_ms=9, teacher_repeats_p50_ms=[9, 9], speed_up=2, device="a CPU", versions={},
            measured_at=now(),
        )  # fmt: skip
        student = StudentDocument(
            id=f"stu_{job_id}", budget="edge", subspace="tiny", architecture=ARCHITECTURE, heldout_loss=0.25,
            latency=latency, files=folder, **costs,
        )  # fmt: skip
        nearest = NearestDocument(
            architecture=ARCHITECTURE, subspace="tiny", heldout_loss=1, misses={"max_params": 9.0}, **costs
        )
        teacher = TeacherDocument(fingerprint="f", shape={}, params=9000, flops=8000, sequence_length=128)
        results = {
            JobStatus.SUCCEEDED: ResultDocument(
                status="succeeded", students=[student], teacher=teacher, seconds=1,
                infeasible=[InfeasibleDocument(budget="none", nearest=[nearest])],
            ),
            JobStatus.FAILED: ResultDocument(status="failed"),
        }  # fmt: skip
        job = service.work.begin_attempt(job_id)
        attempt = AttemptStatus.SUCCEEDED if status is JobStatus.SUCCEEDED else AttemptStatus.FAILED
        result = results[status].model_copy(update=changes)
        service.work.end_attempt(job.id, job.attempt, AttemptEnd(attempt, None, status, result=result))
        return student

    return end


def _ids(batch):
    return [one["id"] for one in batch["compressions"]]


def test_a_batch_is_accepted_shown_and_found_from_its_compressions(http, body):
    answer = http.post("/v1/batches", json=body | {"max_running": 2, "labels": {"season": "spring"}})
    batch = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/batches/{batch['id']}")
    assert int(answer.headers["retry-after"]) >= 1
    assert (batch["name"], batch["status"], batch["counts"]) == ("spring", "queued", {"queued": 3})
    assert (batch["max_running"], batch["labels"]) == (2, {"season": "spring"})
    assert [one["teacher"] for one in batch["compressions"]] == TEACHERS

    shown = http.get(answer.headers["location"])
    assert shown.json() == batch
    unchanged = http.get(answer.headers["location"], headers={"If-None-Match": shown.headers["etag"]})
    assert unchanged.status_code == 304

    for job_id, teacher in zip(_ids(batch), TEACHERS, strict=True):
        job = http.get(f"/v1/compressions/{job_id}").json()
        assert (job["batch"], job["request"]["teacher"]["model"]) == (batch["id"], teacher)
        assert job["request"]["labels"] == {"team": "search"}
    found = http.get("/v1/compressions", params={"batch": batch["id"]}).json()["compressions"]
    assert [job["id"] for job in found] == _ids(batch)[::-1]


def test_the_compressions_of_a_batch_are_filtered_and_come_page_by_page(http, body, make_request):
    http.post("/v1/compressions", json=make_request())
    batch = http.post("/v1/batches", json=body).json()
    http.post("/v1/batches", json=body)
    seen, after = [], None
    while True:
        params = {"batch": batch["id"], "limit": 2} | ({"after": after} if after else {})
        page = http.get("/v1/compressions", params=params).json()
        seen += [job["id"] for job in page["compressions"]]
        if (after := page["next"]) is None:
            break
    assert seen == _ids(batch)[::-1]
    params = {"batch": batch["id"], "teacher": TEACHERS[1], "status": "queued"}
    assert [job["id"] for job in http.get("/v1/compressions", params=params).json()["compressions"]] == [seen[1]]
    assert http.get("/v1/compressions", params={"batch": "bat_none"}).json()["compressions"] == []


def test_nothing_is_made_where_one_is_wrong_and_the_pointers_lead_to_what_was_sent(http, body):
    body["common"]["budgets"].append({"name": "wrong", "max_params": 0})
    body["compressions"][1]["training"] = {"sequence_length": 1}
    answer = http.post("/v1/batches", json=body, headers={"Idempotency-Key": "k"})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_request")
    assert {error["pointer"]: error["field"] for error in problem["errors"]} == {
        "/common/budgets/1/max_params": "common.budgets.1.max_params",
        "/compressions/1/training/sequence_length": "compressions.1.training.sequence_length",
    }
    assert all(error["problem"] and error["remedy"] for error in problem["errors"])
    assert http.get("/v1/batches").json()["batches"] == []
    assert http.get("/v1/compressions").json()["compressions"] == []

    del body["common"]["budgets"][1], body["compressions"][1]["training"]
    assert http.post("/v1/batches", json=body, headers={"Idempotency-Key": "k"}).status_code == 202


def test_a_batch_sent_again_with_its_key_is_made_once(http, body, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("Four score.")
    body["common"]["corpus"] = {"paths": [str(corpus)]}
    key = {"Idempotency-Key": "k"}
    first = http.post("/v1/batches", json=body, headers=key)
    corpus.unlink()
    again = http.post("/v1/batches", json=body, headers=key)
    assert (again.status_code, again.json(), again.headers["location"]) == (
        202,
        first.json(),
        first.headers["location"],
    )
    other = http.post("/v1/batches", json=body | {"name": "other"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(http.get("/v1/compressions").json()["compressions"]) == 3


def test_batches_come_page_by_page_newest_first_and_by_label(http, body):
    made = [http.post("/v1/batches", json=body | {"labels": {"n": str(n)}}).json() for n in range(5)]
    seen, after = [], None
    while True:
        page = http.get("/v1/batches", params={"limit": 2} | ({"after": after} if after else {})).json()
        seen += page["batches"]
        if (after := page["next"]) is None:
            break
    assert [one["id"] for one in seen] == [one["id"] for one in made[::-1]]
    assert seen[0] == {name: value for name, value in made[-1].items() if name != "compressions"}
    assert [one["id"] for one in http.get("/v1/batches?label=n:3").json()["batches"]] == [made[3]["id"]]


def test_a_running_compression_shows_the_step_that_it_is_at(http, body, service):
    batch = http.post("/v1/batches", json=body).json()
    first, second, _ = _ids(batch)
    for job_id in (first, second):
        service.work.begin_attempt(job_id)
    done = StepDocument(name="corpus", status="succeeded")
    step = StepDocument(name="train", status="running", done=3, total=10, unit="steps")
    JobFolder(service.storage, first).write_progress(1, ProgressDocument(updated_at=now(), steps=[done, step]))
    service.storage.write_bytes(f"jobs/{second}/attempts/1/progress.json", b'{"of": "another version"}')
    shown = http.get(f"/v1/batches/{batch['id']}").json()
    assert (shown["status"], shown["counts"]) == ("running", {"running": 2, "queued": 1})
    progress = [one["progress"] for one in shown["compressions"]]
    assert progress == [step.model_dump(), None, None]


def test_the_results_of_all_teachers_are_one_table(http, body, finish):
    batch = http.post("/v1/batches", json=body).json()
    one, two, three = _ids(batch)
    student = finish(one)
    finish(two, JobStatus.FAILED)
    finish(three)
    url = f"/v1/batches/{batch['id']}/results"
    table = http.get(url).json()
    assert (table["batch"], table["status"]) == (batch["id"], "partial")
    assert table["unanswered"] == [{"compression": two, "teacher": TEACHERS[1], "status": "failed"}]
    rows = [(row["compression"], row["teacher"], row["outcome"], row["budget"]) for row in table["results"]]
    assert rows == [
        (job_id, teacher, outcome, budget)
        for job_id, teacher in ((one, TEACHERS[0]), (three, TEACHERS[2]))
        for outcome, budget in (("student", "edge"), ("infeasible", "none"))
    ]
    (row, missed) = table["results"][:2]
    assert (row["student"], row["architecture"], row["subspace"]) == (student.id, ARCHITECTURE, "tiny")
    assert (row["params"], row["flops"], row["sequence_length"], row["heldout_loss"]) == (900, 800, 128, 0.25)
    assert (row["latency_target"], row["latency_ms_p50"], row["misses"]) == ("cpu-1", 4.5, None)
    assert (row["teacher_params"], row["teacher_flops"]) == (9000, 8000)
    assert row["files"].endswith(f"/artifacts/student/abc/builds/{one}-1")
    assert (missed["student"], missed["files"], missed["misses"]) == (None, None, {"max_params": 9.0})

    answer = http.get(url, headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == f'attachment; filename="{batch["id"]}.csv"'
    read = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(line["compression"], line["teacher"], line["outcome"], line["budget"]) for line in read] == rows
    assert list(read[0]) == list(row)
    assert [float(line["params"]) for line in read] == [900] * 4


def test_a_teachers_name_cannot_make_a_spreadsheet_do_anything(http, service, finish):
    names = ["=HYPERLINK(0)", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", 'a",=1\n=2']
    # No such name is accepted any more, but the database may hold them.
    batch = service.batches.create([Order({"teacher": {"model": name}}) for name in names])
    for member in service.batches.members(batch.id):
        finish(member.id, infeasible=[])
    text = http.get(f"/v1/batches/{batch.id}/results", headers={"Accept": "text/csv"}).text
    cells = [row["teacher"] for row in csv.DictReader(io.StringIO(text, newline=""))]
    assert cells == [f"'{name}" for name in names[:6]] + names[6:]


def test_a_batch_is_cancelled_retried_and_deleted_with_its_folders(http, body, service, finish):
    batch = http.post("/v1/batches", json=body).json()
    url = f"/v1/batches/{batch['id']}"
    first, second, _ = _ids(batch)
    finish(first)
    cancelled = http.post(f"{url}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "partial")
    refused = http.post(f"{url}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")

    retried = http.post(f"{url}/retry")
    assert (retried.status_code, retried.headers["location"]) == (202, url)
    assert retried.json()["counts"] == {"succeeded": 1, "queued": 2}
    refused = http.delete(url)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert second in refused.json()["detail"]

    http.post(f"{url}/cancel")
    folder = JobFolder(service.storage, first)
    folder.write_request({})
    assert http.delete(url).status_code == 204
    assert service.storage.list("jobs") == []
    assert http.get(f"/v1/compressions/{first}").status_code == 404
    for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("POST", "/retry"), ("DELETE", "")):
        answer = http.request(method, f"{url}{path}")
        assert (answer.status_code, answer.json()["detail"]) == (404, f"There is no batch {batch['id']}.")


def test_the_largest_batch_is_answered(http, body):
    body["compressions"] = [{"teacher": {"model": f"someone/{n}"}} for n in range(MAX_COMPRESSIONS)]
    batch = http.post("/v1/batches", json=body, timeout=30).json()
    assert batch["counts"] == {"queued": MAX_COMPRESSIONS}
    found = http.get("/v1/compressions", params={"batch": batch["id"], "limit": MAX_COMPRESSIONS}).json()
    assert [job["id"] for job in found["compressions"]] == _ids(batch)[::-1]
    assert found["next"] is None


def test_batches_are_counted_for_prometheus(http, body):
    batch = http.post("/v1/batches", json=body).json()
    http.post("/v1/batches", json=body)
    http.post(f"/v1/batches/{batch['id']}/cancel")
    lines = http.get("/metrics").text.splitlines()
    for status, count in (("queued", 1), ("cancelled", 1), ("partial", 0)):
        assert f'stillroom_batches{{status="{status}"}} {count}.0' in lines
