"""Databases of earlier versions, with jobs in them, are migrated without loss."""

import json
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from services.jobs.batches import BatchStore
from services.jobs.database import migrate, open_database
from services.jobs.migrations import versions
from services.jobs.records import JobFilter, NewJob, RequestKey
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.store import JobStore
from services.jobs.tables import Base
from services.jobs.work import WorkStore

DATABASES = ("sqlite", "postgresql")

THEN = "2026-03-01 10:00:00.000000"
REQUEST = {"teacher": {"model": "a/b"}, "labels": {"team": "blue"}, "seed": 3}
RESULT = {"status": "failed", "error": {"code": "internal", "message": "It broke."}, "seconds": 4.0}
STEP = {"name": "train", "status": "failed", "done": 3}
# Rows of a service of the first version, without later columns.
FIRST_VERSION = [
    (
        "INSERT INTO jobs (id, status, reason, request, attempt, not_before, created_at, started_at, finished_at, "
        "result, steps) VALUES (:id, :status, :reason, :request, :attempt, NULL, :then, :started, :finished, :result, "
        ":steps)",
        [
            {"id": "cmp_failed", "status": "failed", "reason": "It broke.", "request": json.dumps(REQUEST),
             "attempt": 2, "then": THEN, "started": THEN, "finished": THEN, "result": json.dumps(RESULT),
             "steps": json.dumps([STEP])},
            {"id": "cmp_queued", "status": "queued", "reason": None, "request": "{}", "attempt": 0, "then": THEN,
             "started": None, "finished": None, "result": None, "steps": None},
        ],
    ),
    (
        "INSERT INTO attempts (job_number, number, status, reason, submission_id, started_at, finished_at) VALUES "
        "(1, :number, :status, :reason, :submission_id, :then, :then)",
        [
            {"number": 1, "status": "lost", "reason": "gone", "submission_id": "cmp_failed-1", "then": THEN},
            {"number": 2, "status": "failed", "reason": "It broke.", "submission_id": "cmp_failed-2", "then": THEN},
        ],
    ),
]  # fmt: skip
REVISIONS = sorted(file.stem.partition("_")[0] for file in Path(versions.__file__).parent.glob("r*.py"))


@pytest.fixture
def engine(database):
    engine = open_database(database)
    yield engine
    engine.dispose()


def _fill(engine):
    with engine.execution_options(write=True).begin() as connection:
        for statement, rows in FIRST_VERSION:
            connection.execute(text(statement), rows)


@pytest.mark.parametrize("stops", [REVISIONS[: count + 1] for count in range(len(REVISIONS))], ids=REVISIONS)
def test_jobs_of_the_first_version_are_there_in_the_newest(engine, stops):
    migrate(engine, stops[0])
    _fill(engine)
    for revision in [*stops[1:], "head"]:
        migrate(engine, revision)

    store = JobStore(engine)
    job = store.get("cmp_failed", "compression")
    assert (job.status, job.reason, job.request, job.attempt) == (JobStatus.FAILED, "It broke.", REQUEST, 2)
    assert job.result is not None and job.result.error is not None and job.result.error.message == "It broke."
    assert job.steps is not None and [(step.name, step.done) for step in job.steps] == [("train", 3)]
    assert [(one.number, one.status, one.reason) for one in job.attempts] == [
        (1, AttemptStatus.LOST, "gone"), (2, AttemptStatus.FAILED, "It broke."),
    ]  # fmt: skip
    assert job.created_at.isoformat() == "2026-03-01T10:00:00+00:00"
    assert (job.failures, job.resumed_after, job.parent, job.answer) == (2, 0, None, None)
    assert (job.tenant, job.batch) == ("local", None)
    assert [one.id for one in store.page()] == ["cmp_queued", "cmp_failed"]
    assert [one.id for one in store.page(JobFilter(teachers=("a/b",), labels={"team": "blue"}))] == ["cmp_failed"]
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_jobs_of_the_first_version_go_on_in_the_newest(engine):
    migrate(engine, "r0001")
    _fill(engine)
    migrate(engine)
    store, work = JobStore(engine), WorkStore(engine)
    assert work.begin_attempt("cmp_queued").latest.submission_id == "cmp_queued-1"
    assert store.resume("cmp_failed").failures == 0
    assert work.begin_attempt("cmp_failed").attempt == 3
    made = store.create(NewJob(REQUEST), key=RequestKey("/here", "k", "digest"))
    assert [one.id for one in store.page()] == [made.id, "cmp_queued", "cmp_failed"]  # numbers go on, none is reused


def test_the_keys_of_batches_lead_to_the_batches_and_outlive_their_first_compression(engine):
    migrate(engine, "r0007")
    job = "INSERT INTO jobs (id, kind, tenant, batch, status, request, attempt, created_at) VALUES "
    key = "INSERT INTO request_keys (scope, key, digest, job_number, created_at) VALUES "
    with engine.execution_options(write=True).begin() as connection:
        connection.execute(
            text("INSERT INTO batches (id, tenant, labels, created_at) VALUES ('bat_1', 'blue', '{}', :then)"),
            {"then": THEN},
        )
        for name, batch in (("'cmp_1'", "'bat_1'"), ("'cmp_2'", "'bat_1'"), ("'cmp_3'", "NULL")):
            row = f"({name}, 'compression', 'blue', {batch}, 'cancelled', :request, 0, :then)"
            connection.execute(text(job + row), {"request": json.dumps(REQUEST), "then": THEN})
        for scope, number in (("blue /v1/batches", 1), ("blue /v1/compressions", 3), ("blue /v1/compressions/plan", 3)):
            row = "(:scope, 'k', 'digest', :number, :then)"
            connection.execute(text(key + row), {"scope": scope, "number": number, "then": THEN})
    migrate(engine)
    store, batches = JobStore(engine), BatchStore(engine)
    sent = RequestKey("blue /v1/batches", "k", "digest")
    assert batches.find_keyed(sent).id == "bat_1"
    store.delete("cmp_1", lambda _: None)
    assert batches.find_keyed(sent).id == "bat_1"
    batches.delete("bat_1", lambda _: None)
    assert batches.find_keyed(sent) is None
    for path in ("/v1/compressions", "/v1/compressions/plan"):
        assert store.find_keyed(RequestKey(f"blue {path}", "k", "digest")).id == "cmp_3"
