"""Compressions over HTTP: cancelled, resumed, deleted, listed, and what their documents and events show."""

import pytest

from services.jobs.records import NewJob
from services.jobs.states import JobStatus
from services.jobs.store import MAX_PAGE
from workloads.documents.job_folder import JobFolder, ProgressDocument, StepDocument


def test_a_queued_job_is_cancelled_at_once_and_a_finished_one_not_at_all(http_client, make_request, finished_job):
    job = http_client.post("/v1/compressions", json=make_request()).json()
    for _ in range(2):
        answer = http_client.post(f"/v1/compressions/{job['id']}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert http_client.post(f"/v1/compressions/{finished_job.id}/cancel").status_code == 409


def test_a_cancelled_job_is_resumed_and_a_finished_one_is_not(client, http_client, make_request, finished_job):
    job = client.submit(make_request())
    client.cancel(job.id)
    answer = http_client.post(f"/v1/compressions/{job.id}/resume")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.headers["location"] == f"/v1/compressions/{job.id}"
    for path in (job.id, finished_job.id):
        refused = http_client.post(f"/v1/compressions/{path}/resume")
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert http_client.post("/v1/compressions/cmp_no/resume").status_code == 404


def test_an_ended_job_is_deleted_with_its_folder_and_its_artefacts_stay(client, http_client, service, finished_job):
    files = finished_job.result.students[0].files
    assert service.storage.exists(f"jobs/{finished_job.id}")
    answer = http_client.delete(f"/v1/compressions/{finished_job.id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert http_client.get(f"/v1/compressions/{finished_job.id}").status_code == 404
    assert http_client.delete(f"/v1/compressions/{finished_job.id}").status_code == 404
    assert not service.storage.exists(f"jobs/{finished_job.id}")
    assert service.storage.read_bytes(f"{files}/config.json") == b"{}"


def test_a_job_that_has_not_ended_is_not_deleted(client, http_client, make_request):
    job = client.submit(make_request())
    answer = http_client.delete(f"/v1/compressions/{job.id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert client.get(job.id).status == "queued"


def test_the_largest_page_too_says_what_follows_it(client, service):
    ids = [service.store.create(NewJob({"teacher": {"model": "a/b"}, "labels": {}})).id for _ in range(MAX_PAGE + 1)]
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


@pytest.mark.parametrize("labels", [["team"], [":x"], ['te"am:x'], ["team:a\0"]])
def test_a_label_that_can_be_nobodys_is_refused(http_client, labels):
    answer = http_client.get("/v1/compressions", params={"label": labels})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")


def test_a_label_of_two_values_finds_nothing(client, http_client, make_request):
    client.submit(make_request(team="a"))
    answer = http_client.get("/v1/compressions", params={"label": ["team:a", "team:b"]})
    assert (answer.status_code, answer.json()["compressions"]) == (200, [])


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


def test_a_finished_job_shows_its_students_steps_and_attempts(client, service, finished_job):
    job = client.get(finished_job.id)
    assert (job.status, job.attempt, job.error) == ("succeeded", 2, None)
    assert [(a.number, a.status, a.reason) for a in job.attempts] == [(1, "lost", "It died."), (2, "succeeded", None)]
    assert [(step.name, step.done) for step in job.steps] == [("train", 5)]
    assert [item.budget for item in job.infeasible] == ["none"]
    assert job.students[0].files == service.storage.path(finished_job.result.students[0].files)


def test_a_running_job_shows_the_progress_of_its_attempt(client, service, make_request):
    job = service.work.begin_attempt(service.store.create(NewJob(make_request())).id)
    assert client.get(job.id).steps == []
    step = StepDocument(name="train", status="running", done=3, total=9, unit="steps", rate=1.5, seconds_left=4.0)
    JobFolder(service.storage, job.id).write_progress(1, ProgressDocument(updated_at="t", steps=[step]))
    assert client.get(job.id).steps == [step]


def test_events_of_all_attempts_come_in_order_and_only_once(client, finished_job):
    page = client.events(finished_job.id)
    assert [event.message for event in page.events] == ["1-1", "1-2", "2-1"]
    assert [event.attempt for event in page.events] == [1, 1, 2]
    assert [event.message for event in client.events(finished_job.id, "1-1").events] == ["1-2", "2-1"]
    rest = client.events(finished_job.id, page.last)
    assert (rest.events, rest.next, rest.last) == ([], None, page.last)
