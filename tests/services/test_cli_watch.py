"""``stillroom watch``, for every kind of job and for batches; and what a watcher sees."""

import signal
import subprocess
import sys

from services.jobs.documents import EventEntry
from services.jobs.records import NewJob
from services.jobs.states import AttemptStatus, JobStatus
from tests.services.conftest import serving
from tests.services.ending import succeed
from tests.services.searched import finished
from tests.services.test_cli import _finish
from tests.services.test_event_stream import Run
from tests.services.verbs import STILLROOM, json_lines
from workloads.documents.job_folder import PlanBudgetDocument, PlanDocument, PlanStepDocument, ResultDocument


def test_watching_with_json_gives_events_and_the_end_a_line_each(service, stillroom, make_request):
    run = Run(service, service.store.create(NewJob(make_request())).id)
    run.begin()
    run.tell("one")
    run.end(AttemptStatus.FAILED, JobStatus.FAILED)
    done = stillroom("watch", run.id, "--json")
    first, last = json_lines(done.stdout)
    assert (first["event"]["message"], last["compression"]["status"], done.returncode) == ("one", "failed", 1)
    assert "1-1  note  one" in done.stderr


def _plan(service, make_request):
    run = Run(service, service.store.create(NewJob(make_request(), "plan")).id)
    run.begin()
    run.tell("one")
    step = PlanStepDocument(name="train-tiny", seconds=12.0, reused=False, basis="timed")
    budget = PlanBudgetDocument(budget="edge", feasible=True, candidates={"tiny": 7})
    plan = PlanDocument(
        candidates={"tiny": 9}, seconds=12.0, device_hours=0.5, device="cpu", budgets=[budget], steps=[step],
        calibration_seconds=1.0,
    )  # fmt: skip
    result = ResultDocument(status="succeeded", plan=plan)
    succeed(service.work, run.id, result)
    return run.id


def test_a_plan_and_a_selection_are_shown_watched_and_cancelled_by_their_ids_alone(
    client, service, stillroom, make_request
):
    plan = _plan(service, make_request)
    shown = stillroom("show", plan).stdout
    assert shown.startswith(f"{plan} succeeded\ncreated ")
    assert "budget edge: tiny 7" in shown and "train-tiny" in shown and "in all 12 s, 0.5 cpu hours" in shown
    assert "candidates: tiny 9" in shown and "the calibration took 1 s" in shown
    watched = stillroom("watch", plan)
    assert (watched.returncode, "in all 12 s" in watched.stdout, "one" in watched.stderr) == (0, True, True)
    event, end = json_lines(stillroom("watch", plan, "--json").stdout)
    assert (event["event"]["message"], end["plan"]["id"]) == ("one", plan)

    job = finished(service, make_request())
    made = client.select(job.id, {"budgets": [{"name": "tiny", "max_params": 20_000_000}]}).id
    shown = stillroom("show", made).stdout
    assert f"of        {job.id}" in shown and "tiny\t" in shown
    assert stillroom("cancel", made).stdout.startswith(f"{made} is cancel")
    watched = stillroom("watch", made, "--json")
    assert (watched.returncode, json_lines(watched.stdout)[-1]["selection"]["status"]) == (1, "cancelled")


def test_a_batch_is_watched_and_shown_by_its_id_alone(client, service, stillroom, make_request):
    common = make_request()
    batch = client.submit_batch({"common": common, "compressions": [{}]})
    for one in batch.compressions:
        _finish(service, one.id)
    watched = stillroom("watch", batch.id, "--json")
    assert (watched.returncode, json_lines(watched.stdout)[-1]["batch"]["status"]) == (0, "succeeded")
    assert f"{batch.id} is succeeded" in stillroom("show", batch.id).stdout
    assert stillroom("delete", batch.id, "--yes").returncode == 0


def test_a_watcher_with_patience_waits_for_a_server_that_is_not_there_yet(service, make_request, unused_port):
    run = Run(service, service.store.create(NewJob(make_request())).id)
    run.begin()
    run.tell("one")
    run.end()
    command = [STILLROOM, "watch", run.id, "--server", f"http://127.0.0.1:{unused_port}", "--patience", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watcher:
        assert "Trying again" in watcher.stderr.readline()
        with serving(service, unused_port):
            _, words = watcher.communicate(timeout=60)
    assert watcher.returncode == 0, words
    assert "1-1  note  one" in words


def test_a_point_of_a_curve_is_told_with_its_numbers():
    from services.cli.progress_view import event_line

    data = {"step": "train-small", "done": 8192, "total": 20_000, "unit": "tokens", "loss_largest": 0.51234}
    event = EventEntry(attempt=1, sequence=3, time="t", type="metrics", message="train-small", data=data)
    assert event_line(event) == "t  1-3  metrics  train-small at 8,192 of 20,000 tokens: loss largest 0.5123"


# Background processes of a shell ignore Ctrl-C, and so do their children.
HEARS_CTRL_C = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_ctrl_c_on_a_watcher_says_how_to_go_on(client, service, make_request, tmp_path):
    run = Run(service, service.store.create(NewJob(make_request())).id)
    run.begin()
    run.tell("one")
    with (tmp_path / "out").open("w") as out:
        watcher = subprocess.Popen(
            [sys.executable, "-c", HEARS_CTRL_C, STILLROOM, "watch", run.id, "--server", client.server],
            stdout=out, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    try:
        said = ""
        while "1-1  note  one" not in said:
            line = watcher.stderr.readline()
            assert line, said
            said += line
        watcher.send_signal(signal.SIGINT)
        _, rest = watcher.communicate(timeout=60)
    finally:
        watcher.kill()
    assert watcher.returncode == 130
    assert f"stillroom watch {run.id} --after 1-1" in rest
    assert "Traceback" not in rest
    run.end()
