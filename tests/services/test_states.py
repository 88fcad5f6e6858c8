import pytest

from services.jobs.states import AttemptStatus, JobStatus


def test_a_state_is_terminal_exactly_when_nothing_follows():
    for status in JobStatus:
        assert status.is_terminal == (not any(status.may_become(other) for other in JobStatus))
    assert {status for status in JobStatus if status.is_terminal} == {
        JobStatus.SUCCEEDED,
        JobStatus.FAILED,
        JobStatus.CANCELLED,
    }


@pytest.mark.parametrize(
    ("status", "other", "allowed"),
    [
        (JobStatus.QUEUED, JobStatus.RUNNING, True),
        (JobStatus.RUNNING, JobStatus.QUEUED, True),
        (JobStatus.QUEUED, JobStatus.SUCCEEDED, False),
        (JobStatus.CANCELLING, JobStatus.RUNNING, False),
        (JobStatus.CANCELLING, JobStatus.CANCELLED, True),
        (JobStatus.CANCELLED, JobStatus.QUEUED, False),
    ],
)
def test_which_state_may_follow(status, other, allowed):
    assert status.may_become(other) is allowed


def test_an_attempt_that_the_service_ended_itself_counts_as_no_failure():
    counting = {status for status in AttemptStatus if status.counts_as_failure}
    assert counting == {AttemptStatus.FAILED, AttemptStatus.LOST}
