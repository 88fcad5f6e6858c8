"""Pruning by the database: the artefacts that jobs need, the tenants whose bytes are freed, and the verb."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from sqlalchemy import update
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from services.access.quotas import QuotaExceededError, Quotas, give_back
from services.access.tenants import Quota, TenantStore
from services.cli.main import app
from services.jobs.records import AttemptEnd, NewJob
from services.jobs.rows import Sessions
from services.jobs.states import AttemptStatus, JobStatus
from services.jobs.store import JobStore
from services.jobs.sweep import prune
from services.jobs.tables import AttemptRow, TenantRow
from services.service import Service
from services.settings import load_settings
from workloads.documents.job_folder import JobFolder, ResultDocument, StudentDocument
from workloads.spec.errors import InputError
from workloads.storage import artifacts
from workloads.storage.artifacts import Key
from workloads.storage.storage import Storage

DAY = timedelta(days=1)


@pytest.fixture
def storage(tmp_path):
    return Storage.open(str(tmp_path / "storage"))


@pytest.fixture
def store(engine):
    return JobStore(engine, Quotas(Quota(max_stored_bytes=1000)))


@pytest.fixture
def usage(engine):
    def read(tenant):
        with Sessions(engine).reading() as session:
            return Quotas().usage(session, tenant).stored_bytes

    return read


def _build(storage, stage, inputs, job, size):
    key, builder = Key(stage, inputs), f"{job.id}-1"
    storage.write_bytes(f"{artifacts.build_folder(key, builder)}/file", bytes(size))
    return artifacts.commit(storage, key, builder, {})


def _place(artifact):
    return f"artifacts/{artifact.stage}/{artifact.fingerprint}"


def _age(storage, hours=48):
    """Have all files look as if they had been written some hours ago."""
    then = (datetime.now(UTC) - timedelta(hours=hours)).timestamp()
    for file in storage.files(""):
        os.utime(storage.path(file.path), (then, then))


def _succeed(work, storage, job, made):
    """End a job that names these artefacts, the last of them a student's."""
    used = {}
    for one in made:
        used.setdefault(one.stage, []).append(one.fingerprint)
    student = StudentDocument(
        id="stu_1", budget="edge", subspace="tiny", architecture={}, params=1, flops=1, sequence_length=128,
        heldout_loss=0.5, files=made[-1].files,
    )  # fmt: skip
    result = ResultDocument(status="succeeded", students=[student], artifacts=used)
    stored = artifacts.bytes_built(storage, used, job.id)
    work.begin_attempt(job.id)
    work.end_attempt(
        job.id, 1, AttemptEnd(AttemptStatus.SUCCEEDED, None, JobStatus.SUCCEEDED, result=result, stored_bytes=stored)
    )


@pytest.fixture
def compress(storage, store, work):
    """A finished compression of a tenant, which has built a corpus of its own and a student from it."""

    def make(tenant, corpus_bytes=600, student_bytes=400, corpus=None):
        job = store.create(NewJob({}, tenant=tenant))
        corpus = corpus or _build(storage, "corpus", {"of": job.id}, job, corpus_bytes)
        student = _build(storage, "student", {"corpus": corpus.fingerprint, "of": job.id}, job, student_bytes)
        _succeed(work, storage, job, [corpus, student])
        return job, corpus, student

    return make


def _delete(store, storage, job):
    store.delete(job.id, lambda one: storage.remove(f"jobs/{one}"))


def test_a_tenant_at_its_storage_quota_gets_below_it_by_deleting_and_pruning(engine, store, storage, usage, compress):
    job, corpus, student = compress("ours")
    other, *others = compress("theirs")
    _age(storage)
    with pytest.raises(QuotaExceededError):
        store.create(NewJob({}, tenant="ours"))
    assert prune(engine, storage, DAY).removed == ()
    _delete(store, storage, job)
    with pytest.raises(QuotaExceededError, match="prune"):
        store.create(NewJob({}, tenant="ours"))

    seen = prune(engine, storage, DAY, dry_run=True)
    assert (usage("ours"), storage.exists(corpus.files)) == (1000, True)
    done = prune(engine, storage, DAY)
    assert {one.path for one in done.removed} == {_place(one) for one in (corpus, student)}
    assert (done.removed, done.given_back, done.kept) == (seen.removed, seen.given_back, seen.kept)
    assert (done.given_back, done.kept, done.bytes > 1000) == ({"ours": 1000}, 2, True)
    assert (usage("ours"), usage("theirs")) == (0, 1000)
    store.create(NewJob({}, tenant="ours"))
    assert all(storage.exists(one.files) for one in others) and store.get(other.id)


def test_what_another_job_of_the_tenant_still_needs_goes_on_counting(engine, store, storage, usage, compress):
    first, corpus, _ = compress("ours", corpus_bytes=300)
    compress("ours", student_bytes=50, corpus=corpus)
    _delete(store, storage, first)
    _age(storage)
    assert prune(engine, storage, DAY).given_back == {"ours": 400}
    assert (usage("ours"), storage.exists(corpus.files)) == (350, True)


def test_what_only_others_need_stays_and_counts_for_nobody_who_has_deleted_it(engine, store, storage, usage, compress):
    first, corpus, _ = compress("ours")
    second, *_ = compress("theirs", student_bytes=50, corpus=corpus)
    _delete(store, storage, first)
    _age(storage)
    assert prune(engine, storage, DAY).given_back == {"ours": 1000}
    assert (usage("ours"), usage("theirs"), storage.exists(corpus.files)) == (0, 50, True)
    _delete(store, storage, second)
    assert prune(engine, storage, DAY).given_back == {"theirs": 50}
    assert not storage.exists(corpus.files)


def test_what_was_used_lately_stays_and_counts(engine, store, storage, usage, compress):
    job, *_ = compress("ours")
    _delete(store, storage, job)
    _age(storage, hours=20)
    done = prune(engine, storage, DAY)
    assert (done.removed, done.given_back, usage("ours")) == ((), {}, 1000)
    assert len(prune(engine, storage, timedelta(hours=12)).removed) == 2


def test_what_a_running_attempt_may_have_found_stays_however_long_it_runs(
    engine, store, work, storage, usage, compress
):
    job, corpus, student = compress("ours")
    _delete(store, storage, job)
    running = store.create(NewJob({}, tenant="theirs"))
    work.begin_attempt(running.id)
    with Session(engine) as session, session.begin():
        session.execute(update(AttemptRow).values(started_at=datetime.now(UTC) - timedelta(hours=50)))
    _age(storage, hours=60)
    mark = storage.path(f"{_place(corpus)}/used")
    storage.write_bytes(f"{_place(corpus)}/used", b"")
    then = (datetime.now(UTC) - timedelta(hours=50, minutes=-1)).timestamp()  # as it began
    os.utime(mark, (then, then))
    assert [one.path for one in prune(engine, storage, DAY).removed] == [_place(student)]
    assert usage("ours") == 600
    work.end_attempt(running.id, 1, AttemptEnd(AttemptStatus.FAILED, None, JobStatus.FAILED))
    assert [one.path for one in prune(engine, storage, DAY).removed] == [_place(corpus)]
    assert usage("ours") == 0


def test_what_a_selection_an_evaluation_and_a_failed_job_need_stays(engine, store, work, storage, compress):
    job, corpus, student = compress("ours")
    scores = _build(storage, "scores", {"corpus": corpus.fingerprint}, job, 10)
    plan = _build(storage, "teacher", {"files": "x"}, job, 10)
    _delete(store, storage, job)
    selection = store.create(NewJob({}, "selection", scores=scores.fingerprint))
    evaluation = store.create(NewJob({"files": student.files}, "evaluation"))
    failed = store.create(NewJob({}))
    work.begin_attempt(failed.id)
    work.end_attempt(failed.id, 1, AttemptEnd(AttemptStatus.FAILED, None, JobStatus.FAILED))
    half = _build(storage, "superlm", {}, failed, 10)
    _age(storage)
    assert [one.path for one in prune(engine, storage, DAY).removed] == [_place(plan)]
    for one in (selection, evaluation):
        store.request_cancel(one.id)
    for one in (selection, evaluation, failed):
        _delete(store, storage, one)
    gone = {one.path for one in prune(engine, storage, DAY).removed}
    assert gone == {_place(one) for one in (corpus, student, scores, half)}


def test_bytes_that_were_forgotten_before_each_job_was_kept_in_mind_are_given_back_with_the_last_unknown_artefact(
    engine, store, storage, usage, compress
):
    unknown, _, student = compress("ours")
    _delete(store, storage, unknown)
    with Sessions(engine).writing() as session:  # as an earlier version has left it
        give_back(session, {}, all_known=False)
        session.add(TenantRow(name="ours", forgotten_bytes=1000, created_at=datetime.now(UTC)))
    holder, *_ = compress("theirs", corpus=student)
    _age(storage)
    assert (prune(engine, storage, DAY).given_back, usage("ours")) == ({}, 1000), "the student is needed"
    _delete(store, storage, holder)
    assert prune(engine, storage, DAY).given_back == {"ours": 1000, "theirs": 400}
    assert usage("ours") == 0


def test_a_database_that_does_not_know_the_storages_jobs_prunes_nothing(engine, store, storage, compress):
    _, corpus, _ = compress("ours")
    _age(storage)
    JobFolder(storage, "cmp_strange").write_request({})
    with pytest.raises(InputError, match="a folder of cmp_strange, which the database does not know"):
        prune(engine, storage, DAY)
    storage.remove("jobs/cmp_strange")
    storage.write_bytes("jobs/cmp_strange/attempts/1/events.jsonl", b"")  # a straggler of a deleted job
    assert prune(engine, storage, DAY).removed == ()
    assert storage.exists(corpus.files)


def test_a_time_within_which_uses_are_not_noted_is_refused(engine, storage):
    with pytest.raises(InputError, match="too short"):
        prune(engine, storage, timedelta(minutes=10))


@pytest.fixture
def run(storage):
    def run(*arguments):
        return CliRunner().invoke(app, ["prune", "--storage", storage.url, *arguments])

    yield run
    structlog.reset_defaults()  # the verbs log to the runner's streams


def test_the_verb_prunes_beside_a_service_that_runs(run, storage):
    service = Service(load_settings(storage=storage.url, ray_address="http://127.0.0.1:9"))
    try:
        job = service.store.create(NewJob({}, tenant="ours"))
        _succeed(service.work, storage, job, [_build(storage, "student", {}, job, 100)])
        service.delete(job.id)
        _age(storage)
        seen = run("--dry-run")
        assert (seen.exit_code, "1 artefacts and 0 leftovers would go" in seen.stderr) == (0, True)
        assert "ours: 100 bytes would be given back." in seen.stderr
        assert service.standing("ours")[1].stored_bytes == 100
        done = json.loads(run("--json", "--older-than", "12h").stdout)
        assert [one["artifact"] for one in done["removed"]] == [True]
        assert (done["dry_run"], done["kept"], done["given_back"]) == (False, 0, {"ours": 100})
        assert done["removed_bytes"] == done["removed"][0]["bytes"] > 100
        assert service.standing("ours")[1].stored_bytes == 0
        assert "0 artefacts and 0 leftovers removed, 0 bytes; 0 artefacts stay." in run().stderr
    finally:
        service.close()


@pytest.mark.parametrize("given", ["5m", "soon"])
def test_the_verb_refuses_a_time_that_will_not_do(run, storage, given):
    Service(
        load_settings(storage=storage.url, ray_address="http://127.0.0.1:9")
    ).close()  # makes the storage's database
    refused = run("--older-than", given)
    assert (refused.exit_code, "older" in refused.stderr) == (2, True)


def test_the_verb_prunes_an_object_store(s3_server, tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_STATE_FOLDER", str(tmp_path / "state"))
    storage = Storage.open(s3_server.url("pruned"))
    service = Service(load_settings(storage=storage.url, ray_address="http://127.0.0.1:9"))
    try:
        job = service.store.create(NewJob({}, tenant="ours"))
        built = _build(storage, "student", {}, job, 100)
        _succeed(service.work, storage, job, [built])
        service.delete(job.id)
        # An object's time cannot be set, so a day goes by for the pruning instead.
        tomorrow = datetime.now(UTC) + timedelta(days=2)
        monkeypatch.setattr("services.jobs.sweep.now", lambda: tomorrow)
        done = CliRunner().invoke(app, ["prune", "--storage", storage.url, "--json"])
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["given_back"] == {"ours": 100}
        assert storage.files("artifacts") == ()
        assert service.standing("ours")[1].stored_bytes == 0
    finally:
        service.close()
        structlog.reset_defaults()


def test_the_tenants_own_limit_is_asked_after_pruning_as_before(engine, store, storage, compress):
    TenantStore(engine).set("ours", {"max_stored_bytes": 500})
    job, *_ = compress("ours", corpus_bytes=300, student_bytes=200)
    with pytest.raises(QuotaExceededError):
        store.create(NewJob({}, tenant="ours"))
    _delete(store, storage, job)
    _age(storage)
    prune(engine, storage, DAY)
    store.create(NewJob({}, tenant="ours"))
