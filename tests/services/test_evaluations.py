"""Evaluations over HTTP: refusals at submission, the stored request, and results beside their student."""

import csv
import json
import threading

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.access.caller import Caller, Scope
from services.access.quotas import QuotaExceededError
from services.access.tenants import TenantStore
from services.client import ApiError
from services.intake import evaluation
from services.jobs.records import AttemptEnd, JobFilter
from services.jobs.rows import UnknownJobError
from services.jobs.states import AttemptStatus, JobStatus
from services.service import Service
from services.settings import load_settings
from tests.services.conftest import serving, wait_until
from tests.services.searched import finished
from tests.services.test_event_stream import Run
from tests.services.verbs import on_server, run_here
from tests.teacher_files import CONFIG, expected_shapes, write_teacher, write_weights
from workloads.documents.job_folder import JobFolder, ResultDocument, StudentDocument, TeacherDocument
from workloads.shapes.teacher_files import shape_of
from workloads.spec.errors import InputError
from workloads.spec.evaluation import BaselineDocument, EvaluationResult, SeedScore, parse_accepted
from workloads.storage.sweep import builds_in

FILES = "artifacts/student/abc/builds/cmp_x-1"


def _student(name, **changes):
    fields = {
        "id": name, "budget": "edge", "subspace": "tiny", "architecture": {"layers": 2}, "params": 10, "flops": 20,
        "sequence_length": 128, "heldout_loss": 0.5, "files": FILES,
    }  # fmt: skip
    return StudentDocument(**fields | changes)


def _end(service, job_id, result):
    """End a queued job as its run would."""
    service.work.begin_attempt(job_id)
    succeeded = result.status == "succeeded"
    service.work.end_attempt(
        job_id,
        1,
        AttemptEnd(
            AttemptStatus.SUCCEEDED if succeeded else AttemptStatus.FAILED,
            None,
            JobStatus.SUCCEEDED if succeeded else JobStatus.FAILED,
            result=result,
            steps=[],
        ),
    )


@pytest.fixture
def compression(service, make_request):
    """A finished compression with one student."""
    service.storage.write_bytes(f"{FILES}/config.json", b"{}")
    job = service.submit(make_request())
    _end(service, job.id, ResultDocument(status="succeeded", students=[_student("stu_1")]))
    return job.id


@pytest.fixture
def task(tmp_path):
    """A task of sentences, in the three formats."""
    rows = [{"sentence": "a fox", "label": 1}, {"sentence": "a dog", "label": 0}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    with (tmp_path / "more.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["sentence", "label"], ["a\nfox, red", 1]])
    (tmp_path / "test.jsonl").write_text("\n".join(["", *map(json.dumps, rows)]))
    return {
        "name": "foxes", "kind": "single", "train": [str(tmp_path / "train.parquet"), str(tmp_path / "more.csv")],
        "test": [str(tmp_path / "test.jsonl")], "text_columns": ["sentence"],
    }  # fmt: skip


@pytest.fixture
def request_of(task, compression):
    def make(**changes):
        asked = {"model": {"compression": compression, "student": "stu_1"}, "task": task, "seeds": [0, 1]}
        return asked | changes

    return make


def _result(*scores):
    seeds = [
        SeedScore(seed=seed, score=score, epoch=2, learning_rate=1e-4, validation_score=0.5, scores={}, device="cpu",
                  seconds=1.0)
        for seed, score in enumerate(scores)
    ]  # fmt: skip
    return EvaluationResult(
        task="foxes", metric="accuracy", mean=sum(scores) / len(scores), std=0.1, seeds=seeds,
        baseline=BaselineDocument(answer=1, score=0.55, scores={}), scored_on="test", rows=2, train_rows=2,
        set_aside_rows=1, rows_in_training=0, params=10, fingerprint="f", seconds=2.0,
    )  # fmt: skip


def test_an_evaluation_is_kept_with_the_folder_of_its_student_which_nobody_else_is_told(
    client, service, request_of, compression
):
    made = client.evaluate(request_of())
    assert (made.id[:4], made.status, made.name, made.model.student) == ("evl_", "queued", "foxes", "stu_1")
    assert client.evaluation(made.id) == made
    assert FILES not in made.model_dump_json()
    job = service.store.get(made.id)
    assert (job.kind, job.parent, parse_accepted(job.request).files) == ("evaluation", compression, FILES)


def test_where_it_can_be_followed_is_said_and_sending_it_again_makes_no_second(client, request_of):
    answers = [
        httpx.post(f"{client.server}/v1/evaluations", json=request_of(), headers={"Idempotency-Key": "mine"})
        for _ in range(2)
    ]
    assert {answer.status_code for answer in answers} == {202}
    (place,) = {answer.headers["Location"] for answer in answers}
    assert int(answers[0].headers["Retry-After"]) >= 1
    assert httpx.get(f"{client.server}{place}").json()["name"] == "foxes"


def _findings(client, request):
    with pytest.raises(ApiError) as caught:
        client.evaluate(request)
    problem = caught.value.problem
    assert (problem.status, problem.code) == (422, "invalid_request")
    return {finding.pointer: finding.problem for finding in problem.errors}


def test_an_unknown_student_or_compression_is_told_with_its_place(client, request_of, compression):
    other = {"compression": "cmp_none", "student": "stu_1"}
    assert "no compression cmp_none" in _findings(client, request_of(model=other))["/model/compression"]
    other = {"compression": compression, "student": "stu_2"}
    assert "no student stu_2" in _findings(client, request_of(model=other))["/model/student"]


def test_a_teacher_that_cannot_be_used_is_told_with_its_place(client, request_of):
    assert set(_findings(client, request_of(model={"teacher": {"model": "/nowhere"}}))) == {"/model/teacher/model"}


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({"task": {"metric": "spearman"}}, {"/task/metric"}),
        ({"task": {"kind": "pair"}}, {"/task/text_columns"}),
        ({"seeds": [1, 1]}, {"/seeds"}),
        ({"seeds": list(range(21))}, {"/seeds"}),
        ({"task": {"train": ["/nowhere.csv"]}}, {"/task/train/0"}),
        ({"task": {"text_columns": ["text"], "label_column": "y"}}, {"/task/text_columns/0", "/task/label_column"}),
        ({"files": FILES}, {"/files"}),
    ],
)
def test_what_can_be_told_at_once_is_told_with_its_place(client, service, request_of, changes, pointers):
    request = request_of()
    for name, change in changes.items():
        request[name] = request[name] | change if isinstance(change, dict) else change
    assert set(_findings(client, request)) == pointers
    assert service.store.page(JobFilter(kind="evaluation")) == []


def test_a_file_that_lacks_a_column_is_named_with_those_it_has(client, request_of, task, tmp_path):
    (tmp_path / "test.jsonl").write_text('{"sentence": "a", "gold": 1}\n')
    assert "test.jsonl has no column 'label'" in _findings(client, request_of())["/task/label_column"]
    (tmp_path / "train.parquet").write_bytes(b"no parquet")
    assert set(_findings(client, request_of())) == {"/task/train/0", "/task/label_column"}


def test_files_in_buckets_are_left_to_the_run(client, request_of, task):
    elsewhere = {"train": ["s3://bucket/train.csv"], "test": ["s3://bucket/test.csv"]}
    assert client.evaluate(request_of(task=task | elsewhere)).status is JobStatus.QUEUED


def test_results_stand_beside_their_student_newest_first(client, service, request_of, compression):
    first, second = client.evaluate(request_of()), client.evaluate(request_of())
    teacher = {"teacher": {"model": "someone/some-hub-model"}}
    other = client.evaluate(request_of(model=teacher))
    _end(service, first.id, ResultDocument(status="succeeded", evaluation=_result(0.5, 0.75)))
    found = client.evaluation(first.id)
    assert found.result == _result(0.5, 0.75)
    student = client.student(compression, "stu_1")
    assert [(one.id, one.name, one.status, one.mean, one.baseline) for one in student.evaluations] == [
        (second.id, "foxes", "queued", None, None), (first.id, "foxes", "succeeded", 0.625, 0.55)
    ]  # fmt: skip

    assert [one.id for one in client.evaluations().evaluations] == [other.id, second.id, first.id]
    for query in ({"compression": compression}, {"student": "stu_1"}, {"compression": compression, "student": "stu_1"}):
        page = client.evaluations(**query, limit=1)
        assert [one.id for one in page.evaluations] == [second.id]
        rest = client.evaluations(**query, limit=1, after=page.next)
        assert ([one.id for one in rest.evaluations], rest.next) == ([first.id], None)
    assert client.evaluations(student="stu_2").evaluations == []


@pytest.fixture
def kept(service, client, request_of):
    """An evaluation that has kept the model of its first seed."""
    folder = "artifacts/evaluation-model/abc/builds/evl_x-1"
    for name, content in (("config.json", b"{}"), ("sub/weights", b"w" * 700)):
        service.storage.write_bytes(f"{folder}/{name}", content)
    made = client.evaluate(request_of(keep_model=True))
    assert service.store.get(made.id).request["keep_model"] is True
    result = _result(0.5, 0.75)
    seeds = [result.seeds[0].model_copy(update={"files": folder}), result.seeds[1]]
    _end(service, made.id, ResultDocument(status="succeeded", evaluation=result.model_copy(update={"seeds": seeds})))
    return made.id


def test_a_kept_model_is_shown_and_fetched_whole_and_file_by_file(client, service, kept, tmp_path):
    place = service.storage.path("artifacts/evaluation-model/abc/builds/evl_x-1")
    assert [one.files for one in client.evaluation(kept).result.seeds] == [place, None]
    (model,) = client.models(kept).models
    assert (model.id, model.seed, model.score, model.files) == (f"{kept}-seed-0", 0, 0.5, place)
    assert {one.path: one.bytes for one in model.contents} == {"config.json": 2, "sub/weights": 700}
    assert client.model_file(kept, model.id, "sub/weights") == b"w" * 700
    assert httpx.get(f"{client.server}{model.archive}", headers={"Range": "bytes=0-9"}).status_code == 206
    folder = client.download_model(kept, model.id, tmp_path)
    assert folder == tmp_path / f"{kept}-seed-0"
    assert (folder / "sub" / "weights").read_bytes() == b"w" * 700
    for ask in (
        lambda: client.model_archive(kept, f"{kept}-seed-1"),
        lambda: client.model_file(kept, model.id, "../../other"),
    ):
        with pytest.raises(ApiError) as caught:
            ask()
        assert caught.value.problem.status == 404


def test_kept_models_are_of_one_tenant_alone(service, kept):
    stranger = Caller("other", frozenset({Scope.READ}))
    with pytest.raises(UnknownJobError):
        service.store.get(kept, "evaluation", tenant=stranger.sees)


def test_kept_models_are_downloaded_by_the_command_line(client, kept, tmp_path):
    verb = on_server(run_here, client.server)
    done = verb("evaluate", "download", kept, "--to", str(tmp_path / "to"), "--extract")
    assert done.stdout == f"{tmp_path / 'to' / f'{kept}-seed-0'}\n"
    assert (tmp_path / "to" / f"{kept}-seed-0" / "config.json").read_text() == "{}"
    again = json.loads(
        verb("evaluate", "download", kept, "0", "--to", str(tmp_path / "to"), "--extract", "--json").stdout
    )
    assert [(one["model"], one["fetched"]) for one in again["downloads"]] == [(f"{kept}-seed-0", False)]
    none = verb("evaluate", "download", kept, "1", "--to", str(tmp_path / "to"))
    assert (none.returncode, "keep_model" in none.stderr) == (1, True)
    assert "model of seed 0:" in verb("show", kept).stdout


def test_a_kept_model_stays_while_its_evaluation_or_a_request_for_it_as_teacher_does(service, client, kept):
    named = json.dumps(service.store.get(kept).result.model_dump(mode="json"))
    assert [name for name, _ in builds_in(named)] == [("evaluation-model", "abc")]


def test_a_student_of_a_selection_is_evaluated_too(client, service, make_request, request_of):
    job = finished(service, make_request())
    selection = client.select(job.id, {"budgets": [{"name": "small", "max_params": 10**8}]})
    asked = request_of(model={"compression": job.id, "student": selection.students[0].id})
    assert set(_findings(client, asked)) == {"/model/student"}, "its files are not made yet"
    _end(service, selection.id, ResultDocument(status="succeeded", students=[_student(selection.students[0].id)]))
    assert client.evaluate(asked).model.student == selection.students[0].id


def test_an_evaluation_is_cancelled_resumed_and_forgotten(client, service, request_of, compression):
    made = client.evaluate(request_of())
    with pytest.raises(ApiError) as caught:
        client.delete_evaluation(made.id)
    assert caught.value.problem.status == 409
    assert client.cancel_evaluation(made.id).status is JobStatus.CANCELLED
    assert client.resume_evaluation(made.id).status is JobStatus.QUEUED
    client.cancel_evaluation(made.id)
    JobFolder(service.storage, made.id).write_request({})
    client.delete_evaluation(made.id)
    with pytest.raises(ApiError) as caught:
        client.evaluation(made.id)
    assert caught.value.problem.status == 404
    assert not service.storage.exists(f"jobs/{made.id}")
    assert client.get(compression).status is JobStatus.SUCCEEDED


def test_one_tenants_students_and_evaluations_are_unknown_to_another(service, request_of):
    job = service.evaluate(request_of())
    stranger = Caller("other", frozenset({Scope.READ, Scope.SUBMIT}))
    with pytest.raises(InputError) as caught:
        service.evaluate(request_of(), caller=stranger)
    assert caught.value.errors[0].field == "model.compression"
    assert service.store.page(JobFilter("evaluation", "other")) == []
    assert [one.id for one in service.store.page(JobFilter("evaluation", job.tenant))] == [job.id]


def test_the_events_of_an_evaluation_are_listed_and_streamed_as_a_compressions_are(client, service, request_of):
    run = Run(service, client.evaluate(request_of()).id)
    run.begin()
    run.tell("one")
    run.tell("two")
    run.end(AttemptStatus.LOST, JobStatus.QUEUED)
    run.begin()
    run.tell("again")
    assert [event.message for event in client.evaluation_events(run.id).events] == ["one", "two", "again"]
    page = client.evaluation_events(run.id, "1-1")
    assert ([event.message for event in page.events], page.next) == (["two", "again"], None)
    ending = threading.Timer(0.5, run.end)
    ending.start()
    assert [event.message for event in client.stream_events(run.id)] == ["one", "two", "again"]
    ending.join()
    assert [event.message for event in client.stream_events(run.id, "1-2")] == ["again"]
    for path in (f"/v1/evaluations/{run.id}/events?after=x", "/v1/evaluations/evl_none/events"):
        assert httpx.get(f"{client.server}{path}").status_code in {404, 422}
    with pytest.raises(ApiError):
        client.events(run.id)  # it is no compression


def test_an_evaluation_counts_the_tokens_that_it_trains_on_at_most(service, request_of, task, tmp_path):
    def tokens():
        return service.standing("local")[1].tokens

    # Two rows of Parquet; of the CSV, whose one row has a line break, at most two.
    before = tokens()
    settings = {"epochs": 5, "learning_rates": [1e-4, 1e-5, 1e-6], "sequence_length": 16}
    service.evaluate(request_of(**settings))
    assert tokens() - before == 4 * 5 * 3 * 2 * 16
    before = tokens()
    service.evaluate(request_of(task=task | {"max_train_rows": 3}, **settings))
    assert tokens() - before == 3 * 5 * 3 * 2 * 16
    (tmp_path / "rows.jsonl").write_bytes(b'{"sentence": "a", "label": 1}\r\n{"sentence": "b", "label": 0}')
    before = tokens()
    service.evaluate(request_of(task=task | {"train": [str(tmp_path / "rows.jsonl")]}, **settings))
    assert tokens() - before == 2 * 5 * 3 * 2 * 16


def test_rows_that_cannot_be_counted_are_to_be_limited_where_tokens_are(service, request_of, task):
    elsewhere = task | {"train": ["s3://bucket/train.csv"]}
    before = service.standing("local")[1].tokens
    service.evaluate(request_of(learning_rates=[1e-4], task=elsewhere))
    assert service.standing("local")[1].tokens == before
    TenantStore(service.engine).set("local", {"max_tokens": before + 10_000})
    with pytest.raises(InputError) as caught:
        service.evaluate(request_of(learning_rates=[1e-4], task=elsewhere))
    assert caught.value.errors[0].field == "task.max_train_rows"
    with pytest.raises(QuotaExceededError, match="tokens"):
        service.evaluate(request_of(learning_rates=[1e-4], task=elsewhere | {"max_train_rows": 100}))
    service.evaluate(request_of(learning_rates=[1e-4], task=elsewhere | {"max_train_rows": 10}))
    assert service.standing("local")[1].tokens == before + 10 * 3 * 2 * 128


def test_large_files_are_counted_no_further_than_is_needed(service, request_of, task, tmp_path, monkeypatch):
    def tokens(**changes):
        before = service.standing("local")[1].tokens
        service.evaluate(
            request_of(task=task | changes, seeds=[0], learning_rates=[1e-4], epochs=1, sequence_length=16)
        )
        return service.standing("local")[1].tokens - before

    read = []
    row = b'{"sentence": "abc", "label": 1}\n'
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_bytes(row * 8)
    files = [str(tmp_path / f"{name}.jsonl") for name in ("one", "two")]
    monkeypatch.setattr(evaluation, "_PIECE", len(row))
    plain = evaluation._count_lines
    monkeypatch.setattr(evaluation, "_count_lines", lambda *given: read.append(plain(*given)) or read[-1])
    assert tokens(train=files) == 16 * 16
    read.clear()
    assert tokens(train=files, max_train_rows=3) == 3 * 16
    assert read == [(3, 3 * len(row))], "it read on"

    monkeypatch.setattr(evaluation, "_MOST_BYTES", 12 * len(row))
    read.clear()
    assert tokens(train=files) == 16 * 16, "the rest is estimated by its size"
    assert sum(done for _, done in read) == 12 * len(row)
    assert tokens(train=files, max_train_rows=14) == 14 * 16
    TenantStore(service.engine).set("local", {"max_tokens": 10**9})
    with pytest.raises(InputError, match="rows are counted only in the first") as caught:
        tokens(train=files)
    assert [(one.field, one.remedy) for one in caught.value.errors] == [("task.max_train_rows", "Set max_train_rows.")]
    assert tokens(train=files, max_train_rows=14) == 14 * 16

    monkeypatch.setattr(evaluation, "_MOST_BYTES", 1 << 20)
    monkeypatch.setattr(evaluation, "_MOST_SECONDS", -1.0)
    with pytest.raises(InputError, match="rows are counted"):
        tokens(train=files)


def test_a_length_that_is_left_out_is_shown_as_the_model_reads(client, service, request_of, make_request, tmp_path):
    positions = {"max_position_embeddings": 64}
    short = write_teacher(tmp_path / "short", **positions)
    write_weights(short / "model.safetensors", expected_shapes(CONFIG | positions))
    made = client.evaluate(request_of(model={"teacher": {"model": str(short)}}))
    assert made.request["sequence_length"] == 64
    pointer = _findings(client, request_of(model={"teacher": {"model": str(short)}}, sequence_length=65))
    assert pointer == {"/sequence_length": "The model reads at most 64 tokens, not 65."}
    of_hub = client.evaluate(request_of(model={"teacher": {"model": "someone/some-hub-model"}}))
    assert "sequence_length" not in of_hub.request, "not known before it is fetched"

    teacher = TeacherDocument(fingerprint="t", shape=shape_of(short).to_json(), params=1, flops=1, sequence_length=64)
    job = service.submit(make_request())
    _end(service, job.id, ResultDocument(status="succeeded", students=[_student("stu_2")], teacher=teacher))
    student = {"compression": job.id, "student": "stu_2"}
    assert client.evaluate(request_of(model=student)).request["sequence_length"] == 64
    assert "/sequence_length" in _findings(client, request_of(model=student, sequence_length=65))


def test_a_deleted_compression_takes_the_evaluations_of_its_students_with_it(client, service, request_of, compression):
    ended = client.evaluate(request_of())
    other = client.evaluate(request_of(model={"teacher": {"model": "someone/some-hub-model"}}))
    with pytest.raises(ApiError) as caught:
        client.delete(compression)
    assert (caught.value.problem.status, ended.id in caught.value.problem.detail) == (409, True)
    _end(service, ended.id, ResultDocument(status="succeeded", evaluation=_result(0.5, 0.75)))
    JobFolder(service.storage, ended.id).write_request({})
    before = service.standing("local")[1].tokens
    client.delete(compression)
    assert [one.id for one in client.evaluations().evaluations] == [other.id]
    assert not service.storage.exists(f"jobs/{ended.id}")
    assert service.standing("local")[1].tokens == before > 0


@pytest.mark.ray
@pytest.mark.slow
def test_a_teacher_is_evaluated_by_a_real_run_which_tells_how_far_each_seed_is(make_teacher, tmp_path):
    rows = [{"sentence": f"the {word} {number}", "label": int(word == "fox")}
            for number in range(40) for word in ("fox", "dog")]  # fmt: skip
    for side, part in (("train", rows), ("validation", rows[::7])):
        pq.write_table(pa.Table.from_pylist(part), tmp_path / f"{side}.parquet")
    task = {
        "kind": "single", "train": [str(tmp_path / "train.parquet")], "text_columns": ["sentence"],
        "validation": [str(tmp_path / "validation.parquet")],
    }  # fmt: skip
    settings = {"seeds": [0, 1], "epochs": 2, "learning_rates": [2e-3], "batch_size": 8, "sequence_length": 16}
    model = {"teacher": {"model": str(make_teacher(tmp_path / "teacher"))}}
    service = Service(load_settings(storage=str(tmp_path / "storage"), ray_cpus=2, ray_object_store_bytes=100 << 20))
    service.start()
    try:
        with serving(service) as client:
            made = client.evaluate({"model": model, "task": task} | settings)
            wait_until(lambda: client.evaluation(made.id).status.is_terminal, 240, "the evaluation")
            found = client.evaluation(made.id)
    finally:
        service.close()
    assert found.status is JobStatus.SUCCEEDED, found.error
    assert [step.name for step in found.steps] == ["model", "rows", "seed-0", "seed-1"]
    assert [(step.done, step.total, step.unit) for step in found.steps[2:]] == [(18, 18, "steps")] * 2
    assert found.result is not None and [one.seed for one in found.result.seeds] == [0, 1]
    assert found.result.rows_in_training == found.result.rows == 12
