"""The store of batches, on both kinds of database."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from services.jobs.batches import Order, UnknownBatchError
from services.jobs.records import AttemptEnd, JobFilter, NewJob, RequestKey
from services.jobs.rows import TransitionError, UnknownJobError
from services.jobs.states import AttemptStatus, BatchStatus, JobStatus
from services.jobs.store import KeyReusedError
from services.jobs.work import Limits
from workloads.documents.job_folder import ErrorDocument, ResultDocument

KEY = RequestKey("local /v1/batches", "k", "digest")
Q, R, S, F, CG, C = (JobStatus(one) for one in ("queued", "running", "succeeded", "failed", "cancelling", "cancelled"))


def _orders(count):
    return [Order({"teacher": {"model": f"t{n}"}}) for n in range(count)]


def _end(work, job_id, status):
    """End a queued job."""
    job = work.begin_attempt(job_id)
    attempt = AttemptStatus.SUCCEEDED if status is S else AttemptStatus.FAILED
    error = None if status is S else ErrorDocument(code="internal", message="no")
    result = ResultDocument(status="succeeded" if status is S else "failed", error=error)
    return work.end_attempt(job_id, job.attempt, AttemptEnd(attempt, None, status, result=result))


def _bring(store, work, job_id, status):
    if status in {S, F}:
        _end(work, job_id, status)
    if status in {R, CG}:
        work.begin_attempt(job_id)
    if status in {CG, C}:
        store.request_cancel(job_id)


def _made(store, batches, work, statuses, **options):
    """Make a batch whose jobs are in these states."""
    batch = batches.create(_orders(len(statuses)), **options)
    for member, status in zip(batches.members(batch.id), statuses, strict=True):
        _bring(store, work, member.id, status)
    return batch.id


def _statuses(batches, batch_id):
    return [member.status for member in batches.members(batch_id)]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([Q, Q], "queued"),
        ([Q, R], "running"),
        ([S, Q], "running"),
        ([F, Q, C], "running"),
        ([R, CG], "running"),
        ([S, CG, CG], "cancelling"),
        ([S, S], "succeeded"),
        ([S, F], "partial"),
        ([S, C], "partial"),
        ([F, F], "failed"),
        ([F, C], "failed"),
        ([C, C], "cancelled"),
    ],
)
def test_where_a_batch_stands_follows_from_its_jobs(store, batches, work, statuses, expected):
    batch = batches.get(_made(store, batches, work, statuses))
    assert batch.status == expected
    assert batch.counts == {status: statuses.count(status) for status in statuses}
    ended = [store.get(member.id).finished_at for member in batches.members(batch.id)]
    assert batch.finished_at == (None if None in ended else max(ended))


def test_a_batch_is_made_with_all_its_jobs_in_their_order(store, batches):
    batch = batches.create(_orders(30), tenant="a", name="all", labels={"team": "x"}, max_running=2)
    assert (batch.tenant, batch.name, batch.labels, batch.max_running) == ("a", "all", {"team": "x"}, 2)
    members = batches.members(batch.id)
    assert [member.teacher for member in members] == [f"t{n}" for n in range(30)]
    found = store.page(JobFilter(batch=batch.id, tenant="a"))
    assert [job.id for job in found][::-1] == [member.id for member in members]
    assert {(job.kind, job.tenant, job.batch) for job in found} == {("compression", "a", batch.id)}
    assert len({job.id for job in found}) == 30


def test_a_batch_of_a_plan_that_has_gone_is_not_made_nor_any_of_its_jobs(store, batches):
    orders = [*_orders(2), Order({"teacher": {"model": "t"}}, plan="pln_gone")]
    with pytest.raises(UnknownJobError):
        batches.create(orders, key=KEY)
    assert batches.page() == []
    assert store.page() == []
    assert batches.create(_orders(1), key=KEY).status == "queued"  # its key was not used up


def test_a_plan_is_the_parent_of_the_compression_that_it_was_made_for(store, batches):
    plan = store.create(NewJob({"teacher": {"model": "t"}}, "plan"))
    batch = batches.create([*_orders(1), Order({"teacher": {"model": "t"}}, plan=plan.id)])
    assert [job.parent for job in store.page(JobFilter(batch=batch.id))] == [plan.id, None]


def test_of_many_requests_with_the_same_key_exactly_one_makes_a_batch(store, batches):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: batches.create(_orders(3), key=KEY).id, range(8)))
    assert len(set(made)) == 1
    assert len(store.page()) == 3
    with pytest.raises(KeyReusedError):
        batches.create(_orders(3), key=RequestKey(KEY.scope, KEY.key, "another"))


def test_what_is_another_tenants_is_not_there(store, batches, work):
    theirs = _made(store, batches, work, [F], tenant="a")
    for change in (batches.get, batches.request_cancel, batches.retry):
        with pytest.raises(UnknownBatchError, match=theirs):
            change(theirs, tenant="b")
    with pytest.raises(UnknownBatchError, match=theirs):
        batches.delete(theirs, lambda _: None, tenant="b")
    assert batches.page(tenant="b") == []
    assert [batch.id for batch in batches.page(tenant="a")] == [theirs]
    assert _statuses(batches, theirs) == [F]


def test_pages_go_from_the_newest_to_the_oldest_and_miss_none(batches):
    made = [batches.create(_orders(1), labels={"odd": str(n % 2)}).id for n in range(7)]
    seen, before = [], None
    while page := batches.page(limit=3, before=before):
        assert len(page) <= 3
        seen += [batch.id for batch in page]
        before = page[-1].number
    assert seen == made[::-1]
    assert [batch.id for batch in batches.page(labels={"odd": "1"})] == made[5::-2]


def test_cancelling_ends_what_waits_asks_what_runs_and_leaves_what_has_ended(store, batches, work):
    batch = _made(store, batches, work, [S, R, Q, F, Q])
    assert batches.request_cancel(batch).status == "cancelling"
    assert _statuses(batches, batch) == [S, CG, C, F, C]
    assert batches.request_cancel(batch).status == "cancelling"
    assert work.start_next(Limits(10)) is None
    (running,) = work.runs()
    work.end_attempt(running.id, 1, AttemptEnd(AttemptStatus.CANCELLED, None, C))
    assert batches.get(batch).status == "partial"
    with pytest.raises(TransitionError, match=f"{batch} is partial"):
        batches.request_cancel(batch)


def test_a_batch_that_is_cancelled_before_it_began_may_be_cancelled_again(store, batches, work):
    batch = _made(store, batches, work, [Q, Q])
    assert batches.request_cancel(batch).status == "cancelled"
    assert batches.request_cancel(batch).status == "cancelled"


def test_retrying_queues_the_failed_and_cancelled_ones_alone(store, batches, work):
    batch = _made(store, batches, work, [S, F, C, F, S])
    before = batches.members(batch)
    assert batches.retry(batch).status == "running"
    assert _statuses(batches, batch) == [S, Q, Q, Q, S]
    assert [member.id for member in batches.members(batch)] == [member.id for member in before]
    ended = [_end(work, member.id, S) for member in batches.members(batch)[1:4]]
    assert [job.attempt for job in ended] == [2, 1, 2]
    assert batches.get(batch).status == "succeeded"
    with pytest.raises(TransitionError, match=f"{batch} is succeeded and cannot become queued again"):
        batches.retry(batch)
    assert _statuses(batches, batch) == [S] * 5


def test_what_has_failed_is_retried_while_others_still_run(store, batches, work):
    batch = _made(store, batches, work, [R, F, Q])
    batches.retry(batch)
    assert _statuses(batches, batch) == [R, Q, Q]


def test_an_ended_batch_is_deleted_with_its_jobs_and_what_was_made_from_them(store, batches, work):
    batch, other = _made(store, batches, work, [S, F]), _made(store, batches, work, [S])
    members = [member.id for member in batches.members(batch)]
    selection = store.create(NewJob({"budgets": []}, "selection", parent=members[0]))
    with pytest.raises(TransitionError, match=selection.id):
        batches.delete(batch, lambda _: None)
    _end(work, selection.id, S)
    cleared = []
    batches.delete(batch, cleared.append)
    assert sorted(cleared) == sorted([*members, selection.id])
    with pytest.raises(UnknownBatchError):
        batches.get(batch)
    assert [job.id for job in store.page()] == [member.id for member in batches.members(other)]
    assert store.page(JobFilter(kind="selection")) == []


def test_a_batch_with_a_job_that_has_not_ended_is_not_deleted(store, batches, work):
    batch = _made(store, batches, work, [S, Q])
    cleared = []
    with pytest.raises(TransitionError, match="is queued and cannot become deleted"):
        batches.delete(batch, cleared.append)
    assert cleared == []
    assert _statuses(batches, batch) == [S, Q]


def test_a_batch_whose_folders_cannot_be_removed_is_kept(store, batches, work):
    batch = _made(store, batches, work, [S, S])

    def fail(_):
        raise OSError("read-only")

    with pytest.raises(OSError, match="read-only"):
        batches.delete(batch, fail)
    assert batches.get(batch).counts == {S: 2}


def test_a_compression_that_is_deleted_alone_leaves_the_batch(store, batches, work):
    batch = _made(store, batches, work, [F, S])
    store.delete(batches.members(batch)[0].id, lambda _: None)
    assert batches.get(batch).status == "succeeded"
    store.delete(batches.members(batch)[0].id, lambda _: None)
    assert (batches.get(batch).status, batches.get(batch).finished_at) == ("empty", None)
    batches.delete(batch, lambda _: None)


def test_results_come_in_the_order_of_the_request_and_none_of_what_has_none(store, batches, work):
    batch = _made(store, batches, work, [S, Q, F])
    found = [(member.teacher, member.status, result and result.status) for member, result in batches.results(batch)]
    assert found == [("t0", S, "succeeded"), ("t1", Q, None), ("t2", F, "failed")]


def test_batches_are_counted_by_where_they_stand(store, batches, work):
    store.create(NewJob({}))
    for statuses in ([Q, Q], [S, F], [S, C], [S, S], [R, Q], [R, S]):
        _made(store, batches, work, statuses)
    assert batches.counts() == {
        BatchStatus.QUEUED: 1, BatchStatus.PARTIAL: 2, BatchStatus.SUCCEEDED: 1, BatchStatus.RUNNING: 2,
    }  # fmt: skip


def test_of_a_retry_and_a_deletion_at_once_exactly_one_is_done(store, batches, work):
    def attempt(change):
        try:
            change()
        except (TransitionError, UnknownBatchError):
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            batch = _made(store, batches, work, [F, F, F])
            changes = [partial(batches.retry, batch), partial(batches.delete, batch, lambda _: None)]
            done = list(pool.map(attempt, changes))
            assert sorted(done) == [False, True]
