"""Common behaviour of all routes: HEAD, Allow, unknown paths, and the kinds of jobs."""

import re

import httpx
import pytest

from services.api.jobs import PATHS
from services.client import ApiError
from services.jobs.records import AttemptEnd, NewJob
from services.jobs.states import AttemptStatus, JobStatus
from tests.services.searched import finished
from workloads.documents.job_folder import EventDocument, JobFolder


@pytest.fixture
def http(client):
    with httpx.Client(base_url=client.server, timeout=60) as http:
        yield http


@pytest.fixture
def jobs(service, client, make_request, tmp_path):
    """A queued job of each kind."""
    parent = finished(service, make_request())
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a fox", "label": 1}\n{"text": "a dog", "label": 0}\n')
    task = {"kind": "single", "train": [str(rows)], "test": [str(rows)], "text_columns": ["text"]}
    return {
        "compression": service.submit(make_request(other=1)),
        "selection": service.store.create(NewJob(parent.request, "selection", parent=parent.id)),
        "plan": service.plan(make_request(other=2)),
        "evaluation": service.evaluate({"model": {"teacher": {"model": "some/hub-model"}}, "task": task}),
    }


def test_head_answers_as_get_does_without_its_body(http, jobs):
    job = jobs["compression"].id
    for path in ("/v1/compressions", f"/v1/compressions/{job}", "/v1/me", "/healthz", "/", "/static/main.js"):
        got, head = http.get(path), http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-type", "content-length", "etag"):
            assert head.headers.get(name) == got.headers.get(name), (path, name)
    unknown = http.head("/v1/compressions/cmp_no")
    assert (unknown.status_code, unknown.content) == (404, b"")
    stream = http.head(f"/v1/compressions/{job}/events", headers={"Accept": "text/event-stream"})
    assert stream.headers["content-type"].startswith("text/event-stream")  # nothing waits for its body
    assert http.get("/healthz").json() == {"status": "ok", "ray": None}  # the connection still works


def test_head_is_counted_as_head_and_an_error_of_ours_has_no_body_either(http, client, service, monkeypatch):
    http.head("/v1/compressions")
    assert 'method="HEAD",route="/v1/compressions",status="200"' in http.get("/metrics").text
    monkeypatch.setattr(service.store, "summaries", lambda *_, **__: 1 / 0)
    broken = http.head("/v1/compressions")
    assert (broken.status_code, broken.content) == (500, b"")
    assert http.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/compressions/cmp_x", "HEAD, GET, DELETE"),
        ("/v1/compressions", "HEAD, GET, POST"),
        ("/v1/compressions/cmp_x/cancel", "POST"),
        ("/v1/plans", "HEAD, GET"),
        ("/v1/compressions/plan", "POST"),
        ("/v1/compressions/cmp_x/log", "HEAD, GET"),
        ("/healthz", "HEAD, GET"),
    ],
)
def test_a_method_that_a_path_has_not_is_answered_with_those_that_it_has(http, path, methods):
    answer = http.put(path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == methods
    assert methods in answer.json()["detail"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PUT", "PATCH"])
def test_no_path_of_its_own_is_answered_as_the_id_of_a_job(http, method):
    own = [path for path in http.get("/openapi.json").json()["paths"] if path.startswith("/v1/") and "{" not in path]
    templates = [path for path in http.get("/openapi.json").json()["paths"] if re.search(r"\{\w+\}$", path)]
    shadowed = [path for path in own if path.rpartition("/")[0] in {one.rpartition("/")[0] for one in templates}]
    assert shadowed == ["/v1/compressions/plan"]
    for path in shadowed:
        answer = http.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        if method != "HEAD":
            assert answer.json()["detail"] == f"{path} does not take {method}. Use POST."


def test_a_slash_too_much_is_told_and_leads_nowhere_else(http):
    answer = http.get("/v1/compressions/")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.json()["detail"] == "There is nothing at /v1/compressions/. Leave out the slash at its end."
    assert http.get("/v1/nothing").json()["detail"] == "There is nothing at /v1/nothing."


@pytest.mark.parametrize("kind", PATHS)
def test_every_kind_of_job_is_shown_followed_cancelled_resumed_and_forgotten(http, service, jobs, kind):
    job, place = jobs[kind], f"{PATHS[kind]}/{jobs[kind].id}"
    for verb, status in (("cancel", "cancelled"), ("resume", "queued")):
        answer = http.post(f"{place}/{verb}")
        assert (answer.status_code, answer.json()["status"]) == (202, status)
        assert (answer.headers["location"], answer.headers["retry-after"]) == (place, "1")
    service.work.begin_attempt(job.id)
    event = EventDocument(sequence=1, time="t", type="note", message="hello")
    JobFolder(service.storage, job.id).write_events(1, [event])
    assert http.delete(place).json()["code"] == "conflict"
    service.work.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.FAILED, None, JobStatus.FAILED))
    assert [one["message"] for one in http.get(f"{place}/events").json()["events"]] == ["hello"]
    shown = http.get(place)
    assert http.get(place, headers={"If-None-Match": shown.headers["etag"]}).status_code == 304
    assert http.delete(place).status_code == 204
    assert http.get(place).json()["detail"] == f"There is no {kind} {job.id}."


@pytest.mark.parametrize("kind", PATHS)
def test_an_id_of_another_kind_is_not_there(http, jobs, kind):
    for other, job in jobs.items():
        if other != kind:
            place = f"{PATHS[kind]}/{job.id}"
            for method, path in (("GET", place), ("GET", f"{place}/events"), ("GET", f"{place}/log"),
                                 ("POST", f"{place}/cancel"), ("POST", f"{place}/resume"),
                                 ("DELETE", place)):  # fmt: skip
                answer = http.request(method, path)
                assert (answer.status_code, answer.json()["detail"]) == (404, f"There is no {kind} {job.id}.")


def test_plans_are_listed_and_one_that_is_forgotten_leaves_its_compression(client, service, make_request):
    request = make_request()
    plans = [service.plan(request) for _ in range(2)]
    other = service.plan(make_request(other=1))
    page = client.plans(limit=2)
    assert [one.id for one in page.plans] == [other.id, plans[1].id]
    assert [one.id for one in client.plans(limit=2, after=page.next).plans] == [plans[0].id]
    service.work.begin_attempt(plans[0].id)
    service.work.end_attempt(plans[0].id, 1, AttemptEnd(AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED))
    job = client.submit(request)
    assert service.store.get(job.id).parent == plans[0].id
    client.delete_plan(plans[0].id)
    assert client.get(job.id).planned is None


def test_the_client_follows_a_job_of_any_kind(client, service, jobs):
    for job in jobs.values():
        service.work.begin_attempt(job.id)
        event = EventDocument(sequence=1, time="t", type="note", message=job.id)
        JobFolder(service.storage, job.id).write_events(1, [event])
        service.work.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED))
        assert [one.message for one in client.stream_events(job.id)] == [job.id]
        assert [one.message for one in client.past_events(job.id)] == [job.id]


def test_teachers_are_found_as_requests_name_them(client, service, make_request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "teachers" / "minilm"
    folder.mkdir(parents=True)
    job = service.store.create(NewJob(make_request() | {"teacher": {"model": str(folder)}}))  # in the stored form
    client.submit(make_request())
    for name in ("teachers/minilm", "./teachers/minilm", str(folder)):
        assert [one.id for one in client.page(teacher=name).compressions] == [job.id]
    assert len(client.page(teacher="someone/some-hub-model").compressions) == 1
    folder.rename(tmp_path / "gone")
    assert [one.id for one in client.page(teacher="teachers/minilm").compressions] == [job.id]


def test_a_page_goes_on_where_its_last_job_was_deleted(client, make_request):
    ids = [client.cancel(client.submit(make_request(n=n)).id).id for n in range(5)]
    seen, after = [], None
    while True:
        page = client.page(limit=2, after=after)
        seen += [one.id for one in page.compressions]
        for one in page.compressions:
            client.delete(one.id)
        if (after := page.next) is None:
            break
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    "after", ["", "cmp_0123456789abcdef", "MTI=", "LTE", "MDE", "!", "OTk5OTk5OTk5OTk5OTk5OTk5OTk"]
)
def test_what_is_no_cursor_is_refused(http, after):
    for path in ("compressions", "batches", "evaluations", "plans"):
        answer = http.get(f"/v1/{path}", params={"after": after})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")


def test_a_batch_outlives_its_compressions_and_so_does_its_key(client, make_request):
    body = {"common": make_request(), "compressions": [{"seed": 1}, {"seed": 2}]}
    batch = client.submit_batch(body, key="bk")
    client.cancel_batch(batch.id)
    client.delete(batch.compressions[0].id)
    assert client.submit_batch(body, key="bk").id == batch.id
    client.delete(batch.compressions[1].id)
    empty = client.submit_batch(body, key="bk")
    assert (empty.id, empty.status, empty.counts, empty.finished_at) == (batch.id, "empty", {}, None)
    client.delete_batch(batch.id)
    assert client.submit_batch(body, key="bk").id != batch.id


def test_what_is_not_there_is_called_by_its_kind(client):
    for ask, words in ((client.evaluation, "evaluation evl_x"), (client.planned, "plan pln_x"),
                       (client.selection, "selection sel_x"), (client.get, "compression cmp_x")):  # fmt: skip
        with pytest.raises(ApiError, match=f"There is no {words}"):
            ask(words.split()[1])
