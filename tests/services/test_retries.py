"""Retries of failed attempts, and their waits."""

from datetime import timedelta

from services.jobs.runner import RetryPolicy


def test_the_wait_doubles_up_to_five_minutes():
    policy = RetryPolicy(max_attempts=20, backoff_seconds=2)
    assert [policy.wait(n).total_seconds() for n in (1, 2, 3)] == [2, 4, 8]
    assert policy.wait(19) == policy.wait(1000) == timedelta(minutes=5)


def test_for_what_does_not_answer_it_is_waited_longer():
    policy = RetryPolicy(max_attempts=3, backoff_seconds=2)
    assert [policy.wait(n, "unreachable").total_seconds() for n in (1, 2)] == [30, 60]
