"""A storage of an earlier version: its jobs are listed, shown and downloaded, and answer new budgets or say why not.

``tests/services/old`` was written by the service of commit 3a6bee2 (database at r0008, artefacts of schema 2): a
finished compression with a student, a selection, a failed and a batched compression, a plan and an evaluation.
``tests/services/old_run`` is what a whole compression of that commit left, from the teacher to the student, without the
pictures of the job.
"""

import contextlib
import io
import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from transformers import AutoModel, AutoTokenizer

from services.jobs.rows import now
from services.jobs.sweep import prune
from services.service import Service
from services.settings import load_settings
from tests.services.conftest import serving
from workloads.storage.tarfiles import tarfile

OLD, OLD_RUN = Path(__file__).parent / "old", Path(__file__).parent / "old_run"
JOB, RUN = "cmp_d6dec75b18d14e39", "cmp_145dad73cab04311"
KINDS = {
    "compressions": {JOB},
    "plans": {"pln_671ce5df45ed4d2b"},
    "batches": {"bat_c5c603bbfbb14462"},
    "evaluations": {"evl_98a396cb305c470f"},
}


@contextlib.contextmanager
def opened(recorded, storage):
    """An old storage, opened by this version."""
    shutil.copytree(recorded, storage, ignore=shutil.ignore_patterns("jobs.sql"))
    (storage / "service").mkdir()
    with sqlite3.connect(storage / "service" / "jobs.sqlite") as connection:
        connection.executescript((recorded / "jobs.sql").read_text())
    connection.close()
    service = Service(load_settings(storage=str(storage), ray_address="http://127.0.0.1:9"))
    try:
        yield service
    finally:
        service.close()


@pytest.fixture
def old(tmp_path):
    with opened(OLD, tmp_path / "storage") as service:
        yield service


@pytest.fixture
def http(old):
    with serving(old) as client, httpx.Client(base_url=client.server) as http:
        yield http


def test_its_jobs_are_listed_filtered_shown_and_downloaded(http):
    for kind, ids in KINDS.items():
        page = http.get(f"/v1/{kind}")
        assert page.status_code == 200, page.text
        assert ids <= {one["id"] for one in page.json()[kind]}
        for one in page.json()[kind]:
            shown = http.get(f"/v1/{kind}/{one['id']}")
            assert (shown.status_code, shown.json()["status"]) == (200, one["status"])
    for query in ({"label": "team:old"}, {"teacher": "someone/some-hub-model"}, {"status": "succeeded"}):
        assert JOB in {one["id"] for one in http.get("/v1/compressions", params=query).json()["compressions"]}
    (row,) = [one for one in http.get("/v1/compressions").json()["compressions"] if one["id"] == JOB]
    assert (row["budgets"], row["labels"], row["students"][0]["heldout_loss"]) == (["edge"], {"team": "old"}, 0.5)
    assert http.get("/v1/batches", params={"label": "season:spring"}).json()["batches"]
    assert http.get("/v1/compressions", params={"batch": "bat_c5c603bbfbb14462"}).json()["compressions"]
    here = f"/v1/compressions/{JOB}"
    assert len(http.get(f"{here}/selections").json()["selections"]) == 1
    assert http.get(f"{here}/events").json()["events"][0]["message"] == "old"
    assert http.get(f"{here}/students/stu_old").json()["evaluations"][0]["id"] == "evl_98a396cb305c470f"
    with tarfile.open(fileobj=io.BytesIO(http.get(f"{here}/students/stu_old/archive").content)) as archive:
        assert any(name.endswith("config.json") for name in archive.getnames())


def test_new_budgets_on_its_scores_are_answered_or_refused_with_the_remedy(http):
    new = [{"name": "new", "max_params": 9_000_000}]
    assert_answered_or_refused_with_the_remedy(http, f"/v1/compressions/{JOB}", new)


def assert_answered_or_refused_with_the_remedy(http, compression, budgets):
    answers = [
        http.post(f"{compression}/selections", json={"budgets": budgets}),
        http.get(f"{compression}/frontier"),
        http.get(f"{compression}/candidates"),
    ]
    for answer in answers:
        if answer.status_code not in {200, 201, 202}:
            (error,) = answer.json()["errors"]
            assert (answer.status_code, error["field"]) == (422, "compression")
            assert "Submit the compression again" in error["remedy"]
    assert len({answer.status_code < 400 for answer in answers}) == 1


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("artifacts/teacher/*/manifest.json", None),
        ("artifacts/scores/*/builds/*/scores.parquet", b"PAR1"),
        ("artifacts/teacher/*/manifest.json", "shape"),
        ("artifacts/scores/*/manifest.json", "spaces"),
    ],
)
def test_scores_that_cannot_be_read_are_refused_with_the_remedy(old, http, place, content):
    (file,) = Path(old.storage.root).glob(place)
    if content is None:
        file.unlink()
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:  # as another version would name its parts
        file.write_text(file.read_text().replace(f'"{content}": {{', f'"{content}": {{"unknown": 1, '))
    for answer in (
        http.post(f"/v1/compressions/{JOB}/selections", json={"budgets": [{"name": "new", "max_params": 9_000_000}]}),
        http.get(f"/v1/compressions/{JOB}/frontier"),
    ):
        (error,) = answer.json()["errors"]
        assert (answer.status_code, error["field"]) == (422, "compression"), answer.text
        assert "Submit the compression again" in error["remedy"]


def test_a_whole_compression_of_it_is_shown_downloaded_and_asked_new_budgets(tmp_path):
    with (
        opened(OLD_RUN, tmp_path / "storage") as service,
        serving(service) as client,
        httpx.Client(base_url=client.server) as http,
    ):
        here = f"/v1/compressions/{RUN}"
        shown = http.get(here).json()
        assert (shown["status"], shown["request"]["labels"]) == ("succeeded", {"team": "old"})
        assert [one["budget"] for one in shown["infeasible"]] == ["none"]
        (student,) = shown["students"]
        archive = http.get(f"{here}/students/{student['id']}/archive")
        (tmp_path / "student").mkdir()
        with tarfile.open(fileobj=io.BytesIO(archive.content)) as files:
            files.extractall(tmp_path / "student", filter="data")
        (config,) = (tmp_path / "student").rglob("config.json")
        model = AutoModel.from_pretrained(config.parent).eval()
        assert model.num_parameters() == student["params"]
        tokens = AutoTokenizer.from_pretrained(config.parent)("the quick fox", return_tensors="pt")
        assert model(**tokens).last_hidden_state.isfinite().all()

        new = [{"name": "new", "max_params": student["params"] - 1}, {"name": "none", "max_params": 11}]
        assert_answered_or_refused_with_the_remedy(http, here, new)


def test_its_jobs_end_and_go_as_any_other(http):
    for place in ("plans/pln_671ce5df45ed4d2b", "evaluations/evl_98a396cb305c470f", "batches/bat_c5c603bbfbb14462"):
        assert http.post(f"/v1/{place}/cancel").status_code == 202
        assert http.delete(f"/v1/{place}").status_code == 204
    for selection in http.get(f"/v1/compressions/{JOB}/selections").json()["selections"]:
        http.post(f"/v1/selections/{selection['id']}/cancel")
    assert http.delete(f"/v1/compressions/{JOB}").status_code == 204


def test_artefacts_under_its_keys_stay_while_a_job_needs_them_and_are_pruned_after(old, monkeypatch):
    later = now() + timedelta(days=400)
    monkeypatch.setattr("services.jobs.sweep.now", lambda: later)

    def removed():
        return {one.path for one in prune(old.engine, old.storage, timedelta(days=1)).removed}

    assert not any("student/" in place for place in removed())
    for selection in old.store.selections(JOB):
        if not selection.status.is_terminal:
            old.cancel(selection.id)
    old.cancel("evl_98a396cb305c470f")
    old.delete(JOB)
    assert any("student/" in place for place in removed())
    assert old.storage.files("artifacts/student") == ()
