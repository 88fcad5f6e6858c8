"""Claims on jobs: their owners, their expiry, and writes without a claim; on both kinds of database."""

import pytest

from services.jobs.records import AttemptEnd, NewJob
from services.jobs.rows import TransitionError
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.work import ClaimLostError, Limits, WorkStore
from tests.services.clock import Clock

DATABASES = ("sqlite", "postgresql")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def mine(engine, clock):
    return WorkStore(engine, "mine", claim_seconds=60, clock=clock)


@pytest.fixture
def theirs(engine, clock):
    return WorkStore(engine, "theirs", claim_seconds=60, clock=clock)


def _end(work, job, then=JobStatus.SUCCEEDED):
    return work.end_attempt(job.id, job.attempt, AttemptEnd(AttemptStatus.SUCCEEDED, None, then))


def test_who_begins_a_job_holds_it_and_no_other_sees_it_as_theirs(store, mine, theirs):
    job = mine.begin_attempt(store.create(NewJob({})).id)
    assert [one.id for one in mine.runs()] == [job.id]
    assert theirs.runs() == []
    assert theirs.claim(job.id) is None
    for change in (lambda: _end(theirs, job), lambda: theirs.mark_submitted(job.id, 1)):
        with pytest.raises(ClaimLostError, match="theirs"):
            change()
    assert mine.mark_submitted(job.id, 1).latest.status is AttemptStatus.RUNNING
    assert _end(mine, job).status is JobStatus.SUCCEEDED
    assert mine.claim(job.id) is None


def test_a_claim_that_ran_out_goes_to_another_and_its_holder_can_do_nothing_more(store, mine, theirs, clock):
    slow = mine
    job = slow.begin_attempt(store.create(NewJob({})).id)
    clock.pass_by(61)
    assert [one.id for one in theirs.runs()] == [job.id]
    assert theirs.claim(job.id) == store.get(job.id)
    slow.renew()  # too late
    with pytest.raises(ClaimLostError):
        _end(slow, job)
    assert slow.claim(job.id) is None
    assert _end(theirs, job).status is JobStatus.SUCCEEDED


def test_a_claim_that_is_renewed_does_not_run_out(store, mine, theirs, clock):
    job = mine.begin_attempt(store.create(NewJob({})).id)
    for _ in range(4):
        clock.pass_by(59)
        mine.renew()
        assert theirs.claim(job.id) is None
    assert _end(mine, job).status is JobStatus.SUCCEEDED


def test_a_claim_lost_and_won_back_is_another_one(store, engine, mine, theirs, clock):
    one, two = mine, theirs
    job = one.begin_attempt(store.create(NewJob({})).id)
    stale = WorkStore(engine, "mine", claim_seconds=60, clock=clock)  # of the same name, without the token
    clock.pass_by(61)
    assert two.claim(job.id) is not None
    clock.pass_by(61)
    assert one.claim(job.id) is not None
    for other in (two, stale):
        with pytest.raises(ClaimLostError):
            _end(other, job)
    _end(one, job)


def test_claims_that_are_given_up_are_free_at_once(store, mine, theirs):
    job = mine.begin_attempt(store.create(NewJob({})).id)
    mine.release()
    assert theirs.claim(job.id) is not None
    with pytest.raises(ClaimLostError):
        _end(mine, job)


def test_a_job_that_goes_back_to_the_queue_is_begun_by_whoever_comes_first(store, mine, theirs):
    job = mine.begin_attempt(store.create(NewJob({})).id)
    mine.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.LOST, "gone", JobStatus.QUEUED))
    again = theirs.start_next(Limits(1))
    assert (again.id, again.attempt) == (job.id, 2)
    assert mine.start_next(Limits(1)) is None
    with pytest.raises(TransitionError):
        _end(mine, job)


def test_a_job_is_cancelled_without_a_claim_and_ended_only_with_one(store, mine, theirs):
    job = mine.begin_attempt(store.create(NewJob({})).id)
    assert store.request_cancel(job.id).status is JobStatus.CANCELLING
    assert [one.status for one in mine.runs()] == [JobStatus.CANCELLING]
    with pytest.raises(ClaimLostError):
        theirs.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.CANCELLED, None, JobStatus.CANCELLED))
    assert (
        mine.end_attempt(job.id, 1, AttemptEnd(AttemptStatus.CANCELLED, None, JobStatus.CANCELLED)).status
        is JobStatus.CANCELLED
    )
