"""The choice of the next job: turns of tenants and batches, limits, back-off; on both kinds of database."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from services.jobs.batches import Order
from services.jobs.records import AttemptEnd, NewJob
from services.jobs.rows import Sessions, TransitionError, ask_for_end, find_row
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.tables import AttemptRow, JobRow, TenantRow
from services.jobs.work import Limits, WorkStore
from tests.services.clock import Clock

DATABASES = ("sqlite", "postgresql")

ONE = Limits(1)
MANY = Limits(100)


def _queue(store, tenant, count):
    return [store.create(NewJob({"n": n}, tenant=tenant)).id for n in range(count)]


def _batch(batches, count, **options):
    return batches.create([Order({"teacher": {"model": f"t{n}"}}) for n in range(count)], **options)


def _succeed(work, job):
    work.end_attempt(job.id, job.attempt, AttemptEnd(AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED))


def _fail_once(work, job, wait=0.0, now=None):
    later = (now or datetime.now(UTC)) + timedelta(seconds=wait)
    work.end_attempt(job.id, job.attempt, AttemptEnd(AttemptStatus.FAILED, "no", JobStatus.QUEUED, not_before=later))


def _begin_all(work, limits):
    """Begin jobs until no more may begin."""
    begun = []
    while (job := work.start_next(limits)) is not None:
        begun.append(job)
    return begun


def _limit_tenant(engine, tenant, max_running):
    with Sessions(engine).writing() as session:
        session.add(TenantRow(name=tenant, max_running=max_running, created_at=datetime.now(UTC)))


def test_a_tenant_with_few_jobs_does_not_wait_behind_one_with_many(store, work):
    _queue(store, "many", 50)
    _queue(store, "few", 2)
    turns = []
    for _ in range(6):
        job = work.start_next(ONE)
        turns.append(job.tenant)
        assert work.start_next(ONE) is None
        _succeed(work, job)
    assert turns == ["many", "few", "many", "few", "many", "many"]


def test_places_are_shared_out_evenly_and_of_one_tenant_the_oldest_comes_first(store, work):
    many, few = _queue(store, "many", 50), _queue(store, "few", 2)
    begun = [job.id for job in _begin_all(work, Limits(5))]
    assert begun == [many[0], few[0], many[1], few[1], many[2]]


def test_a_free_place_goes_to_whoever_has_the_fewest_running(store, work):
    _queue(store, "a", 10)
    begun = _begin_all(work, Limits(3))
    _queue(store, "b", 10)
    for job in begun:
        _succeed(work, job)
        assert work.start_next(Limits(3)).tenant == ("a" if job is begun[1] else "b")


def test_a_job_that_has_begun_goes_before_those_that_have_not_whosever_they_are(store, work):
    _queue(store, "b", 1)
    failing = work.start_next(ONE)
    _queue(store, "a", 2)
    for _ in range(3):
        _fail_once(work, failing)
        again = work.start_next(ONE)
        assert (again.id, again.attempt) == (failing.id, failing.attempt + 1)
        failing = again
    work.end_attempt(failing.id, failing.attempt, AttemptEnd(AttemptStatus.INTERRUPTED, "stopped", JobStatus.QUEUED))
    again = work.start_next(ONE)
    assert again.id == failing.id
    work.end_attempt(again.id, again.attempt, AttemptEnd(AttemptStatus.FAILED, "no", JobStatus.FAILED))
    store.resume(again.id)  # resumed by a person, so it does not go before others
    assert work.start_next(ONE).tenant == "a"


def test_a_tenant_has_no_more_running_than_it_may_and_one_that_may_have_none_has_none(engine, store, work):
    for tenant in ("own", "usual", "none"):
        _queue(store, tenant, 5)
    _limit_tenant(engine, "own", 3)
    _limit_tenant(engine, "none", 0)
    begun = _begin_all(work, Limits(100, of_tenant=2))
    assert Counter(job.tenant for job in begun) == {"own": 3, "usual": 2}
    _succeed(work, next(job for job in begun if job.tenant == "usual"))
    assert [job.tenant for job in _begin_all(work, Limits(100, of_tenant=2))] == ["usual"]


def test_a_batch_has_no_more_running_than_it_may_and_holds_up_no_other_job(store, batches, work):
    batch, free = _batch(batches, 5, max_running=2), _batch(batches, 2)
    alone = _queue(store, "local", 1)
    begun = _begin_all(work, MANY)
    assert [job.batch or job.id for job in begun] == [batch.id, batch.id, free.id, free.id, alone[0]]
    _succeed(work, begun[0])
    assert [job.batch for job in _begin_all(work, MANY)] == [batch.id]


def test_one_that_is_being_cancelled_still_has_its_place(store, batches, work):
    _batch(batches, 2, max_running=1)
    job = work.start_next(MANY)
    store.request_cancel(job.id)
    assert work.start_next(MANY) is None
    work.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.CANCELLED, None, JobStatus.CANCELLED))
    assert work.start_next(MANY) is not None


@pytest.mark.parametrize(("limits", "tenants"), [(ONE, 1), (Limits(9, of_tenant=1), 1), (ONE, 2)])
def test_a_job_that_soon_begins_again_keeps_its_place(engine, store, limits, tenants):
    clock = Clock()
    work = WorkStore(engine, clock=clock)
    (first,), _ = _queue(store, "local", 1), _queue(store, "local" if tenants == 1 else "other", 2)
    _fail_once(work, work.start_next(limits), wait=10, now=clock())
    assert work.start_next(limits) is None
    clock.pass_by(11)
    assert work.start_next(limits).id == first


def test_a_job_that_waits_long_after_a_failure_lets_others_by_and_then_comes_first(engine, store):
    clock = Clock()
    work = WorkStore(engine, clock=clock)
    first, second, third = _queue(store, "local", 3)
    _fail_once(work, work.start_next(ONE), wait=300, now=clock())
    job = work.start_next(ONE)
    assert job.id == second
    _succeed(work, job)
    clock.pass_by(301)
    assert [job.id for job in _begin_all(work, MANY)] == [first, third]


def test_the_last_job_that_waits_after_a_failure_is_not_begun_early(store, work):
    _queue(store, "local", 1)
    _fail_once(work, work.start_next(ONE), wait=60)
    assert work.start_next(ONE) is None


def test_only_the_job_that_was_asked_for_begins(store, work):
    _, second = _queue(store, "local", 2)
    assert work.start_next(MANY, second).id == second
    assert work.start_next(MANY, second) is None


def test_a_job_that_is_cancelled_while_it_is_chosen_does_not_begin_and_the_next_one_does(engine, store, work):
    first, second = _queue(store, "local", 2)
    with ThreadPoolExecutor(1) as pool:
        with Sessions(engine).writing() as session:
            ask_for_end(find_row(session, first, lock=True))
            session.flush()
            begun = pool.submit(
                work.start_next, MANY
            )  # it still sees the job queued, and must wait for this transaction
            time.sleep(0.5)
            assert not begun.done()
        assert begun.result(10).id == second
    assert store.get(first).status is JobStatus.CANCELLED
    assert store.get(first).attempts == ()


def _most_at_once(rows):
    """Count the most jobs that ran at once; at equal times, ends come before starts."""
    times = [(row.started_at, 1) for row in rows] + [(row.finished_at, -1) for row in rows]
    running = most = 0
    for _, change in sorted(times):
        running += change
        most = max(most, running)
    return most


def test_two_services_at_once_keep_to_all_limits_and_begin_each_job_once(engine, store, batches):
    limits = Limits(4, of_tenant=3)
    small = _batch(batches, 12, tenant="a", max_running=1)
    wide = _batch(batches, 12, tenant="b", max_running=2)
    _queue(store, "b", 6)
    _queue(store, "c", 12)
    _limit_tenant(engine, "c", 2)
    queued = [job.id for job in store.page(limit=200)]
    cancelled = random.Random(1).sample(queued, 8)
    begun, wide_begun, lock, deadline = Counter(), set(), threading.Lock(), time.monotonic() + 60
    # The first four jobs run until all four have begun, and so do the first two of the wide batch.
    first_four, first_wide = threading.Barrier(4, timeout=45), threading.Barrier(2, timeout=45)

    def look_after(mine):
        while any(not status.is_terminal for _, status in store.counts()[0]):
            assert time.monotonic() < deadline
            job = mine.start_next(limits)
            if job is None:
                continue
            with lock:
                begun[job.id] += 1
                wide_begun.update([job.id] if job.batch == wide.id else [])
                meetings = [first_four] if begun.total() <= 4 else []
                meetings += [first_wide] if job.id in wide_begun and len(wide_begun) <= 2 else []
            for meeting in meetings:
                meeting.wait()
            time.sleep(0.05)
            try:
                _succeed(mine, job)
            except TransitionError:  # it was cancelled meanwhile
                mine.end_attempt(job.id, job.attempt, AttemptEnd(AttemptStatus.CANCELLED, None, JobStatus.CANCELLED))

    def cancel():
        for job_id in cancelled:
            time.sleep(0.02)
            try:
                store.request_cancel(job_id)
            except TransitionError:
                continue

    services = [WorkStore(engine, owner) for owner in ("one", "two")]
    with ThreadPoolExecutor(9) as pool:
        for work in [pool.submit(cancel), *(pool.submit(look_after, mine) for mine in services * 4)]:
            work.result()

    ended = {job.id: job for job in store.page(limit=200)}
    assert set(begun.values()) == {1}
    assert {job_id for job_id, job in ended.items() if job.attempts} == begun.keys()
    assert {job.status for job_id, job in ended.items() if job_id not in cancelled} == {JobStatus.SUCCEEDED}
    columns = (JobRow.tenant, JobRow.batch, AttemptRow.started_at, AttemptRow.finished_at)
    with Sessions(engine).reading() as session:
        rows = session.execute(select(*columns).join(JobRow.attempts)).all()
    assert _most_at_once(rows) == 4
    assert _most_at_once([row for row in rows if row.batch == small.id]) == 1
    assert _most_at_once([row for row in rows if row.batch == wide.id]) == 2
    assert _most_at_once([row for row in rows if row.tenant == "b"]) <= 3
    assert _most_at_once([row for row in rows if row.tenant == "c"]) <= 2
