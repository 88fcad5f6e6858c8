"""Quotas: limits under simultaneous requests, and the usage of deleted jobs."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from services.access.quotas import QuotaExceededError, Quotas
from services.access.tenants import Quota, TenantStore
from services.jobs.batches import BatchStore, Order
from services.jobs.records import AttemptEnd, NewJob
from services.jobs.rows import Sessions
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.store import JobStore
from services.jobs.work import WorkStore
from workloads.spec.errors import InputError

DEFAULTS = Quota(max_unfinished=3, max_tokens=100, max_stored_bytes=1000)


@pytest.fixture
def store(engine):
    return JobStore(engine, Quotas(DEFAULTS))


@pytest.fixture
def usage(engine):
    def read(tenant="ours"):
        with Sessions(engine).reading() as session:
            return Quotas().usage(session, tenant)

    return read


def _end(engine, job, stored_bytes=None, status=JobStatus.SUCCEEDED):
    work = WorkStore(engine)
    work.begin_attempt(job.id)
    attempt = AttemptStatus.SUCCEEDED if status is JobStatus.SUCCEEDED else AttemptStatus.FAILED
    return work.end_attempt(job.id, 1, AttemptEnd(attempt, None, status, stored_bytes=stored_bytes))


def test_unfinished_jobs_of_any_kind_count_and_ended_ones_do_not(store, engine):
    jobs = [store.create(NewJob({}, kind, tenant="ours")) for kind in ("compression", "plan", "evaluation")]
    with pytest.raises(QuotaExceededError) as caught:
        store.create(NewJob({}, tenant="ours"))
    assert (caught.value.quota, caught.value.passes) == ("max_unfinished", True)
    store.create(NewJob({}, tenant="theirs"))
    _end(engine, jobs[0])
    store.request_cancel(jobs[1].id)
    for _ in range(2):
        store.create(NewJob({}, tenant="ours"))


def test_tokens_are_those_of_all_jobs_that_were_accepted(store, usage):
    job = store.create(NewJob({}, tenant="ours", tokens=60))
    with pytest.raises(QuotaExceededError, match="60 of 100 tokens"):
        store.create(NewJob({}, tenant="ours", tokens=41))
    store.request_cancel(job.id)  # its tokens stay counted, since it may have trained already
    with pytest.raises(QuotaExceededError):
        store.create(NewJob({}, tenant="ours", tokens=41))
    store.create(NewJob({}, tenant="ours", tokens=40))
    store.create(NewJob({}, tenant="ours"))
    assert usage().tokens == 100


def test_stored_bytes_are_those_that_runs_report(store, engine, usage):
    _end(engine, store.create(NewJob({}, tenant="ours")), stored_bytes=999)
    _end(engine, store.create(NewJob({}, tenant="ours")), stored_bytes=1)
    assert usage().stored_bytes == 1000
    with pytest.raises(QuotaExceededError, match="1,000 bytes"):
        store.create(NewJob({}, tenant="ours"))


def test_an_attempt_that_came_by_less_does_not_lower_what_is_stored(store, engine, usage):
    job, work = store.create(NewJob({}, tenant="ours")), WorkStore(engine)
    for attempt, stored in ((1, 500), (2, 20), (3, None)):
        work.begin_attempt(job.id)
        work.end_attempt(job.id, attempt, AttemptEnd(AttemptStatus.FAILED, None, JobStatus.QUEUED, stored_bytes=stored))
    assert usage().stored_bytes == 500


def test_deleting_gives_back_no_tokens_and_no_bytes(store, engine, usage):
    job = store.create(NewJob({}, tenant="ours", tokens=70))
    _end(engine, job, stored_bytes=300)
    before = usage()
    store.delete(job.id, lambda _: None)
    assert (usage().tokens, usage().stored_bytes) == (before.tokens, before.stored_bytes) == (70, 300)
    with pytest.raises(QuotaExceededError):
        store.create(NewJob({}, tenant="ours", tokens=31))


def test_resuming_needs_room_among_the_unfinished(store, engine):
    failed = store.create(NewJob({}, tenant="ours"))
    _end(engine, failed, status=JobStatus.FAILED)
    for _ in range(3):
        store.create(NewJob({}, tenant="ours"))
    with pytest.raises(QuotaExceededError):
        store.resume(failed.id)
    assert store.get(failed.id).status is JobStatus.FAILED


def test_a_batch_is_made_whole_or_not_at_all(engine, usage):
    batches = BatchStore(engine, Quotas(DEFAULTS))
    with pytest.raises(QuotaExceededError) as caught:
        batches.create([Order({"teacher": {"model": "t"}}, None, 1)] * 4, tenant="ours")
    assert not caught.value.passes  # waiting would not help
    with pytest.raises(QuotaExceededError, match="tokens"):
        batches.create([Order({"teacher": {"model": "t"}}, None, 51)] * 2, tenant="ours")
    assert usage().unfinished == 0
    batches.create([Order({"teacher": {"model": "t"}}, None, 50)] * 2, tenant="ours")
    assert (usage().unfinished, usage().tokens) == (2, 100)


def test_parallel_submissions_do_not_pass_together(engine, usage):
    store = JobStore(engine, Quotas(Quota(max_unfinished=5, max_tokens=1000)))

    def submit(number):
        try:
            store.create(NewJob({"n": number}, tenant="ours", tokens=10))
        except QuotaExceededError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(submit, range(24))) == 5
    assert (usage().unfinished, usage().tokens) == (5, 50)


def test_limits_of_its_own_go_before_the_defaults(store, engine):
    tenants = TenantStore(engine)
    tenants.set("ours", {"max_unfinished": 1, "max_tokens": 500})
    store.create(NewJob({}, tenant="ours", tokens=400))
    with pytest.raises(QuotaExceededError):
        store.create(NewJob({}, tenant="ours"))
    tenants.set("ours", {"max_unfinished": None})
    store.create(NewJob({}, tenant="ours", tokens=100))
    own = tenants.all()[0].own
    assert (own.max_unfinished, own.max_tokens, own.max_running) == (None, 500, None)


def test_a_tenant_with_an_impossible_name_is_not_made(engine):
    with pytest.raises(InputError):
        TenantStore(engine).set("a b", {})
    assert TenantStore(engine).all() == []


def test_a_quota_is_told_as_a_problem_with_the_time_to_ask_again(make_locked, make_request):
    locked = make_locked(tenant_max_unfinished=1, tenant_max_tokens=70_000)
    client, small = locked.client(), {"training": {"tokens_per_superlm": 10_000}}
    first = client.post("/v1/compressions", json=make_request() | small, headers={"Idempotency-Key": "k"})
    assert first.status_code == 202
    refused = client.post("/v1/compressions", json=make_request() | small)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert refused.headers["retry-after"] == "60"
    # The same request sent again is the same job, and no second one counts.
    again = client.post("/v1/compressions", json=make_request() | small, headers={"Idempotency-Key": "k"})
    assert again.json()["id"] == first.json()["id"]
    client.post(f"/v1/compressions/{first.json()['id']}/cancel")
    refused = client.post("/v1/compressions", json=make_request() | {"training": {"tokens_per_superlm": 20_000}})
    assert "tokens" in refused.json()["detail"]
    assert "retry-after" not in refused.headers
    body = {"common": make_request() | small, "compressions": [{}, {}]}
    assert client.post("/v1/batches", json=body).json()["code"] == "quota_exceeded"
