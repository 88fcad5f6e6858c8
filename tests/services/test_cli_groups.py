"""The verbs for batches and evaluations, and the keys that they send."""

import csv
import io
import json

import pytest

from services.access.caller import Scope
from services.jobs.records import AttemptEnd
from services.jobs.states import AttemptStatus, JobStatus
from services.service import Service
from services.settings import load_settings
from tests.services.conftest import serving
from tests.services.ending import succeed
from tests.services.test_cli import _finish
from tests.services.test_evaluations import _end, _result
from tests.services.test_event_stream import Run
from tests.services.verbs import on_server, run_here, run_process
from workloads.documents.job_folder import ErrorDocument, ResultDocument

TEACHERS = ("someone/one", "someone/two")


@pytest.fixture
def batch_file(tmp_path, make_request):
    common = make_request()
    del common["teacher"]
    batch = {"name": "spring", "common": common, "compressions": [{"teacher": {"model": one}} for one in TEACHERS]}
    file = tmp_path / "batch.json"
    file.write_text(json.dumps(batch))
    return file


def _fail(service, job_id):
    service.work.begin_attempt(job_id)
    service.work.end_attempt(job_id, 1, AttemptEnd(AttemptStatus.FAILED, "x", JobStatus.FAILED, steps=[]))


def test_a_batch_is_submitted_shown_retried_and_its_results_read(client, service, stillroom, batch_file):
    batch_id = stillroom("batch", "submit", str(batch_file), "--key", "mine").stdout.strip()
    assert stillroom("batch", "submit", str(batch_file), "--key", "mine").stdout.strip() == batch_id
    first, second = [one.id for one in client.batch(batch_id).compressions]
    _finish(service, first)
    _fail(service, second)

    watched = stillroom("batch", "watch", batch_id, "--json")
    assert (watched.returncode, json.loads(watched.stdout)["batch"]["status"]) == (1, "partial")
    shown = stillroom("batch", "show", batch_id).stdout.splitlines()
    assert shown[0] == f"{batch_id} (spring) is partial: 1 succeeded, 1 failed."
    assert [line.split("\t")[:3] for line in shown[2:]] == [
        [first, TEACHERS[0], "succeeded"],
        [second, TEACHERS[1], "failed"],
    ]

    results = stillroom("batch", "results", batch_id)
    assert results.stdout.splitlines()[1].split("\t")[:4] == [first, TEACHERS[0], "edge", "stu_1"]
    assert f"{second} ({TEACHERS[1]}) is failed" in results.stderr
    [row] = csv.DictReader(io.StringIO(stillroom("batch", "results", batch_id, "--csv").stdout))
    [same] = json.loads(stillroom("batch", "results", batch_id, "--json").stdout)["results"]
    assert (row["student"], row["params"]) == (same["student"], str(same["params"])) == ("stu_1", "1234")

    members = json.loads(stillroom("list", "--batch", batch_id, "--status", "failed", "--json").stdout)["compressions"]
    assert [job["id"] for job in members] == [second]
    assert stillroom("batch", "retry", batch_id).stdout == f"{batch_id} is running.\n"
    assert stillroom("batch", "delete", batch_id, "--yes").returncode == 3
    assert json.loads(stillroom("batch", "cancel", batch_id, "--json").stdout)["counts"] == {
        "succeeded": 1, "cancelled": 1,
    }  # fmt: skip
    listed = stillroom("batch", "list").stdout.splitlines()[1].split("\t")
    assert listed[:3] == [batch_id, "spring", "partial"]
    assert json.loads(stillroom("batch", "delete", batch_id, "--yes", "--json").stdout) == {"deleted": batch_id}
    assert stillroom("batch", "show", batch_id).returncode == 3


def test_a_wrong_compression_of_a_batch_is_told_with_its_place(stillroom, batch_file):
    batch = json.loads(batch_file.read_text())
    batch["compressions"][1]["seed"] = "x"
    batch_file.write_text(json.dumps(batch))
    refused = stillroom("batch", "submit", str(batch_file), "--json")
    assert refused.returncode == 2
    assert [one["pointer"] for one in json.loads(refused.stdout)["error"]["errors"]] == ["/compressions/1/seed"]
    assert json.loads(stillroom("batch", "list", "--json").stdout)["batches"] == []


@pytest.fixture
def evaluation_file(tmp_path, service, make_request):
    """An evaluation of a finished compression's student."""
    job_id = service.submit(make_request()).id
    _finish(service, job_id)
    (tmp_path / "rows.csv").write_text("sentence,label\na fox,1\na dog,0\n")
    rows = [str(tmp_path / "rows.csv")]
    task = {"name": "foxes", "kind": "single", "train": rows, "test": rows, "text_columns": ["sentence"]}
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps({"model": {"compression": job_id, "student": "stu_1"}, "task": task, "seeds": [0, 1]}))
    return file


def test_an_evaluation_is_submitted_and_its_scores_shown(service, stillroom, evaluation_file):
    first, second = (stillroom("evaluate", "submit", str(evaluation_file)).stdout.strip() for _ in range(2))
    assert first != second
    assert stillroom("evaluate", "show", first).stdout == f"{first} (foxes, stu_1) is queued.\n"
    _end(service, first, ResultDocument(status="succeeded", evaluation=_result(0.5, 0.75)))
    words, _, *seeds = stillroom("evaluate", "show", first).stdout.splitlines()
    assert words.startswith("foxes: accuracy 0.6250 ± 0.1000 over 2 seeds on 2 rows")
    assert [line.split("\t")[:2] for line in seeds] == [["0", "0.5"], ["1", "0.75"]]

    assert json.loads(stillroom("evaluate", "cancel", second, "--json").stdout)["status"] == "cancelled"
    assert stillroom("evaluate", "resume", second).stdout == f"{second} is queued.\n"
    error = ErrorDocument(code="invalid_input", message="No rows.", field="task.train", remedy="Give some.")
    _end(service, second, ResultDocument(status="failed", error=error))
    assert "error: task.train: No rows. Give some." in stillroom("evaluate", "show", second).stderr
    listed = [line.split("\t")[:5] for line in stillroom("evaluate", "list", "--student", "stu_1").stdout.splitlines()]
    assert listed[1:] == [[second, "foxes", "stu_1", "failed", ""], [first, "foxes", "stu_1", "succeeded", "0.625"]]
    assert stillroom("evaluate", "delete", first, "--yes").stdout == f"{first} is deleted.\n"
    assert stillroom("evaluate", "show", first, "--json").returncode == 3


def test_an_evaluation_is_watched_and_its_events_listed(client, service, stillroom, evaluation_file):
    run = Run(service, stillroom("evaluate", "submit", str(evaluation_file)).stdout.strip())
    run.begin()
    run.tell("one")
    run.tell("two")
    result = ResultDocument(status="succeeded", evaluation=_result(0.5, 0.75))
    succeed(service.work, run.id, result)
    watched = stillroom("evaluate", "watch", run.id, "--json")
    *told, end = [json.loads(line) for line in watched.stdout.splitlines()]
    assert [one["event"]["message"] for one in told] == ["one", "two"]
    assert (watched.returncode, end["evaluation"]["id"], end["evaluation"]["result"]["mean"]) == (0, run.id, 0.625)
    words = stillroom("evaluate", "watch", run.id, "--after", "1-1")
    assert (words.stdout.startswith("foxes: accuracy 0.6250"), "one" in words.stderr) == (True, False)
    assert "two" in words.stderr
    listed = stillroom("evaluate", "events", run.id, "--follow", "--json").stdout.splitlines()
    assert [json.loads(line)["message"] for line in listed] == ["one", "two"]

    other = stillroom("evaluate", "submit", str(evaluation_file)).stdout.strip()
    stillroom("evaluate", "cancel", other)
    assert stillroom("evaluate", "watch", other).returncode == 1


def test_a_server_that_asks_for_keys_is_told_who_asks_by_the_environment(tmp_path):
    settings = load_settings(storage=str(tmp_path / "storage"), ray_address="http://127.0.0.1:9", insecure_local=False)
    service = Service(settings)
    service.start()
    try:
        _, key = service.keys.create("acme", [Scope.READ])
        with serving(service) as client:
            stranger = on_server(run_here, client.server, STILLROOM_API_KEY="")("list", "--json")
            error = json.loads(stranger.stdout)["error"]
            assert (stranger.returncode, error["code"]) == (3, "unauthorized")
            assert "STILLROOM_API_KEY" in error["remedy"]
            known = on_server(run_here, client.server, STILLROOM_API_KEY=key)
            process = on_server(run_process, client.server, STILLROOM_API_KEY=key)
            assert json.loads(process("whoami", "--json").stdout)["tenant"] == "acme"
            assert json.loads(known("whoami", "--json").stdout)["tenant"] == "acme"
            assert known("whoami").stderr.startswith("acme, key ")
            assert json.loads(known("list", "--json").stdout)["compressions"] == []
            forbidden = known("cancel", "cmp_x", "--json")
            assert (forbidden.returncode, json.loads(forbidden.stdout)["error"]["code"]) == (3, "forbidden")
            assert key not in forbidden.stdout + forbidden.stderr
    finally:
        service.close()
