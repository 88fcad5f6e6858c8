"""The store of jobs, on both kinds of database."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select

from services.jobs.database import migrate, open_database
from services.jobs.records import AttemptEnd, JobFilter, NewJob, RequestKey
from services.jobs.rows import TransitionError, UnknownJobError
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.store import JobStore, KeyReusedError
from services.jobs.tables import AttemptRow, Base
from workloads.documents.job_folder import ErrorDocument, ResultDocument, StepDocument

DATABASES = ("sqlite", "postgresql")


def test_the_migrations_make_exactly_the_tables_of_the_code(engine):
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_migrating_again_keeps_the_jobs(engine, store):
    job = store.create(NewJob({"seed": 1}))
    migrate(engine)
    assert store.get(job.id) == job


def test_a_job_goes_from_the_queue_through_a_retry_to_its_result(store, work):
    job = store.create(NewJob({"seed": 1}))
    assert (job.status, job.attempt, job.attempts) == (JobStatus.QUEUED, 0, ())

    job = work.begin_attempt(job.id)
    assert (job.status, job.attempt, job.latest.status) == (JobStatus.RUNNING, 1, AttemptStatus.STARTING)
    assert job.latest.submission_id == f"{job.id}-1"
    assert work.mark_submitted(job.id, 1).latest.status is AttemptStatus.RUNNING

    job = work.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.LOST, "Its worker died.", JobStatus.QUEUED))
    assert (job.status, job.reason, job.failures, job.finished_at) == (JobStatus.QUEUED, "Its worker died.", 1, None)

    first_start = job.started_at
    work.begin_attempt(job.id)
    result = ResultDocument(status="succeeded", seconds=3)
    steps = [StepDocument(name="train", status="succeeded")]
    job = work.end_attempt(
        job.id, 2, AttemptEnd(AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED, result=result, steps=steps)
    )
    assert (job.status, job.result, job.steps, job.started_at) == (
        JobStatus.SUCCEEDED,
        result,
        tuple(steps),
        first_start,
    )
    assert [(a.number, a.status, a.reason) for a in job.attempts] == [
        (1, AttemptStatus.LOST, "Its worker died."),
        (2, AttemptStatus.SUCCEEDED, None),
    ]
    assert work.runs() == []


def test_a_straggling_report_of_an_older_attempt_is_refused(store, work):
    job = store.create(NewJob({}))
    work.begin_attempt(job.id)
    work.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.LOST, "gone", JobStatus.QUEUED))
    current = work.begin_attempt(job.id)
    with pytest.raises(TransitionError):
        work.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED))
    assert store.get(job.id) == current


def test_a_success_that_comes_after_the_cancellation_does_not_undo_it(store, work):
    job = store.create(NewJob({}))
    work.begin_attempt(job.id)
    assert store.request_cancel(job.id).status is JobStatus.CANCELLING
    with pytest.raises(TransitionError, match="cancelling"):
        work.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED))
    assert store.get(job.id).latest.status is AttemptStatus.STARTING
    job = work.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.CANCELLED, None, JobStatus.CANCELLED))
    assert job.status is JobStatus.CANCELLED
    assert job.finished_at is not None


def test_cancelling_a_queued_job_ends_it_and_asking_again_changes_nothing(store, work):
    job = store.request_cancel(store.create(NewJob({})).id)
    assert job.status is JobStatus.CANCELLED
    assert store.request_cancel(job.id) == job
    with pytest.raises(TransitionError):
        work.begin_attempt(job.id)


def test_a_failed_job_cannot_be_cancelled(store, work):
    job = work.begin_attempt(store.create(NewJob({})).id)
    error = ErrorDocument(code="invalid_input", message="no")
    result = ResultDocument(status="failed", error=error)
    work.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.FAILED, "no", JobStatus.FAILED, result=result))
    with pytest.raises(TransitionError):
        store.request_cancel(job.id)


def _failed(store, work, attempts=1):
    job = store.create(NewJob({}))
    for number in range(1, attempts + 1):
        work.begin_attempt(job.id)
        then = JobStatus.FAILED if number == attempts else JobStatus.QUEUED
        result = ResultDocument(status="failed", error=ErrorDocument(code="internal", message="no"))
        job = work.end_attempt(job.id, number, AttemptEnd(AttemptStatus.FAILED, "no", then, result=result, steps=[]))
    return job


def test_a_failed_job_that_is_resumed_may_fail_as_often_as_a_new_one(store, work):
    job = _failed(store, work, 3)
    assert job.failures == 3
    job = store.resume(job.id)
    assert (job.status, job.failures, job.result, job.steps, job.finished_at) == (JobStatus.QUEUED, 0, None, None, None)
    assert [one.id for one in store.page(JobFilter(status=JobStatus.QUEUED))] == [job.id]
    assert work.begin_attempt(job.id).latest.number == 4
    job = work.end_attempt(job.id, 4, AttemptEnd(AttemptStatus.LOST, "gone", JobStatus.QUEUED))
    assert job.failures == 1


def test_a_cancelled_job_is_resumed_and_others_are_not(store, work):
    job = store.request_cancel(store.create(NewJob({})).id)
    assert store.resume(job.id).status is JobStatus.QUEUED
    with pytest.raises(TransitionError, match="queued again"):
        store.resume(job.id)
    work.begin_attempt(job.id)
    with pytest.raises(TransitionError):
        store.resume(job.id)
    work.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED))
    with pytest.raises(TransitionError):
        store.resume(job.id)


def test_an_ended_job_is_deleted_with_its_attempts_its_selections_and_its_keys(store, engine, work):
    key = RequestKey("/here", "k", "digest")
    kept = _failed(store, work)
    job = store.request_cancel(store.create(NewJob({}), key=key).id)
    selection = store.request_cancel(store.create(NewJob({}, "selection", parent=job.id)).id)
    store.resume(job.id)
    work.begin_attempt(job.id)
    work.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED))
    cleared = []
    store.delete(job.id, cleared.append)
    assert cleared == [job.id, selection.id]
    for one in cleared:
        with pytest.raises(UnknownJobError):
            store.get(one)
    assert store.find_keyed(key) is None
    assert store.get(kept.id) == kept
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(AttemptRow)) == 1


def test_a_job_that_has_not_ended_is_not_deleted_nor_one_whose_selection_has_not(store, work):
    running = work.begin_attempt(store.create(NewJob({})).id)
    ended = _failed(store, work)
    selection = store.create(NewJob({}, "selection", parent=ended.id))
    for job, at_fault in ((running, running), (ended, selection)):
        with pytest.raises(TransitionError, match=at_fault.id):
            store.delete(job.id, lambda _: pytest.fail("something was cleared"))
        assert store.get(job.id) == job


def test_a_job_whose_folder_cannot_be_removed_is_kept(store, work):
    job = _failed(store, work)

    def clear(_):
        raise OSError("read-only")

    with pytest.raises(OSError, match="read-only"):
        store.delete(job.id, clear)
    assert store.get(job.id) == job


def test_of_many_that_begin_the_same_job_exactly_one_does(store, work):
    job = store.create(NewJob({}))

    def begin(_):
        try:
            return work.begin_attempt(job.id).attempt
        except TransitionError:
            return None

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(begin, range(8)))
    assert [outcome for outcome in outcomes if outcome is not None] == [1]
    assert store.get(job.id).attempt == 1


def test_of_many_requests_with_the_same_key_exactly_one_makes_a_job(store):
    key = RequestKey("/v1/compressions", "k", "digest")
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda n: store.create(NewJob({"seed": n}), key=key), range(8)))
    assert len({job.id for job in jobs}) == 1
    assert [job.id for job in store.page()] == [jobs[0].id]
    assert store.find_keyed(key) == jobs[0]


def test_a_key_holds_for_its_scope_and_its_request_only(store):
    job = store.create(NewJob({}), key=RequestKey("/here", "k", "digest"))
    assert store.create(NewJob({}), key=RequestKey("/there", "k", "digest")).id != job.id
    assert store.create(NewJob({}), key=RequestKey("/here", "l", "digest")).id != job.id
    with pytest.raises(KeyReusedError, match="'k'"):
        store.create(NewJob({}), key=RequestKey("/here", "k", "another"))
    assert len(store.page()) == 3


def test_pages_go_from_the_newest_to_the_oldest_and_miss_none(store):
    ids = [store.create(NewJob({"seed": n})).id for n in range(5)]
    store.request_cancel(ids[2])
    first = store.page(limit=2)
    assert [job.id for job in first] == [ids[4], ids[3]]
    store.create(NewJob({"seed": 99}))  # what comes meanwhile does not shift the next page
    assert [job.id for job in store.page(limit=10, before=first[-1].number)] == [ids[2], ids[1], ids[0]]
    assert [job.id for job in store.page(JobFilter(status=JobStatus.CANCELLED))] == [ids[2]]


def test_a_selection_of_a_job_that_was_deleted_is_not_made(store, work):
    job = _failed(store, work)
    store.delete(job.id, lambda _: None)
    with pytest.raises(UnknownJobError):
        store.create(NewJob({}, "selection", parent=job.id))
    assert store.page(JobFilter(kind="selection")) == []


def test_of_a_deletion_and_a_resumption_at_once_exactly_one_is_done(store, work):
    for _ in range(10):
        job = _failed(store, work)
        with ThreadPoolExecutor(2) as pool:
            deleted = pool.submit(store.delete, job.id, lambda _: None)
            resumed = pool.submit(store.resume, job.id)
        errors = [done.exception() for done in (deleted, resumed)]
        if errors[0] is None:
            assert isinstance(errors[1], UnknownJobError)
        else:
            assert isinstance(errors[0], TransitionError) and errors[1] is None


def test_changes_to_the_same_job_from_many_threads_do_not_overwrite_each_other(store, work):
    job = store.create(NewJob({}))

    def go_on(_):
        mine = []
        for _ in range(20):
            try:
                mine.append(work.begin_attempt(job.id).attempt)
            except TransitionError:  # another is at it
                continue
            work.mark_submitted(job.id, mine[-1])
            work.end_attempt(job.id, mine[-1], AttemptEnd(AttemptStatus.INTERRUPTED, None, JobStatus.QUEUED))
        return mine

    with ThreadPoolExecutor(6) as pool:
        begun = sorted(number for mine in pool.map(go_on, range(6)) for number in mine)
    job = store.get(job.id)
    assert begun == [one.number for one in job.attempts] == list(range(1, job.attempt + 1))
    assert job.status is JobStatus.QUEUED
    assert {one.status for one in job.attempts} == {AttemptStatus.INTERRUPTED}


def test_a_reason_may_hold_any_characters(store, work):
    job = work.begin_attempt(store.create(NewJob({})).id)
    job = work.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.LOST, "last \0 words ü\n", JobStatus.QUEUED))
    assert store.get(job.id).reason == "last \ufffd words ü\n"


def test_jobs_are_found_by_teacher_and_labels(store):
    wanted = {"teacher": {"model": 'it\'s "a"'}, "labels": {"we.ird-": "ü:x", "n": "1"}}
    job = store.create(NewJob(wanted))
    store.create(NewJob({"teacher": {"model": "b"}, "labels": {}}))
    found = JobFilter(teachers=('it\'s "a"',), labels={"we.ird-": "ü:x", "n": "1"})
    assert [one.id for one in store.page(found)] == [one.id for one in store.summaries(found)] == [job.id]
    assert store.page(JobFilter(labels={"n": "2"})) == []


def test_jobs_and_attempts_are_counted(store, work):
    store.create(NewJob({}, "plan"))
    _failed(store, work, 2)
    assert store.counts() == (
        {("plan", JobStatus.QUEUED): 1, ("compression", JobStatus.FAILED): 1},
        {AttemptStatus.FAILED: 2},
    )


def test_jobs_outlive_the_process_that_made_them(database):
    engine = open_database(database)
    migrate(engine)
    job = JobStore(engine).create(NewJob({"seed": 7}))
    engine.dispose()
    again = open_database(database)
    migrate(again)
    assert JobStore(again).get(job.id) == job
    again.dispose()
