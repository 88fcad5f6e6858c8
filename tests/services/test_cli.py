"""The command line as users start it: real processes, against a real server, and with a real Ray of their own."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from services.client import ServerUnreachableError, StillroomClient
from services.embedded.processes import marked_processes
from services.embedded.record import HeadRecord
from services.jobs.records import AttemptEnd
from services.jobs.states import AttemptStatus, JobStatus
from services.service import Service
from tests.services.conftest import HERE, RUN_MODULE, wait_until
from tests.services.ending import succeed
from tests.services.verbs import STILLROOM, run_here
from workloads.documents.job_folder import ErrorDocument, ResultDocument, StudentDocument

SMALL_RAY = {"STILLROOM_RAY_CPUS": "2", "STILLROOM_RAY_OBJECT_STORE_BYTES": str(100 << 20)}
ENVIRONMENT = (
    os.environ
    | SMALL_RAY
    | {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
        "STILLROOM_RUN_MODULE": RUN_MODULE,
        "STILLROOM_INSECURE_LOCAL": "true",
    }
)


def _stillroom(*arguments, **options):
    return subprocess.run(
        [STILLROOM, *arguments], check=False, capture_output=True, text=True, timeout=120, env=ENVIRONMENT, **options
    )


@pytest.fixture
def request_file(tmp_path, make_request):
    def write(**labels):
        file = tmp_path / "request.json"
        file.write_text(json.dumps(make_request(**labels)))
        return str(file)

    return write


def _finish(service, job_id, files="artifacts/student/abc"):
    service.work.begin_attempt(job_id)
    service.storage.write_bytes(f"{files}/config.json", b"{}")
    architecture = {
        "layers": 1, "hidden_size": 8, "intermediate_size": 16, "heads": 2, "head_width": 4, "source_layers": [0],
    }  # fmt: skip
    student = StudentDocument(
        id="stu_1", budget="edge", subspace="tiny", architecture=architecture, params=1234, flops=5678,
        sequence_length=128, heldout_loss=0.5, files=files,
    )  # fmt: skip
    result = ResultDocument(status="succeeded", students=[student])
    succeed(service.work, job_id, result)


def test_the_cost_of_the_papers_largest_student():
    done = run_here(
        *[
            "cost",
            "--teacher",
            "bert-base",
            "--layers",
            "11",
            "--hidden",
            "352",
            "--mlp-ratio",
            "4",
            "--heads",
            "10",
            "--json",
        ]
    )
    document = json.loads(done.stdout)
    assert (document["params"], document["flops"], document["sequence_length"]) == (31925344, 2895242240, 128)
    assert round(document["paper_params"] / 1e6, 3) == 26.774
    assert round(document["paper_flops"] / 1e9, 3) == 2.128
    assert document["weight_bytes"] == {"float32": 127701376, "bfloat16": 63850688, "float16": 63850688}
    assert document["activation_bytes"] == 3112960


def test_the_papers_forms_stand_for_the_teacher_that_they_mean_alone():
    shape = ["--layers", "3", "--hidden", "128", "--heads", "4"]
    assert "paper's forms" in run_here("cost", "--teacher", "bert-base", *shape).stdout
    told = run_here("cost", "--teacher", "minilm-l6", *shape).stdout
    assert "paper" not in told and "float16" in told and "activations" in told


def test_a_length_that_the_teacher_cannot_read_has_no_cost():
    shape = ["--layers", "3", "--hidden", "128", "--heads", "4", "--sequence-length"]
    done = run_here("cost", "--teacher", "minilm-l6", *shape, "513")
    assert done.returncode == 2 and "Use at most 512" in done.stderr
    assert run_here("cost", "--teacher", "roberta-base", *shape, "512").returncode == 0
    assert run_here("cost", "--teacher", "roberta-base", *shape, "513").returncode == 2


def test_the_cost_of_an_unknown_teacher_is_told_with_the_remedy():
    done = run_here(*["cost", "--teacher", "berd-base", "--layers", "1", "--hidden", "64", "--heads", "1"])
    assert done.returncode == 2
    assert "bert-base" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_job_is_submitted_watched_and_its_student_fetched(service, client, request_file, tmp_path):
    done = _stillroom("submit", request_file(), "--server", client.server)
    job_id = done.stdout.strip()
    assert re.fullmatch(r"cmp_[0-9a-f]{16}", job_id)
    watcher = subprocess.Popen(
        [STILLROOM, "watch", job_id, "--server", client.server],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "queued" in watcher.stderr.readline()
    _finish(service, job_id)
    output, _ = watcher.communicate(timeout=30)
    assert watcher.returncode == 0
    assert "edge\t1 x 8, heads 2, ffn 16\t1234\t5678\t128\t0.5\t0.0\t" in output

    target = tmp_path / "here"
    done = _stillroom("students", job_id, "--server", client.server, "--download", str(target), "--json")
    assert json.loads(done.stdout)["students"][0]["files"] == str(target / "stu_1")
    assert (target / "stu_1" / "config.json").read_text() == "{}"


def test_watching_a_job_that_fails_ends_with_its_error(service, client, request_file):
    job = json.loads(run_here("submit", request_file(), "--server", client.server, "--json").stdout)
    service.work.begin_attempt(job["id"])
    error = ErrorDocument(code="invalid_input", message="The corpus is empty.", field="corpus.paths", remedy="Fill it.")
    result = ResultDocument(status="failed", error=error)
    service.work.end_attempt(job["id"], 1, AttemptEnd(AttemptStatus.FAILED, "x", JobStatus.FAILED, result=result))
    done = run_here("watch", job["id"], "--server", client.server)
    assert done.returncode == 1
    assert "error: corpus.paths: The corpus is empty. Fill it." in done.stderr


def test_a_request_that_is_refused_is_told_by_field_and_remedy(client, request_file, tmp_path):
    done = run_here("submit", request_file(), "--server", "http://127.0.0.1:9")
    assert (done.returncode, "stillroom serve" in done.stderr) == (4, True)
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "teacher: {model: /nowhere/teacher}\ncorpus: {paths: [x.txt]}\nbudgets: [{name: a, max_params: 1}]\n"
    )
    done = run_here("submit", str(bad), "--server", client.server)
    assert done.returncode == 2
    assert "error: teacher.model:" in done.stderr
    assert "error: corpus.paths.0:" in done.stderr


def test_a_port_in_use_is_told_before_anything_is_started(client, tmp_path):
    port = client.server.rpartition(":")[2]
    done = _stillroom("serve", "--port", port, "--storage", str(tmp_path / "other"))
    assert (done.returncode, "--port" in done.stderr) == (2, True)


@pytest.fixture
def storage(tmp_path):
    """A storage whose Ray is ended even if a test fails half way."""
    folder = tmp_path / "storage"
    yield folder
    record = HeadRecord.load(folder / "service") if folder.exists() else None
    for process in marked_processes(record.marker) if record else []:
        process.kill()


class _Serve:
    """``stillroom serve`` in its own process, on a constant port."""

    def __init__(self, storage, port, run_module=RUN_MODULE):
        self.log = storage.parent / "serve.log"
        with self.log.open("a") as output:
            command = [STILLROOM, "serve", "--port", str(port), "--storage", str(storage)]
            environment = ENVIRONMENT | {"STILLROOM_RUN_MODULE": run_module}
            self.process = subprocess.Popen(command, stderr=output, env=environment)


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_service_finds_its_run_again_and_ctrl_c_leaves_nothing(storage, make_request, unused_port):
    serve = _Serve(storage, unused_port)
    with StillroomClient(f"http://127.0.0.1:{unused_port}") as client:
        _wait_for_answer(client, serve)
        job = client.submit(make_request(seconds=12))
        wait_until(lambda: any(step.name == "train" for step in client.get(job.id).steps), 90, "the run's start")
        record = HeadRecord.load(storage / "service")

        serve.process.send_signal(signal.SIGKILL)
        serve.process.wait()
        assert psutil.pid_exists(record.pid)
        with pytest.raises(ServerUnreachableError):
            client.get(job.id)

        serve = _Serve(storage, unused_port)
        _wait_for_answer(client, serve)
        wait_until(lambda: client.get(job.id).status.is_terminal, 60, "the rest of the run")
        done = client.get(job.id)
        assert (done.status, done.attempt, len(done.attempts)) == ("succeeded", 1, 1)
        assert "already running" in done.ray.note
        assert HeadRecord.load(storage / "service") == record

        hanging = client.submit(make_request(act="hang", good_attempt=2))
        wait_until(lambda: client.get(hanging.id).steps, 60, "the second run's start")
        serve.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        serve.process.send_signal(signal.SIGINT)  # a second Ctrl-C does no harm
        assert serve.process.wait(30) == 0
        assert marked_processes(record.marker) == []
        put = Path(record.temp_dir)
        assert list(put.parent.glob(f"{put.name}*")) == []  # nor the runs' local copies

    # A run ended by the service itself waits in the queue, and counts as no failure.
    from services.settings import load_settings

    after = Service(load_settings(storage=str(storage)))
    job = after.store.get(hanging.id)
    after.close()
    assert (job.status, job.failures) == (JobStatus.QUEUED, 0)
    assert job.latest.status is AttemptStatus.INTERRUPTED


class _Watcher:
    """``stillroom watch --json`` in its own process, with its output so far."""

    def __init__(self, folder, *arguments):
        self._said, self._words = folder / f"{len(list(folder.iterdir()))}.out", folder / "watch.err"
        with self._said.open("w") as out, self._words.open("a") as words:
            command = [STILLROOM, "watch", *arguments, "--json"]
            self.process = subprocess.Popen(command, stdout=out, stderr=words, env=ENVIRONMENT)

    def lines(self):
        return [json.loads(line) for line in self._said.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def events(self):
        return [line["event"]["message"] for line in self.lines() if "event" in line]

    def words(self):
        return self._words.read_text()


@pytest.mark.ray
@pytest.mark.slow
def test_watchers_see_each_event_once_though_the_service_is_killed_and_the_impatient_can_go_on(
    storage, make_request, unused_port
):
    told = [f"event {number}" for number in range(1, 61)]
    serve = _Serve(storage, unused_port, "telling_run")
    with StillroomClient(f"http://127.0.0.1:{unused_port}") as client:
        _wait_for_answer(client, serve)
        job = client.submit(make_request(events=len(told), every=0.5))
        there = (job.id, "--server", client.server)
        folders = [storage.parent / name for name in ("patient", "impatient")]
        for folder in folders:
            folder.mkdir()
        patient, impatient = _Watcher(folders[0], *there), _Watcher(folders[1], *there, "--patience", "0.5")
        try:
            wait_until(lambda: patient.events() and impatient.events(), 120, "the first events")

            serve.process.send_signal(signal.SIGKILL)
            serve.process.wait()
            assert impatient.process.wait(60) == 4
            assert impatient.lines()[-1]["error"]["kind"] == "unreachable"
            [after] = re.findall(r"stillroom watch \S+ --after (\S+)", impatient.words())
            assert after == f"1-{len(impatient.events())}"
            wait_until(lambda: "Trying again" in patient.words(), 30, "the patient one's notice")

            serve = _Serve(storage, unused_port, "telling_run")
            _wait_for_answer(client, serve)
            again = _Watcher(folders[1], *there, "--after", after)
            seen = len(patient.events())
            wait_until(lambda: again.events() and len(patient.events()) > seen, 60, "further events")
            serve.process.send_signal(signal.SIGKILL)
            serve.process.wait()
            serve = _Serve(storage, unused_port, "telling_run")

            for watcher in (patient, again):
                assert watcher.process.wait(180) == 0, watcher.words()
                assert watcher.lines()[-1]["compression"]["status"] == "succeeded"
            assert patient.events() == told
            assert impatient.events() + again.events() == told
            assert "talk: running" in patient.words()
            serve.process.send_signal(signal.SIGINT)
            assert serve.process.wait(60) == 0
        finally:
            for process in (patient.process, impatient.process, serve.process):
                process.kill()
                process.wait()


def _wait_for_answer(client, serve):
    def answers():
        assert serve.process.poll() is None, serve.log.read_text()
        try:
            return client.ready()
        except ServerUnreachableError:
            return False

    wait_until(answers, 30, "the service's start")


@pytest.mark.ray
def test_compress_prints_the_final_document_and_leaves_other_jobs_and_no_process(storage, make_request, request_file):
    from services.settings import load_settings

    before = Service(load_settings(storage=str(storage)))
    other = before.submit(make_request())
    before.close()

    done = _stillroom("compress", request_file(seconds=1), "--storage", str(storage), "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["status"], document["attempt"]) == ("succeeded", 1)
    assert Path(document["students"][0]["files"], "config.json").exists()
    assert "train: succeeded" in done.stderr
    assert not (storage / "service" / "ray.json").exists()

    after = Service(load_settings(storage=str(storage)))
    assert after.store.get(other.id) == other
    after.close()


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_on_compress_cancels_the_job_and_leaves_nothing(storage, request_file):
    command = [STILLROOM, "compress", request_file(act="hang"), "--storage", str(storage), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    line = ""
    while "train: running" not in line:
        line = process.stderr.readline()
        assert line, "it ended before the run began"
    record = HeadRecord.load(storage / "service")
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert time.monotonic() - begun < 20
    assert process.returncode == 130
    assert "Cancelling" in errors
    assert "Traceback" not in errors
    assert output == ""
    assert marked_processes(record.marker) == []
    assert "cancelled" in _statuses(storage)


def _statuses(storage):
    from services.settings import load_settings

    service = Service(load_settings(storage=str(storage)))
    try:
        return {job.status.value for job in service.store.page()}
    finally:
        service.close()
